"""Rows shared between two parts by lot, the rows that scikit-learn's `train_test_split` draws by the same seed.

It is written out because importing scikit-learn takes a second, and so that no release of it moves a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def drawn(first: int, second: int, seed: int, labels: NDArray[Any] | None = None) -> tuple[Rows, Rows]:
    """Draw two parts of so many rows.

    Args:
        first: rows of the first part.
        second: rows of the second part.
        seed: of the lot.
        labels: the class of each of the first + second rows, to give both parts the same mix; each class needs two
            rows, each part as many as there are classes. None draws from all rows alike.

    Returns:
        The row indices of the two parts, int64, shuffled.

    Example:
        >>> drawn(3, 2, seed=0)
        (array([1, 3, 4]), array([2, 0]))
    """
    lot = np.random.RandomState(seed)
    if labels is None:
        rows = lot.permutation(first + second).astype(np.int64)
        return rows[second:], rows[:second]
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])
    firsts = _quotas(sizes, first, lot)
    seconds = _quotas(sizes - firsts, second, lot)
    parts: tuple[list[Rows], list[Rows]] = ([], [])
    for own, size, a, b in zip(members, sizes, firsts, seconds, strict=True):
        shuffled = own[lot.permutation(size)]
        parts[0].append(shuffled[:a])
        parts[1].append(shuffled[a : a + b])
    one, other = (lot.permutation(np.concatenate(part)).astype(np.int64) for part in parts)
    return one, other


def _quotas(sizes: Rows, wanted: int, lot: np.random.RandomState) -> Rows:
    """How many of each class go into a part: the whole part of its share, then one more by largest remainder."""
    shares = sizes / sizes.sum() * wanted
    quotas = np.floor(shares)
    remainders, lacking = shares - quotas, int(wanted - quotas.sum())
    for remainder in np.unique(remainders)[::-1]:
        if lacking <= 0:
            break
        equal = np.flatnonzero(remainders == remainder)
        raised = lot.choice(equal, size=min(len(equal), lacking), replace=False)
        quotas[raised] += 1
        lacking -= len(raised)
    whole: Rows = quotas.astype(np.int64)
    return whole
