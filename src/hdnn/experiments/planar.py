"""Training a network on one of the plane's problems: what several experiments share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hdnn import data
from hdnn.networks import Network
from hdnn.training import Recipe, evaluate, fit
from hdnn.training.progress import Callback

CLASSES = ("0", "1")


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
