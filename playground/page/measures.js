// What is seen of a network beside its loss: gradients through its layers, Jacobians, eigenvalues, energies.
import { eigenvalues, singularValues, spectralNorm } from "./matrices.js";
import { ACTIVATIONS, POTENTIAL, SLOPE, driveOf, layerOf } from "./models.js";

const LEVELS = 129;  // of a deep network as many are measured, evenly spread

// Which of the states 0 … N are shown.
export function levels(layers) {
  const count = Math.min(layers + 1, LEVELS);
  return Int32Array.from({ length: count }, (_, i) => (count < 2 ? 0 : Math.round((i * layers) / (count - 1))));
}

// Norms before every layer, as powers of ten, over samples `x` (2 a point) of classes `y`:
//   gradient   mean ‖∂L/∂y_j‖, as a multiple of mean ‖∂L/∂y_N‖
//   jacobian   ‖∂y_N/∂y_j‖₂: mean, least and most over `some` samples
//   singular   singular values of ∂y_N/∂y_0, largest first, of each of those samples
// While the head is zero there is no gradient of L yet; ones are sent back in its stead.
export function norms(net, x, y, count, some) {
  const n = net.features, layers = net.description.layers, rows = count + some * n, g = new Float64Array(rows * n);
  const start = new Float64Array(rows * n);
  for (let i = 0; i < rows; ++i) {
    const sample = i < count ? i : Math.floor((i - count) / n);
    start[i * n] = x[2 * sample], start[i * n + 1] = x[2 * sample + 1];
  }
  const states = net.states(start, rows), last = states.view.subarray(layers * rows * n), p = net.parameters.view;
  const head = p.subarray(net.head, net.head + n), isZero = head.every((w) => w === 0);
  for (let i = 0; i < count; ++i) {
    let z = p[net.offset];
    for (let k = 0; k < n; ++k) z += head[k] * last[i * n + k];
    const slope = isZero ? 1 : 1 / (1 + Math.exp(-z)) - y[i];
    for (let k = 0; k < n; ++k) g[i * n + k] = slope * (isZero ? 1 : head[k]);
  }
  for (let i = count; i < rows; ++i) g[i * n + ((i - count) % n)] = 1;
  const back = net.pullback(states, g, rows), all = back.view, at = levels(layers);
  const found = { gradient: new Float64Array(at.length), jacobian: new Float64Array(at.length),
    least: new Float64Array(at.length), most: new Float64Array(at.length), singular: [] };
  const M = new Float64Array(n * n), matrix = (from, s) => {
    for (let i = 0; i < n * n; ++i) M[i] = all[from + (count + s * n) * n + i];
    return M;
  };
  at.forEach((level, k) => {
    const from = level * rows * n, here = all.subarray(level * rows * n, (level + 1) * rows * n);
    let sum = 0, total = 0, least = Infinity, most = 0;
    for (let i = 0; i < count; ++i) sum += length(here, i * n, n);
    for (let s = 0; s < some; ++s) {
      const norm = spectralNorm(matrix(from, s), n);
      total += norm, least = Math.min(least, norm), most = Math.max(most, norm);
    }
    found.gradient[k] = Math.log10(sum / count);
    found.jacobian[k] = Math.log10(total / some);
    found.least[k] = Math.log10(least), found.most[k] = Math.log10(most);
  });
  const reference = found.gradient[at.length - 1];
  for (let k = 0; k < at.length; ++k) found.gradient[k] -= reference;
  for (let s = 0; s < some; ++s) found.singular.push(singularValues(matrix(0, s), n));
  states.free(), back.free();
  return found;
}

// √Σ v², where squares of small numbers may vanish.
function length(values, from, n) {
  let most = 0, sum = 0;
  for (let k = 0; k < n; ++k) most = Math.max(most, Math.abs(values[from + k]));
  if (!(most > 0 && most < Infinity)) return most;
  for (let k = 0; k < n; ++k) sum += (values[from + k] / most) ** 2;
  return most * Math.sqrt(sum);
}

// States of points at some levels, (levels, points, n) in floats.
export function course(net, x, points) {
  const n = net.features, start = lifted(x, points, n), states = net.states(start, points), at = levels(net.description.layers);
  const all = states.view, found = new Float32Array(at.length * points * n);
  at.forEach((level, k) => found.set(all.subarray(level * points * n, (level + 1) * points * n), k * points * n));
  states.free();
  return found;
}

// Points (2 numbers each) as states: zeros are appended.
export function lifted(x, points, n) {
  const y = new Float64Array(points * n);
  for (let i = 0; i < points; ++i) y[i * n] = x[2 * i], y[i * n + 1] = x[2 * i + 1];
  return y;
}

// Eigenvalues [re, im, …] of the Jacobian of the field D σ(K y + b) − (γ p, 0) at some states (points, n) before layer j.
export function spectrum(net, j, states, points) {
  const d = net.description, n = net.features, { K, b } = layerOf(d, net.parameters.view, j), D = driveOf(d, K);
  const slope = SLOPE[ACTIVATIONS[d.activation]], found = new Float64Array(2 * n * points), S = new Float64Array(n);
  for (let i = 0; i < points; ++i) {
    for (let r = 0; r < n; ++r) {
      let u = b[r];
      for (let c = 0; c < n; ++c) u += K[r * n + c] * states[i * n + c];
      S[r] = slope(u);
    }
    const F = new Float64Array(n * n);
    for (let r = 0; r < n; ++r)
      for (let k = 0; k < n; ++k) {
        const left = D[r * n + k] * S[k];
        if (left) for (let c = 0; c < n; ++c) F[r * n + c] += left * K[k * n + c];
      }
    for (let r = 0; r < n / 2; ++r) F[r * n + r] -= d.damping;
    found.set(eigenvalues(F, n), 2 * n * i);
  }
  return found;
}

// H(y) = Σ σ̃(K y + b) of points at every level of a course, (levels, points). Weights must be shared.
export function energies(net, states, points) {
  const d = net.description, n = net.features, { K, b } = layerOf(d, net.parameters.view, 0);
  const potential = POTENTIAL[ACTIVATIONS[d.activation]], found = new Float64Array(states.length / n);
  for (let i = 0; i < found.length; ++i)
    for (let r = 0; r < n; ++r) {
      let u = b[r];
      for (let c = 0; c < n; ++c) u += K[r * n + c] * states[i * n + c];
      found[i] += potential(u);
    }
  return found;
}
