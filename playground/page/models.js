// Networks: what each is in the numbers of csrc, and how it begins.
import { generator, normal } from "./random.js";
import { orthogonal } from "./matrices.js";

export const ACTIVATIONS = ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus"];  // as csrc counts them
export const FLOWS = ["h1", "h2", "ms1", "ms2", "ms3"];
// Flows that move one half of the state by the other. Their momenta, the first half, can be damped, and they keep the
// form (M J Mᵀ = e^(−γT) J) or the volume: that is why ‖M‖ ≥ e^(−γT/2).
export const HALVED = ["h2", "ms1", "ms3"];
const EULER = 0, PARTITIONED = 1, PERCEPTRON = 2;
const FULL = 0, BLOCK_DIAGONAL = 1, OFF_DIAGONAL = 2, BLOCK_SKEW = 3;
const IDENTITY = 0, CANONICAL = 1, MATRIX = 2;

// The interconnection J, row by row: J1 is canonical, J2 has ones above the diagonal, or it is the visitor's own.
export function interconnection(kind, n, own) {
  const J = new Float64Array(n * n);
  for (let r = 0; r < n; ++r)
    for (let c = 0; c < n; ++c) {
      if (kind === "J2") J[r * n + c] = Math.sign(c - r);
      else if (kind === "own") J[r * n + c] = r < c ? own[(r * (2 * n - r - 1)) / 2 + c - r - 1] : 0;
      else J[r * n + c] = c === r + n / 2 ? 1 : r === c + n / 2 ? -1 : 0;
    }
  if (kind === "own") for (let r = 0; r < n; ++r) for (let c = 0; c < r; ++c) J[r * n + c] = -J[c * n + r];
  return J;
}

// Where the free numbers of a skew K stand: ± their place counted from 1.
function skewIndex(n) {
  const index = new Int32Array(n * n);
  for (let r = 0, count = 0; r < n; ++r)
    for (let c = r + 1; c < n; ++c) {
      index[r * n + c] = ++count;
      index[c * n + r] = -count;
    }
  return index;
}

// What the kernels must know of a network. `kind` is one of FLOWS, "perceptron" or "resnet"; `damping` is γ.
export function describe({ kind, features: n, layers, step, activation, shared, J, ownJ, damping = 0 }) {
  const plain = { kind, features: n, layers, step, shared, activation: ACTIVATIONS.indexOf(activation), firstIsQ: 0,
    damping: HALVED.includes(kind) ? damping : 0, index: null, free: 0, J: null, method: EULER, structure: FULL, drive: IDENTITY };
  switch (kind) {
    case "h1": return J === "J1" ? { ...plain, drive: CANONICAL } : { ...plain, drive: MATRIX, J: interconnection(J, n, ownJ) };
    case "h2": return { ...plain, method: PARTITIONED, structure: BLOCK_DIAGONAL, drive: CANONICAL };
    case "ms1": return { ...plain, method: PARTITIONED, structure: BLOCK_SKEW, firstIsQ: 1 };
    case "ms2": return { ...plain, index: skewIndex(n), free: (n * (n - 1)) / 2 };
    case "ms3": return { ...plain, method: PARTITIONED, structure: OFF_DIAGONAL, drive: CANONICAL };
    case "perceptron": return { ...plain, method: PERCEPTRON, step: 1 };
    case "resnet": return plain;
    default: throw new Error(`There is no network called ${kind}.`);
  }
}

// Numbers of K in one layer.
export function freeNumbers({ kind, features: n }) {
  return { h2: (n * n) / 2, ms1: (n * n) / 4, ms2: (n * (n - 1)) / 2, ms3: (n * n) / 2 }[kind] ?? n * n;
}

