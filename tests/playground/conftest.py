"""A real browser with the built page; tests that need one say why they are skipped where there is none."""

import functools
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from hdnn.playground.page import page as built

_PLACES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Nothing but the page: no updates, no look-ups of names.
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright).")
    program = next(filter(None, map(shutil.which, _PLACES)), None)
    if program is None:
        pytest.skip("No Chromium is installed, so the page cannot be tried in a browser.")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=_FLAGS.split())
        yield found
        found.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


class Visit:
    """A page that was opened from disk, and what went wrong on it."""

    def __init__(self, browser, path, link="", **options):
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        self.page, self.errors, self.requests = self.context.new_page(), [], []
        self.page.set_default_timeout(60_000)
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(path).as_uri() + link)

    def _heard(self, said):
        if said.type in ("error", "warning"):
            self.errors.append(said.text)

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


@pytest.fixture
def visit(browser, folder):
    """Opens the page, or another text, from disk."""
    opened = []

    def visited(link="", text=None, **options):
        path = folder / f"page{len(list(folder.iterdir()))}.html" if text else folder / "playground.html"
        if text or not path.exists():
            path.write_text(text or built(), encoding="utf-8")
        opened.append(Visit(browser, path, link, **options))
        return opened[-1]

    yield visited
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def laboratory(browser, folder):
    """One page for questions to its kernels."""
    path = folder / "laboratory.html"
    path.write_text(built(), encoding="utf-8")
    found = Visit(browser, path).ready()
    yield functools.partial(found.ask)
    found.close()
