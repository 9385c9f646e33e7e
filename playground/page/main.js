// The page: settings, views, and one session between them.
import { Assistant, lacking, unpacked } from "./assistant.js";
import { Controls } from "./controls.js";
import { CourseView } from "./courseview.js";
import { PROBLEMS } from "./data.js";
import { closeHints, element, find, hint, placeHint } from "./elements.js";
import { GradientView, JacobianView, about } from "./gradientview.js";
import { AccuracyView, History, LossView } from "./historyview.js";
import { LESSONS } from "./lessons.js";
import { HALVED } from "./models.js";
import { PlaneView } from "./planeview.js";
import { forgetColours } from "./plot.js";
import { Session } from "./session.js";
import { BASELINES, beginsAnew, checked, fromLink, toLink } from "./settings.js";
import { sharing } from "./sharing.js";
import { EnergyView, SingularView, SpectrumView } from "./spectrumview.js";
import { Table } from "./table.js";

// A layer in symbols.
const EQUATIONS = {
  h1: "y⁺ = y + h J Kᵀ σ(K y + b)",
  h2: "p⁺ = p + h K_qᵀ σ(K_q q + b_q),  q⁺ = q − h K_pᵀ σ(K_p p⁺ + b_p)",
  ms1: "q⁺ = q + h σ(−K₀ᵀ p + b_q),  p⁺ = p + h σ(K₀ q⁺ + b_p)",
  ms2: "y⁺ = y + h σ(K y + b),  K = −Kᵀ",
  ms3: "p⁺ = p + h K₁ᵀ σ(K₁ q + b₁),  q⁺ = q − h K₂ᵀ σ(K₂ p⁺ + b₂)",
};

class Page {
  constructor(assistant, given) {
    this.given = given, this.history = new History(), this.layer = 0, this.of = "flow";
    this.settings = given ? checked(given.settings) : fromLink(location.hash);
    this.session = new Session(assistant, { began: (data) => this.began(data), saw: (picture) => this.saw(picture), failed: (error) => this.failed(error) }, () => this.wants());
    this.controls = new Controls(find("controls"), (part) => this.turn(part), (words) => this.failed(new Error(words)));
    this.table = new Table(find("networks"));
    this.plane = new PlaneView({ changed: ({ of }) => { this.of = of; this.again(); }, drew: (point) => this.turn({ own: [...this.settings.own, point] }) });
    this.course = new CourseView({ changed: ({ layer }) => { this.layer = layer; this.again(); } });
    this.gradients = new GradientView(), this.jacobians = new JacobianView();
    this.loss = new LossView(this.history), this.accuracy = new AccuracyView(this.history);
    this.spectrum = new SpectrumView(), this.energy = new EnergyView(), this.singular = new SingularView();
    this.views = [this.plane, this.gradients, this.jacobians, this.course, this.loss, this.accuracy, this.spectrum, this.energy, this.singular];
    find("views").append(...this.views.map((view) => view.root));
    this.refresh = sharing(find("sharing"), {
      now: () => ({ settings: this.settings, epoch: this.epoch, link: location.href.split("#")[0] + toLink(this.settings) }),
      parameters: () => assistant.ask("parameters"), data: () => this.data, failed: (error) => this.failed(error), said: (words) => this.say(words),
      opened: (file) => { this.given = { parameters: file.parameters }; this.restart(file.settings); },
    });
    this.listen();
    this.lessons();
    this.watch();
  }

