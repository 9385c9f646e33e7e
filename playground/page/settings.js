// What can be turned: one table that checks, the controls, links and Python all read.
import { PROBLEMS } from "./data.js";
import { HALVED } from "./models.js";

// Networks beside the flow. `step: null` is that of the flow, T/N.
export const BASELINES = {
  "perceptron": { title: "Perceptron", kind: "perceptron", start: "default" },
  "perceptron-orthogonal": { title: "Perceptron, orthogonal", kind: "perceptron", start: "orthogonal" },
  "resnet": { title: "ResNet T/N", kind: "resnet", start: "default", step: null },
  "resnet-orthogonal": { title: "ResNet T/N, orthogonal", kind: "resnet", start: "orthogonal", step: null },
  "resnet-1": { title: "ResNet 1", kind: "resnet", start: "default", step: 1 },
  "resnet-1-orthogonal": { title: "ResNet 1, orthogonal", kind: "resnet", start: "orthogonal", step: 1 },
};

const choice = (start, label, options, hint) => ({ kind: "choice", start, label, options, hint });
const number = (start, label, values, hint) => ({ kind: "number", start, label, values, hint });
const steps = (low, high, factor, digits = 4) => {
  const found = [];
  for (let v = low; v <= high * 1.0001; v *= factor) found.push(Number(v.toPrecision(digits)));
  return found;
};
const range = (low, high, step) => Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => Number((low + i * step).toFixed(6)));

// `fresh: false` marks what may change while networks learn; all else begins anew.
export const SETTINGS = {
  problem: choice("swiss-roll", "Data", Object.fromEntries(Object.entries(PROBLEMS).map(([key, { title }]) => [key, title])), "data"),
  points: number(8000, "Points", [100, 200, 500, 1000, 2000, 4000, 8000], "points"),
  noise: number(0, "Noise", range(0, 0.6, 0.05), "noise"),
  model: choice("h1", "Model", { h1: "h1", h2: "h2", ms1: "ms1", ms2: "ms2", ms3: "ms3" }, "model"),
  J: choice("J1", "J", { J1: "J1 (canonical)", J2: "J2 (ones)", own: "your own (4 × 4)" }, "J"),
  layers: number(64, "Layers N", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], "layers"),
  horizon: number(2.5, "Horizon T", [0.1, 0.2, 0.4, 0.8, 1.2, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8, 10, 12.8, 16, 20, 25.6, 32, 64], "horizon"),
  features: number(4, "Features n", [2, 4, 6, 8, 10, 12, 14, 16], "features"),
  activation: choice("tanh", "Activation σ", { tanh: "tanh", sigmoid: "sigmoid", softplus: "softplus", relu: "ReLU", leaky_relu: "leaky ReLU", identity: "identity" }, "activation"),
  shared: { kind: "switch", start: false, label: "Shared weights", hint: "shared" },
  damping: number(0, "Damping γ", [0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], "damping"),
  rate: { ...number(0.02, "Learning rate", [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2], "rate"), fresh: false },
  batch: { ...number(125, "Batch", [1, 5, 10, 25, 50, 125, 250, 500], "batch"), fresh: false },
  smoothness: { ...number(0, "Smoothness α", [0, ...steps(1e-5, 0.1, Math.sqrt(10), 1)], "smoothness"), fresh: false },
  headDecay: { ...number(0, "Head decay α_c", [0, 0.00001, 0.0001, 0.001, 0.01], "headDecay"), fresh: false },
  std: number(0, "Start std (0: 1/√n)", [0, 0.1, 0.25, 0.5, 1, 2], "std"),
  seed: { kind: "whole", start: 0, most: 999999, label: "Seed", hint: "seed" },
  beside: { kind: "several", start: ["perceptron", "resnet"], label: "Beside it", options: Object.fromEntries(Object.entries(BASELINES).map(([key, { title }]) => [key, title])), hint: "beside" },
  speed: { ...choice("fast", "Speed", { 1: "1 step a picture", 4: "4 steps", 16: "16 steps", 64: "64 steps", fast: "as fast as it goes" }, "speed"), fresh: false },
};

export function defaults() {
  const found = Object.fromEntries(Object.entries(SETTINGS).map(([name, each]) => [name, each.start]));
  return { ...found, beside: [...found.beside], own: [], ownJ: [0, 1, 0, 0, 1, 0] };
}

// The nearest settings that make sense: of links, files and lessons nothing is believed.
export function checked(given) {
  const found = defaults();
  for (const [name, each] of Object.entries(SETTINGS)) {
    const value = given[name];
    if (value === undefined) continue;
    if (each.kind === "choice" && Object.hasOwn(each.options, value)) found[name] = String(value);
    if (each.kind === "number" && Number.isFinite(Number(value)))
      found[name] = Math.min(Math.max(Number(value), each.values[0]), each.values.at(-1));
    if (each.kind === "switch") found[name] = value === true || value === "1" || value === 1;
    if (each.kind === "whole" && Number.isFinite(Number(value))) found[name] = Math.min(Math.max(Math.round(Number(value)), 0), each.most);
    if (each.kind === "several") found[name] = Object.keys(each.options).filter((key) => value.includes(key));
  }
  for (const name of ["layers", "features", "points", "batch"]) found[name] = Math.round(found[name]);
  found.features += found.features % 2;
  if (found.model !== "h1") found.J = "J1";
  if (found.J === "own") found.features = 4;
  if (!HALVED.includes(found.model)) found.damping = 0;
  if (Array.isArray(given.own))
    found.own = given.own.filter((p) => Array.isArray(p) && p.length === 3 && p.slice(0, 2).every(Number.isFinite) && (p[2] === 0 || p[2] === 1)).slice(0, 20000);
  if (Array.isArray(given.ownJ) && given.ownJ.length === 6 && given.ownJ.every(Number.isFinite)) found.ownJ = [...given.ownJ];
  return found;
}

// A link holds what differs from the start: #model=h2&layers=128&beside=perceptron,resnet
export function toLink(settings) {
  const start = defaults(), parts = [];
  for (const name of Object.keys(SETTINGS)) {
    const value = settings[name], text = Array.isArray(value) ? value.join(",") : typeof value === "boolean" ? Number(value) : value;
    const usual = Array.isArray(start[name]) ? start[name].join(",") : start[name];
    if (String(text) !== String(typeof usual === "boolean" ? Number(usual) : usual)) parts.push(`${name}=${encodeURIComponent(text).replaceAll("%2C", ",")}`);
  }
  if (settings.problem === "own") parts.push(`own=${settings.own.map((p) => `${p[0].toFixed(3)},${p[1].toFixed(3)},${p[2]}`).join(";")}`);
  if (settings.J === "own") parts.push(`ownJ=${settings.ownJ.join(",")}`);
  return parts.length ? `#${parts.join("&")}` : "#";
}

export function fromLink(hash) {
  const given = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [name, value = ""] = part.split("=");
    let text = value;
    try { text = decodeURIComponent(value); } catch { continue; }
    if (name === "own") given.own = text.split(";").filter(Boolean).map((point) => point.split(",").map(Number));
    else if (name === "ownJ") given.ownJ = text.split(",").map(Number);
    else if (name === "beside") given.beside = text.split(",");
    else if (Object.hasOwn(SETTINGS, name)) given[name] = text;
  }
  return checked(given);
}

// Whether networks must begin anew when one set of settings becomes another.
export function beginsAnew(before, after) {
  return Object.keys(after).some((name) => (SETTINGS[name]?.fresh ?? true) && JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}
