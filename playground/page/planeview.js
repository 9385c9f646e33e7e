// The data, and what a network makes of the plane around them.
import { element, figure } from "./elements.js";
import { GRID } from "./laboratory.js";
import { colour, mark, surface } from "./plot.js";

const SHOWN = 350;
export const SHAPES = ["circle", "triangle"];

export class PlaneView {
  // `changed` is called with { of } when another network is to be shown, `drew` with a new own point [x, y, label].
  constructor({ changed, drew }) {
    this.drew = drew, this.frame = { middle: [0, 0], half: 1 }, this.of = "flow";
    this.select = element("select", { "aria-label": "Regions of which network", onchange: () => changed({ of: (this.of = this.select.value) }) });
    this.pen = element("select", { "aria-label": "Class of the points that you draw", hidden: true },
      element("option", { value: "0" }, "draw class 0 ●"), element("option", { value: "1" }, "draw class 1 ▲"));
    Object.assign(this, figure("plane", "Decision regions", "plane", { square: true, tools: [this.pen, this.select], tabindex: 0 }));
    this.image = document.createElement("canvas");
    this.image.width = this.image.height = GRID;
    this.cursor = null;
    this.canvas.addEventListener("pointerdown", (event) => this.pointed(event));
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) this.pointed(event); });
    this.canvas.addEventListener("keydown", (event) => this.typed(event));
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.draw(); });
  }

  networks(options) {
    this.select.replaceChildren(...options.map(([name, title]) => element("option", { value: name }, title)));
    if (!options.some(([name]) => name === this.of)) this.of = "flow";
    this.select.value = this.of;
  }

  show(data, frame, own) {
    this.data = data, this.frame = frame, this.own = own, this.logits = null;
    this.pen.hidden = !own;
    this.canvas.style.cursor = own ? "crosshair" : "default";
    this.caption.textContent = own
      ? "Click or drag to add points. By keyboard: focus the picture, move with the arrow keys, and press 0 or 1."
      : `${data.train.y.length} training points (filled) and ${data.test.y.length} test points (hollow): some of them are drawn.`;
    this.draw();
  }

  picture({ regions }) {
    if (regions) this.logits = regions;
    this.draw();
  }

  pointed(event) {
    if (!this.own) return;
    const box = this.canvas.getBoundingClientRect(), { middle, half } = this.frame;
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    this.drew([middle[0] + half * (2 * at[0] - 1), middle[1] + half * (1 - 2 * at[1]), Number(this.pen.value)]);
  }

  typed(event) {
    if (!this.own) return;
    const { middle, half } = this.frame, moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    this.cursor ??= [...middle];
    const move = moves[event.key];
    if (move) this.cursor = this.cursor.map((v, k) => Math.min(Math.max(v + (move[k] * half) / 25, middle[k] - half), middle[k] + half));
    else if (event.key === "0" || event.key === "1") this.drew([...this.cursor, Number(event.key)]);
    else return;
    event.preventDefault();
    this.draw();
  }

  draw() {
    const { g, width, height } = surface(this.canvas), { middle, half } = this.frame;
    const px = (x) => ((x - middle[0]) / half + 1) * (width / 2), py = (y) => (1 - (y - middle[1]) / half) * (height / 2);
    if (this.logits) {
      this.paint();
      g.imageSmoothingEnabled = true;
      g.drawImage(this.image, 0, 0, width, height);
    }
    if (this.data) for (const part of ["test", "train"]) this.marks(g, this.data[part], px, py, part === "test");
    if (this.cursor) {
      g.strokeStyle = colour("ink"), g.lineWidth = 2;
      const [x, y] = [px(this.cursor[0]), py(this.cursor[1])];
      g.beginPath(), g.moveTo(x - 9, y), g.lineTo(x + 9, y), g.moveTo(x, y - 9), g.lineTo(x, y + 9), g.stroke();
    }
  }

  // Colours between those of the two classes, by the probability.
  paint() {
    const [zero, one, even] = ["zero-region", "one-region", "even"].map((name) => channels(colour(name)));
    const g = this.image.getContext("2d"), picture = g.createImageData(GRID, GRID), { data } = picture;
    for (let i = 0; i < GRID * GRID; ++i) {
      const p = 1 / (1 + Math.exp(-this.logits[i])), towards = p > 0.5 ? one : zero, share = Math.sqrt(Math.abs(2 * p - 1));
      for (let k = 0; k < 3; ++k) data[4 * i + k] = even[k] + share * (towards[k] - even[k]);
      data[4 * i + 3] = 255;
    }
    g.putImageData(picture, 0, 0);
  }

  marks(g, part, px, py, hollow) {
    const all = part.y.length, count = Math.min(all, this.own ? 4000 : SHOWN);
    g.lineWidth = 1;
    for (let i = 0; i < count; ++i) {
      const label = part.y[i];
      g.fillStyle = g.strokeStyle = colour(label ? "one" : "zero");
      mark(g, px(part.x[2 * i]), py(part.x[2 * i + 1]), 2.4, SHAPES[label], hollow && !this.own);
    }
  }
}

// [r, g, b] of #rrggbb.
function channels(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}
