"""Table 1 as one training of all seeds, against training them one by one with a loop over the layers.

    python benchmarks/together.py --output benchmarks/results/DATE-together.md

Both follow the recipe of the table, on one thread, in turns, each warm. The loop over the layers is hdnn's own eager
path in `hdnn.training.fit`, which is faster than the published code. What is measured is the time of a step; a cell
takes as many steps as its recipe says. The cells that are not measured lie on the line through those that are, by
depth, for the same number of starts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import hdnn
from hdnn.bench import disagreement, require_agreement
from hdnn.experiments import table1
from hdnn.experiments.store import provenance
from hdnn.training import Objective, fit, fit_together

MEASURED = (
    "swiss-roll/4/ms1",
    "swiss-roll/16/h1-j1",
    "swiss-roll/64/h1-j2",
    "double-moons/1/ms3",
    "double-moons/4/ms2",
)
TOLERANCE = 1e-4
BATCHES = 32


def networks(config: table1.Config, count: int, backend: str) -> list[hdnn.Network]:
    """Networks of a cell."""
    made = [table1.network(config, seed) for seed in range(count)]
    for network in made:
        network.flow.backend = backend
    return made


def seconds_of_a_step(config: table1.Config, count: int) -> Callable[[], float]:
    """One epoch of `count` networks, together; the time of one step of all."""
    x, y = torch.randn(count, 4000, 2), torch.randint(2, (count, 4000))
    recipe = dataclasses.replace(config.recipe, epochs=1, restarts=1)
    members = networks(config, count, "auto")

    def measure() -> float:
        start = time.perf_counter()
        fit_together(members, x, y, recipe, seeds=range(count))
        return (time.perf_counter() - start) / BATCHES

    return measure


def seconds_of_a_plain_step(config: table1.Config) -> Callable[[], float]:
    """A quarter of an epoch of one network, layer by layer; the time of one step."""
    x, y = torch.randn(1000, 2), torch.randint(2, (1000,))
    recipe = dataclasses.replace(config.recipe, epochs=1, restarts=1)
    network = networks(config, 1, "eager")[0]

    def measure() -> float:
        start = time.perf_counter()
        fit(network, x, y, recipe)
        return (time.perf_counter() - start) / (BATCHES / 4)

    return measure


def require_same(config: table1.Config) -> None:
    """Refuse to time networks that differ in objective or gradients."""
    plain, fused = networks(config, 1, "eager")[0], networks(config, 1, "auto")[0]
    x, y = torch.randn(125, 2), torch.randint(2, (125,))
    found = []
    for network in (plain, fused):
        torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
        loss, _ = Objective(network)(x, y)
        found.append([loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))])
    require_agreement("fused", disagreement(found[1], found[0]), TOLERANCE)


def main() -> None:
    """Print or write a report in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="file to write; beside it one in JSON")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for cell in MEASURED:
        config = table1.CELLS[cell]
        require_same(config)
        recipe = config.recipe
        timers = {
            "starts": seconds_of_a_step(config, chosen.seeds * recipe.restarts),
            "rest": seconds_of_a_step(config, chosen.seeds),
            "loop": seconds_of_a_plain_step(config),
        }
        times = {name: [timer() for _ in range(chosen.rounds + 1)][1:] for name, timer in timers.items()}
        best = {name: min(values) for name, values in times.items()}
        steps = BATCHES * (recipe.restarts * recipe.restart_epochs + recipe.epochs)
        ours = BATCHES * (recipe.restart_epochs * best["starts"] + recipe.epochs * best["rest"])
        plain = chosen.seeds * steps * best["loop"]
        rows.append({"cell": cell, "layers": config.layers, "ours": ours, "plain": plain, **best})
    totals = {name: total(rows, name) for name in ("ours", "plain")}
    text = report(rows, totals, chosen.seeds)
    if chosen.output is None:
        print(text)
        return
    chosen.output.write_text(text, encoding="utf-8")
    found = {"rows": rows, "totals": totals, "made": provenance()}
    chosen.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def total(rows: list[dict[str, float]], name: str) -> float:
    """Seconds of all 40 cells, those that are not measured from the line by depth of their problem."""
    seconds = 0.0
    for problem, horizons in table1.HORIZONS.items():
        known = [row for row in rows if str(row["cell"]).startswith(problem.replace("_", "-"))]
        slope, start = np.polyfit([row["layers"] for row in known], [row[name] for row in known], 1)
        seconds += len(table1.MODELS) * sum(start + slope * layers for layers in horizons)
    return seconds


def report(rows: list[dict[str, float]], totals: dict[str, float], seeds: int) -> str:
    """The report in Markdown."""
    lines = [
        "# Table 1 with all seeds in one training",
        "",
        f"`{shlex.join(['python', *sys.argv])}`, one thread, {seeds} seeds; the fastest of the rounds, in turns.",
        "",
        "| cell | plain: a step of one network, ms | ours: a step of all starts, ms | of all seeds, ms "
        "| cell: plain, s | cell: ours, s | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['cell']} | {1e3 * row['loop']:.2f} "
            f"| {1e3 * row['starts']:.2f} | {1e3 * row['rest']:.2f} | {row['plain']:.0f} | {row['ours']:.1f} "
            f"| {row['plain'] / row['ours']:.0f} |"
        )
    ratio = totals["plain"] / totals["ours"]
    middle = statistics.median(row["plain"] / row["ours"] for row in rows)
    lines += [
        "",
        f"All 40 cells, from these: plain {totals['plain'] / 3600:.1f} hours of one processor, ours "
        f"{totals['ours'] / 60:.1f} minutes: {ratio:.0f} times faster (median of the cells {middle:.0f}).",
        "",
        "## Made with",
        "",
        *(f"- {name}: {value}" for name, value in provenance().items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
