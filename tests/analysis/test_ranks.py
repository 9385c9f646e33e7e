"""Ranks that rounding does not touch."""

from __future__ import annotations

import pytest
import torch

from families import F64, random, skew
from hdnn.analysis.ranks import rank


@pytest.mark.parametrize("n", [1, 4, 9])
def test_of_products_of_whole_numbers(n: int) -> None:
    """Their ranks are known: U Vᵀ with random integer factors of r columns has rank r."""
    for r in range(n + 1):
        U, V = ((4 * random(n, r, seed=seed)).round() for seed in (r, r + 1))
        assert rank(U @ V.mT) == rank(U, V.mT) == torch.linalg.matrix_rank(U @ V.mT)


def test_that_no_rounding_changes() -> None:
    """0.2 and 0.6 are stored as twice 0.1 and 0.3; 0.1 + 0.2 is stored as another number than 0.3."""
    assert rank(torch.tensor([[0.1, 0.3], [0.2, 0.6]], dtype=F64)) == 1
    assert rank(torch.tensor([[0.1, 0.3], [0.1 + 0.2, 0.9]], dtype=F64)) == 2
    assert rank(torch.tensor([[1.0, 0.0], [1.0, 2.0**-1000]], dtype=F64)) == 2
    assert rank(torch.zeros(3, 3, dtype=F64)) == 0
    assert rank(torch.zeros(0, 3, dtype=F64)) == 0


def test_of_skew_matrices() -> None:
    for n in (3, 4, 5):
        assert rank(skew(n)) == n - n % 2
        V = random(n, n, seed=3)
        assert rank(V, skew(n), V.mT) == n - n % 2


def test_what_would_take_too_long_is_not_said() -> None:
    U = random(80, 70)
    assert rank(U @ U.mT) is None
    assert rank(U, U.mT) == 70