  listen() {
    const play = find("play");
    play.onclick = () => (this.session.running ? this.pause() : this.play());
    find("once").onclick = () => { this.pause(); this.session.look(1); };
    find("reset").onclick = () => this.restart(this.settings);
    for (const id of ["play", "once", "reset"]) find(id).disabled = false;
    find("bar").append(hint("equation", "The equation of a layer"));
    // No links: the address holds the state.
    find("skip").onclick = () => find("networks").focus();
    find("down").onclick = () => find("controls").scrollIntoView();
    find("theme").onclick = () => this.paint(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    window.onhashchange = () => { if (toLink(this.settings) !== (location.hash || "#")) this.restart(fromLink(location.hash)); };
    document.addEventListener("toggle", ({ target }) => {
      if (!target.matches?.("details.hint") || !target.open) return;
      closeHints(target);
      placeHint(target);
    }, true);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeHints(); });
    document.addEventListener("click", (event) => { if (!event.target.closest?.("details.hint")) closeHints(); });
  }

  // What is out of sight is neither measured nor drawn.
  watch() {
    this.seen = new Set(this.views.map((view) => view.root.id));
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) isIntersecting ? this.seen.add(target.id) : this.seen.delete(target.id);
      if (!this.session.running) this.again();
    }, { rootMargin: "100px" });
    for (const view of this.views) observer.observe(view.root);
    const resized = new ResizeObserver((entries) => {
      for (const { target } of entries) this.views.find((view) => view.canvas === target).draw();
    });
    for (const view of this.views) resized.observe(view.canvas);
  }

  wants() {
    const sees = (...names) => names.some((name) => this.seen.has(name));
    return {
      regions: { of: this.of, ...this.frame }, norms: sees("gradients", "jacobians", "singular"),
      course: sees("course") && { of: "flow" }, energy: sees("energy"), spectrum: sees("spectrum") && { layer: this.layer },
    };
  }

  lessons() {
    const buttons = LESSONS.map((lesson, k) => element("button", { type: "button", "aria-pressed": "false", onclick: () => this.teach(k) }, lesson.title));
    this.buttons = buttons;
    find("lessons").append(...buttons);
  }

  teach(k) {
    const lesson = LESSONS[k], panel = find("lesson"), on = this.buttons[k].getAttribute("aria-pressed") !== "true";
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(on && i === k)));
    panel.hidden = !on;
    const look = new Set(on ? lesson.look : []);
    for (const view of this.views) view.root.classList.toggle("look", look.has(view.root.id));
    if (!on) return;
    panel.replaceChildren(...lesson.text.map((text) => element("p", {}, text)), element("ul", {}, ...lesson.steps.map((step) => element("li", {}, step))));
    // What is to be looked at comes first.
    find("views").append(...[...this.views].sort((a, b) => look.has(b.root.id) - look.has(a.root.id)).map((view) => view.root));
    this.pause();
    this.given = null;
    this.restart(checked({ seed: this.settings.seed, ...lesson.settings }));
  }

  // The visitor has turned something.
  turn(part) {
    const next = { ...this.settings, ...part };
    if (part.problem && part.problem !== this.settings.problem && part.noise === undefined) next.noise = PROBLEMS[part.problem].noise;
    const settings = checked(next), anew = beginsAnew(this.settings, settings);
    if (anew) return void this.restart(settings);
    this.settings = settings;
    this.controls.show(settings);
    this.remember();
    this.session.change(settings);
  }

  restart(settings) {
    const sameData = ["problem", "points", "noise", "own"].every((name) => JSON.stringify(settings[name]) === JSON.stringify(this.settings[name]));
    // Data that were brought stay as long as nobody asks for others; weights are for the first beginning alone.
    const given = this.given && (sameData || this.given.parameters) ? this.given : {};
    this.given = given.data ? { data: given.data, title: given.title } : null;
    this.settings = settings;
    this.controls.show(settings);
    this.remember();
    this.trouble("");
    return this.session.begin(settings, given);
  }

  remember() {
    try {
      history.replaceState(null, "", toLink(this.settings));
    } catch { /* a page from disk may not, in some browsers */ }
  }

  titles() {
    return { flow: this.settings.model, ...Object.fromEntries(this.settings.beside.map((name) => [name, BASELINES[name].title])) };
  }

  began(data) {
    const { features, layers, shared, model, problem, damping, horizon } = this.settings, titles = this.titles();
    // ‖∂y_N/∂y_0‖ is at least `least`, a power of ten, where anything is promised.
    const least = (-damping * horizon) / 2 / Math.LN10;
    const facts = { features, layers, shared, titles, least, pairs: model === "h2" || model === "ms3", damping };
    this.data = data, this.epoch = 0;
    this.frame = this.given?.data ? frameOf(data) : PROBLEMS[problem];
    this.frame = { middle: this.frame.middle, half: this.frame.half };
    this.history.clear();
    this.loss.titles = titles;
    const ones = data.train.y.reduce((sum, y) => sum + y, 0) / Math.max(1, data.train.y.length);
    this.table.show(titles, 100 * Math.max(ones, 1 - ones));
    this.plane.networks(Object.entries(titles));
    this.of = this.plane.of;
    this.plane.show(data, this.frame, problem === "own" && !this.given?.data);
    for (const view of [this.course, this.gradients, this.jacobians, this.spectrum, this.energy, this.singular]) view.show(facts);
    const equation = `${damping ? "p ← e^(−γh) p,  then  " : ""}${EQUATIONS[model]}`;
    find("equation").textContent = equation;
    find("equation").setAttribute("aria-label", `The equation of a layer: ${equation}`);
    if (!data.train.y.length) this.say("There are no points yet. Draw some, or paste them.");
  }

  saw(picture) {
    this.history.note(picture);
    this.last = picture, this.epoch = picture.epoch;
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    const picture = this.last;
    if (!picture) return;
    find("count").textContent = `step ${picture.step.toLocaleString("en")} · epoch ${picture.epoch.toFixed(1)}`;
    this.table.picture(picture);
    const seen = (view) => this.seen.has(view.root.id);
    for (const view of [this.plane, this.course, this.gradients, this.jacobians, this.energy, this.singular]) if (seen(view)) view.picture(picture);
    if (seen(this.spectrum)) this.spectrum.picture(picture, this.layer);
    for (const view of [this.loss, this.accuracy]) if (seen(view)) view.draw();
    this.pictures = (this.pictures ?? 0) + 1;
  }

  // The same weights, seen anew.
  again() {
    if (!this.session.running) this.session.look(0, 0, false).catch((error) => this.failed(error));
  }

  play() {
    this.trouble("");
    find("play").textContent = "❚❚ Pause";
    this.session.play().finally(() => { if (!this.session.running) this.stopped(); });
  }

  pause() {
    if (!this.session.running) return;
    this.session.stop();
    this.stopped();
  }

  stopped() {
    find("play").textContent = "▶ Play";
    this.refresh();
    const { last } = this;
    if (last?.accuracy.flow && last.step)
      this.say(`Stopped after ${last.step} steps. ${Object.entries(this.titles()).map(([name, title]) => `${title}: ${last.accuracy[name]?.[1].toFixed(1)} % of test points right${last.norms?.[name] ? `, gradient before the first layer ${about(last.norms[name].gradient[0])}` : ""}`).join(". ")}.`);
  }

  say(words) {
    find("spoken").textContent = words;
  }

  trouble(words) {
    find("trouble").textContent = words, find("trouble").hidden = !words;
  }

  failed(error) {
    this.trouble(error.message);
  }

  paint(theme) {
    document.documentElement.dataset.theme = theme;
    forgetColours();
    this.draw();
    for (const view of this.views) view.draw();
  }
}

