// Eigenvalues of the field, the energy along the depth, and singular values of the Jacobian.
import { figure } from "./elements.js";
import { Plot, mark, rangeOf, colour } from "./plot.js";

const SHAPE = { flow: "circle", perceptron: "square", "perceptron-orthogonal": "square", resnet: "diamond", "resnet-orthogonal": "diamond", "resnet-1": "triangle", "resnet-1-orthogonal": "triangle" };

export class SpectrumView {
  constructor() {
    Object.assign(this, figure("spectrum", "Eigenvalues of the field", "spectrum"));
  }

  show({ titles }) {
    this.titles = titles, this.found = null;
    this.draw();
  }

  picture({ spectrum }, layer) {
    if (!spectrum) return;
    this.found = spectrum, this.layer = layer;
    this.draw();
  }

  draw() {
    const entries = Object.entries(this.found ?? {}), part = (list, odd) => Array.from(list).filter((_, i) => i % 2 === odd);
    const reach = Math.max(1, ...entries.flatMap(([, list]) => Array.from(list, Math.abs).filter(Number.isFinite))) * 1.08;
    const plot = new Plot(this.canvas, { label: "real part", from: -reach, to: reach }, { label: "imaginary part", from: -reach, to: reach });
    const { g, box } = plot;
    g.strokeStyle = colour("bound"), g.lineWidth = 1.5;
    plot.segment(plot.px(0), box.top, plot.px(0), box.bottom);
    for (const [name, list] of entries.reverse()) plot.dots(part(list, 0), part(list, 1), name, { shape: SHAPE[name], alpha: 0.75, size: 3.2 });
    const worst = entries.map(([name, list]) => `${this.titles[name]} ${rounded(Math.max(...part(list, 0)))}`).reverse();
    this.caption.textContent = worst.length ? `At layer ${this.layer + 1}, for some points. Largest real part: ${worst.join("; ")}.` : "";
  }
}

// To two digits, and none of what rounding has left.
const rounded = (v) => (Math.abs(v) < 1e-4 ? 0 : Number(v.toPrecision(2)));

export class EnergyView {
  constructor() {
    Object.assign(this, figure("energy", "Energy along the depth", "energy"));
  }

  show({ layers, shared }) {
    this.layers = layers, this.shared = shared, this.found = null;
    this.draw();
  }

  picture({ energy, levels }) {
    if (!energy) return;
    this.found = energy, this.levels = levels;
    this.draw();
  }

  draw() {
    const { values, points } = this.found ?? { values: [], points: 0 }, lists = Array.from({ length: points }, (_, i) => Array.from(this.levels, (_, k) => values[k * points + i]));
    const plot = new Plot(this.canvas, { label: "layer j", from: 0, to: Math.max(1, this.layers ?? 1), whole: true }, { label: "H(y_j)", ...rangeOf(lists, lists.length ? [Infinity, -Infinity] : [0, 1], 0.2) });
    for (const list of lists) plot.line(this.levels, list, "flow", { width: 1.5, alpha: 0.8 });
    if (!this.shared) this.caption.textContent = "There is one energy for all layers only where they share their weights: turn on “Shared weights”.";
    else if (lists.length) {
      const drift = Math.max(...lists.map((list) => Math.max(...list.map((v) => Math.abs(v - list[0]))) / (Math.abs(list[0]) || 1)));
      this.caption.textContent = `Of ${points} points. Furthest from where it began: ${Number((100 * drift).toPrecision(2))} %.`;
    } else this.caption.textContent = "";
  }
}

export class SingularView {
  constructor() {
    Object.assign(this, figure("singular", "Singular values of ∂y_N/∂y_0", "singular"));
  }

  show({ titles, features, pairs, least }) {
    this.titles = titles, this.features = features, this.pairs = pairs, this.middle = least ?? 0, this.norms = null;
    this.draw();
  }

  picture({ norms }) {
    if (!norms) return;
    this.norms = norms;
    this.draw();
  }

  draw() {
    const n = this.features ?? 4, entries = Object.entries(this.norms ?? {});
    // So far below those of the flow, values stand at the lower edge: else nothing could be seen of the pairs.
    const own = this.norms?.flow?.singular.flatMap((values) => [...values]) ?? [], floor = Math.log10(Math.min(1, ...own)) - 6;
    const logs = entries.map(([name, each]) => [name, each.singular.map((values) => Array.from(values, (s) => Math.max(Math.log10(s), floor)))]);
    const plot = new Plot(this.canvas, { label: "number of the singular value", from: 0.5, to: n + 0.5, whole: true },
      { label: "s", log: true, ...rangeOf(logs.flatMap(([, lists]) => lists), [-1, 1], 2) });
    plot.level(this.middle, this.middle ? "e^(−γT/2)" : "1");
    const { g } = plot, mirrored = (v) => 2 * this.middle - v, flow = logs.find(([name]) => name === "flow")?.[1] ?? [];
    plot.inside(() => {  // where the partner would lie
      g.strokeStyle = colour("flow"), g.lineWidth = 1.2;
      for (const values of flow) values.forEach((_, k) => mark(g, plot.px(k + 1), plot.py(mirrored(values[n - 1 - k])), 6, "circle", true));
    });
    for (const [name, lists] of logs)
      for (const values of lists) plot.dots(values.map((_, k) => k + 1), values, name, { shape: SHAPE[name], size: 3, alpha: 0.8 });
    const off = Math.max(0, ...flow.map((values) => Math.max(...values.map((v, k) => Math.abs(v - mirrored(values[n - 1 - k]))))));
    this.caption.textContent = flow.length
      ? `Rings mark ${this.middle ? "e^(−γT)/s" : "1/s"} of the partner. For the flow a point and its ring differ by a factor of at most ${Number((10 ** off).toPrecision(3))}${this.pairs ? `: M J Mᵀ = ${this.middle ? "e^(−γT) " : ""}J holds exactly` : ""}.`
      : "";
  }
}
