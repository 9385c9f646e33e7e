"""Figure 2 of the L4DC paper: ‖∂y_N/∂y_l‖₂ while 64 layers learn the double moons, and of a perceptron, which vanish.

The paper does not print horizon and learning rate. T = 0.8 stands in titles of its figures; 0.0125 is about what the
0.05 of its published script amounts to, for that script overwrites the step counter of Adam. The rest is the paper's:
4000 points, 4 features, K and b ~ N(0, 1), batches of 125, 30 epochs, alternating training, α and α_c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn import plots
from hdnn.analysis import norms, sensitivities
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.figures import picture
from hdnn.experiments.perceptrons import perceptron
from hdnn.experiments.planar import train
from hdnn.networks import PRESETS, Network, vector_classifier
from hdnn.report import Picture
from hdnn.training import Progress, Recipe, SensitivityRecorder
from hdnn.training.progress import Callback

FEATURES = 4
SPACING = 10  # layers from one recorded norm to the next
THINNED = 120  # iterations that are kept for the figure
RECIPE = Recipe(
    epochs=30,
    batch_size=125,
    learning_rate=0.0125,
    schedule="constant",
    method="alternating",
    smoothness=5e-4,
    head_decay=1e-4,
)


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        model: preset, or "mlp".
        shared: one K and b for all layers.
        layers: N.
        horizon: T, of a preset.
        recipe: how it is trained; α has no meaning for a perceptron and is left out there.
        size: points, half of them for training.
        watched: test points at which norms are taken.
    """

    model: Literal["h1", "h2", "mlp"]
    shared: bool = False
    layers: int = 64
    horizon: float = 0.8
    recipe: Recipe = field(default_factory=lambda: RECIPE)
    size: int = 8000
    watched: int = 125


PERCEPTRON = Recipe(**{**vars(RECIPE), "smoothness": 0.0})
CELLS = {
    "h1": Config("h1"),
    "h1/shared": Config("h1", shared=True),
    "h2": Config("h2"),
    "h2/shared": Config("h2", shared=True),
    "mlp": Config("mlp", layers=32, recipe=PERCEPTRON),
}
_QUICK = Recipe(epochs=1, method="alternating", head_epochs=1)
SMOKE = {
    "h1": Config("h1", layers=12, recipe=_QUICK, size=500, watched=5),
    "mlp": Config("mlp", layers=12, recipe=_QUICK, size=500, watched=5),
}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, L4DC 2021, figure 2",
    "https://arxiv.org/abs/2104.13166",
    {
        "h1": {"mean_matrix_low": 1.0, "mean_matrix_high": 17.0},
        "h1/shared": {"mean_matrix_low": 1.0, "mean_matrix_high": 37.0},
        "mlp": {"test_accuracy": 50.0},
    },
    "Its ranges are norms of the mean matrix over a batch, as its script computes them. That mean is no sensitivity of "
    "any sample, and its norm may fall below 1; of flows, the norms of samples may not.",
)


class MeanMatrixNorms:
    """A callback that keeps what the published script plots: the norm of the mean of the matrices over the batch."""

    def __init__(self, layers: Any, y0: Tensor, depths: Sequence[int]) -> None:
        self.layers, self.y0, self.depths = layers, y0, list(depths)
        self.found: list[list[float]] = []

    def __call__(self, progress: Progress) -> None:
        """Record."""
        self.found.append(norms(sensitivities(self.layers, self.y0)[self.depths].mean(1)).tolist())


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """The ranges of the norms over all iterations and recorded layers, in float64."""
    callbacks: list[Any] = []

    def watch(network: Network, x: Tensor) -> Iterable[Callback]:
        layers: Any = network.flow
        depths = tuple(range(1, config.layers, SPACING))
        y0 = network.lift(x[: config.watched])
        callbacks.extend((SensitivityRecorder(layers, y0, layers=depths), MeanMatrixNorms(layers, y0, depths)))
        return callbacks

    trained = train(
        lambda: network(config), "double_moons", config.size, config.recipe, seed, dtype=torch.float64, watch=watch
    )
    recorder, of_mean = callbacks
    kept = np.unique(np.linspace(0, len(recorder.iterations) - 1, THINNED).round().astype(int))
    return Outcome(
        {
            "low": float(recorder.minimum.min()),
            "high": float(recorder.maximum.max()),
            "mean_matrix_low": float(np.min(of_mean.found)),
            "mean_matrix_high": float(np.max(of_mean.found)),
            "test_accuracy": trained.test_accuracy,
        },
        {
            "layers": list(recorder.layers),
            "iterations": recorder.iterations[kept].tolist(),
            **{name: getattr(recorder, name)[kept].tolist() for name in ("minimum", "mean", "maximum")},
        },
    )


def network(config: Config) -> Network:
    """The network of a cell, with fresh random weights."""
    if config.model == "mlp":
        return perceptron(FEATURES, config.layers)
    flow = PRESETS[config.model](
        FEATURES, config.layers, horizon=config.horizon, init_std=1.0, shared=config.shared, dtype=torch.float64
    )
    return vector_classifier(2, 2, flow)


@dataclass(frozen=True, eq=False)
class _Recorded:
    """Norms by layer and iteration, as `plots.sensitivities_by_iteration` wants them."""

    layers: Sequence[int]
    iterations: NDArray[np.float64]
    minimum: NDArray[np.float64]
    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]


def draw(found: Found) -> Sequence[Picture]:
    """The norms of the first seed of every cell."""
    recorded = {}
    for cell, outcomes in found.items():
        arrays = {name: np.array(values) for name, values in next(iter(outcomes.values())).arrays.items()}
        layers = arrays.pop("layers").astype(int).tolist()
        recorded[EXPERIMENT.called(cell)] = _Recorded(layers, **arrays)
    alt = "Norms against the iteration, a panel for each network: those the perceptron vanish, others do not."
    caption = "The first seed. Lines: means over the samples, one for every recorded layer; grey: all samples."
    return [picture("Norms while training", plots.sensitivities_by_iteration(recorded), alt, caption)]


_CALLED = {
    "h1": "h1",
    "h1/shared": "h1, one K for all layers",
    "h2": "h2",
    "h2/shared": "h2, one K for all layers",
    "mlp": "perceptron",
}
EXPERIMENT = Experiment(
    "figure2",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("low", "smallest norm of a sample", ".4g"),
        Measure("high", "largest norm of a sample", ".4g"),
        Measure("mean_matrix_low", "smallest norm of the mean matrix", ".4g"),
        Measure("mean_matrix_high", "largest norm of the mean matrix", ".4g"),
        Measure("test_accuracy", "test accuracy, %"),
    ),
    "Alternating training on the double moons: 4000 points, 30 epochs of batches of 125, learning rate 0.0125, "
    "α = 5e-4, α_c = 1e-4; 64 layers, 4 features, T = 0.8, K and b ~ N(0, 1). The perceptron has 32 tanh layers 4 wide "
    "with PyTorch's initial weights. Ranges over 960 iterations, l = 1, 11, …, and 125 test points, in float64. "
    "Nothing was tuned: the published values, and for the two that are not published the reasons stand in the source.",
    draw=draw,
    layout=lambda cell: (_CALLED[cell], ""),
)
