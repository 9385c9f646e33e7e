// The heart: how strong gradients are before every layer, of all networks side by side.
import { figure } from "./elements.js";
import { Plot, power, rangeOf } from "./plot.js";

const SMALLEST = -40;  // powers of ten that fit on the axis; what is less is told in words

class DepthView {
  constructor(id, title, about, words) {
    Object.assign(this, figure(id, title, about));
    this.words = words, this.facts = {};
  }

  show({ layers, titles, ...facts }) {
    this.layers = layers, this.titles = titles, this.facts = facts, this.norms = null;
    this.draw();
  }

  picture({ norms, levels }) {
    if (!norms) return;
    this.norms = norms, this.levels = levels;
    this.draw();
  }

  draw() {
    const entries = Object.entries(this.norms ?? {}), x = { label: "layer j", from: 0, to: Math.max(1, this.layers ?? 1), whole: true };
    const shown = entries.flatMap(([, each]) => this.lists(each)).map((list) => Array.from(list, (v) => Math.max(v, SMALLEST)));
    const plot = new Plot(this.canvas, x, { label: this.words.axis, log: true, ...rangeOf([...shown, [this.facts.least]], [-1, 1], 2) });
    this.level(plot);
    for (const [name, each] of entries) this.curve(plot, name, each);
    this.caption.textContent = entries.length
      ? `Before the first layer: ${entries.map(([name, each]) => `${this.titles[name]} ${about(this.lists(each)[0][0])}`).join("; ")}.`
      : "";
  }
}

// 10^v in words that fit.
export function about(v) {
  if (v === -Infinity) return "0";
  if (!Number.isFinite(v)) return "no number";
  if (Math.abs(v) < 3) return String(Number((10 ** v).toPrecision(2)));
  return power(Math.round(v));
}

export class GradientView extends DepthView {
  constructor() {
    super("gradients", "Gradients ‖∂L/∂y_j‖", "gradient", { axis: "relative to the output" });
  }

  lists(each) { return [each.gradient]; }
  level(plot) { plot.level(0, "1: as at the output"); }
  curve(plot, name, each) { plot.line(this.levels, each.gradient, name); }
}

export class JacobianView extends DepthView {
  constructor() {
    super("jacobians", "Sensitivities ‖∂y_N/∂y_j‖", "jacobian", { axis: "spectral norm" });
  }

  lists(each) { return [each.jacobian, each.least, each.most]; }

  // What the flow cannot fall below; for forward Euler there is no such thing, and 1 is but a mark.
  level(plot) {
    const { least = 0, damping } = this.facts;
    plot.level(least, damping ? "the bound e^(−γ(T−t)/2)" : "the bound 1", 0);
  }

  curve(plot, name, each) {
    plot.band(this.levels, each.least, each.most, name);
    plot.line(this.levels, each.jacobian, name);
  }
}
