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

// Points of a text: two numbers and a class a line, or two numbers alone, all lines alike; moved and scaled into the square
// of `own`. Where no line has a class the points lie left and right of their middle.
export function pasted(text) {
  const rows = text.split(/\r?\n/).map((line, i) => [line.trim(), i + 1]).filter(([line]) => line !== "");
  const lines = rows.map(([line]) => line), split = separator(lines);
  const cells = lines.map((line) => split(line).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  const number = (cell) => (cell === "" ? NaN : Number(split.comma ? cell.replace(",", ".") : cell));
  const isPoint = (row) => row.slice(0, 2).every((cell) => Number.isFinite(number(cell))) && row.length > 1;
  const start = cells.length && cells[0].length > 1 && cells[0].slice(0, 2).every((cell) => !Number.isFinite(number(cell))) ? 1 : 0;
  const values = cells.slice(start), width = values[0]?.length;
  const told = (i) => `Line ${rows[i + start][1]}`;
  const bad = values.findIndex((row) => !isPoint(row));
  if (bad >= 0) throw new Error(`${told(bad)} is not two numbers and a label: “${lines[bad + start]}”.`);
  const odd = values.findIndex((row) => row.length !== width || row.length > 3);
  if (odd >= 0) throw new Error(`${told(odd)} has ${values[odd].length} columns: “${lines[odd + start]}”. Every line is two numbers and a class, or two numbers alone.`);
  if (values.length < 4) throw new Error(`At least 4 points are needed; there are ${values.length}.`);
  if (values.length > 20000) throw new Error(`At most 20,000 points fit; there are ${values.length.toLocaleString("en")}.`);
  const classes = [...new Set(values.map((row) => row[2] ?? ""))];
  if (classes.length > 2) throw new Error(`Two classes can be told apart here; the third column has ${classes.length}.`);
  if (width === 3 && classes.length < 2) throw new Error(`All points have the class “${classes[0]}”, and two can be told apart here. Leave the third column out to divide the points in the middle.`);
  const xs = values.map((row) => number(row[0])), ys = values.map((row) => number(row[1]));
  const range = (each) => each.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [left, right] = range(xs), [low, high] = range(ys), half = Math.max(right - left, high - low) / 2 || 1;
  const middle = [(left + right) / 2, (low + high) / 2];
  return values.map((row, i) => [
    (xs[i] - middle[0]) / half, (ys[i] - middle[1]) / half,
    width === 3 ? classes.indexOf(row[2]) : Number(xs[i] > middle[0]),
  ]);
}

// What cuts the lines of a text: a tab, a semicolon, behind which commas are decimal, a comma, or else blanks. It is one
// for all lines, so that a class may have blanks in it.
function separator(lines) {
  const sign = ["\t", ";", ","].find((each) => lines.length > 0 && lines.every((line) => line.includes(each)));
  const cut = sign === undefined ? (line) => line.split(/\s+/) : (line) => line.split(sign);
  return Object.assign(cut, { comma: sign !== "," && !lines.some((line) => /\d\.\d/.test(line)) });
}
