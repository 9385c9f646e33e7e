"""Feature propagation: what the layers of a trained network do to the points, as a film."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from hdnn import plots
from hdnn.analysis import principal_components
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.planar import CLASSES, PlanarCell, layout, train
from hdnn.plots.style import png
from hdnn.report import Picture
from hdnn.training import Recipe


@dataclass(frozen=True)
class Config(PlanarCell):
    """A network, how it is trained, and what is shown.

    Attributes:
        standardize: whether points are centred and scaled.
        shown: test points in the film.
    """

    init_std: float | None = 1.0
    standardize: bool = True
    shown: int = 300


CELLS = {
    "swiss-roll/h1": Config("h1", 64, 3.2, Recipe(epochs=100, learning_rate=0.02), "swiss_roll"),
    "double-moons/h1": Config("h1", 32, 2.0, Recipe(epochs=50, learning_rate=0.05), init_std=None),
    "double-circles/h2": Config("h2", 32, 6.4, Recipe(epochs=200, learning_rate=0.03, clip=1.0), "double_circles"),
}
SMOKE = {"double-moons/h1": Config("h1", 2, 2.0, Recipe(epochs=1), size=100, shown=20)}
PAPER = Paper(
    "Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, and its published films",
    "https://arxiv.org/abs/2105.13205",
    note="Films without numbers.",
)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """The accuracy, and the principal components of the states after every layer."""
    trained = train(config.network, config.problem, config.size, config.recipe, seed, standardize=config.standardize)
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
        pictures.append(_film(f"{EXPERIMENT.called(cell)}: film", coordinates, labels, said))
        figure = plots.features_by_layer(coordinates, labels, CLASSES, explained=explained)
        alt = f"{EXPERIMENT.called(cell)}: points of two classes after some of the layers."
        pictures.append(Picture(f"{EXPERIMENT.called(cell)}: layers", png(figure), alt))
    return pictures


def _film(title: str, coordinates: ArrayLike, labels: ArrayLike, caption: str) -> Picture:
    """Features on their way through the layers, (N + 1, B, 2)."""
    with tempfile.TemporaryDirectory() as folder:
        path = plots.animate_features(coordinates, labels, CLASSES, Path(folder) / "film.gif", frames=40)
        return Picture(title, path.read_bytes(), f"{title}: points of two colours move from layer to layer.", caption)


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
