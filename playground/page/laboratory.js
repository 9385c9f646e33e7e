// The networks under the visitor's eyes, their data, and their training: all on the same batches.
import { drawn } from "./data.js";
import { course, energies, levels, lifted, norms, spectrum } from "./measures.js";
import { begin, describe } from "./models.js";
import { generator, permutation } from "./random.js";
import { BASELINES } from "./settings.js";

const WATCHED = 32, JACOBIANS = 6, WALKED = 200;
export const GRID = 64;  // of regions
const PATIENT = 40;  // ms that a part of a picture may take

export class Laboratory {
  constructor(kernels) {
    this.kernels = kernels;
    this.nets = new Map();
    this.blocks = [];
  }

  // Begin anew. `settings` as settings.js describes them; `given` may bring data { train, test } and parameters.
  set(settings, given = {}) {
    for (const net of this.nets.values()) net.free();
    this.blocks.forEach((block) => block.free());
    this.nets.clear();
    this.settings = settings;
    const { layers, horizon, features, activation, shared, seed, damping } = settings;
    const step = layers ? horizon / layers : 0, common = { features, layers, activation, J: settings.J, ownJ: settings.ownJ };
    const flow = describe({ ...common, kind: settings.model, step, shared, damping });
    this.nets.set("flow", this.kernels.network(flow, given.parameters ?? begin(flow, seed, { std: settings.std })));
    for (const name of settings.beside) {
      const { kind, start, step: own } = BASELINES[name];
      const made = describe({ ...common, kind, step: own ?? step, shared });
      this.nets.set(name, this.kernels.network(made, begin(made, seed, { start })));
    }
    this.data = given.data ?? drawn(settings.problem, settings.points, settings.noise, seed, settings.own);
    const { train, test } = this.data, k = this.kernels;
    this.x = k.floats(train.x.length).set(train.x), this.classes = k.wholes(train.y.length).set(train.y);
    this.order = k.wholes(train.y.length);
    this.lifted = { train: this.lift(train), test: this.lift(test), grid: null };
    this.blocks = [this.x, this.classes, this.order, this.lifted.train, this.lifted.test];
    this.next = generator(seed + 1);
    this.position = train.y.length, this.step = 0, this.epoch = 0, this.turn = 0;
    this.accuracy = {}, this.judged = -1, this.slice = 4, this.measured = this.cost = -Infinity;
    return { train, test, steps: Math.ceil(train.y.length / settings.batch) };
  }

  lift(part) {
    const n = this.settings.features, y = lifted(part.x, part.y.length, n);
    return this.kernels.floats(y.length).set(y);
  }

  change(settings) {
    this.settings = settings;
  }

  // Steps of all networks on the same batches, until `most` are done or the time is up. The losses, by network.
  learn(most, until = Infinity) {
    const { batch, rate, smoothness, headDecay } = this.settings, all = this.classes.length, losses = {};
    if (!all) return losses;
    for (let done = 0; done < most && performance.now() < until;) {
      if (this.position >= all) {
        this.order.set(permutation(this.next, all));
        this.position = 0, ++this.epoch;
      }
      // A few at a time: the clock is looked at in between.
      const start = performance.now(), steps = Math.min(most - done, until < Infinity ? this.slice : 64);
      const rows = Math.min(steps * batch, all - this.position);
      for (const [name, net] of this.nets)
        (losses[name] ??= []).push(...net.learn({ x: this.x, classes: this.classes, order: this.order, from: this.position,
          rows, batch, rate, headDecay, smoothness: name === "flow" ? smoothness : 0 }));
      this.position += rows;
      this.slice = performance.now() - start > PATIENT ? 1 : 4;
      const taken = Math.ceil(rows / batch);
      done += taken, this.step += taken;
    }
    return losses;
  }

