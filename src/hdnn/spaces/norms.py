"""The norms of zero-padded convolutions, on positions of any or of a given size.

Legend: K (m, n, *taps) of a convolution over d axes, k taps along each, r = (k − 1)/2 its radius, C the operator K on
positions of one size, D numbers in a state; τ tolerance, θ the largest Ritz value of CᵀC.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hdnn.spaces.space import Space

# Frequencies an axis for each tap beside the middle one. More are dearer and tighter: 16 leave a factor of 1.04.
_OVERSAMPLING = 16
# How likely the random start of Lanczos' method may miss the tolerance.
_FAILURE = 1e-12
# A new direction that is shorter than this share of the largest eigenvalue is made of rounding.
_ROUNDING = 1e-12
# Bytes of Lanczos vectors held at a time.
_WORKSPACE = 2**26


def convolution_norms(K: Tensor, space: Space, size: tuple[int, ...] | None = None, tolerance: float = 0.01) -> Tensor:
    """‖K‖ of convolutions: never too small, for one size at most τ too large. See `analysis.operator_norms`.

    Args:
        K: (..., m, n, *taps).
        space: of which grid.
        size: of the positions, (H, W) or (L,); None for any.
        tolerance: τ.
    """
    axes = len(space.taps)
    if size is not None and (len(size) != axes or min(size) < 1):
        names = "(H, W), the pixels of images" if axes == 2 else "(L,), the positions of signals"
        raise ValueError(f"`image_size` is {names} that a convolution acts on; got {size}.")
    if K.numel() == 0:
        return K.new_zeros(K.shape[: -2 - axes])
    radius = K.shape[-1] // 2
    points = max(1, _OVERSAMPLING * radius)
    # The kernel is real: K̂(−θ) is the conjugate of K̂(θ), so half of the frequencies have all the norms.
    last = tuple(range(-axes, 0))
    first = tuple(range(axes))
    spectrum = torch.fft.rfftn(K, s=(points,) * axes, dim=last).movedim(last, first)
    any_size = spectral(spectrum).amax(first) / math.cos(math.pi * radius / points) ** axes
    if size is None or radius == 0:
        return any_size
    taps = K.reshape(-1, *K.shape[-2 - axes :])
    numbers = taps.shape[2] * math.prod(size)
    steps = min(_steps(numbers, tolerance), numbers)
    many = max(1, _WORKSPACE // (8 * steps * numbers))
    parts = [_on_grid(space, taps[i : i + many], size, steps) for i in range(0, len(taps), many)]
    one_size = torch.cat(parts).reshape(any_size.shape)
    # Both are bounds for positions of this size.
    return torch.minimum(any_size, (1 + tolerance) * one_size)


def spectral(X: Tensor) -> Tensor:
    """The largest singular value, (...) for matrices (..., m, n)."""
    norms: Tensor = torch.linalg.matrix_norm(X, 2)
    return norms


def _steps(numbers: int, tolerance: float) -> int:
    """How many steps k make 1.648 √D exp(−√ε (2k − 1)) as small as the chance of failure, θ ≥ (1 − ε) ‖C‖²."""
    share = 1 - 1 / (1 + tolerance) ** 2
    return math.ceil((math.log(1.648 * math.sqrt(numbers) / _FAILURE) / math.sqrt(share) + 1) / 2)


def _on_grid(space: Space, K: Tensor, size: tuple[int, ...], steps: int) -> Tensor:
    """‖C x‖ of operators (L, m, n, *taps) at their Ritz vectors x, (L,).

    At an eigenvector the derivative of the norm is that of ‖C x‖ with x held fixed.
    """
    x = _ritz_vectors(space, K.detach().double(), size, steps).to(K.dtype)
    norms: Tensor = torch.linalg.vector_norm(torch.vmap(space.map)(K, x.unsqueeze(1)).flatten(1), dim=-1)
    return norms


@torch.no_grad()
def _ritz_vectors(space: Space, K: Tensor, size: tuple[int, ...], steps: int) -> Tensor:
    """The unit vectors (L, n, *size) of the Krylov space that CᵀC stretches most."""
    apply, adjoint = torch.vmap(space.map), torch.vmap(space.adjoint)
    shape = (len(K), 1, K.shape[2], *size)
    start = torch.randn(shape[1:], dtype=K.dtype, generator=torch.Generator().manual_seed(0)).to(K.device)
    basis = K.new_empty(len(K), steps + 1, start.numel())
    basis[:, 0] = (start / start.norm()).flatten()
    T = K.new_zeros(len(K), steps + 1, steps + 1)
    for j in range(steps):
        v, known = basis[:, j], basis[:, : j + 1]
        w = adjoint(K, apply(K, v.reshape(shape))).flatten(1)
        T[:, j, j] = (v * w).sum(1)
        # Orthogonal to all that came before, twice: rounding would else let the same direction come back.
        for _ in range(2):
            w = w - torch.einsum("ljd,lj->ld", known, torch.einsum("ljd,ld->lj", known, w))
        # What is left of rounding alone has no direction: the space is complete, and zeros end it.
        length = torch.linalg.vector_norm(w, dim=1)
        length = torch.where(length > _ROUNDING * T.diagonal(dim1=1, dim2=2).amax(1), length, 0)
        T[:, j, j + 1] = T[:, j + 1, j] = length
        basis[:, j + 1] = torch.where(length > 0, 1 / length, 0)[:, None] * w
    weights = torch.linalg.eigh(T[:, :-1, :-1]).eigenvectors[..., -1]
    x = torch.nn.functional.normalize(torch.einsum("ljd,lj->ld", basis[:, :-1], weights))
    return x.reshape(len(K), *shape[2:])
