"""The norms of what weights do: of matrices, and of zero-padded convolutions on images of any or of a given size.

Legend: K (m, n, k, k) taps of a convolution, r = (k − 1)/2 its radius, C the operator K on images of H x W pixels, D =
n H W numbers in an image; τ tolerance, θ the largest Ritz value of CᵀC.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hdnn import linear
from hdnn.analysis.precision import in_full

# Frequencies an axis for each tap beside the middle one. More are dearer and tighter: 16 leave a factor of 1.04.
_OVERSAMPLING = 16
# How likely the random start of Lanczos' method may miss the tolerance.
_FAILURE = 1e-12
# A new direction that is shorter than this share of the largest eigenvalue is made of rounding.
_ROUNDING = 1e-12
# Bytes of Lanczos vectors held at a time.
_WORKSPACE = 2**26


@in_full
def operator_norms(
    K: Tensor, *, images: bool = False, image_size: tuple[int, int] | None = None, tolerance: float = 0.01
) -> Tensor:
    """‖K‖: of matrices exactly; of zero-padded convolutions never too small, for one image size at most 1 % too large.

    *Images of any size* (`image_size=None`). The operator is a part of the convolution on an unbounded image, whose
    norm is the largest ‖K̂(θ)‖ over all frequencies θ of K̂(θ) = Σ_ab K[:, :, a, b] exp(−i (a θ₁ + b θ₂)). On a grid of
    N frequencies an axis, a trigonometric polynomial of degree r cannot exceed its largest value there by more than the
    factor 1/cos(π r/N) an axis (Riesz's lemma); N = 16 r makes that 1.04 in all. No image size has a larger norm, large
    images come close to it, and small ones, which see more of their border, stay below: for one channel, N(0, 1) taps
    and images of 9 x 9 pixels the bound is 9 % too large at k = 3 and 21 % at k = 5 (medians), up to 14 % and 32 %.

    *Images of one size.* Lanczos' method on CᵀC from a random start, √θ (1 + τ). The number of steps is the one after
    which θ misses the largest eigenvalue by more than τ allows with a probability below 1e-12, whatever the weights
    are; the start is the same in every call. For k = 1 the size does not matter, and the norm is exact.

    Args:
        K: (..., m, n), or (..., m, n, k, k) with `images`.
        images: whether the last two axes are the taps of a convolution.
        image_size: (H, W), the pixels of the images; None for any.
        tolerance: τ, between 1e-6 and 1. Steps, about 17/√τ, and memory grow as it falls.

    Returns:
        (...), differentiable.

    Raises:
        ValueError: if the size or the tolerance makes no sense, or a size is given for matrices.

    References:
        Ehlich, Zeller, Mathematische Zeitschrift 86, 1964 (the grid); Sedghi, Gupta, Long, The singular values of
        convolutional layers, ICLR 2019, https://arxiv.org/abs/1805.10408; Kuczyński, Woźniakowski, SIAM Journal on
        Matrix Analysis and Applications 13, 1992, theorem 4.2 (Lanczos with a random start),
        https://doi.org/10.1137/0613066

    Example:
        >>> import torch
        >>> average = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
        >>> 1.0 <= operator_norms(average, images=True) <= 1.04                # on images of any size
        tensor(True)
        >>> 0.93 <= operator_norms(average, images=True, image_size=(9, 9)) <= 0.95
        tensor(True)
    """
    if image_size is not None and (not images or len(image_size) != 2 or min(image_size) < 1):
        raise ValueError(
            f"`image_size` is (H, W), the pixels of images that a convolution acts on, with `images=True`; got "
            f"{image_size} with images={images}."
        )
    if not 1e-6 <= tolerance <= 1:
        raise ValueError(f"`tolerance` must lie between 1e-6 and 1; got {tolerance}.")
    if not images:
        return _spectral(K)
    if K.numel() == 0:
        return K.new_zeros(K.shape[:-4])
    radius = K.shape[-1] // 2
    size = max(1, _OVERSAMPLING * radius)
    # The kernel is real: K̂(−θ) is the conjugate of K̂(θ), so half of the frequencies have all the norms.
    spectrum = torch.fft.rfft2(K, s=(size, size)).movedim((-2, -1), (0, 1))
    any_size = _spectral(spectrum).amax((0, 1)) / math.cos(math.pi * radius / size) ** 2
    if image_size is None or radius == 0:
        return any_size
    taps = K.reshape(-1, *K.shape[-4:])
    numbers = taps.shape[-3] * image_size[0] * image_size[1]
    steps = min(_steps(numbers, tolerance), numbers)
    many = max(1, _WORKSPACE // (8 * steps * numbers))
    parts = [_on_images(taps[i : i + many], image_size, steps) for i in range(0, len(taps), many)]
    one_size = torch.cat(parts).reshape(any_size.shape)
    # Both are bounds for images of this size.
    return torch.minimum(any_size, (1 + tolerance) * one_size)


def _spectral(X: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(X, 2)
    return norms


def _steps(numbers: int, tolerance: float) -> int:
    """How many steps k make 1.648 √D exp(−√ε (2k − 1)) as small as the chance of failure, θ ≥ (1 − ε) ‖C‖²."""
    share = 1 - 1 / (1 + tolerance) ** 2
    return math.ceil((math.log(1.648 * math.sqrt(numbers) / _FAILURE) / math.sqrt(share) + 1) / 2)


def _on_images(K: Tensor, size: tuple[int, int], steps: int) -> Tensor:
    """‖C x‖ of operators (L, m, n, k, k) at their Ritz vectors x, (L,).

    At an eigenvector the derivative of the norm is that of ‖C x‖ with x held fixed.
    """
    x = _ritz_vectors(K.detach().double(), size, steps).to(K.dtype)
    norms: Tensor = torch.linalg.vector_norm(torch.vmap(linear.apply)(K, x.unsqueeze(1)).flatten(1), dim=-1)
    return norms


@torch.no_grad()
def _ritz_vectors(K: Tensor, size: tuple[int, int], steps: int) -> Tensor:
    """The unit vectors (L, n, H, W) of the Krylov space that CᵀC stretches most."""
    apply, adjoint = torch.vmap(linear.apply), torch.vmap(linear.apply_adjoint)
    shape = (len(K), 1, K.shape[-3], *size)
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
