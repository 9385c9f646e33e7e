// Loss and accuracy against the steps.
import { figure } from "./elements.js";
import { Plot, rangeOf } from "./plot.js";

const MOST = 600;  // points of a curve; then every other one goes

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.steps = [], this.losses = {}, this.accuracy = {};
  }

  // `losses` by network, of the steps since the last picture.
  note({ step, losses, accuracy }) {
    if (!Object.values(losses).some((list) => list.length)) return;
    this.steps.push(step);
    for (const [name, list] of Object.entries(losses)) {
      const mean = list.length ? list.reduce((sum, v) => sum + v, 0) / list.length : NaN;
      (this.losses[name] ??= []).push(mean);
      (this.accuracy[name] ??= []).push(accuracy[name]?.[1] ?? NaN);
    }
    if (this.steps.length > MOST)
      for (const list of [this.steps, ...Object.values(this.losses), ...Object.values(this.accuracy)]) {
        const kept = list.filter((_, i) => i % 2 === 0 || i === list.length - 1);
        list.splice(0, list.length, ...kept);
      }
  }
}

export class LossView {
  constructor(history) {
    Object.assign(this, figure("loss", "Training loss", "history"));
    this.history = history;
  }

  draw() {
    const { steps, losses } = this.history, logs = Object.fromEntries(Object.entries(losses).map(([name, list]) => [name, list.map((v) => Math.log10(Math.max(v, 1e-8)))]));
    const plot = new Plot(this.canvas, { label: "step", from: 0, to: Math.max(10, steps.at(-1) ?? 10), whole: true },
      { label: "loss", log: true, ...rangeOf(Object.values(logs), [-1, 0], 1) });
    plot.level(Math.log10(Math.LN2), "a guess: log 2");
    for (const [name, list] of Object.entries(logs)) plot.line(steps, list, name);
    const last = Object.entries(losses).map(([name, list]) => `${this.titles?.[name] ?? name} ${Number(list.at(-1)?.toPrecision(2))}`);
    this.caption.textContent = last.length ? `Now: ${last.join("; ")}.` : "Press play, and the loss should fall.";
  }
}

export class AccuracyView {
  constructor(history) {
    Object.assign(this, figure("accuracy", "Test accuracy", "history"));
    this.history = history;
  }

  draw() {
    const { steps, accuracy } = this.history;
    const plot = new Plot(this.canvas, { label: "step", from: 0, to: Math.max(10, steps.at(-1) ?? 10), whole: true }, { label: "%", ...rangeOf(Object.values(accuracy), [40, 100]) });
    plot.level(50, "a guess");
    for (const [name, list] of Object.entries(accuracy)) plot.line(steps, list, name);
    this.caption.textContent = "Share of test points in the right class.";
  }
}
