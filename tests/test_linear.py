"""K y, Kᵀ z and K Jᵀ against explicit sums."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import F64, random, skew
from hdnn import linear

VECTOR = [(1, 1), (3, 3), (5, 2), (2, 5)]
TAPS = [1, 3, 5]


@settings(deadline=None, max_examples=30)
@given(
    m=st.integers(1, 5),
    n=st.integers(1, 5),
    taps=st.sampled_from([None, 1, 3, 5]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_adjoint_identity(m: int, n: int, taps: int | None, height: int, width: int, seed: int) -> None:
    size = () if taps is None else (height, width)
    K = random(m, n, *(() if taps is None else (taps, taps)), seed=seed)
    y, z = random(2, n, *size, seed=seed + 1), random(2, m, *size, seed=seed + 2)
    left = (linear.apply(K, y) * z).sum()
    right = (y * linear.apply_adjoint(K, z)).sum()
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
    again = linear.apply(linear.adjoint(K, taps is not None), z)
    torch.testing.assert_close(again, linear.apply_adjoint(K, z), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("taps", TAPS)
def test_convolution_is_the_plain_sum(taps: int) -> None:
    K, b, y = random(2, 3, taps, taps), random(2, seed=1), random(1, 3, 4, 5, seed=2)
    out = torch.zeros(1, 2, 4, 5, dtype=F64)
    reach = taps // 2
    for i in range(4):
        for j in range(5):
            out[0, :, i, j] = b
            for a in range(taps):
                for c in range(taps):
                    row, column = i + a - reach, j + c - reach
                    if 0 <= row < 4 and 0 <= column < 5:
                        out[0, :, i, j] += K[:, :, a, c] @ y[0, :, row, column]
    torch.testing.assert_close(linear.apply(K, y, b), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("m", "n"), VECTOR)
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_vectors_are_matrix_products(m: int, n: int, leading: tuple[int, ...]) -> None:
    K, b, y = random(m, n), random(m, seed=1), random(*leading, n, seed=2)
    torch.testing.assert_close(linear.apply(K, y, b), torch.einsum("mn,...n->...m", K, y) + b)


@pytest.mark.parametrize("taps", [None, *TAPS])
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("stored", [1, 3])
def test_mix_folds_the_interconnection(taps: int | None, per_layer: bool, stored: int) -> None:
    n, m, layers = 4, 5, 3
    J = torch.stack([skew(n, seed=j) for j in range(layers)]) if per_layer else skew(n)
    K = random(stored, m, n, *(() if taps is None else (taps, taps)))
    W = linear.mix(J, K, taps is not None)
    z = random(2, m, *(() if taps is None else (3, 4)), seed=3)
    for j in range(max(stored, layers if per_layer else 1)):
        K_j, J_j = K[j if stored > 1 else 0], J[j] if per_layer else J
        pulled = linear.apply_adjoint(K_j, z)
        expected = torch.einsum("ik,bk...->bi...", J_j, pulled)
        torch.testing.assert_close(linear.apply_adjoint(W[j], z), expected, rtol=1e-12, atol=1e-12)
