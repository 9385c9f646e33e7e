// The controls, made from the table of settings.
import { element, hint } from "./elements.js";
import { HALVED, interconnection } from "./models.js";
import { SETTINGS } from "./settings.js";
import { pasted } from "./data.js";
import { isDashed } from "./plot.js";

const GROUPS = {
  Data: ["problem", "points", "noise"],
  Model: ["model", "J", "layers", "horizon", "features", "activation", "shared", "damping"],
  Training: ["rate", "batch", "smoothness", "headDecay", "std", "seed", "speed"],
  "Beside it": ["beside"],
};
const TYPED = new Set(["layers", "horizon", "seed"]);

export class Controls {
  // `changed(part)` gets what the visitor has turned, `failed(words)` what was wrong with it.
  constructor(root, changed, failed) {
    this.changed = changed, this.failed = failed, this.inputs = {};
    for (const [title, names] of Object.entries(GROUPS)) {
      const set = element("fieldset", {}, element("legend", {}, title), ...names.map((name) => this.control(name)));
      if (title === "Data") set.append(this.ownPoints());
      if (title === "Model") set.insertBefore(this.ownMatrix(), set.children[3]);
      root.append(set);
    }
  }

  control(name) {
    const { kind, label, options, values, hint: about } = SETTINGS[name], id = `set-${name}`;
    if (kind === "several") return this.several(name);
    const change = (event) => this.changed({ [name]: kind === "switch" ? event.target.checked : kind === "choice" ? event.target.value : Number(event.target.value) });
    let input, list = null;
    if (kind === "switch") input = element("input", { type: "checkbox", id, onchange: change });
    else if (TYPED.has(name)) {
      const [low, high] = kind === "whole" ? [0, SETTINGS[name].most] : [values[0], values.at(-1)];
      input = element("input", { type: "number", id, min: low, max: high, step: name === "horizon" ? "any" : 1, list: values ? `${id}-list` : null, onchange: change });
      if (values) list = element("datalist", { id: `${id}-list` }, ...values.map((v) => element("option", { value: v })));
    } else {
      const each = kind === "choice" ? Object.entries(options) : values.map((v) => [v, v]);
      input = element("select", { id, onchange: change }, ...each.map(([value, title]) => element("option", { value }, title)));
    }
    this.inputs[name] = input;
    const words = element("label", { for: id }, ...(kind === "switch" ? [input, ` ${label}`] : [label]));
    const wide = kind === "choice" && name !== "model" && name !== "activation";
    return kind === "switch"
      ? element("div", { class: "control switch" }, words, hint(about, label))
      : element("div", { class: `control${wide ? " wide" : ""}` }, words, ...(wide ? [hint(about, label), input] : [input, hint(about, label)]), list);
  }

  several(name) {
    const { options, label, hint: about } = SETTINGS[name];
    const list = element("div", { class: "several" });
    const boxes = Object.entries(options).map(([key, title]) => {
      const box = element("input", { type: "checkbox", value: key, onchange: () => this.changed({ [name]: boxes.filter((each) => each.checked).map((each) => each.value) }) });
      const swatch = element("span", { class: `swatch${isDashed(key) ? " dashed" : ""}` });
      swatch.style.borderTopColor = `var(--${key})`;
      list.append(element("label", {}, box, " ", swatch, title));
      return box;
    });
    this.inputs[name] = boxes;
    return element("div", { class: "control beside" }, list, hint(about, label));
  }

  ownPoints() {
    this.text = element("textarea", { "aria-label": "Points: x, y, class, one a line", placeholder: "x, y, class\n0.5, 1.2, a\n…" });
    const take = () => {
      try {
        this.changed({ problem: "own", own: pasted(this.text.value), noise: 0 });
      } catch (error) {
        this.failed(error.message);
      }
    };
    this.points = element("div", {}, element("details", {}, element("summary", {}, "Paste points"), this.text, element("button", { type: "button", onclick: take }, "Use these")),
      (this.clear = element("button", { type: "button", onclick: () => this.changed({ own: [] }) }, "Remove all points")));
    return this.points;
  }

  ownMatrix() {
    this.entries = [];
    this.matrix = element("div", { class: "grid4", role: "group", "aria-label": "Your own J: the entries above the diagonal" });
    this.mirrors = [];
    for (let r = 0; r < 4; ++r)
      for (let c = 0; c < 4; ++c) {
        if (r < c) {
          const input = element("input", { type: "number", step: "any", "aria-label": `J, row ${r + 1}, column ${c + 1}`, onchange: () => this.changed({ ownJ: this.entries.map((each) => Number(each.value) || 0) }) });
          this.entries.push(input), this.matrix.append(input);
        } else {
          const output = element("output", {}, "0");
          if (r > c) this.mirrors.push([output, r, c]);
          this.matrix.append(output);
        }
      }
    return this.matrix;
  }

  show(settings) {
    for (const [name, input] of Object.entries(this.inputs)) {
      const { kind } = SETTINGS[name], value = settings[name];
      if (kind === "several") for (const box of input) box.checked = value.includes(box.value);
      else if (kind === "switch") input.checked = value;
      else {
        if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === String(value)))
          input.append(element("option", { value }, value));
        input.value = String(value);
      }
    }
    this.inputs.J.disabled = settings.model !== "h1";
    this.inputs.damping.disabled = !HALVED.includes(settings.model);
    this.inputs.features.disabled = settings.J === "own";
    this.clear.hidden = settings.problem !== "own";
    this.inputs.points.disabled = settings.problem === "own";
    this.matrix.hidden = settings.J !== "own";
    this.entries.forEach((input, k) => { input.value = settings.ownJ[k]; });
    const J = interconnection("own", 4, settings.ownJ);
    for (const [output, r, c] of this.mirrors) output.textContent = J[r * 4 + c] || 0;
  }
}
