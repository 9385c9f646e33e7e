"""Trainings that native steps refused when the goal was set, in several versions of hdnn, each with its own Python.

    python benchmarks/refused.py --versions FIRST=PYTHON ... LAST=PYTHON --output benchmarks/results/DATE-refused.md

A version is a name and a Python that imports it, built, as `venv/bin/python` of a worktree; b28db8e is that from which
the goal counts. Each has a process of its own, one thread and one core; they take turns, and a time is the least of all
turns, each a whole call of `hdnn.fit`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
import machine
from trainings import HORIZON, INIT_STD, SWISS, swiss_roll

GOAL = 3.0  # times the speed of the first version
LAYERS, FEATURES = 64, 4
NODES, PAIRS, BATCHES = 125, 435, 30  # of the graph; an epoch trains on it as often
SIDE, IMAGES = 8, 500
Results = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Training:
    """A call of `hdnn.fit` and how many steps it takes."""

    network: nn.Module
    data: tuple[Any, ...]
    recipe: hdnn.Recipe
    steps: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def fit(self) -> float:
        """The mean objective of the last epoch."""
        return float(hdnn.fit(self.network, *self.data, recipe=self.recipe, **self.options)[-1]["loss"])


def flow_of(layers: int, **options: Any) -> hdnn.Flow:
    """As that of the Swiss roll."""
    return hdnn.h1(FEATURES, layers, horizon=HORIZON, **{"init_std": INIT_STD, **options})


def own_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """What the network would take itself, by a function."""
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(-1), y.to(outputs.dtype))


def of_biases(network: nn.Module) -> Tensor:
    """‖b‖²."""
    return network.get_parameter("flow.bias").square().sum()


def vectors(
    layers: int, rows: int, epochs: int, options: dict[str, Any] | None = None, method: Any = "joint", **of_flow: Any
) -> Training:
    """The paper's Swiss roll."""
    case = swiss_roll(1, GOAL)
    network = hdnn.vector_classifier(2, 2, flow_of(layers, **of_flow))
    recipe = dataclasses.replace(SWISS, epochs=epochs, method=method, head_epochs=1)
    steps = epochs * rows // SWISS.batch_size
    return Training(network, (case.x[:rows], case.y[:rows]), recipe, steps, options or {})


def chain(layers: int, epochs: int) -> Training:
    """A chain of modules of one's own, with a loss that no native step knows."""
    whole = vectors(layers, 4000, epochs, {"loss": functional.huber_loss})
    network = nn.Sequential(nn.Linear(2, FEATURES), flow_of(layers), nn.Linear(FEATURES, 1))
    x, y = whole.data
    recipe = dataclasses.replace(whole.recipe, head_decay=0.0)
    return dataclasses.replace(whole, network=network, data=(x, y[:, None].float()), recipe=recipe)


def graph(layers: int) -> Training:
    """A chain over the nodes of a graph, as often as there are batches."""
    drawn = torch.Generator().manual_seed(1)
    pairs = torch.randint(0, NODES, (2, PAIRS), generator=drawn)
    x = torch.randn(NODES, 2, generator=drawn)
    flow = flow_of(layers, space=hdnn.Graph(torch.cat((pairs, pairs.flip(0)), 1)), init_std=None)
    network = nn.Sequential(nn.Linear(2, FEATURES), flow, nn.Linear(FEATURES, 2))
    recipe = hdnn.Recipe(epochs=1, batch_size=NODES, learning_rate=0.01)
    data = ([(x, (x.prod(1) > 0).long())] * BATCHES,)
    return Training(network, data, recipe, BATCHES, {"loss": functional.cross_entropy})


