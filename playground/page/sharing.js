// What leaves the page by the visitor's hand: a link, Python, weights, points.
import { element } from "./elements.js";
import { python } from "./python.js";
import { fromFile, toFile } from "./weights.js";

export function save(name, parts, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob(parts, { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// `now()` gives { settings, epoch, link }, `parameters()` the numbers of the flow, `opened` gets what a file holds.
export function sharing(root, { now, parameters, data, opened, failed, said }) {
  const code = element("pre", { tabindex: 0, "aria-label": "The same in Python" });
  const script = element("details", { ontoggle: () => { code.textContent = python(now().settings, now().epoch); } }, element("summary", {}, "Open in Python"), code,
    element("button", { type: "button", onclick: () => copied(code.textContent, code) }, "Copy"));
  const link = element("input", { type: "text", readonly: true, hidden: true, "aria-label": "Link to this state" });
  async function copied(text, shown) {
    try {
      await navigator.clipboard.writeText(text);
      said("Copied.");
    } catch {  // no permission, or a page from disk: select it, so that a key copies
      getSelection().selectAllChildren(shown);
      said("Selected: copy it with Ctrl+C.");
    }
  }
  const file = element("input", { type: "file", accept: ".safetensors", hidden: true, "aria-label": "File of weights", onchange: async () => {
    try {
      if (file.files.length) opened(fromFile(new Uint8Array(await file.files[0].arrayBuffer())));
    } catch (error) {
      failed(error);
    }
    file.value = "";
  } });
  const button = (words, act) => element("button", { type: "button", onclick: act }, words);
  root.append(
    button("Link to this state", () => {
      link.hidden = false, link.value = now().link, link.select();
      copied(link.value, link);
    }),
    button("Save weights", async () => save("playground.safetensors", [toFile(now().settings, await parameters())], "application/octet-stream")),
    button("Load weights", () => file.click()),
    button("Save the points", () => {
      const { train, test } = data(), lines = [train, test].flatMap(({ x, y }) => Array.from(y, (label, i) => `${x[2 * i]},${x[2 * i + 1]},${label}`));
      save("points.csv", [`${lines.join("\n")}\n`], "text/csv");
    }),
    file, link, script);
  return () => { if (script.open) code.textContent = python(now().settings, now().epoch); };
}
