"""Table 1 of the L4DC paper: test accuracy of five networks by depth, on Swiss roll and double moons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hdnn import data
from hdnn.experiments.experiment import Experiment, Measure, Outcome, Paper
from hdnn.experiments.planar import CALLED, PROBLEMS, PUBLISHED, PlanarCell, layers_of
from hdnn.networks import Network
from hdnn.training import evaluate, fit_together
from hdnn.training.recipes import DOUBLE_MOONS, SWISS_ROLL

MODELS = ("ms1", "ms2", "ms3", "h1-j1", "h1-j2")


@dataclass(frozen=True)
class Config(PlanarCell):
    """A network, and how the best of several trainings is taken.

    Attributes:
        scale: what centred inputs of unit variance are multiplied by; None leaves the coordinates as they are.
        tries: trainings by the recipe, each with starts of its own; that of the smallest training objective counts.
    """

    scale: float | None = 1.0
    tries: int = 1


# One recipe a problem, and one horizon a depth for all networks.
HORIZONS = {"swiss_roll": {4: 3.0, 8: 2.5, 16: 2.0, 32: 2.0, 64: 2.5}, "double_moons": {1: 2.4, 2: 2.0, 4: 2.0}}
SCALES = {"swiss_roll": 1.0, "double_moons": 2.0}
RECIPES = {"swiss_roll": SWISS_ROLL, "double_moons": DOUBLE_MOONS}
# So few layers are scant for the Swiss roll: where a training ends depends on its luck, however long it is.
TRIES = {("swiss_roll", 4): 4, ("swiss_roll", 8): 2, ("swiss_roll", 16): 2}


def _cells() -> dict[str, Config]:
    cells = {}
    for problem, horizons in HORIZONS.items():
        for layers, horizon in horizons.items():
            for model in MODELS:
                cell = f"{problem.replace('_', '-')}/{layers}/{model}"
                tries = TRIES.get((problem, layers), 1)
                scale = SCALES[problem]
                cells[cell] = Config(model, layers, horizon, RECIPES[problem], problem, scale=scale, tries=tries)
                cells[f"{cell}@published"] = Config(model, layers, 0.8, PUBLISHED, problem, 1.0, scale=None)
    return cells


def _smoke(cell: str) -> Config:
    config = CELLS[cell]
    recipe = replace(config.recipe, epochs=1, restarts=min(2, config.recipe.restarts), restart_epochs=1, head_epochs=1)
    return replace(config, recipe=recipe, size=500, tries=min(2, config.tries))


CELLS = _cells()
SMOKE = {
    cell: _smoke(cell)
    for cell in ("swiss-roll/4/ms1", "swiss-roll/4/ms1@published", "double-moons/1/ms3", "double-moons/1/h1-j2")
}

_PUBLISHED_NUMBERS = {
    "swiss-roll/4": (77.1, 79.7, 90.1, 93.6, 98.9),
    "swiss-roll/8": (91.5, 90.7, 87.0, 99.0, 99.4),
    "swiss-roll/16": (97.7, 99.7, 97.1, 99.8, 99.8),
    "swiss-roll/32": (100, 100, 98.4, 99.8, 99.2),
    "swiss-roll/64": (100, 100, 100, 99.8, 100),
    "double-moons/1": (92.5, 91.3, 97.6, 100, 99.9),
    "double-moons/2": (98.2, 94.9, 99.8, 100, 100),
    "double-moons/4": (99.5, 100, 100, 100, 100),
}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, A unified framework for Hamiltonian deep neural networks, L4DC 2021, table 1",
    "https://arxiv.org/abs/2104.13166",
    numbers={
        f"{row}/{model}": {"test_accuracy": number}
        for row, numbers in _PUBLISHED_NUMBERS.items()
        for model, number in zip(MODELS, numbers, strict=True)
    },
    note="One number a cell, without seeds, spread or horizon. A printed 100 is met from 99.95 up, which rounds to it.",
)


def meets(mean: float, published: float) -> bool:
    """The mean is not below the published number; a printed 100 is met from 99.95 up."""
    return mean >= min(published, 99.95)


def run_together(config: Config, seeds: Sequence[int], folder: Path | None) -> list[Outcome]:
    """All seeds of a cell as one training; the seed draws points, weights and batches."""
    standardize = config.scale is not None
    parts = [data.planar(config.problem, config.size, seed, standardize=standardize) for seed in seeds]
    scale = config.scale or 1.0
    x, x_test = (
        torch.stack([scale * torch.from_numpy(points) for points in each])
        for each in ([p.x_train for p in parts], [p.x_test for p in parts])
    )
    y, y_test = (
        torch.stack([torch.from_numpy(labels) for labels in each])
        for each in ([p.y_train for p in parts], [p.y_test for p in parts])
    )
    trained = _best_of(config, x, y, seeds)
    return [
        Outcome({"test_accuracy": _accuracy(best, *test), "train_accuracy": _accuracy(best, *known)})
        for best, test, known in zip(trained, zip(x_test, y_test, strict=True), zip(x, y, strict=True), strict=True)
    ]


def _best_of(config: Config, x: Tensor, y: Tensor, seeds: Sequence[int]) -> list[Network]:
    """For every seed the network that ends with the smallest objective on the training points, of all tries at once."""
    tries = config.tries
    draws = [draw for seed in seeds for draw in (seed, *_more_draws(seed, tries - 1))]
    networks = [network(config, draw) for draw in draws]
    member = torch.arange(len(seeds)).repeat_interleave(tries)
    histories = fit_together(networks, x[member], y[member], config.recipe, seeds=draws)
    losses = [history[-1]["loss"] for history in histories]
    return [
        networks[min(range(first, first + tries), key=lambda i: losses[i] if math.isfinite(losses[i]) else math.inf)]
        for first in range(0, len(networks), tries)
    ]


def _more_draws(seed: int, count: int) -> list[int]:
    return [int(number) for number in np.random.SeedSequence([seed, count]).generate_state(count)] if count else []


def _accuracy(network: Network, x: Tensor, y: Tensor) -> float:
    """In %; nan for a member that diverged, which would else be counted as guessing the first class."""
    found = evaluate(network, x, y)
    return 100 * found["accuracy"] if math.isfinite(found["loss"]) else math.nan


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """One seed of a cell."""
    return run_together(config, [seed], folder)[0]


def network(config: Config, seed: int) -> Network:
    """The network of a cell, with the fresh weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.network()