  // In percent, of at most so many points of a part.
  scored(net, part, most = Infinity) {
    const { y } = this.data[part], count = Math.min(y.length, most), logits = net.logits(this.lifted[part], count);
    let right = 0;
    for (let i = 0; i < count; ++i) right += Number(logits[i] > 0) === y[i];
    return count ? (100 * right) / count : NaN;
  }

  // Of one network each time it is asked, since it takes as long as some steps; or of all on all points.
  score(full) {
    const names = [...this.nets.keys()];
    if (this.judged === this.step) return this.accuracy;
    if (full) this.judged = this.step;
    for (const name of full ? names : [names[this.turn++ % names.length]])
      this.accuracy[name] = ["train", "test"].map((part) => this.scored(this.nets.get(name), part, full ? Infinity : 1000));
    return this.accuracy;
  }

  // Logits on a grid over a square, row by row from the top.
  regions(name, [left, low], half) {
    const n = this.settings.features, net = this.nets.get(name) ?? this.nets.get("flow"), points = new Float32Array(2 * GRID * GRID);
    for (let r = 0; r < GRID; ++r)
      for (let c = 0; c < GRID; ++c) {
        points[2 * (r * GRID + c)] = left + half * ((2 * c + 1) / GRID - 1);
        points[2 * (r * GRID + c) + 1] = low + half * (1 - (2 * r + 1) / GRID);
      }
    const block = this.kernels.floats(GRID * GRID * n).set(lifted(points, GRID * GRID, n)), logits = net.logits(block, GRID * GRID);
    block.free();
    return logits;
  }

  // What the page asked to see; `wants` names it.
  picture(wants) {
    const { layers } = this.settings, found = { step: this.step, epoch: this.epoch && this.epoch - 1 + this.position / this.classes.length };
    found.failed = Object.fromEntries([...this.nets].map(([name, net]) => [name, net.failed]));
    found.accuracy = { ...this.score(wants.full) };
    found.levels = levels(layers);
    if (wants.regions) found.regions = this.regions(wants.regions.of, wants.regions.middle, wants.regions.half);
    if (wants.norms && (wants.full || this.mayMeasure())) found.norms = this.norms();
    if (wants.course || wants.energy || wants.spectrum) this.walk(wants, found);
    return found;
  }

  // Of very deep or wide networks, Jacobians take a quarter of the time at most.
  mayMeasure() {
    return this.cost < PATIENT || performance.now() - this.measured > 3 * this.cost;
  }

  norms() {
    const { train } = this.data, found = {}, count = Math.min(WATCHED, train.y.length), start = performance.now();
    for (const [name, net] of this.nets)
      if (net.failed < 0 && count) found[name] = norms(net, train.x, train.y, count, Math.min(JACOBIANS, count));
    this.measured = performance.now(), this.cost = this.measured - start;
    return found;
  }

  walk(wants, found) {
    const { train } = this.data, points = Math.min(WALKED, train.y.length), { layers, shared, features: n } = this.settings;
    const net = this.nets.get("flow");
    if (!points) return;
    if (wants.course || wants.energy) {
      const of = this.nets.get(wants.course?.of) ?? net, states = course(of, train.x, points), p = of.parameters.view;
      if (wants.course) found.course = { states, points, labels: train.y.slice(0, points), head: p.slice(of.head, of.size) };
      if (wants.energy && shared) {
        const few = Math.min(12, points);
        found.energy = { values: energies(net, course(net, train.x, few), few), points: few };
      }
    }
    if (wants.spectrum && layers) {
      const few = Math.min(16, points), layer = Math.min(wants.spectrum.layer, layers - 1);
      found.spectrum = {};
      for (const [name, each] of this.nets) {
        if (each.description.kind === "perceptron" || each.failed >= 0) continue;
        const states = each.states(lifted(train.x, few, n), few);
        found.spectrum[name] = spectrum(each, layer, states.view.subarray(layer * few * n, (layer + 1) * few * n), few);
        states.free();
      }
    }
  }

  // Numbers of the flow, as models.js lays them out.
  parameters() {
    return this.nets.get("flow").parameters.view.slice();
  }
}
