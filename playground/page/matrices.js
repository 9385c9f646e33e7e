// Small dense matrices, row by row in Float64Arrays.

// An orthogonal matrix, uniform among all: Gram and Schmidt on normal numbers.
export function orthogonal(n, draw) {
  const Q = new Float64Array(n * n);
  for (let r = 0; r < n; ++r) {
    const row = Q.subarray(r * n, r * n + n);
    for (let i = 0; i < n; ++i) row[i] = draw();
    for (let twice = 0; twice < 2; ++twice)
      for (let s = 0; s < r; ++s) {
        let along = 0;
        for (let i = 0; i < n; ++i) along += row[i] * Q[s * n + i];
        for (let i = 0; i < n; ++i) row[i] -= along * Q[s * n + i];
      }
    const length = Math.hypot(...row);
    for (let i = 0; i < n; ++i) row[i] /= length;
  }
  return Q;
}

// Makes the rows of a matrix orthogonal to each other by rotations of pairs (Jacobi, Hestenes): their lengths are then
// its singular values, each to full relative accuracy.
function rotate(rows, n, tolerance) {
  for (let sweep = 0; sweep < 30; ++sweep) {
    let turned = false;
    for (let p = 0; p < n - 1; ++p)
      for (let q = p + 1; q < n; ++q) {
        const P = p * n, Q = q * n;
        let a = 0, b = 0, c = 0;
        for (let i = 0; i < n; ++i) {
          const x = rows[P + i], y = rows[Q + i];
          a += x * x, b += y * y, c += x * y;
        }
        if (c * c <= tolerance * tolerance * a * b) continue;
        turned = true;
        const zeta = (b - a) / (2 * c), t = (zeta >= 0 ? 1 : -1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
        const cosine = 1 / Math.sqrt(1 + t * t), sine = cosine * t;
        for (let i = 0; i < n; ++i) {
          const x = rows[P + i], y = rows[Q + i];
          rows[P + i] = cosine * x - sine * y;
          rows[Q + i] = sine * x + cosine * y;
        }
      }
    if (!turned) return;
  }
}

// The largest entry, which becomes 1: squares of very small numbers would vanish. 0 or no number: nothing was done.
function scale(rows, count) {
  let most = 0;
  for (let i = 0; i < count; ++i) if (!(Math.abs(rows[i]) <= most)) most = Math.abs(rows[i]);
  if (most > 0 && most < Infinity) for (let i = 0; i < count; ++i) rows[i] /= most;
  return most;
}

function lengthOf(rows, n, row) {
  let sum = 0;
  for (let i = 0; i < n; ++i) sum += rows[row * n + i] ** 2;
  return Math.sqrt(sum);
}

// Singular values of an n x n matrix, largest first. `rows` is overwritten.
export function singularValues(rows, n) {
  const most = scale(rows, n * n), values = new Float64Array(n).fill(most);
  if (!(most > 0 && most < Infinity)) return values;
  rotate(rows, n, 1e-14);
  for (let p = 0; p < n; ++p) values[p] = most * lengthOf(rows, n, p);
  return values.sort().reverse();
}

// The largest of them, to eight digits. `rows` is overwritten.
export function spectralNorm(rows, n) {
  const most = scale(rows, n * n);
  if (!(most > 0 && most < Infinity)) return most;
  rotate(rows, n, 1e-8);
  let norm = 0;
  for (let p = 0; p < n; ++p) norm = Math.max(norm, lengthOf(rows, n, p));
  return most * norm;
}

// Eigenvalues [re, im, re, im, …] of a general matrix: to Hessenberg form by elimination, then Francis' double steps
// (EISPACK's hqr). `a` is overwritten.
export function eigenvalues(a, n) {
  toHessenberg(a, n);
  const found = new Float64Array(2 * n), at = (r, c) => a[r * n + c];
  let shift = 0, end = n - 1, norm = 0;
  for (let i = 0; i < n; ++i) for (let j = Math.max(i - 1, 0); j < n; ++j) norm += Math.abs(at(i, j));
  while (end >= 0) {
    for (let tries = 0; ; ++tries) {
      let low = end;
      for (; low >= 1; --low) {
        const size = Math.abs(at(low - 1, low - 1)) + Math.abs(at(low, low)) || norm;
        if (Math.abs(at(low, low - 1)) <= 1e-15 * size) { a[low * n + low - 1] = 0; break; }
      }
      low = Math.max(low, 0);
      const x = at(end, end);
      if (low === end) {
        found[2 * end] = x + shift;
        --end;
        break;
      }
      const y = at(end - 1, end - 1), w = at(end, end - 1) * at(end - 1, end);
      if (low === end - 1) {
        pair(found, end, x + shift, (y - x) / 2, w);
        end -= 2;
        break;
      }
      if (tries === 60) { found[2 * end] = NaN; --end; break; }
      shift = francis(a, n, low, end, x, y, w, shift, tries);
    }
  }
  return found;
}

function pair(found, end, x, p, w) {
  const q = p * p + w, z = Math.sqrt(Math.abs(q));
  if (q >= 0) {
    const far = p + (p >= 0 ? z : -z);
    found[2 * end - 2] = x + far;
    found[2 * end] = far ? x - w / far : x + far;
  } else {
    found[2 * end - 2] = found[2 * end] = x + p;
    found[2 * end - 1] = z, found[2 * end + 1] = -z;
  }
}

function toHessenberg(a, n) {
  for (let m = 1; m < n - 1; ++m) {
    let pivot = m;
    for (let j = m; j < n; ++j) if (Math.abs(a[j * n + m - 1]) > Math.abs(a[pivot * n + m - 1])) pivot = j;
    if (a[pivot * n + m - 1] === 0) continue;
    if (pivot !== m) {
      for (let j = 0; j < n; ++j) [a[pivot * n + j], a[m * n + j]] = [a[m * n + j], a[pivot * n + j]];
      for (let j = 0; j < n; ++j) [a[j * n + pivot], a[j * n + m]] = [a[j * n + m], a[j * n + pivot]];
    }
    for (let i = m + 1; i < n; ++i) {
      const y = a[i * n + m - 1] / a[m * n + m - 1];
      for (let j = 0; j < n; ++j) a[i * n + j] -= y * a[m * n + j];
      for (let j = 0; j < n; ++j) a[j * n + m] += y * a[j * n + i];
    }
  }
  for (let r = 2; r < n; ++r) for (let c = 0; c < r - 1; ++c) a[r * n + c] = 0;
}

// One double step on rows low … end; returns the sum of exceptional shifts.
function francis(a, n, low, end, x, y, w, shift, tries) {
  const at = (r, c) => a[r * n + c];
  if (tries && tries % 10 === 0) {
    shift += x;
    for (let i = 0; i <= end; ++i) a[i * n + i] -= x;
    const size = Math.abs(at(end, end - 1)) + Math.abs(at(end - 1, end - 2));
    x = y = 0.75 * size;
    w = -0.4375 * size * size;
  }
  let m = end - 2, p = 0, q = 0, r = 0;
  for (; m >= low; --m) {
    const z = at(m, m), u = x - z, v = y - z;
    p = (u * v - w) / at(m + 1, m) + at(m, m + 1);
    q = at(m + 1, m + 1) - z - u - v;
    r = at(m + 2, m + 1);
    const size = Math.abs(p) + Math.abs(q) + Math.abs(r);
    p /= size, q /= size, r /= size;
    if (m === low) break;
    const small = Math.abs(at(m, m - 1)) * (Math.abs(q) + Math.abs(r));
    if (small <= 1e-16 * Math.abs(p) * (Math.abs(at(m - 1, m - 1)) + Math.abs(z) + Math.abs(at(m + 1, m + 1)))) break;
  }
  for (let i = m; i < end - 1; ++i) {
    a[(i + 2) * n + i] = 0;
    if (i !== m) a[(i + 2) * n + i - 1] = 0;
  }
  for (let k = m; k < end; ++k) {
    if (k !== m) {
      p = at(k, k - 1), q = at(k + 1, k - 1), r = k + 1 < end ? at(k + 2, k - 1) : 0;
      x = Math.abs(p) + Math.abs(q) + Math.abs(r);
      if (x === 0) continue;
      p /= x, q /= x, r /= x;
    }
    const s = (p >= 0 ? 1 : -1) * Math.hypot(p, q, r);
    if (s === 0) continue;
    if (k === m) { if (low !== m) a[k * n + k - 1] = -at(k, k - 1); } else a[k * n + k - 1] = -s * x;
    p += s;
    x = p / s, y = q / s;
    const z = r / s;
    q /= p, r /= p;
    for (let j = k; j < n; ++j) {
      const sum = at(k, j) + q * at(k + 1, j) + (k + 1 < end ? r * at(k + 2, j) : 0);
      if (k + 1 < end) a[(k + 2) * n + j] -= sum * z;
      a[(k + 1) * n + j] -= sum * y;
      a[k * n + j] -= sum * x;
    }
    for (let i = 0; i <= Math.min(end, k + 3); ++i) {
      const sum = x * at(i, k) + y * at(i, k + 1) + (k + 1 < end ? z * at(i, k + 2) : 0);
      if (k + 1 < end) a[i * n + k + 2] -= sum * r;
      a[i * n + k + 1] -= sum * q;
      a[i * n + k] -= sum;
    }
  }
  return shift;
}
