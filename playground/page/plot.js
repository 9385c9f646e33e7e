// Plots on a canvas: a frame with axes, and lines, bands and dots inside it.

const MARGIN = { left: 46, right: 10, top: 28, bottom: 34 };

// The colour of a name in style.css, as the theme has it now.
const colours = new Map();
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}
export function forgetColours() {
  colours.clear();
}

export const isDashed = (name) => name.endsWith("orthogonal");

// The canvas at the resolution of the screen, cleared; sizes in pixels of the page.
export function surface(canvas) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const w = Math.max(1, Math.round(width * scale)), h = Math.max(1, Math.round(height * scale));
  if (canvas.width !== w || canvas.height !== h) canvas.width = w, canvas.height = h;
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width, height };
}

const nice = (span, count) => {
  const rough = span / count, power = 10 ** Math.floor(Math.log10(rough)), rest = rough / power;
  return (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10) * power;
};
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
// 10⁻³ for -3.
export const power = (k) => (k === 0 ? "1" : `10${k < 0 ? "⁻" : ""}${[...String(Math.abs(k))].map((d) => SUPERSCRIPTS[d]).join("")}`);

export class Plot {
  // x and y are { label, from, to, log }; a logarithmic axis has powers of ten.
  constructor(canvas, x, y) {
    Object.assign(this, surface(canvas));
    this.x = x, this.y = y;
    const { left, right, top, bottom } = MARGIN;
    this.box = { left, top, right: this.width - right, bottom: this.height - bottom };
    this.axes();
  }

  px(x) { return this.box.left + ((x - this.x.from) / (this.x.to - this.x.from)) * (this.box.right - this.box.left); }
  py(y) { return this.box.bottom - ((y - this.y.from) / (this.y.to - this.y.from)) * (this.box.bottom - this.box.top); }

  ticks({ from, to, log, whole }, count) {
    let step = nice(to - from || 1, count);
    if (log || whole) step = Math.max(1, Math.round(step));
    const found = [];
    for (let v = Math.ceil(from / step - 1e-9) * step; v <= to + 1e-9 * step; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return found;
  }

  axes() {
    const { g, box } = this, label = (v, axis) => (axis.log ? power(Math.round(v)) : String(Number(v.toPrecision(6))));
    g.font = "12px system-ui, sans-serif", g.lineWidth = 1;
    g.fillStyle = colour("soft"), g.strokeStyle = colour("rule");
    g.textAlign = "right", g.textBaseline = "middle";
    for (const v of this.ticks(this.y, Math.max(2, (box.bottom - box.top) / 40))) {
      this.segment(box.left, this.py(v), box.right, this.py(v));
      g.fillText(label(v, this.y), box.left - 5, this.py(v));
    }
    g.textAlign = "center", g.textBaseline = "top";
    for (const v of this.ticks(this.x, Math.max(2, (box.right - box.left) / 70))) {
      this.segment(this.px(v), box.bottom, this.px(v), box.bottom + 4);
      const words = label(v, this.x), half = g.measureText(words).width / 2;
      g.fillText(words, Math.min(this.px(v), this.width - half), box.bottom + 6);
    }
    g.textAlign = "right", g.textBaseline = "bottom";
    g.fillText(this.x.label ?? "", box.right, this.height - 1);
    g.textAlign = "left";
    g.fillText(this.y.label ?? "", 4, box.top - 10);
  }

  segment(x1, y1, x2, y2) {
    const { g } = this;
    g.beginPath(), g.moveTo(x1, y1), g.lineTo(x2, y2), g.stroke();
  }

  inside(draw) {
    const { g, box } = this;
    g.save();
    g.beginPath(), g.rect(box.left, box.top - 1, box.right - box.left, box.bottom - box.top + 2), g.clip();
    draw(g);
    g.restore();
  }

  line(xs, ys, name, { width = 2.2, dashed = isDashed(name), alpha = 1 } = {}) {
    this.inside((g) => {
      g.strokeStyle = colour(name), g.lineWidth = width, g.globalAlpha = alpha, g.lineJoin = "round";
      g.setLineDash(dashed ? [7, 4] : []);
      g.beginPath();
      let drawing = false;
      for (let i = 0; i < ys.length; ++i) {
        if (Number.isNaN(ys[i])) { drawing = false; continue; }
        const x = this.px(xs[i]), y = Math.min(Math.max(this.py(ys[i]), -1e4), 1e4);
        if (drawing) g.lineTo(x, y); else g.moveTo(x, y);
        drawing = true;
      }
      g.stroke();
    });
  }

  band(xs, lows, highs, name) {
    this.inside((g) => {
      g.fillStyle = colour(name), g.globalAlpha = 0.16;
      g.beginPath();
      for (let i = 0; i < xs.length; ++i) g.lineTo(this.px(xs[i]), Math.min(Math.max(this.py(highs[i]), -1e4), 1e4));
      for (let i = xs.length - 1; i >= 0; --i) g.lineTo(this.px(xs[i]), Math.min(Math.max(this.py(lows[i]), -1e4), 1e4));
      g.fill();
    });
  }

  // A line from y at the left to `end` at the right, level unless told. Its words stand above the picture, where no curve is.
  level(y, words, end = y) {
    const { g, box } = this;
    g.strokeStyle = g.fillStyle = colour("bound"), g.lineWidth = 1.5;
    this.inside(() => this.segment(box.left, this.py(y), box.right, this.py(end)));
    if (!words) return;
    g.textAlign = "right", g.textBaseline = "bottom";
    g.fillText(words, box.right, box.top - 10);
    const left = box.right - g.measureText(words).width - 5;
    this.segment(left - 14, box.top - 17, left, box.top - 17);
  }

  dots(xs, ys, name, { size = 3, shape = "circle", alpha = 1, hollow = false } = {}) {
    this.inside((g) => {
      g.fillStyle = g.strokeStyle = colour(name), g.globalAlpha = alpha, g.lineWidth = 1.3;
      for (let i = 0; i < xs.length; ++i) mark(g, this.px(xs[i]), this.py(ys[i]), size, shape, hollow);
    });
  }
}

// A circle, triangle, square or diamond: colours alone tell nothing to some.
export function mark(g, x, y, size, shape, hollow = false) {
  g.beginPath();
  if (shape === "triangle") g.moveTo(x, y - 1.2 * size), g.lineTo(x + 1.1 * size, y + 0.8 * size), g.lineTo(x - 1.1 * size, y + 0.8 * size), g.closePath();
  else if (shape === "square") g.rect(x - 0.85 * size, y - 0.85 * size, 1.7 * size, 1.7 * size);
  else if (shape === "diamond") g.moveTo(x, y - 1.3 * size), g.lineTo(x + 1.3 * size, y), g.lineTo(x, y + 1.3 * size), g.lineTo(x - 1.3 * size, y), g.closePath();
  else g.arc(x, y, size, 0, 2 * Math.PI);
  if (hollow) g.stroke(); else g.fill();
}

// A range around all numbers that are finite, at least as wide as `least`.
export function rangeOf(lists, [low, high], least = 0) {
  for (const list of lists) for (const v of list) if (Number.isFinite(v)) low = Math.min(low, v), high = Math.max(high, v);
  const short = Math.max(0, least - (high - low)) / 2, edge = 0.04 * (high - low + 2 * short);
  return { from: low - short - edge, to: high + short + edge };
}
