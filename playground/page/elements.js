// Elements of the page, made without markup: nothing that is typed or loaded is ever read as HTML.
import { HINTS } from "./hints.js";

export function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...inside.filter((each) => each !== null && each !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

// A small circle with a question mark that explains one word or symbol.
export function hint(name, title) {
  const about = HINTS[name];
  if (!about) throw new Error(`There is no hint called ${name}.`);
  return element("details", { class: "hint" },
    element("summary", { "aria-label": `What is this: ${title}` }, "?"), element("p", {}, about));
}

// Moves what an open hint says into the window.
export function placeHint(hint) {
  const words = hint.lastElementChild;
  words.style.left = "0";
  const { left, right } = words.getBoundingClientRect(), room = document.documentElement.clientWidth - 8;
  words.style.left = `${Math.max(Math.min(0, room - right), 8 - left)}px`;
}

// One hint at a time is open; Escape closes it.
export function closeHints(except) {
  for (const each of document.querySelectorAll("details.hint[open]")) if (each !== except) each.open = false;
}

// A view: a title with its hint, tools, a canvas, and a caption in words.
export function figure(id, title, about, { square = false, tools = [], tabindex } = {}) {
  const canvas = element("canvas", { role: "img", "aria-label": title, class: square ? "square" : null, tabindex });
  const caption = element("figcaption", {});
  const root = element("figure", { id, "aria-label": title },
    element("div", { class: "top" }, element("h2", {}, title), element("div", { class: "tools" }, ...tools, hint(about, title))), canvas, caption);
  return { root, canvas, caption };
}
