"""Numbers as pieces: a piecewise linear encoding over quantile bins, which lets a network bend at each edge.

Legend: x numbers, b_0 < ... < b_T edges of T bins. The piece of bin t is 0 below it, 1 above it, and rises along it:

    e_t(x) = min(max((x - b_t) / (b_{t+1} - b_t), 0), 1),    t = 0 ... T - 1

References:
    Gorishniy, Rubachev, Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
    section 3.2, https://arxiv.org/abs/2203.05556
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def edges_of(x: FloatArray, bins: int, weight: FloatArray | None = None) -> tuple[float, ...]:
    """The edges of bins that hold about as many numbers each, every edge one of the numbers.

    Args:
        x: (s,), finite.
        bins: T; fewer where many numbers are equal.
        weight: (s,), how often each number counts; None counts each once.

    Returns:
        T + 1 different numbers in order; none where they would make fewer than two bins, for the number itself says all
        that one piece could.

    Example:
        >>> edges_of(np.arange(9.0), 4)
        (0.0, 2.0, 4.0, 6.0, 8.0)
        >>> edges_of(np.array([0.0, 1.0, 1.0]), 4)
        ()
    """
    if weight is not None:
        x, weight = x[weight > 0], weight[weight > 0]
    if not bins or not len(x):
        return ()
    order = np.argsort(x, kind="stable")
    counted = np.cumsum(np.ones(len(x)) if weight is None else weight[order])
    # A little less, so that sums of weights whose last bits differ end in the same place.
    places = np.searchsorted(counted, np.linspace(0.0, counted[-1], bins + 1) * (1 - 1e-9))
    edges = np.unique(x[order[np.minimum(places, len(x) - 1)]])
    return tuple(edges.tolist()) if len(edges) > 2 else ()


def pieces(x: FloatArray, edges: Sequence[float]) -> FloatArray:
    """What each bin says of each number.

    Args:
        x: (s,), finite.
        edges: T + 1 in order, or none.

    Returns:
        (s, T), from 0 to 1.

    Example:
        >>> pieces(np.array([1.0, 5.0, 99.0]), (0.0, 2.0, 10.0)).tolist()
        [[0.5, 0.0], [1.0, 0.375], [1.0, 1.0]]
    """
    if not len(edges):
        return np.zeros((len(x), 0))
    b = np.asarray(edges, dtype=np.float64)
    # Halves of huge numbers, so that the width of a bin does not overflow; those of the smallest would be none.
    share = 0.5 if np.abs(b).max() > 1e300 else 1.0
    inside = np.clip(x[:, None], b[:-1], b[1:]) * share - b[:-1] * share
    return np.clip(inside / np.diff(b * share), 0.0, 1.0)
