"""What is measured of predictions on rows with known answers, as scikit-learn has it, and without loading it.

Legend: s rows, C classes, o targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 10
"""Bins of equal width of the probabilities, for calibration."""

_AREAS = 50  # classes whose areas are averaged; of more, sorting the rows for each takes longer than all else


def of_classes(y: Indices, said: Indices, probabilities: Floats) -> dict[str, float]:
    """Scores of a classifier.

    Args:
        y: (s,), true classes.
        said: (s,), predicted ones.
        probabilities: (s, C).

    Returns:
        "accuracy"; "balanced_accuracy", the mean over the classes of the share that was found of each; "roc_auc", the
        probability that a row of a class gets more of it than a row of another, averaged over the classes where these
        are more than two, and left out where the rows are all of one class, or the classes are more than fifty;
        "calibration_error", see `reliability`.
    """
    right = said == y
    counts = np.bincount(y, minlength=probabilities.shape[1])
    found = np.bincount(y, weights=right, minlength=probabilities.shape[1])
    places, shares, confidence = reliability(y, said, probabilities)
    scores = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(found[counts > 0] / counts[counts > 0])),
        "calibration_error": float(np.sum(places * np.abs(shares - confidence)) / len(y)),
    }
    those = np.flatnonzero((counts > 0) & (counts < len(y)))
    if not 0 < len(those) <= _AREAS:
        return scores
    return {**scores, "roc_auc": float(np.mean([_area(y == c, probabilities[:, c]) for c in those]))}


def log_loss(y: Indices, probabilities: Floats) -> float:
    """Minus the mean logarithm of the probabilities of the true classes; a zero counts as the least of its kind."""
    least = np.finfo(probabilities.dtype).eps
    return float(-np.log(np.clip(probabilities[np.arange(len(y)), y], least, 1.0)).mean())


def reliability(y: Indices, said: Indices, probabilities: Floats) -> tuple[Indices, Floats, Floats]:
    """How sure a classifier is of what it says, and how often it is right then.

    The calibration error is the mean distance of the two over the rows: Σ rows |share − probability| / s.

    Args:
        y: (s,), true classes.
        said: (s,), predicted ones.
        probabilities: (s, C).

    Returns:
        For each of ten bins of the probability of what was said: how many rows, which share of them is right, and the
        mean probability; both 0 where there is no row.
    """
    sure = probabilities[np.arange(len(y)), said]
    place = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    share, mean = (np.bincount(place, each, minlength=BINS) / np.maximum(rows, 1) for each in (said == y, sure))
    return rows, share, mean


def _area(positive: NDArray[np.bool_], score: Floats) -> float:
    """The share of the pairs of a positive and another row in which the positive one has the higher score; ties half.

    Sum of the ranks of the positive rows, less what it would be at least (Mann and Whitney).
    """
    _, place, times = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(times) - (times - 1) / 2
    rows = int(positive.sum())
    pairs = rows * (len(score) - rows)
    return float((ranks[place][positive].sum() - rows * (rows + 1) / 2) / pairs)


def of_numbers(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Scores of numbers.

    Args:
        truth: (s, o), in the units of the data.
        predicted: (s, o).

    Returns:
        "error" (root mean square), "absolute_error" (mean), "r2" (share of the variance explained) and "spread" (the
        standard deviation of the truth, the error of who always says the mean); all averaged over several targets.
    """
    away = truth - predicted
    return {
        "error": float(np.sqrt(np.mean(away**2, axis=0)).mean()),
        "absolute_error": float(np.abs(away).mean()),
        "r2": _explained(truth, predicted),
        "spread": float(truth.std(axis=0).mean()),
    }


def _explained(truth: Floats, predicted: Floats) -> float:
    """R², averaged over the targets (s, o), as scikit-learn has it; of one row, without variance, 0."""
    left = np.sum((truth - predicted) ** 2, axis=0)
    whole = np.sum((truth - np.mean(truth, axis=0)) ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole > 0, 1 - left / whole, np.where(left > 0, 0.0, 1.0))
    return float(np.mean(shares)) if len(truth) > 1 else 0.0


def confusion(true: Indices, said: Indices, classes: int) -> Indices:
    """How many rows of each class, down, were taken for each, across: (classes, classes)."""
    return np.bincount(classes * true + said, minlength=classes**2).reshape(classes, classes)
