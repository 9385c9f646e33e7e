// Weights as files: safetensors, whose head tells the network, so that `hdnn.playground.weights` reads it.
import { checked } from "./settings.js";

const LAYOUTS = {
  h1: (N, n) => [N, n, n], h2: (N, n) => [N, 2, n / 2, n / 2], ms1: (N, n) => [N, n / 2, n / 2],
  ms2: (N, n) => [N, (n * (n - 1)) / 2], ms3: (N, n) => [N, 2, n / 2, n / 2],
};
const LARGEST = 1 << 24;

function tensors({ model, layers, features: n, shared }) {
  const N = shared ? 1 : layers;
  return [["flow.weight", LAYOUTS[model](N, n)], ["flow.bias", [N, n]], ["head.weight", [1, n]], ["head.bias", [1]]];
}

const count = (shape) => shape.reduce((product, length) => product * length, 1);

// The bytes of a file.
export function toFile(settings, parameters) {
  const head = { __metadata__: { format: "1", playground: JSON.stringify(settings) } };
  let at = 0;
  for (const [name, shape] of tensors(settings)) {
    head[name] = { dtype: "F32", shape, data_offsets: [at, at + 4 * count(shape)] };
    at += 4 * count(shape);
  }
  let text = JSON.stringify(head);
  text += " ".repeat((8 - (new TextEncoder().encode(text).length % 8)) % 8);
  const words = new TextEncoder().encode(text), bytes = new Uint8Array(8 + words.length + at), view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(words.length), true);
  bytes.set(words, 8);
  parameters.forEach((value, i) => view.setFloat32(8 + words.length + 4 * i, value, true));
  return bytes;
}

// { settings, parameters } of the bytes of such a file.
export function fromFile(bytes) {
  const wrong = (why) => new Error(`This file cannot be used: ${why}. Take one that this page has saved.`);
  if (bytes.length < 8 || bytes.length > LARGEST) throw wrong("it is no file of weights");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), length = Number(view.getBigUint64(0, true));
  let head, settings;
  try {
    head = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    settings = checked(JSON.parse(head.__metadata__.playground));
  } catch {
    throw wrong("its head does not tell a network of this page");
  }
  const parameters = [];
  for (const [name, shape] of tensors(settings)) {
    const found = head[name];
    if (!found || found.dtype !== "F32" || JSON.stringify(found.shape) !== JSON.stringify(shape)) throw wrong(`${name} has not the shape of its network`);
    const [from, to] = found.data_offsets.map((at) => 8 + length + at);
    if (to - from !== 4 * count(shape) || to > bytes.length) throw wrong(`${name} is cut off`);
    for (let at = from; at < to; at += 4) parameters.push(view.getFloat32(at, true));
  }
  if (!parameters.every(Number.isFinite)) throw wrong("it holds what is no number");
  return { settings, parameters: Float32Array.from(parameters) };
}
