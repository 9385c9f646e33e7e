"""What simple methods score on the same rows: a network that is no better than these has learned nothing of its own.

Legend: s rows, d inputs, C classes, o targets.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.data import Dataset, Numeric, TableEncoder
from hdnn.jobs import measures
from hdnn.names import count

Array = NDArray[Any]
Floats = NDArray[np.float64]

ROWS = 10_000
"""Training rows that the methods learn from, at most; and five times as many to test them on."""

_MOST = {"constant": math.inf, "linear": 1000, "trees": 300}  # inputs times outputs; more takes longer than seconds


class Baseline(NamedTuple):
    """A simple method beside a network, on the same rows.

    Args:
        scores: as in `measures`; "loss" is the log loss of classes. With "difference", the accuracy or R² of the
            network less that of the method, and "difference_error", its standard error over the test rows.
        left_out: why there are none.
    """

    scores: dict[str, float]
    left_out: str = ""


def baselines(dataset: Dataset, said: Floats, weight: Array | None = None) -> dict[str, Baseline]:
    """Fit simple methods to the training part, and score them on the test part beside a network.

    Args:
        dataset: whose encoded inputs they read.
        said: by the network of the test rows: (s, C) probabilities, or (s, o) numbers in the units of the data.
        weight: (s,), of the training rows.

    Returns:
        By name: "constant", always the most frequent class or the mean; "linear", logistic regression, or ridge
        regression with its penalty chosen by cross-validation; "trees", scikit-learn's gradient-boosted ones.
    """
    train, test = (_spread(len(x), most) for x, most in ((dataset.x_train, ROWS), (dataset.x_test, 5 * ROWS)))
    x, x_test = (_plain(dataset, part) for part in (dataset.x_train[train], dataset.x_test[test]))
    y, truth = dataset.y_train[train], _in_units(dataset, dataset.y_test[test])
    weight = None if weight is None else weight[train]
    outputs = len(dataset.classes) if len(dataset.classes) > 2 else y[0].size
    found = {}
    for name, answers in _METHODS.items():
        if x.shape[1] * outputs > _MOST[name]:
            found[name] = Baseline({}, f"{x.shape[1]} inputs and {count(outputs, 'output')} would take long")
            continue
        try:
            theirs = _in_units(dataset, answers(dataset, x, y, weight, x_test))
        except ValueError as error:  # a finished training is not lost for what stands beside it
            found[name] = Baseline({}, str(error).partition("\n")[0])
        else:
            found[name] = Baseline({**_scores(dataset, truth, theirs), **_difference(truth, said[test], theirs)})
    return found


def _plain(dataset: Dataset, x: Array) -> Array:
    """Inputs in a row, without the pieces of numbers: they say the same as the number, in the way of a network."""
    encoder = dataset.encoder
    if not isinstance(encoder, TableEncoder):
        return x.reshape(len(x), -1)
    kept, start = [], 0
    for column in encoder.columns:
        pieces = max(0, len(column.edges) - 1) if isinstance(column, Numeric) else 0
        kept += [start, *range(start + 1 + pieces, start + column.width)]
        start += column.width
    return x[:, kept]


def _spread(rows: int, most: int) -> Array:
    """Some of the rows, which come shuffled; all where they are not too many."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def _constant(dataset: Dataset, x: Array, y: Array, weight: Array | None, x_test: Array) -> Floats:
    if dataset.classes:
        counts = np.bincount(y, minlength=len(dataset.classes))
        return np.tile(counts / counts.sum(), (len(x_test), 1))
    return np.tile(y.mean(axis=0, dtype=float), (len(x_test), 1))


def _linear(dataset: Dataset, x: Array, y: Array, weight: Array | None, x_test: Array) -> Floats:
    from sklearn.linear_model import LogisticRegression, RidgeCV

    x, x_test = x.astype(float), x_test.astype(float)
    if dataset.classes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its last digits are not settled
            return _probabilities(dataset, LogisticRegression(max_iter=200).fit(x, y, weight), x_test)
    predicted: Floats = RidgeCV(np.logspace(-3, 3, 7)).fit(x, y.astype(float), weight).predict(x_test)
    return predicted.reshape(len(x_test), -1)


def _trees(dataset: Dataset, x: Array, y: Array, weight: Array | None, x_test: Array) -> Floats:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # threads that wait for each other take most of the time of small trees
        if dataset.classes:
            return _probabilities(dataset, HistGradientBoostingClassifier(random_state=0).fit(x, y, weight), x_test)
        each = [HistGradientBoostingRegressor(random_state=0).fit(x, t, weight).predict(x_test) for t in y.T]
    return np.stack(each, axis=1)


_METHODS: Mapping[str, Callable[[Dataset, Array, Array, Array | None, Array], Floats]] = {
    "constant": _constant,
    "linear": _linear,
    "trees": _trees,
}


def _probabilities(dataset: Dataset, model: Any, x: Array) -> Floats:
    """Of all classes, those included that no training row has."""
    of_all = np.zeros((len(x), len(dataset.classes)))
    of_all[:, model.classes_] = model.predict_proba(x)
    return of_all


def _in_units(dataset: Dataset, y: Array) -> Array:
    return y if dataset.classes else np.asarray(dataset.target.decode(y), dtype=float)


def _scores(dataset: Dataset, truth: Array, said: Floats) -> dict[str, float]:
    if dataset.classes:
        return {"loss": measures.log_loss(truth, said), **measures.of_classes(truth, said.argmax(1), said)}
    return measures.of_numbers(truth, said)


def _difference(truth: Array, network: Floats, theirs: Floats) -> dict[str, float]:
    """Accuracy or R² of the network less theirs, as a mean over rows of what each adds, and its standard error."""
    if truth.ndim == 1:
        rows = (network.argmax(1) == truth).astype(float) - (theirs.argmax(1) == truth)
    else:
        spread = truth.var(axis=0)
        better = (theirs - truth) ** 2 - (network - truth) ** 2
        rows = np.mean(better / np.where(spread > 0, spread, np.inf), axis=1)
    error = {"difference_error": float(rows.std(ddof=1) / math.sqrt(len(rows)))} if len(rows) > 1 else {}
    return {"difference": float(rows.mean()), **error}
