"""Where the free numbers of a structured matrix stand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from families import F64, random
from hdnn import entries
from hdnn.spaces import VECTORS, Images


def partner(K: torch.Tensor, kernel_size: int | None) -> torch.Tensor:
    """Kᵀ by explicit loops."""
    n = K.shape[0]
    out = torch.empty_like(K)
    for i in range(n):
        for j in range(n):
            if kernel_size is None:
                out[i, j] = K[j, i]
                continue
            for a in range(kernel_size):
                for b in range(kernel_size):
                    out[i, j, a, b] = K[j, i, kernel_size - 1 - a, kernel_size - 1 - b]
    return out


@pytest.mark.parametrize(("n", "k"), [(1, None), (2, None), (5, None), (1, 1), (3, 1), (1, 3), (2, 3), (3, 5)])
def test_skew_index_is_skew_and_counts_every_number_once(n: int, k: int | None) -> None:
    space = VECTORS if k is None else Images(k)
    index = entries.skew(space.transposed(entries.counted(*space.weights(n, n))))
    assert torch.equal(index, -partner(index, k))
    count = n * (n * (k or 1) ** 2 - 1) // 2
    assert sorted(index[index > 0].tolist()) == list(range(1, count + 1))


@given(n=st.integers(1, 5), seed=st.integers(0, 99))
def test_masked_index_recounts_without_gaps(n: int, seed: int) -> None:
    mask = random(n, n, seed=seed) > 0
    mask = mask | mask.mT
    index = entries.masked(entries.skew(entries.counted(n, n).mT), mask)
    assert (index[~mask] == 0).all()
    assert torch.equal(index, -index.mT)
    assert sorted(index[index > 0].tolist()) == list(range(1, int(mask.triu(1).sum()) + 1))


def test_a_mask_that_tears_a_pair_is_refused() -> None:
    mask = torch.ones(3, 3, dtype=torch.bool)
    mask[2, 0] = False
    with pytest.raises(ValueError, match=r"fit the symmetry.*\[\[0, 2\], \[2, 0\]\]"):
        entries.masked(entries.skew(entries.counted(3, 3).mT), mask)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_place_puts_signed_numbers_where_the_index_says(leading: tuple[int, ...]) -> None:
    index = torch.tensor([[0, 2], [-1, -2], [3, 0]])
    free = random(*leading, 3)
    K = entries.place(free, index)
    assert K.shape == (*leading, 3, 2)
    for i in range(3):
        for j in range(2):
            at = int(index[i, j])
            expected = torch.zeros(leading, dtype=F64) if at == 0 else (1 if at > 0 else -1) * free[..., abs(at) - 1]
            assert torch.equal(K[..., i, j], expected)


def test_place_has_the_gradient_of_a_linear_map() -> None:
    free = random(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: entries.place(w, entries.skew(entries.counted(4, 4).mT)), free)


def test_blocks() -> None:
    a, b, c, d = (random(3, 2, 2, seed=seed) for seed in range(4))
    whole = entries.two_by_two(a, b, c, d, (-2, -1))
    assert torch.equal(whole[:, :2, :2], a)
    assert torch.equal(whole[:, :2, 2:], b)
    assert torch.equal(whole[:, 2:, :2], c)
    assert torch.equal(whole[:, 2:, 2:], d)
    assert (entries.two_by_two(None, b, c, None, (-2, -1))[:, :2, :2] == 0).all()


@pytest.mark.parametrize("features", [-2, 0, 1, 5])
def test_half_of_an_odd_or_empty_state_is_refused(features: int) -> None:
    with pytest.raises(ValueError, match=f"got {features}"):
        entries.half(features)
