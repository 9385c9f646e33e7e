"""How fast the playground is: its size, its first picture, the time between pictures, the time to learn.

    python benchmarks/playground_pace.py --output benchmarks/results/DATE-playground.md   # about a minute

It needs Playwright and a Chromium (see tests/playground). A picture is new weights, regions of 64 x 64, and the curves
of three networks of 64 layers and 4 features, painted; the time between two is taken where the page paints. Nothing
else should run beside it; on a busy machine `chrt -r 1` before the command gives it the processor first.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from hdnn.playground.page import page as built
from machine import facts, head, publish, require_folder, table

SECONDS = 10
WATCH = """() => {
  const { page } = window.playground, draw = page.draw.bind(page), saw = page.saw.bind(page);
  window.pictures = [], window.reached = {};
  page.draw = () => { draw(); window.pictures.push(performance.now()); };
  page.session.looks.saw = (picture) => {
    const right = picture.accuracy.flow?.[1] ?? 0;
    const now = [performance.now() - window.began, picture.step];
    for (const goal of [95, 99]) if (right > goal) window.reached[goal] ??= now;
    saw(picture);
  };
  window.began = performance.now();
}"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def visit(browser: Browser, path: Path) -> dict[str, Any]:
    """One visit of ten seconds and a little more, in milliseconds."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    ready = page.evaluate("performance.now()")
    page.evaluate(WATCH)
    page.click("#play")
    time.sleep(SECONDS + 1)
    times, reached, steps = page.evaluate("[window.pictures, window.reached, window.playground.page.last.step]")
    painted = page.evaluate(PAINTED)
    context.close()
    after = [t for t in times if t > times[0] + 1000]  # the compiler of the browser has warmed up
    between = sorted(b - a for a, b in itertools.pairwise(after))
    return {
        "first paint": painted,
        "ready": ready,
        "pictures": len(between),
        "median": statistics.median(between),
        "95th percentile": between[int(0.95 * len(between))],
        "to 95 %": reached.get("95"),
        "to 99 %": reached.get("99"),
        "steps": steps,
    }


def shown(each: dict[str, Any]) -> list[str]:
    """A visit as a row."""
    goals = [f"{ms / 1000:.2f} s ({steps} steps)" for ms, steps in (each["to 95 %"], each["to 99 %"])]
    times = [f"{each[name]:.1f}" for name in ("first paint", "ready", "median", "95th percentile")]
    return [*times, str(each["pictures"]), *goals]


def main() -> None:
    """Measure, print, and write a report where one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--visits", type=int, default=3)
    given = parser.parse_args()
    require_folder(given.output)
    known, text = facts(), built()
    size = {"bytes": len(text.encode()), "compressed": len(gzip.compress(text.encode(), 9))}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        path.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        visits, version = [visit(browser, path) for _ in range(given.visits)], browser.version
        browser.close()
    columns = ["first paint, ms", "ready, ms", "median, ms", "95th percentile, ms", "pictures", "to 95 %", "to 99 %"]
    lines = [
        *head("The playground", known),
        f"- Chromium {version}, headless; load average {os.getloadavg()[0]:.1f} at the end",
        "",
        f"The page has {size['bytes']:,} bytes, {size['compressed']:,} compressed (gzip). Each row is a visit: the",
        "time to the first paint and until it can train; the time between pictures while h1, a perceptron and a ResNet",
        f"of 64 layers and 4 features train on the Swiss roll, over the {SECONDS} s after the first second; the time",
        "until h1 has so much of 1000 test points right.",
        "",
        *(["It ran before all else on a machine that was busy (`chrt`)."] if os.sched_getscheduler(0) else []),
        "",
        *table(columns, [shown(each) for each in visits]),
    ]
    publish(given.output, lines, {"known": known, "size": size, "visits": visits})


if __name__ == "__main__":
    main()
