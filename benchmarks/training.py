"""Time to train: hdnn against a plain loop over the layers, with the same schedule and accuracy.

    python benchmarks/training.py --output benchmarks/results/DATE-training.md

The paper's Swiss roll (64 layers of h1, 4000 points, batches of 125, α = 5e-4, α_c = 1e-4), trained with the library's
set-up; see trainers.py for the two loops. One core.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import machine
from trainers import CAREFUL, OURS, PLAIN

GOAL = 15.0  # times faster than the plain loop


def median(results: list[dict[str, Any]], name: str) -> float:
    """Median seconds over the seeds."""
    return statistics.median(result[name]["seconds"] for result in results)


def report(known: dict[str, Any], results: list[dict[str, Any]], epochs: int) -> list[str]:
    """The whole report in Markdown."""
    names = (OURS, PLAIN, CAREFUL)
    ratios = {name: median(results, name) / median(results, OURS) for name in (PLAIN, CAREFUL)}
    rows = [
        [result["seed"], *(f"{result[n]['seconds']:.2f} s, {100 * result[n]['test_accuracy']:.2f} %" for n in names)]
        for result in results
    ]
    return [
        *machine.head("Time to train", known),
        "",
        f"{epochs} epochs of Swiss roll, h1 with 64 layers, batches of 125, one core; wall time of the training loop "
        "and test accuracy after it. Same initial weights, batches, objective and schedule for all; runs in turns.",
        "",
        f"- *{PLAIN}*: a list of K_j and b_j, a Python loop over layers and differences, `torch.optim.Adam`.",
        f"- *{CAREFUL}*: stacked parameters, `addmm`, J folded into K, features first, `Adam(fused=True)`.",
        "",
        *machine.table(["seed", *names], rows),
        "",
        f"Medians: {', '.join(f'{name} {median(results, name):.2f} s' for name in names)}. The plain loop takes "
        f"**{ratios[PLAIN]:.1f} times** as long as hdnn (goal {GOAL:g}, "
        f"{'met' if ratios[PLAIN] >= GOAL else 'missed'}), the careful loop {ratios[CAREFUL]:.1f} times.",
    ]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    known = machine.facts()
    results = machine.child("trainers.py", ("--epochs", chosen.epochs, "--seeds", chosen.seeds), cores=1)
    raw = {**known, "epochs": chosen.epochs, "results": results}
    machine.publish(chosen.output, report(known, results, chosen.epochs), raw)


if __name__ == "__main__":
    main()
