"""Networks on the problems of the plane: made, trained, and asked everywhere; what several experiments share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdnn import data, plots
from hdnn.experiments.baselines import perceptron
from hdnn.experiments.experiment import Found, Numbers
from hdnn.flow import Flow
from hdnn.networks import Network, vector_classifier
from hdnn.plots.style import png
from hdnn.presets import h1, h2, ms1, ms2, ms3
from hdnn.report import Picture
from hdnn.training import Recipe, evaluate, fit
from hdnn.training.progress import Callback

CLASSES = ("0", "1")
FEATURES = 4
PROBLEMS = {"swiss-roll": "Swiss roll", "double-moons": "Double moons", "double-circles": "Double circles"}
# The networks by the names that both papers' readers can tell apart; as tables and legends call them.
CALLED = {
    "ms1": "MS1",
    "ms2": "MS2",
    "ms3": "MS3",
    "h1-j1": "h1 with J1 (H1 of the paper)",
    "h1-j2": "h1 with J2 (H2 of the paper)",
    "h1": "h1",
    "h2": "h2 (H2 of the 2023 paper)",
}
PRESETS: dict[str, Callable[..., Flow]] = {
    "ms1": ms1,
    "ms2": ms2,
    "ms3": ms3,
    "h1": h1,
    "h1-j1": h1,
    "h1-j2": partial(h1, interconnection="upper_ones"),
    "h2": h2,
}
# The published recipe, and the learning rate that its script's 0.05 amounts to: it overwrites Adam's count of steps.
PUBLISHED = Recipe(
    epochs=50,
    batch_size=125,
    learning_rate=0.0125,
    schedule="constant",
    method="alternating",
    smoothness=5e-4,
    head_decay=1e-4,
)
_SHOWN = 400  # test points in a figure


def layers_of(count: int | str) -> str:
    """Some layers, in words."""
    return "1 layer" if int(count) == 1 else f"{count} layers"


def layout(cell: str) -> tuple[str, str]:
    """Row and column of a cell that is named by its problem and its network."""
    problem, model = cell.split("/")
    return PROBLEMS[problem], CALLED[model]


@dataclass(frozen=True)
class PlanarCell:
    """A network on a problem of the plane, and how it is trained.

    Attributes:
        model: one of `PRESETS`, or "mlp", a perceptron.
        layers: N.
        horizon: T; a perceptron has none.
        recipe: how it is trained.
        problem: "swiss_roll", "double_moons" or "double_circles".
        init_std: of the initial weights of a flow; None means 1/√n.
        size: points, half of them for training.
    """

    model: str
    layers: int
    horizon: float
    recipe: Recipe
    problem: str = "double_moons"
    init_std: float | None = None
    size: int = 8000

    def network(self, *, shared: bool = False, dtype: torch.dtype | None = None) -> Network:
        """It, with fresh random weights."""
        if self.model == "mlp":
            return perceptron(FEATURES, self.layers)
        flow = PRESETS[self.model](
            FEATURES, self.layers, horizon=self.horizon, init_std=self.init_std, shared=shared, dtype=dtype
        )
        return vector_classifier(2, 2, flow)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network after training.

    Attributes:
        network: trained.
        x: (s, 2), test points, as the network gets them: (point − mean) / scale.
        y: (s,), their classes.
        history: a record an epoch.
        test_accuracy: in %.
        train_accuracy: in %, of the finished network.
        mean: (2,), of the training points; zero where the coordinates are left as they are.
        scale: of both coordinates.
    """

    network: Network
    x: Tensor
    y: Tensor
    history: list[dict[str, float]]
    test_accuracy: float
    train_accuracy: float
    mean: Tensor
    scale: float


def train(
    make: Callable[[], Network],
    problem: str,
    size: int,
    recipe: Recipe,
    seed: int,
    *,
    standardize: bool = False,
    dtype: torch.dtype = torch.float32,
    watch: Callable[[Network, Tensor], Iterable[Callback]] | None = None,
) -> Trained:
    """Make a network and train it on half of the points.

    Args:
        make: the network, with fresh random weights.
        problem: "swiss_roll", "double_moons" or "double_circles".
        size: points, half of them for training.
        recipe: how; its seed is replaced.
        seed: of the points, the weights, and the order of the batches.
        standardize: give the network (point − mean) / scale, as `hdnn train` does, instead of the point.
        dtype: of the network.
        watch: from the network and the test points to callbacks.
    """
    problems = data.planar(problem, size, seed, standardize=standardize)
    x, x_test = (torch.from_numpy(points).to(dtype) for points in (problems.x_train, problems.x_test))
    y, y_test = torch.from_numpy(problems.y_train), torch.from_numpy(problems.y_test)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().to(dtype)
        callbacks = () if watch is None else watch(network, x_test)
        history = fit(network, x, y, replace(recipe, seed=seed), callbacks=callbacks)
    test, known = (100 * evaluate(network, *part)["accuracy"] for part in ((x_test, y_test), (x, y)))
    encoder: Any = problems.encoder
    mean = torch.tensor([column.mean for column in encoder.columns], dtype=dtype)
    return Trained(network, x_test, y_test, history, test, known, mean, encoder.columns[0].scale)


# What a trained classifier says all over the plane: computed by runs, drawn from their arrays.


@torch.no_grad()
def regions(trained: Trained, problem: str, side: int) -> Mapping[str, Numbers]:
    """The probability of class 1 on a square grid, and some test points; in the coordinates of the problem."""
    axes = [np.linspace(*ends, side) for ends in data.DOMAINS[problem]]
    grid = torch.from_numpy(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)).to(trained.x.dtype)
    points = trained.x[:_SHOWN]
    said = trained.network.probabilities((grid - trained.mean) / trained.scale)[:, 1]
    return {
        "probability": said.reshape(side, side).tolist(),
        "points": (trained.mean + trained.scale * points).tolist(),
        "labels": trained.y[:_SHOWN].tolist(),
        "predicted": trained.network.predict(points).tolist(),
    }


def draw_regions(found: Found, problems: Mapping[str, str], called: Callable[[str], str]) -> Sequence[Picture]:
    """The plane of the first seed of every cell.

    Args:
        found: the outcomes.
        problems: by cell, which problem it learned.
        called: from a cell to what readers call it.
    """
    pictures = []
    for cell, outcomes in found.items():
        seed, outcome = next(iter(outcomes.items()))
        probability, points = (np.array(outcome.arrays[name]) for name in ("probability", "points"))
        labels, predicted = (np.array(outcome.arrays[name], dtype=int) for name in ("labels", "predicted"))
        x, y = (np.linspace(*ends, len(probability)) for ends in data.DOMAINS[problems[cell]])
        figure = plots.decision_regions(x, y, probability, points, labels, CLASSES, predicted=predicted)
        wrong = int((labels != predicted).sum())
        alt = (
            f"{called(cell)}: the plane in the colours of two classes, with {len(labels)} test points; {wrong} are "
            "misclassified."
        )
        caption = f"Seed {seed}, test accuracy {outcome.metrics['test_accuracy']:.2f} %."
        pictures.append(Picture(called(cell), png(figure), alt, caption))
    return pictures
