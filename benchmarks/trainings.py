"""Whole trainings by one call of `hdnn.fit` and by JAX, in turns in one process; prints JSON.

    python benchmarks/trainings.py "Swiss roll, 64 layers" --rounds 5

All start from the same weights, see the same batches in the same order, and minimise the same objective by the same
optimizer on the same schedule. The mean objectives of one epoch are compared first, and trainings that differ are not
timed. JAX takes part where it is installed, compiled before, in the fastest of its ways (`jax_trainers.py`).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import hdnn
from hdnn.data import mnist
from hdnn.jobs import SETUPS, Source
from hdnn.jobs.sources import load
from hdnn.training import Recipe
from hdnn.training.recipe import rate_factor

OURS = "hdnn.fit"
TOLERANCE = 1e-3  # of the mean objective of an epoch, in float32
# The paper's Swiss roll at three depths: one start and no clipping.
SWISS = Recipe(batch_size=125, learning_rate=0.02, smoothness=5e-4, head_decay=1e-4)
HORIZON, INIT_STD = 3.2, 1.0
IMAGES = 6000  # of MNIST: an epoch of 60 steps, at a rate that so short a training stands
RATE = 1e-4

Training = Callable[[int], float]


@dataclass(frozen=True)
class Case:
    """A network, its data, how it is trained, and how many times as fast as JAX `fit` shall be."""

    network: hdnn.Network
    x: Tensor
    y: Tensor
    recipe: Recipe
    goal: float

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.x) / self.recipe.batch_size)

    @property
    def outputs(self) -> int:
        """Of the network."""
        return self.network.head.out_features

    def weight(self) -> Tensor:
        """The free numbers of K, those of images without the axes of their one tap."""
        weight = self.network.flow.weight.detach()
        return weight.flatten(2).reshape(weight.shape[:3]) if self.x.dim() == 4 else weight

    def schedule(self, epochs: int) -> Iterator[tuple[Tensor, list[float]]]:
        """Order and rates of every epoch."""
        recipe = dataclasses.replace(self.recipe, epochs=epochs)
        order, factor = torch.Generator().manual_seed(recipe.seed), rate_factor(recipe, self.batches)
        for epoch in range(epochs):
            steps = range(epoch * self.batches, (epoch + 1) * self.batches)
            yield torch.randperm(len(self.x), generator=order), [recipe.learning_rate * factor(k) for k in steps]

    def mean(self, losses: Any) -> float:
        """The mean over samples of the objectives of the batches of an epoch."""
        size, rows = self.recipe.batch_size, len(self.x)
        return sum(float(loss) * min(size, rows - k * size) for k, loss in enumerate(losses)) / rows

    def fit(self, epochs: int) -> float:
        """The mean objective of the last epoch of a call of `hdnn.fit`, as a user makes it."""
        network = copy.deepcopy(self.network)
        return hdnn.fit(network, self.x, self.y, dataclasses.replace(self.recipe, epochs=epochs))[-1]["loss"]


def swiss_roll(layers: int, goal: float) -> Case:
    """The paper's."""
    data = load(Source("swiss-roll", seed=0))
    flow = hdnn.h1(4, layers, horizon=HORIZON, init_std=INIT_STD)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    return Case(hdnn.vector_classifier(2, 2, flow), x, y, SWISS, goal)


def digits(goal: float) -> Case:
    """As `hdnn train digits` trains, without its report."""
    data, setup = load(Source("digits")), SETUPS["digits"]
    network = hdnn.vector_classifier(64, 10, hdnn.h2(setup.features, setup.layers, horizon=setup.horizon))
    return Case(network, torch.from_numpy(data.x_train), torch.from_numpy(data.y_train), setup.recipe, goal)


def images(goal: float, folder: str) -> Case:
    """The paper's network for MNIST, on some of its images."""
    data, setup = mnist(folder), SETUPS["mnist"]
    J = hdnn.upper_ones(setup.features)
    flow = hdnn.h1(setup.features, setup.layers, horizon=setup.horizon, interconnection=J, kernel_size=1)
    network = hdnn.image_classifier(1, (28, 28), 10, flow)
    x, y = torch.from_numpy(data.x_train[:IMAGES]), torch.from_numpy(data.y_train[:IMAGES])
    return Case(network, x, y, dataclasses.replace(setup.recipe, epochs=1, learning_rate=RATE), goal)


CASES: dict[str, Callable[..., Case]] = {
    **{
        f"Swiss roll, {n} layers": functools.partial(swiss_roll, n, goal)
        for n, goal in ((64, 10.0), (16, 8.0), (4, 3.0))
    },
    "digits": functools.partial(digits, 1.2),
    "MNIST": functools.partial(images, 1.5),
}


def made(name: str, folder: str | None) -> Case:
    """A case by name, with fresh weights, the same every time."""
    torch.manual_seed(0)
    return CASES[name](folder=folder) if name == "MNIST" else CASES[name]()


def by_jax(case: Case) -> dict[str, list[Training]]:
    """The ways of JAX by name; none where it is not installed."""
    try:
        return importlib.import_module("jax_trainers").trainers(case)
    except ModuleNotFoundError as missing:
        if missing.name != "jax":
            raise
        return {}


def seconds_of(run: Callable[[], object]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def require_same(losses: dict[str, float]) -> None:
    """Refuse trainings that differ."""
    if not max(losses.values()) - min(losses.values()) <= TOLERANCE * max(losses.values()):
        raise SystemExit(f"The trainings differ: the mean objectives of the first epoch are {losses}.")


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """The fewest microseconds of processor time that a step of each took, its first epoch apart.

    Raises:
        SystemExit: if the trainings differ.
    """
    found: dict[str, dict[str, float]] = {}
    runs: dict[str, Training] = {}
    for name, trainings in {OURS: [case.fit], **by_jax(case)}.items():
        found[name] = {"first": math.inf}
        for training in trainings:
            loss: list[float] = []
            first = seconds_of(lambda training=training, loss=loss: loss.append(training(1)))
            require_same({OURS: found[OURS].get("loss", loss[0]), name: loss[0]})
            warm = min(seconds_of(lambda training=training: training(1)) for _ in range(3))
            if warm < found[name].get("warm", math.inf):
                found[name], runs[name] = {"loss": loss[0], "first": first, "warm": warm}, training
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    epochs = case.recipe.epochs
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(seconds_of(lambda run=run: run(epochs)))
    steps = epochs * case.batches
    for name, each in seconds.items():
        found[name]["microseconds"] = 1e6 * min(each) / steps
    return {"goal": case.goal, "steps": steps, "trainings": found}


def main() -> None:
    """Print the timings of one case as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mnist", help="the folder of MNIST's files")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(made(chosen.case, chosen.mnist), chosen.rounds)))


if __name__ == "__main__":
    main()
