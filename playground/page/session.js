// One training that is watched: it asks the worker for picture after picture, and tells who looks.

const BUDGET = 7;  // ms of training between two pictures, as fast as it goes: the rest of a picture takes as long

export class Session {
  // `looks` are { began(data), saw(picture), failed(error) }; `wants` says what is to be seen.
  constructor(assistant, looks, wants) {
    this.assistant = assistant, this.looks = looks, this.wants = wants;
    this.running = false, this.number = 0, this.busy = null;
  }

  // Begin anew, with data and parameters if they are given.
  async begin(settings, given) {
    const number = ++this.number;
    this.settings = settings;
    try {
      const data = await this.assistant.ask("set", { settings, given });
      if (number !== this.number) return;
      this.looks.began(data);
      await this.look(0);
    } catch (error) {
      this.stop();
      this.looks.failed(error);
    }
  }

  // Settings that need no new beginning.
  async change(settings) {
    this.settings = settings;
    await this.assistant.ask("change", { settings });
  }

  // So many steps, then a picture. Questions never overlap: who asks waits for the one before.
  async look(steps, budget = 0, full = !this.running) {
    while (this.busy) await this.busy;
    const number = this.number;
    this.busy = this.assistant.ask("tick", { steps, budget, wants: { ...this.wants(), full } });
    try {
      const picture = await this.busy;
      if (number === this.number) this.looks.saw(picture);
      return picture;
    } finally {
      this.busy = null;
    }
  }

  async play() {
    if (this.running) return;
    this.running = true;
    try {
      while (this.running) {
        const { speed } = this.settings;
        await (speed === "fast" ? this.look(4096, BUDGET, false) : this.look(Number(speed), 0, false));
        if (document.hidden) await new Promise((wake) => document.addEventListener("visibilitychange", wake, { once: true }));
        // At a chosen speed a picture comes with each of the screen's; else as soon as it is there.
        if (speed !== "fast") await new Promise((next) => requestAnimationFrame(next));
      }
      await this.look(0, 0, true);
    } catch (error) {
      this.running = false;
      this.looks.failed(error);
    }
  }

  stop() {
    this.running = false;
  }
}
