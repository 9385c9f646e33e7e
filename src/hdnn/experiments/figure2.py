"""Figure 2 of the L4DC paper: ‖∂y_N/∂y_l‖₂ while 64 layers learn the double moons, and of a perceptron, which vanish.

The paper does not print horizon and learning rate. T = 0.8 stands in titles of its figures; 0.0125 is about what the
0.05 of its published script amounts to, for that script overwrites the step counter of Adam. The rest is the paper's:
4000 points, 4 features, K and b ~ N(0, 1), batches of 125, 30 epochs, alternating training, α and α_c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn import plots
from hdnn.analysis import norms, sensitivities
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.planar import PUBLISHED, PlanarCell, train
from hdnn.networks import Network
from hdnn.plots.style import png
from hdnn.report import Picture
from hdnn.training import Progress, Recipe, SensitivityRecorder
from hdnn.training.progress import Callback

F64 = torch.float64
SPACING = 10  # layers from one recorded norm to the next
THINNED = 120  # iterations that are kept for the figure
RECIPE = replace(PUBLISHED, epochs=30)


@dataclass(frozen=True)
class Config(PlanarCell):
    """A network, how it is trained, and where it is watched.

    Attributes:
        shared: one K and b for all layers.
        watched: test points at which norms are taken.
    """

    layers: int = 64
    horizon: float = 0.8
    recipe: Recipe = field(default_factory=lambda: RECIPE)
    init_std: float | None = 1.0
    shared: bool = False
    watched: int = 125


CELLS = {
    "h1": Config("h1"),
    "h1/shared": Config("h1", shared=True),
    "h2": Config("h2"),
    "h2/shared": Config("h2", shared=True),
    "mlp": Config("mlp", 32, recipe=replace(RECIPE, smoothness=0.0)),  # a matter of flows
}
_QUICK = Recipe(epochs=1, method="alternating", head_epochs=1)
SMOKE = {cell: replace(CELLS[cell], layers=12, recipe=_QUICK, size=500, watched=5) for cell in ("h1", "mlp")}
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
        lambda: config.network(shared=config.shared, dtype=F64),
        config.problem,
        config.size,
        config.recipe,
        seed,
        dtype=F64,
        watch=watch,
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


@dataclass(frozen=True, eq=False)
class _Recorded:
    """Norms by layer and iteration, as `plots.sensitivities_by_iteration` wants them."""

    layers: Sequence[int]
    iterations: NDArray[np.float64]
    minimum: NDArray[np.float64]
    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]


def recorded(found: Found) -> dict[str, _Recorded]:
    """The norms of the first seed of every cell, by what readers call it."""
    norms_of = {}
    for cell, outcomes in found.items():
        arrays = {name: np.array(values) for name, values in next(iter(outcomes.values())).arrays.items()}
        layers = arrays.pop("layers").astype(int).tolist()
        norms_of[EXPERIMENT.called(cell)] = _Recorded(layers, **arrays)
    return norms_of


def draw(found: Found) -> Sequence[Picture]:
    """The norms of the first seed of every cell."""
    alt = "Norms against the iteration, a panel for each network: those the perceptron vanish, others do not."
    caption = "The first seed. Lines: means over the samples, one for every recorded layer; grey: all samples."
    return [Picture("Norms while training", png(plots.sensitivities_by_iteration(recorded(found))), alt, caption)]


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
