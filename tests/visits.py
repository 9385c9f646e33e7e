"""Visits to the page of the playground in a browser."""

import time
from pathlib import Path

import numpy as np


class Visit:
    """A page that was opened from disk, and what went wrong on it."""

    def __init__(self, browser, path, link="", script=None, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        self.page, self.errors, self.requests = self.context.new_page(), [], []
        self.page.set_default_timeout(60_000)
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if script is not None:  # runs before those of the page
            self.page.add_init_script(script)
        self.page.goto(Path(path).as_uri() + link)

    def ready(self):
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self

    def ask(self, what, **question):
        """What the worker of the page answers; arrays go and come as lists."""
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in question.items()}
        return self.page.evaluate(
            """async ([what, question]) => {
              const plain = (v) => (ArrayBuffer.isView(v) ? [...v] : v);
              const answer = await window.playground.ask(what, question);
              return Object.fromEntries(Object.entries(answer).map(([k, v]) => [k, plain(v)]));
            }""",
            [what, plain],
        )

    def wait(self, expression, argument=None, seconds=180):
        """Wait until an expression holds. Asked from outside: the policy of the page allows no `eval` inside."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression, argument):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} did not come true in {seconds} s; the page says: {self.errors}")
            self.page.wait_for_timeout(20)
        return self

    def until(self, step):
        """Wait until so many steps were taken."""
        return self.wait("step => (window.playground.page.last?.step ?? 0) >= step", step)

    def close(self):
        self.context.close()
