"""Figure 1 of the L4DC paper: what trained networks say all over the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.planar import PUBLISHED, PlanarCell, draw_regions, layout, regions, train
from hdnn.report import Picture
from hdnn.training import Recipe


@dataclass(frozen=True)
class Config(PlanarCell):
    """A network, how it is trained, and where it is asked.

    Attributes:
        standardize: whether points are centred and scaled.
        side: points of the grid along each axis.
    """

    init_std: float | None = 1.0
    standardize: bool = True
    side: int = 121


CELLS = {
    "swiss-roll/h1": Config("h1", 64, 3.2, Recipe(epochs=100, learning_rate=0.02), "swiss_roll"),
    "swiss-roll/h1@published": Config("h1", 64, 0.8, PUBLISHED, "swiss_roll", standardize=False),
    "double-moons/h1": Config("h1", 4, 2.0, Recipe(epochs=50, learning_rate=0.05), init_std=None),
    "double-moons/h1@published": Config("h1", 4, 0.8, PUBLISHED, standardize=False),
    "double-circles/h2": Config("h2", 32, 6.4, Recipe(epochs=200, learning_rate=0.03, clip=1.0), "double_circles"),
}
SMOKE = {
    "double-moons/h1": Config("h1", 2, 2.0, Recipe(epochs=2), size=200, side=9),
    "double-moons/h1@published": Config(
        "h1", 2, 0.8, Recipe(epochs=1, method="alternating", head_epochs=1), size=200, side=9
    ),
}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, L4DC 2021, figure 1",
    "https://arxiv.org/abs/2104.13166",
    note="A figure without numbers.",
)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """The accuracies, and the probability of class 1 over the plane."""
    trained = train(config.network, config.problem, config.size, config.recipe, seed, standardize=config.standardize)
    metrics = {"test_accuracy": trained.test_accuracy, "train_accuracy": trained.train_accuracy}
    return Outcome(metrics, regions(trained, config.problem, config.side))


def draw(found: Found) -> Sequence[Picture]:
    """The plane as every network sees it."""
    return draw_regions(found, {cell: config.problem for cell, config in CELLS.items()}, EXPERIMENT.called)


EXPERIMENT = Experiment(
    "figure1",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (Measure("test_accuracy", "test accuracy, %", better=max), Measure("train_accuracy", "train accuracy, %")),
    "One network and one recipe a problem, joint training on centred and scaled points, chosen on held-out training "
    "data: Swiss roll, 64 layers, T = 3.2, 100 epochs; double moons, 4 layers, T = 2, 50 epochs; double circles, 32 "
    "layers, T = 6.4, 200 epochs. Beside them, the published recipe: alternating training, T = 0.8, K and b ~ N(0, 1), "
    "learning rate 0.0125 (what the 0.05 of the published script amounts to), coordinates as they are. 4 features; "
    "half of 8000 points for training.",
    draw=draw,
    layout=layout,
)