def layout(cell: str) -> tuple[str, str]:
    """Problem and depth, and the network."""
    problem, layers, model = cell.split("/")
    return f"{PROBLEMS[problem]}, {layers_of(layers)}", CALLED[model]


METHOD = (
    "8000 points, half of them for training; features [x1 x2 0 0]. One recipe a problem (hdnn.training.recipes) and "
    "one horizon a depth, the same for all five networks: centred and scaled inputs, weights from N(0, 1/n), several "
    "starts in one training, of which the one with the smallest training objective is trained on at a smaller rate; "
    "Adam, batches of 125, gradients clipped at norm 1, no regulariser. On the Swiss roll this whole training is tried "
    "4 times with 4 layers and twice with 8 and 16, and the try that ends with the smallest training objective counts. "
    "The times hold all starts and tries.\n\n"
    "All of it was found on seeds 100 to 115, on 800 of the 4000 training points that were held back; test points took "
    "no part. The seeds of the table had never been used for anything before and were run once.\n\n"
    "Tried there: 16 random settings of horizon, rate, input scale and initial scale at 4 layers, 4 at 16 layers, 16 "
    "at one layer of the moons; N(0, 1) on raw inputs, one start of 50 epochs (4 layers: MS1 80.4, MS2 73.0, MS3 70.9, "
    "H1 83.8, with J2 75.6); one start of 300 epochs (H1 95.9, MS1 91.6 at 4 layers); 8 and 16 starts of 50 to 100 "
    "epochs; going on at the rate of the starts (the best start is lost again: H1 with J2 at 8 layers 99.41 before, "
    "98.96 after) or at a third of it (99.78). For H1 with J2 at 4 layers: the best of 8, 16, 24, 32 starts of 100 "
    "epochs 98.98, 99.06, 99.30, 99.55, of 8 and 16 starts of 200 epochs 99.49, 99.73; four of 32 starts trained on, "
    "the best of them kept, 99.84; one to four tries of the whole training 98.98, 99.56, 99.76, 99.78. One and two "
    "tries at 8 layers 99.08 and 99.91, at 16 layers 99.91 and 99.96.\n\n"
    "The published recipe: alternating training as the paper has it, on raw inputs, K and b from N(0, 1), constant "
    "rate 0.0125 (what 0.05 amounts to in the published script), T = 0.8 (the only horizon that its figures name)."
)
EXPERIMENT = Experiment(
    "table1",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", meets=meets, better=max),
        Measure("train_accuracy", "train accuracy, %"),
    ),
    METHOD,
    seeds=10,
    run_together=run_together,
    layout=layout,
    conclusions="With this recipe every mean over 33 fresh seeds reaches the published number. Where the paper prints "
    "100, means from 99.97 up stand beside it, which round to it. h1 with J2 at 4 layers had no margin with a single "
    "try (98.9 over 33 seeds used before, published 98.9); it reaches 99.89 with a standard error of 0.03.\n\n"
    "Much of this is the recipe's doing: by the published one the same networks stay below the published number in 39 "
    "of 40 cells, by up to 38 points (10 seeds). The paper has one number a cell, and does not say which run it is of.",
)
