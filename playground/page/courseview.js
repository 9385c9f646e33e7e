// The state after every layer, and a walk through the depth.
import { element, figure } from "./elements.js";
import { SHAPES } from "./planeview.js";
import { Plot, rangeOf } from "./plot.js";

export class CourseView {
  constructor({ changed }) {
    this.at = 0, this.axes = ["0", "1"], this.changed = changed;
    this.play = element("button", { type: "button", onclick: () => this.toggle() }, "▶ Walk");
    this.slider = element("input", { type: "range", min: 0, max: 1, step: "any", value: 0, "aria-label": "Layer that is shown", oninput: () => this.go(Number(this.slider.value)) });
    this.choices = [0, 1].map((k) => element("select", { "aria-label": k ? "Vertical axis" : "Horizontal axis", onchange: (event) => { this.axes[k] = event.target.value; this.draw(); } }));
    Object.assign(this, figure("course", "State after each layer", "course", { square: true, tools: this.choices }));
    this.root.insertBefore(element("div", { class: "slider" }, this.play, this.slider), this.caption);
  }

  show({ features, layers }) {
    const options = () => [
      ...Array.from({ length: features }, (_, i) => element("option", { value: String(i) }, `y${"₁₂₃₄₅₆₇₈₉"[i] ?? i + 1}`)),
      element("option", { value: "head" }, "W y + μ"),
    ];
    this.choices.forEach((choice, k) => {
      choice.replaceChildren(...options());
      if (Number(this.axes[k]) >= features) this.axes[k] = String(k);
      choice.value = this.axes[k];
    });
    this.features = features, this.layers = layers, this.course = null;
    this.slider.step = layers < 129 ? 1 / Math.max(1, layers) : "any";
    this.draw();
  }

  picture({ course, levels }) {
    if (!course) return;
    this.course = course, this.levels = levels;
    this.draw();
  }

  // To a share of the depth, 0 … 1.
  go(at) {
    this.at = at, this.slider.value = at;
    const layer = Math.round(at * this.layers);
    this.slider.setAttribute("aria-valuetext", `after layer ${layer} of ${this.layers}`);
    this.changed({ layer: Math.min(layer, Math.max(0, this.layers - 1)) });
    this.draw();
  }

  toggle() {
    this.walking = !this.walking;
    this.play.textContent = this.walking ? "❚❚ Stop" : "▶ Walk";
    if (!this.walking) return;
    if (this.at >= 1) this.at = 0;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.leap();
    else this.glide();
  }

  // All the way in some seconds.
  glide() {
    let last = performance.now();
    const step = (now) => {
      if (!this.walking) return;
      this.go(Math.min(1, this.at + (now - last) / 5000));
      last = now;
      if (this.at >= 1) this.toggle();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // From layer to layer, without motion in between.
  leap() {
    const stops = Math.max(1, Math.min(this.layers, 16));
    const step = () => {
      if (!this.walking) return;
      this.go(Math.min(1, Math.round((this.at + 1 / stops) * stops) / stops));
      if (this.at >= 1) this.toggle();
      else setTimeout(step, 400);
    };
    step();
  }

  // Coordinate `axis` of all points at a level, or what the head makes of them.
  along(axis, level) {
    const { states, points, head } = this.course, n = this.features, from = level * points * n;
    return Array.from({ length: points }, (_, i) => {
      if (axis !== "head") return states[from + i * n + Number(axis)];
      let z = head[n];
      for (let k = 0; k < n; ++k) z += head[k] * states[from + i * n + k];
      return z;
    });
  }

  draw() {
    const layer = Math.round(this.at * (this.layers ?? 0));
    this.caption.textContent = `After layer ${layer} of ${this.layers ?? 0}.`;
    const label = (axis) => (axis === "head" ? "W y + μ" : `y${"₁₂₃₄₅₆₇₈₉"[Number(axis)] ?? Number(axis) + 1}`);
    const [x, y] = this.axes.map(label);
    if (!this.course) return void new Plot(this.canvas, { label: x, from: -1, to: 1 }, { label: y, from: -1, to: 1 });
    const last = this.levels.length - 1, place = this.at * last, low = Math.min(Math.floor(place), last), share = place - low;
    const between = (axis) => {  // while it walks: part of the way to the next layer
      const from = this.along(axis, low);
      if (!share || low === last) return from;
      const to = this.along(axis, low + 1);
      return from.map((v, i) => v + share * (to[i] - v));
    };
    const [xs, ys] = this.axes.map(between), range = (axis) => {
      const some = [0, last >> 2, last >> 1, (3 * last) >> 2, last].map((level) => this.along(axis, level));
      return rangeOf([...some, between(axis)], [0, 0], 0.5);
    };
    const plot = new Plot(this.canvas, { label: x, ...range(this.axes[0]) }, { label: y, ...range(this.axes[1]) });
    for (const label of [0, 1]) {
      const own = (values) => values.filter((_, i) => this.course.labels[i] === label);
      plot.dots(own(xs), own(ys), label ? "one" : "zero", { size: 3, shape: SHAPES[label], alpha: 0.85 });
    }
  }
}
