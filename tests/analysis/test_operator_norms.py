"""Norms of convolutions against dense matrices, on images of any size and of one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from families import F64, random
from hdnn.analysis.operators import operator_norms
from hdnn.spaces import Images


def norm(X: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(X, 2)


def dense(K: Tensor, size: tuple[int, int]) -> Tensor:
    """The matrix of a zero-padded convolution on images of a size."""
    unit = torch.eye(K.shape[1] * math.prod(size), dtype=K.dtype).reshape(-1, K.shape[1], *size)
    return functional.conv2d(unit, K, padding=K.shape[-1] // 2).flatten(1).T


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_no_image_shows_a_larger_norm(shape: tuple[int, int], taps: int) -> None:
    for seed in range(3):
        K = random(*shape, taps, taps, seed=seed)
        bound = operator_norms(K, images=True) * (1 + 1e-12)
        finest = norm(torch.fft.fft2(K, s=(101, 101)).movedim((-2, -1), (0, 1))).amax()
        assert finest <= bound <= 1.045 * finest  # of which 0.005 is missed by the fine grid
        for size in ((1, 1), (3, 8), (9, 9)):
            assert norm(dense(K, size)) <= bound
        assert norm(dense(K, (9, 9))) > 0.7 * finest


def test_norms_come_in_stacks_and_are_exact_without_padding() -> None:
    K = random(3, 2, 4, 5, 3, 3)
    assert operator_norms(K, images=True).shape == (3, 2)
    torch.testing.assert_close(operator_norms(K, images=True)[1, 0], operator_norms(K[1, 0], images=True))
    torch.testing.assert_close(operator_norms(K[..., :1, :1], images=True), norm(K[..., 0, 0]))
    torch.testing.assert_close(operator_norms(K[..., 0, 0]), norm(K[..., 0, 0]))


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (9, 9)])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_on_images_of_one_size(taps: int, size: tuple[int, int]) -> None:
    """At most the tolerance too large and never too small, for as many or more channels and borders that matter."""
    for shape in ((1, 1), (2, 3), (4, 2)):
        K = random(2, *shape, taps, taps, seed=taps)
        exact = torch.stack([norm(dense(part, size)) for part in K])
        for tolerance in (0.01, 1e-3):
            found = operator_norms(K, images=True, image_size=size, tolerance=tolerance)
            assert (exact * (1 - 1e-12) <= found).all()
            assert (found <= (1 + tolerance + 1e-9) * (exact if taps > 1 else norm(K[..., 0, 0]))).all()
        assert (found <= operator_norms(K, images=True)).all()
        single = operator_norms(K.float(), images=True, image_size=size)
        assert single.dtype is torch.float32
        assert (exact <= single.double()).all() or taps == 1


def test_how_much_too_large_the_bound_for_any_size_is() -> None:
    """The percentages of the docstring, for N(0, 1) taps on 9 x 9 images."""
    for taps, median, most in ((3, 1.095, 1.14), (5, 1.215, 1.32)):
        K = random(100, 1, 1, taps, taps, seed=1)
        excess = operator_norms(K, images=True) / torch.stack([norm(dense(part, (9, 9))) for part in K])
        assert abs(excess.median() - median) < 0.02
        assert most - 0.05 < excess.max() < most


def test_the_gradient_is_that_of_the_largest_singular_value() -> None:
    K = random(2, 3, 2, 3, 3).requires_grad_()
    found = torch.autograd.grad(operator_norms(K, images=True, image_size=(4, 5)).sum(), K)[0]
    exact = torch.autograd.grad(torch.stack([norm(dense(part, (4, 5))) for part in K]).sum(), K)[0]
    torch.testing.assert_close(found, 1.01 * exact, rtol=1e-6, atol=1e-6)


def test_operators_without_a_spectrum_to_find() -> None:
    """Zero, and an isometry, whose Krylov space ends at once."""
    K = torch.zeros(2, 3, 3, 3, 3, dtype=F64)
    K[1, :, :, 1, 1] = torch.eye(3)
    found = operator_norms(K, images=True, image_size=(4, 4))
    assert found[0] == 0
    assert 1 <= found[1] <= 1.01 + 1e-12
    y = random(5, 3, 4, 4)
    torch.testing.assert_close(Images(3).map(K[1], y), y)
    assert operator_norms(K[:0], images=True, image_size=(4, 4)).shape == (0,)


def test_what_is_refused() -> None:
    K = random(2, 2, 3, 3)
    for size, images in (((4, 4), False), ((0, 4), True), ((4,), True)):
        with pytest.raises(ValueError, match=r"`image_size` is \(H, W\)"):
            operator_norms(K, images=images, image_size=size)  # type: ignore[arg-type]
    for tolerance in (0.0, 2.0, math.nan):
        with pytest.raises(ValueError, match="`tolerance` must lie between 1e-6 and 1"):
            operator_norms(K, images=True, image_size=(4, 4), tolerance=tolerance)
