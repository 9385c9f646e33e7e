"""Feature propagation: what the layers of a trained network do to the points, as a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hdnn import plots
from hdnn.analysis import principal_components
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.figures import film, picture
from hdnn.experiments.models import CALLED, PROBLEMS
from hdnn.experiments.planar import CLASSES, train
from hdnn.networks import PRESETS, vector_classifier
from hdnn.report import Picture
from hdnn.training import Recipe

FEATURES = 4


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        problem: of the plane.
        model: preset.
        layers: N.
        horizon: T.
        recipe: how it is trained.
        init_std: of the initial weights; None means 1/√n.
        standardize: whether points are centred and scaled.
        size: points, half of them for training.
        shown: test points in the film.
    """

    problem: str
    model: str
    layers: int
    horizon: float
    recipe: Recipe
    init_std: float | None = 1.0
    standardize: bool = True
    size: int = 8000
    shown: int = 300


CELLS = {
    "swiss-roll/h1": Config("swiss_roll", "h1", 64, 3.2, Recipe(epochs=100, learning_rate=0.02)),
    "double-moons/h1": Config("double_moons", "h1", 32, 2.0, Recipe(epochs=50, learning_rate=0.05), init_std=None),
    "double-circles/h2": Config("double_circles", "h2", 32, 6.4, Recipe(epochs=200, learning_rate=0.03, clip=1.0)),
}
SMOKE = {"double-moons/h1": Config("double_moons", "h1", 2, 2.0, Recipe(epochs=1), size=100, shown=20)}
PAPER = Paper(
    "Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, and its published films",
    "https://arxiv.org/abs/2105.13205",
    note="Films without numbers.",
)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """The accuracy, and the principal components of the states after every layer."""
    trained = train(
        lambda: vector_classifier(
            2,
            2,
            PRESETS[config.model](FEATURES, config.layers, horizon=config.horizon, init_std=config.init_std),
        ),
        config.problem,
        config.size,
        config.recipe,
        seed,
        standardize=config.standardize,
    )
    with torch.no_grad():
        components = principal_components(trained.network.trajectory(trained.x[: config.shown]))
    return Outcome(
        {"test_accuracy": trained.test_accuracy, "explained": 100 * float(components.explained.sum())},
        {
            "coordinates": components.coordinates.tolist(),
            "labels": trained.y[: config.shown].tolist(),
            "explained": components.explained.tolist(),
        },
    )


def draw(found: Found) -> Sequence[Picture]:
    """A film and its layers side by side, of the first seed of every cell."""
    pictures = []
    for cell, outcomes in found.items():
        seed, outcome = next(iter(outcomes.items()))
        coordinates, explained = (np.array(outcome.arrays[name]) for name in ("coordinates", "explained"))
        labels = np.array(outcome.arrays["labels"], dtype=int)
        said = f"Seed {seed}, test accuracy {outcome.metrics['test_accuracy']:.2f} %. The two principal components."
        pictures.append(film(f"{EXPERIMENT.called(cell)}: film", coordinates, labels, CLASSES, said))
        figure = plots.features_by_layer(coordinates, labels, CLASSES, explained=explained)
        alt = f"{EXPERIMENT.called(cell)}: points of two classes after some of the layers."
        pictures.append(picture(f"{EXPERIMENT.called(cell)}: layers", figure, alt))
    return pictures


def layout(cell: str) -> tuple[str, str]:
    """Problem and network."""
    problem, model = cell.split("/")
    return PROBLEMS[problem], CALLED[model]


EXPERIMENT = Experiment(
    "propagation",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", better=max),
        Measure("explained", "variance in the plane shown, %", ".1f"),
    ),
    "One network and one recipe a problem, joint training on centred and scaled points: Swiss roll, 64 layers, T = "
    "3.2, 100 epochs; double moons, 32 layers so that there is something to see, T = 2, 50 epochs; double circles, 32 "
    "layers, T = 6.4, 200 epochs. Every frame is a layer; all layers are seen from one common pair of axes, the "
    "principal components of all states.",
    seeds=1,
    draw=draw,
    layout=layout,
)
