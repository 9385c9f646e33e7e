"""What a score is worth: found out beside those of simple methods, of other parts and seeds, and column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hdnn.data import Dataset
from hdnn.jobs.baselines import baselines
from hdnn.jobs.importance import importances
from hdnn.jobs.repeats import Make, Repeats
from hdnn.jobs.scores import finite_outputs, tensors
from hdnn.networks import Network, class_probabilities
from hdnn.ranks import alone
from hdnn.training import Recipe


@dataclass(frozen=True)
class Worth:
    """What is found out beside a training.

    Args:
        make: a network like the one that is trained, with the initial weights of a seed.
        weight: (s,), of all training rows, or None.
        repeats: further trainings.
    """

    make: Make
    weight: Tensor | None
    repeats: Repeats

    def carry_out(
        self,
        network: Network,
        dataset: Dataset,
        recipe: Recipe,
        metrics: Mapping[str, Any],
        announce: Callable[[str], None],
    ) -> dict[str, Any]:
        """Find it out.

        Args:
            network: trained.
            dataset: it was trained and tested on.
            recipe: by which.
            metrics: so far.
            announce: told in words what is done.

        Returns:
            For metrics.json: what `Repeats` returns, and of a table "baselines", "baselines_left_out" and
            "importances" where there are any.
        """
        with alone():
            found = self._beside(network, dataset, recipe) if dataset.columns else {}
        first = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
        del first["rows"]
        return found | self.repeats.carry_out(self.make, dataset, recipe, self.weight, first, announce)

    def _beside(self, network: Network, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
        """Simple methods and importances: of a table alone, for on well-known data they are known."""
        output = finite_outputs(network, tensors(dataset.x_test, dataset.y_test)[0]).double()
        said = class_probabilities(output).numpy() if dataset.classes else dataset.target.decode(output.numpy())
        weight = None if self.weight is None else self.weight.numpy()
        beside = baselines(dataset, np.asarray(said, dtype=float), weight)
        found: dict[str, Any] = {"baselines": {name: each.scores for name, each in beside.items() if each.scores}}
        if left_out := {name: each.left_out for name, each in beside.items() if each.left_out}:
            found["baselines_left_out"] = left_out
        if columns := importances(network, dataset, recipe.seed):
            found["importances"] = columns
        return found
