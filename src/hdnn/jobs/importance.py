"""Which columns of a table a network makes use of: how much worse it scores when one of them is shuffled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdnn.data import Dataset, TableEncoder
from hdnn.jobs import measures
from hdnn.jobs.scores import finite_outputs
from hdnn.networks import Network, predicted_classes

Array = NDArray[Any]

REPEATS = 5
_ROWS, _FEWEST = 1000, 100
_PRODUCTS = 10**10  # of weights and states, about a second


def importances(network: Network, dataset: Dataset, seed: int) -> dict[str, dict[str, float]]:
    """Permutation importance of the columns of a table, by scikit-learn, on at most a thousand test rows.

    Args:
        network: trained.
        dataset: a table.
        seed: of the shuffling.

    Returns:
        By column, the most important first: "mean" and "sd" over five shufflings of how far accuracy or R² falls.
        Empty for images, for a single column, and where it would take long.
    """
    encoder = dataset.encoder
    if not isinstance(encoder, TableEncoder) or len(encoder.columns) < 2:
        return {}
    columns, flow = len(encoder.columns), network.flow
    row = max(1, flow.layers * flow.features**2) * columns * REPEATS
    rows = min(_ROWS, len(dataset.x_test), _PRODUCTS // row)
    if rows < min(_FEWEST, len(dataset.x_test)):
        return {}
    from sklearn.inspection import permutation_importance

    chosen = np.linspace(0, len(dataset.x_test) - 1, rows).astype(np.int64)
    # A column of the table may be many inputs, which are shuffled as one: what is shuffled is the numbers of the rows.
    places = np.tile(np.arange(rows)[:, None], (1, columns))
    scorer = _Scorer(network, dataset, dataset.x_test[chosen], [column.width for column in encoder.columns])
    found = permutation_importance(
        scorer, places, dataset.y_test[chosen], scoring=_Scorer.score, n_repeats=REPEATS, random_state=seed
    )
    order = np.argsort(-found.importances_mean, kind="stable")
    return {
        encoder.names[i]: {"mean": float(found.importances_mean[i]), "sd": float(found.importances_std[i])}
        for i in order
    }


class _Scorer:
    """A network as scikit-learn sees it, on rows each of whose columns may come from another row."""

    def __init__(self, network: Network, dataset: Dataset, x: Array, widths: list[int]) -> None:
        self.network, self.dataset, self.x = network, dataset, x
        self.ends = np.cumsum(widths)

    def fit(self, x: Array, y: Array) -> _Scorer:
        """It is trained."""
        return self

    def score(self, places: Array, y: Array) -> float:
        """Accuracy or R²."""
        inputs = np.split(np.arange(self.x.shape[1]), self.ends[:-1])
        x = np.empty_like(self.x)
        for j, those in enumerate(inputs):
            x[:, those] = self.x[np.ix_(places[:, j], those)]
        output = finite_outputs(self.network, torch.from_numpy(x))
        if self.network.task == "classification":
            return float((predicted_classes(output).numpy() == y).mean())
        decode = self.dataset.target.decode
        return measures.of_numbers(decode(y), decode(output.numpy()))["r2"]
