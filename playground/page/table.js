// The networks, side by side: their accuracies, and which of them learn.
import { element } from "./elements.js";
import { isDashed } from "./plot.js";

const PATIENCE = 300;  // steps before anything is said

// What accuracies (of training and test points, in percent) amount to after some steps.
function verdict({ failed, accuracy, step, chance }) {
  if (failed >= 0) return `broke down at step ${failed + 1}: its loss is no number`;
  if (!accuracy || step < PATIENCE) return "…";
  if (accuracy[0] > 95) return "has learned";
  return accuracy[0] > chance + 8 ? "is learning" : "guesses";
}

export class Table {
  constructor(root) {
    this.body = element("tbody", {});
    root.replaceChildren(element("table", {}, element("thead", {}, element("tr", {},
      ...["Network", "Training", "Test", "So far it …"].map((title) => element("th", { scope: "col" }, title)))), this.body));
  }

  show(titles, chance) {
    this.chance = chance, this.rows = {};
    this.body.replaceChildren(...Object.entries(titles).map(([name, title]) => {
      const swatch = element("span", { class: `swatch${isDashed(name) ? " dashed" : ""}` });
      swatch.style.borderTopColor = `var(--${name})`;
      const cells = [0, 1, 2].map(() => element("td", {}, "…"));
      this.rows[name] = cells;
      return element("tr", { "data-network": name }, element("th", { scope: "row" }, swatch, title), ...cells);
    }));
  }

  picture({ accuracy, failed, step }) {
    for (const [name, cells] of Object.entries(this.rows)) {
      const found = accuracy[name], words = [...(found ?? [NaN, NaN]).map((v) => (Number.isFinite(v) ? `${v.toFixed(1)} %` : "…")),
        verdict({ failed: failed[name], accuracy: found, step, chance: this.chance })];
      words.forEach((text, k) => { if (cells[k].textContent !== text) cells[k].textContent = text; });
    }
  }
}