// The square around points that were brought.
function frameOf({ train, test }) {
  const all = [...train.x, ...test.x], xs = all.filter((_, i) => i % 2 === 0), ys = all.filter((_, i) => i % 2 === 1);
  const span = (values) => [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  const [left, right] = span(xs), [low, high] = span(ys);
  return { middle: [(left + right) / 2, (low + high) / 2], half: (Math.max(right - left, high - low) / 2 || 1) * 1.15 };
}

// `program` is what a worker runs.
export async function start(program) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  try {
    if (lacking()) throw new Error(`this browser has ${lacking()}; it takes Chrome or Edge 93, Firefox 113, Safari 16.4 or later`);
    const packed = find("kernels").textContent;
    if (!packed) throw new Error("its compiled kernels are missing");
    const assistant = new Assistant(program);
    await assistant.ask("start", { bytes: await unpacked(packed) });
    const brought = find("run"), page = new Page(assistant, brought && given(JSON.parse(brought.textContent)));
    dark.addEventListener("change", () => page.paint(dark.matches ? "dark" : "light"));
    window.playground = { page, ask: (what, question) => assistant.ask(what, question) };
    await page.restart(page.settings);
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    find("trouble").hidden = false;
    find("trouble").textContent = `This page cannot train: ${error.message}. Nothing else is trained in its stead.`;
  }
}

// What `hdnn playground RUN` has put into the page.
function given({ settings, parameters, data, title }) {
  const part = ({ x, y }) => ({ x: Float32Array.from(x), y: Int32Array.from(y) });
  return { settings, title, parameters: Float32Array.from(parameters), data: { train: part(data.train), test: part(data.test) } };
}
