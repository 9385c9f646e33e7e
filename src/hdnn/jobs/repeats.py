"""How far a score depends on chance: trainings on folds of the training rows, and with other seeds.

Legend: s rows, K folds, E seeds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn.data import Dataset, Pixels
from hdnn.data.pixels import Held
from hdnn.jobs.scores import measure, tensors
from hdnn.names import count
from hdnn.networks import Network
from hdnn.ranks import alone, present
from hdnn.training import Recipe, fit, fit_together
from hdnn.training.batches import some

Make = Callable[[int], Network]


@dataclass(frozen=True)
class Repeats:
    """Trainings beside the one whose network is kept; each follows the same recipe, and its network is thrown away.

    The processes of a process group share them out, one by one, each trained as by a single process.

    Args:
        folds: K: each part of the training rows is held out once, and scored by a network that learned from all
            others. Classes keep their shares. Scales of columns and targets are those of all training rows.
        seeds: E: of weights and batches, counted up from the seed of the run; the split stays as it is. All are
            scored on the test part, that of the run included.
    """

    folds: int | None = None
    seeds: int | None = None

    def carry_out(
        self,
        make: Make,
        dataset: Dataset,
        recipe: Recipe,
        weight: Tensor | None,
        first: Mapping[str, float],
        announce: Callable[[str], None],
    ) -> dict[str, Any]:
        """Train and score.

        Args:
            make: a network with the initial weights of a seed.
            dataset: training and test part.
            recipe: how, and the seed of the run.
            weight: (s,), of the training rows.
            first: scores of the run's own network on the test part.
            announce: told in words what is done.

        Returns:
            "folds" and "seeds" as they were asked for: for each score all "values", "mean" and "sd" over them, and
            "standard_error" of the mean, sd / √K.
        """
        found = {}
        if self.folds:
            announce(f"Now {count(self.folds, 'fold')} of the training rows, each held out once.")
            found["folds"] = _summed_up(
                _dealt(range(self.folds), partial(_folds, self.folds, make, dataset, recipe, weight))
            )
        if self.seeds:
            announce(f"Now seeds {recipe.seed + 1} to {recipe.seed + self.seeds - 1} on the same rows.")
            others = range(recipe.seed + 1, recipe.seed + self.seeds)
            scores = _dealt(others, partial(_seeds, make, dataset, recipe, weight))
            found["seeds"] = _summed_up([dict(first), *scores])
        return found

    def require(self, dataset: Dataset, recipe: Recipe) -> None:
        """See that the data have rows enough, and the numbers room for the seeds.

        Raises:
            ValueError: if not.
        """
        if self.folds and self.folds > len(dataset.x_train) // 2:
            rows = len(dataset.x_train)
            raise ValueError(f"`folds={self.folds}` of {rows} training rows have hardly a row each. Take fewer.")
        if self.seeds and recipe.seed + self.seeds > 2**32:
            raise ValueError(f"`seeds={self.seeds}` counted up from seed {recipe.seed} pass 4294967295. Take fewer.")


def fold_of(dataset: Dataset, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold (s,) in which each training row is held out: drawn, and every class dealt out evenly."""
    rows = len(dataset.x_train)
    order = np.random.RandomState(seed).permutation(rows)
    if dataset.classes:
        order = order[np.argsort(dataset.y_train[order], kind="stable")]
    fold = np.empty(rows, dtype=np.int64)
    fold[order] = np.arange(rows) % folds
    return fold


def _dealt(numbers: Sequence[int], train: Callable[[Sequence[int]], list[dict[str, float]]]) -> list[dict[str, float]]:
    """The scores of trainings by number, shared out over the processes that there are."""
    ranks = present()
    if ranks is None:
        return train(numbers)
    with alone():
        own = train(numbers[ranks.rank :: ranks.count])
    parts = ranks.told(own, patient=True)
    return [parts[k % ranks.count][k // ranks.count] for k in range(len(numbers))]


def _folds(
    folds: int, make: Make, dataset: Dataset, recipe: Recipe, weight: Tensor | None, chosen: Sequence[int]
) -> list[dict[str, float]]:
    """Scores on some of the folds."""
    x, y = tensors(dataset.x_train, dataset.y_train)
    fold = torch.from_numpy(fold_of(dataset, folds, recipe.seed))
    scores = []
    for k in chosen:
        network, kept, held = make(recipe.seed), *(rows.nonzero()[:, 0] for rows in (fold != k, fold == k))
        try:
            fit(network, some(x, kept), y[kept], recipe, sample_weight=None if weight is None else weight[kept])
            scores.append(measure(network, dataset.target, some(x, held), y[held]))
        except FloatingPointError:
            scores.append({})
    return scores


def _seeds(
    make: Make, dataset: Dataset, recipe: Recipe, weight: Tensor | None, others: Sequence[int]
) -> list[dict[str, float]]:
    """Scores of some seeds."""
    if not others:
        return []
    x, y = tensors(dataset.x_train, dataset.y_train)
    networks = [make(seed) for seed in others]
    if isinstance(x, Held) and not recipe.augment:
        x = torch.from_numpy(x[:])
    alone = recipe.validation_fraction or recipe.patience is not None or recipe.optimizer == "lbfgs" or recipe.augment
    if together := not (alone or isinstance(x, Pixels) or len(dataset.inputs) == 2):
        all_of = [None if part is None else part.expand(len(others), *part.shape) for part in (x, y, weight)]
        fit_together(networks, all_of[0], all_of[1], recipe, seeds=others, sample_weight=all_of[2])  # type: ignore[arg-type]
    scores = []
    for network, seed in zip(networks, others, strict=True):
        try:
            if not together:
                fit(network, x, y, dataclasses.replace(recipe, seed=seed), sample_weight=weight)
            scores.append(measure(network, dataset.target, *tensors(dataset.x_test, dataset.y_test)))
        except FloatingPointError:
            scores.append({})
    return scores


def _summed_up(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What each score is in all trainings that ended; those that diverged are counted."""
    ended = [each for each in scores if each]
    names = [name for name in (ended[0] if ended else ()) if all(name in each for each in ended)]
    found: dict[str, Any] = {"count": len(scores), "diverged": len(scores) - len(ended)}
    for name in names:
        values = [each[name] for each in ended]
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        error = None if sd is None else sd / math.sqrt(len(values))
        found[name] = {"values": values, "mean": float(np.mean(values)), "sd": sd, "standard_error": error}
    return found
