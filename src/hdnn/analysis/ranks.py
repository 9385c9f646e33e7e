"""Ranks of matrices: from singular values where these are clear, by elimination in whole numbers where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Singular values above this share of the scale are no zeros that rounding has moved.
_CLEAR = 1e-8
# Elimination in whole numbers of many digits takes about a second at this size, and grows with its fourth power.
_LARGEST = 64

Whole = NDArray[np.object_]


def rank(*factors: Tensor, at_most: int | None = None) -> int | None:
    """The rank of a product of float64 matrices, each taken at its word; None where it would take too long to say.

    Rounding can neither make a regular matrix singular here nor a singular one regular.

    Args:
        factors: matrices that fit each other, finite.
        at_most: a bound of the rank that is known otherwise.

    Example:
        >>> import torch
        >>> almost = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2**-52]], dtype=torch.float64)
        >>> rank(almost), rank(almost[:, :1], almost[:1])
        (2, 1)
    """
    product = factors[0]
    for factor in factors[1:]:
        product = product @ factor
    bound = min([min(factor.shape) for factor in factors] + ([] if at_most is None else [at_most]))
    # Of rows and columns of any length: neither changes the rank.
    scaled = torch.nn.functional.normalize(torch.nn.functional.normalize(product, dim=-1), dim=-2)
    sizes = torch.linalg.svdvals(scaled)
    if bound == 0 or int((sizes > _CLEAR * max(scaled.shape)).sum()) >= bound:
        return bound
    if max(product.shape) > _LARGEST:
        return None
    exact = _whole(factors[0])
    for factor in factors[1:]:
        exact = exact @ _whole(factor)
    return _eliminated(exact)


def _whole(X: Tensor) -> Whole:
    """A matrix of floats, multiplied by the power of two that leaves no fractions."""
    ratios = [[number.as_integer_ratio() for number in row] for row in X.tolist()]
    common = max((denominator for row in ratios for _, denominator in row), default=1)
    whole: Whole = np.empty(tuple(X.shape), dtype=object)
    for i, row in enumerate(ratios):
        for j, (numerator, denominator) in enumerate(row):
            whole[i, j] = numerator * (common // denominator)
    return whole


def _eliminated(X: Whole) -> int:
    """The rank, by Bareiss' elimination: all divisions leave no remainder."""
    found, previous = 0, 1
    for column in range(X.shape[1]):
        pivots = [i for i in range(found, X.shape[0]) if X[i, column] != 0]
        if not pivots:
            continue
        X[[found, pivots[0]]] = X[[pivots[0], found]]
        pivot: Any = X[found, column]
        below = X[found + 1 :]
        X[found + 1 :] = (below * pivot - np.outer(below[:, column], X[found])) // previous
        found, previous = found + 1, pivot
    return found