// All parameters before the first step: weight, bias, head. Flows are drawn from N(0, std²) as hdnn does; perceptrons
// and ResNets uniformly over ± 1/√n as PyTorch's nn.Linear, or orthogonal with biases of 0. The head is 0.
export function begin(description, seed, { start = "default", std = 0 } = {}) {
  const { kind, features: n, layers, shared } = description, stored = shared ? 1 : layers, free = freeNumbers(description);
  const parameters = new Float32Array(stored * (free + n) + n + 1), next = generator(seed);
  const flow = FLOWS.includes(kind), deviation = std || 1 / Math.sqrt(n);
  for (let j = 0; j < stored; ++j) {
    if (!flow && start === "orthogonal") {
      parameters.set(orthogonal(n, () => normal(next)), j * free);
      continue;
    }
    const draw = flow ? () => deviation * normal(next) : () => (2 * next() - 1) / Math.sqrt(n);
    for (let i = 0; i < free; ++i) parameters[j * free + i] = draw();
    for (let i = 0; i < n; ++i) parameters[stored * free + j * n + i] = draw();
  }
  return parameters;
}

// K of layer j in full, (n, n) row by row, and b.
export function layerOf(description, parameters, j) {
  const { kind, features: n, layers, shared, index } = description, half = n / 2, free = freeNumbers(description);
  const stored = shared ? 1 : layers, at = (shared ? 0 : j) * free, K = new Float64Array(n * n);
  const put = (row, column, from, sign = 1, turned = false) => {
    for (let r = 0; r < half; ++r)
      for (let c = 0; c < half; ++c)
        K[(row + r) * n + column + c] = sign * parameters[at + from + (turned ? c * half + r : r * half + c)];
  };
  if (kind === "h2") put(0, 0, 0), put(half, half, half * half);
  else if (kind === "ms3") put(0, half, 0), put(half, 0, half * half);
  else if (kind === "ms1") put(0, half, 0), put(half, 0, 0, -1, true);
  else if (index) for (let i = 0; i < n * n; ++i) K[i] = index[i] ? Math.sign(index[i]) * parameters[at + Math.abs(index[i]) - 1] : 0;
  else for (let i = 0; i < n * n; ++i) K[i] = parameters[at + i];
  const from = stored * free + (shared ? 0 : j) * n;
  return { K, b: Float64Array.from(parameters.subarray(from, from + n)) };
}

// What σ(K y + b) drives the state by: J Kᵀ, or the identity; (n, n) row by row.
export function driveOf(description, K) {
  const { kind, features: n } = description, D = new Float64Array(n * n);
  if (["ms1", "ms2", "perceptron", "resnet"].includes(kind)) {
    for (let i = 0; i < n; ++i) D[i * n + i] = 1;
    return D;
  }
  const J = description.J ?? interconnection("J1", n);
  for (let r = 0; r < n; ++r)
    for (let c = 0; c < n; ++c) {
      let sum = 0;
      for (let k = 0; k < n; ++k) sum += J[r * n + k] * K[c * n + k];
      D[r * n + c] = sum;
    }
  return D;
}

const softplus = (u) => Math.max(u, 0) + Math.log1p(Math.exp(-Math.abs(u)));
const logistic = (u) => 1 / (1 + Math.exp(-u));
export const SLOPE = { identity: () => 1, relu: (u) => (u > 0 ? 1 : 0), leaky_relu: (u) => (u > 0 ? 1 : 0.01),
  tanh: (u) => 1 - Math.tanh(u) ** 2, sigmoid: (u) => logistic(u) * (1 - logistic(u)), softplus: logistic };
// σ̃ with σ̃′ = σ, which the energy sums. Of softplus none is elementary: it is a sum over small steps.
export const POTENTIAL = {
  identity: (u) => (u * u) / 2,
  relu: (u) => Math.max(u, 0) ** 2 / 2,
  leaky_relu: (u) => ((u > 0 ? 1 : 0.01) * u * u) / 2,
  tanh: (u) => Math.abs(u) + Math.log1p(Math.exp(-2 * Math.abs(u))) - Math.LN2,
  sigmoid: softplus,
  softplus: (u) => {  // Simpson from 0
    const steps = 64, h = u / steps;
    let sum = softplus(0) + softplus(u);
    for (let k = 1; k < steps; ++k) sum += (k % 2 ? 4 : 2) * softplus(k * h);
    return (sum * h) / 3;
  },
};
