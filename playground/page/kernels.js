// The compiled kernels of csrc, and networks that live in their memory.

// Rows of numbers in the memory of the kernels. That memory moves as it grows, so views are taken anew each time.
class Block {
  constructor(code, type, length) {
    this.code = code, this.type = type, this.length = length;
    this.place = code.room(Math.max(1, length) * type.BYTES_PER_ELEMENT);
    if (!this.place) throw new Error("The page has no memory left. Choose fewer layers, features or points.");
    this.view.fill(0);
  }

  get view() {
    return new this.type(this.code.memory.buffer, this.place, this.length);
  }

  set(values) {
    this.view.set(values);
    return this;
  }

  free() {
    this.code.leave(this.place);
  }
}

export class Kernels {
  // `bytes` of a module of WebAssembly.
  static async from(bytes) {
    const module = await WebAssembly.compile(bytes), imports = {}, own = new Kernels();
    // What a C++ runtime asks of a system: the time, which only what may be interrupted looks at, and where to complain.
    for (const { module: from, name } of WebAssembly.Module.imports(module)) (imports[from] ??= {})[name] = () => 0;
    own.code = (await WebAssembly.instantiate(module, imports)).exports;
    own.code._initialize();
    return own;
  }

  floats(length) {
    return new Block(this.code, Float32Array, length);
  }

  doubles(length) {
    return new Block(this.code, Float64Array, length);
  }

  wholes(length) {
    return new Block(this.code, Int32Array, length);
  }

  // A network as `describe` of models.js tells it, with these parameters.
  network(description, parameters) {
    return new Net(this, description, parameters);
  }
}

class Net {
  constructor(kernels, description, parameters) {
    this.kernels = kernels, this.description = description, this.features = description.features;
    const { code } = kernels, d = description;
    const index = d.index && kernels.wholes(d.index.length).set(d.index), J = d.J && kernels.doubles(d.J.length).set(d.J);
    this.handle = code.make(d.method, d.firstIsQ, d.structure, d.drive, d.activation, d.features, d.layers, Number(d.shared),
      d.step, d.damping * d.step, index ? index.place : 0, d.free, J ? J.place : 0);
    const starts = kernels.wholes(5);
    code.parts(this.handle, starts.place);
    [this.weight, this.bias, this.head, this.offset, this.size] = starts.view;
    for (const block of [index, J, starts]) block?.free();
    if (parameters.length !== this.size) throw new Error(`The network has ${this.size} numbers; ${parameters.length} are given.`);
    this.parameters = kernels.floats(this.size).set(parameters);
    this.first = kernels.floats(this.size), this.second = kernels.floats(this.size);
    this.steps = 0, this.failed = -1;
  }

  free() {
    this.kernels.code.unmake(this.handle);
    for (const block of [this.parameters, this.first, this.second]) block.free();
  }

  // Steps of Adam on `rows` rows of the order; losses of the steps. A network that failed stays where it was.
  learn({ x, classes, order, from = 0, rows = order.length - from, batch, rate, smoothness = 0, headDecay = 0 }) {
    if (this.failed >= 0) return new Float32Array(0);
    const steps = Math.ceil(rows / batch), losses = this.kernels.floats(steps), rates = this.kernels.doubles(steps);
    rates.view.fill(rate);
    const failed = this.kernels.code.learn(this.handle, this.parameters.place, this.first.place, this.second.place, this.steps,
      x.place, classes.place, classes.length, order.place + 4 * from, rows, batch, rates.place,
      smoothness, headDecay, losses.place, 0);
    const found = losses.view.slice();
    losses.free(), rates.free();
    if (failed >= 0) this.failed = failed;
    this.steps += steps;
    return found;
  }

  // Logits of `rows` points, lifted states y (rows, n) in a block.
  logits(y, rows) {
    const n = this.features, out = this.kernels.floats(rows * n);
    this.kernels.code.run(this.handle, this.parameters.place, rows, y.place, out.place);
    const p = this.parameters.view, states = out.view, logits = new Float32Array(rows);
    for (let i = 0; i < rows; ++i) {
      let z = p[this.offset];
      for (let k = 0; k < n; ++k) z += p[this.head + k] * states[i * n + k];
      logits[i] = z;
    }
    out.free();
    return logits;
  }

  // The states after every layer, (layers + 1, rows, n), in doubles. What is given back must be freed.
  states(y, rows) {
    const found = this.kernels.doubles((this.description.layers + 1) * rows * this.features);
    found.view.set(y.subarray(0, rows * this.features));
    const parameters = this.kernels.doubles(this.size).set(this.parameters.view);
    this.kernels.code.states(this.handle, parameters.place, rows, found.place);
    parameters.free();
    return found;
  }

  // The gradient before every layer, (layers + 1, rows, n), of that after the last one, g (rows, n).
  pullback(states, g, rows) {
    const found = this.kernels.doubles(states.length), parameters = this.kernels.doubles(this.size).set(this.parameters.view);
    found.view.set(g, states.length - rows * this.features);
    this.kernels.code.pullback(this.handle, parameters.place, rows, states.place, found.place);
    parameters.free();
    return found;
  }

  // One run and its gradients, for tests: out, and by y, weight, bias of Σ g · out.
  gradients(y, g, rows) {
    const { kernels } = this, n = this.features, d = this.description, whole = (d.shared ? 1 : d.layers) * n * n;
    const blocks = [rows * n, rows * n, rows * n, rows * n, whole, whole, whole].map((length) => kernels.floats(length));
    const [from, pull, out, byY, byWeight, byBias, byDrive] = blocks;
    from.set(y), pull.set(g);
    kernels.code.run(this.handle, this.parameters.place, rows, from.place, out.place);
    kernels.code.run_back(this.handle, this.parameters.place, rows, from.place, pull.place, byY.place, byWeight.place,
      byBias.place, byDrive.place);
    const found = { out: out.view.slice(), y: byY.view.slice(), weight: byWeight.view.slice(), bias: byBias.view.slice(),
      drive: byDrive.view.slice() };
    blocks.forEach((block) => block.free());
    return found;
  }
}
