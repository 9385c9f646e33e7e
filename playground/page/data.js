// Problems of the plane: points (x, y) with labels 0 and 1. The first three are those of `hdnn.data`.
import { generator, permutation } from "./random.js";

const TURN = 2 * Math.PI;

// Points of arcs; the labels of the arcs alternate, as in hdnn.data.
function arcs(size, count, along) {
  const points = [], labels = [];
  for (let arc = 0; arc < count; ++arc) {
    const own = Math.floor(size / count) + (arc < size % count ? 1 : 0);
    for (let i = 0; i < own; ++i) {
      points.push(along(arc, i / own, own > 1 ? i / (own - 1) : 0));
      labels.push(arc % 2);
    }
  }
  return { points, labels };
}

const circle = (r, angle) => [r * Math.cos(angle), r * Math.sin(angle)];

// `half` is the half width of the square that is shown around `middle`; `noise` the usual half width of the noise.
export const PROBLEMS = {
  "swiss-roll": {
    title: "Swiss roll", noise: 0, middle: [0, 0], half: 1.4,
    draw: (size) => arcs(size, 2, (arc, s, t) => circle(t + (arc === 0 ? 0.2 : 0), 2 * TURN * s)),
  },
  "double-moons": {
    title: "Double moons", noise: 0.15, middle: [1.5, 0.25], half: 3,
    draw: (size) => arcs(size, 4, (arc, s) => {
      const [x, y] = circle(1, (TURN / 2) * s);
      return arc % 2 === 0 ? [x + 2 * (arc >> 1), y] : [1 - x + 2 * (arc >> 1), 0.5 - y];
    }),
  },
  "double-circles": {
    title: "Double circles", noise: 0.3, middle: [0, 0], half: 5,
    draw: (size) => arcs(size, 4, (arc, s) => circle(arc + 1, 2 * TURN * s)),
  },
  spirals: {
    title: "Spirals", noise: 0.05, middle: [0, 0], half: 1.4,
    draw: (size) => arcs(size, 2, (arc, s) => circle(0.1 + 1.1 * s, 0.75 * TURN * s + (arc * TURN) / 2)),
  },
  checkerboard: {
    title: "Checkerboard", noise: 0.02, middle: [0, 0], half: 1.2,
    draw: (size, next) => {
      const points = [], labels = [];
      for (let i = 0; i < size; ++i) {
        const point = [2 * next() - 1, 2 * next() - 1];
        points.push(point);
        labels.push((Math.floor(2 * (point[0] + 1)) + Math.floor(2 * (point[1] + 1))) % 2);
      }
      return { points, labels };
    },
  },
  own: { title: "Your own points", noise: 0, middle: [0, 0], half: 1.2 },
};

// Training and test part: x (Float32Array, 2 a point), y (Int32Array). `own` are points [x, y, label].
export function drawn(problem, size, noise, seed, own) {
  const next = generator(seed), kind = PROBLEMS[problem];
  const made = problem === "own"
    ? { points: own.map(([x, y]) => [x, y]), labels: own.map((point) => point[2]) }
    : kind.draw(size, next);
  const points = made.points.map(([x, y]) => [x + noise * (2 * next() - 1), y + noise * (2 * next() - 1)]);
  const order = permutation(next, points.length), middle = Math.ceil(points.length / 2);
  const part = (chosen) => ({
    x: Float32Array.from(Array.from(chosen, (i) => points[i]).flat()),
    y: Int32Array.from(chosen, (i) => made.labels[i]),
  });
  return { train: part(order.subarray(0, middle)), test: part(order.subarray(middle)) };
}

// Points of a text with two columns and a label in the third, moved and scaled into the square of `own`. Without a third
// column the points lie left and right of their middle.
export function pasted(text) {
  const rows = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
  const cells = rows.map((line) => line.split(/[\s,;]+/));
  const start = cells.length && cells[0].slice(0, 2).some((cell) => !Number.isFinite(Number(cell))) ? 1 : 0;
  const values = cells.slice(start);
  const bad = values.findIndex((row) => row.length < 2 || !row.slice(0, 2).every((cell) => cell !== "" && Number.isFinite(Number(cell))));
  if (bad >= 0) throw new Error(`Line ${bad + start + 1} is not two numbers and a label: “${rows[bad + start]}”.`);
  if (values.length < 4) throw new Error(`At least 4 points are needed; there are ${values.length}.`);
  if (values.length > 20000) throw new Error(`At most 20,000 points fit; there are ${values.length.toLocaleString("en")}.`);
  const classes = [...new Set(values.map((row) => row[2] ?? ""))];
  if (classes.length > 2) throw new Error(`Two classes can be told apart here; the third column has ${classes.length}.`);
  const xs = values.map((row) => Number(row[0])), ys = values.map((row) => Number(row[1]));
  const range = (each) => each.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [left, right] = range(xs), [low, high] = range(ys), half = Math.max(right - left, high - low) / 2 || 1;
  const middle = [(left + right) / 2, (low + high) / 2];
  return values.map((row, i) => [
    (xs[i] - middle[0]) / half, (ys[i] - middle[1]) / half,
    classes.length === 2 ? classes.indexOf(row[2] ?? "") : Number(xs[i] > middle[0]),
  ]);
}