def images(layers: int) -> Training:
    """3 x 3 convolutions."""
    drawn = torch.Generator().manual_seed(1)
    x, y = torch.randn(IMAGES, 1, SIDE, SIDE, generator=drawn), torch.arange(IMAGES) % 10
    network = hdnn.image_classifier(1, (SIDE, SIDE), 10, flow_of(layers, kernel_size=3, init_std=None))
    recipe = hdnn.Recipe(epochs=1, batch_size=SWISS.batch_size, learning_rate=1e-3)
    return Training(network, (x, y), recipe, IMAGES // SWISS.batch_size)


PLAIN = "nothing of one's own, as a comparison"
CASES: dict[str, Callable[[int], Training]] = {
    "the alternating method": partial(vectors, rows=4000, epochs=1, method="alternating"),
    "`ImplicitMidpoint`": partial(vectors, rows=500, epochs=1, integrator=hdnn.ImplicitMidpoint()),
    "a `Network` with a penalty, 1e-3 ‖b‖²": partial(
        vectors, rows=4000, epochs=4, options={"penalties": [(1e-3, of_biases)]}
    ),
    "a `Network` with a loss of one's own": partial(vectors, rows=4000, epochs=4, options={"loss": own_loss}),
    "`Sequential(Linear, h1, Linear)`, `huber_loss`": partial(chain, epochs=4),
    "a flow on a graph": graph,
    'a flow with `backend="eager"`': partial(vectors, rows=2000, epochs=1, backend="eager"),
    "3 x 3 convolutions": images,
    PLAIN: partial(vectors, rows=4000, epochs=4),
}


def made(name: str, layers: int = LAYERS) -> Training:
    """A training by name, from the same weights every time."""
    torch.manual_seed(0)
    return CASES[name](layers)


def answer() -> None:
    """Make each training whose name comes in by a line, and say what a step took and where it ended."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        training = made(json.loads(line))
        start = time.process_time()
        loss = training.fit()
        seconds = time.process_time() - start
        print(json.dumps({"microseconds": 1e6 * seconds / training.steps, "loss": loss}), flush=True)


class Version:
    """A version in a process of its own."""

    def __init__(self, given: str) -> None:
        self.name, _, python = given.partition("=")
        if not self.name or not Path(python).is_file():
            raise SystemExit(f"{given!r} is no version: give NAME=PYTHON, as old=../old/.venv/bin/python.")
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([python, "-W", "ignore", __file__, "--answer"], **pipes)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:1])

    def train(self, name: str) -> dict[str, float]:
        """Microseconds of a step, and the mean objective of the last epoch.

        Raises:
            SystemExit: if the process has ended.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(name) + "\n")
            stdin.flush()
        if not (line := stdout.readline()):
            raise SystemExit(f"{self.name} ended at {name}; its own words stand above.")
        return dict(json.loads(line))

    def end(self) -> None:
        """Wait for the process, which ends where nothing more comes in."""
        self.process.communicate()


def measured(versions: list[Version], names: list[str], turns: int) -> Results:
    """Of every training, the least microseconds of a step in every version, in their order, and the last objectives."""
    found: Results = {}
    for name in names:
        each = [[version.train(name) for version in versions] for _ in range(turns)]
        least = [min(turn[i]["microseconds"] for turn in each) for i in range(len(versions))]
        found[name] = {"microseconds": least, "losses": [took["loss"] for took in each[0]]}
        machine.say(f"{name}: {', '.join(f'{microseconds:,.0f}' for microseconds in least)}")
    return found


def report(known: dict[str, Any], versions: list[str], found: Results, turns: int) -> list[str]:
    """The whole report in Markdown."""
    rows = []
    for name, result in found.items():
        first, *_, last = result["microseconds"]
        apart = max(result["losses"]) - min(result["losses"])
        ratio, goal = f"{first / last:.1f}", "met" if first / last >= GOAL else "missed"
        times = [f"{microseconds:,.0f}" for microseconds in result["microseconds"]]
        rows.append(
            [name, *times, f"**{ratio}**", "" if name == PLAIN else goal, f"{apart / max(result['losses']):.0e}"]
        )
    return [
        *machine.head("Trainings that native steps refused", known),
        "",
        f"Microseconds of processor time of a step of the whole `fit` call: {LAYERS} layers of h1, {FEATURES} "
        f"features, batches of {SWISS.batch_size}, Adam, float32, one thread; the Swiss roll but for the graph "
        f"({NODES} nodes, {2 * PAIRS} edges) and the convolutions ({SIDE} x {SIDE} images). The least of {turns} whole "
        f"trainings of each version in turns, a process each; then the first over the last, and how far apart the mean "
        f"objectives of the last epochs of the first turn are.",
        "",
        *machine.table(["training", *versions, "ratio", f"goal {GOAL:g}", "objectives apart"], rows),
    ]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="+", metavar="NAME=PYTHON", help="two or more, from the first to the last")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="TRAINING", help="some of the trainings, by name")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    if len(chosen.versions or ()) < 2 or chosen.turns < 1:
        parser.error("Give --versions with two or more, and --turns of at least 1.")
    machine.require_folder(chosen.output)
    versions = [Version(given) for given in chosen.versions]
    known, names = machine.facts(), [version.name for version in versions]
    found = measured(versions, chosen.only or list(CASES), chosen.turns)
    for version in versions:
        version.end()
    lines = report(known, names, found, chosen.turns)
    machine.publish(chosen.output, lines, {**known, "compared": names, "turns": chosen.turns, "trainings": found})


if __name__ == "__main__":
    answer() if sys.argv[1:] == ["--answer"] else main()
