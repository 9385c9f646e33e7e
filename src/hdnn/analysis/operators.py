"""The norms of what weights do: of matrices, and of zero-padded convolutions on images of any or of a given size.

Legend: K (m, n, k, k) taps of a convolution, r = (k − 1)/2 its radius, C the operator K on images of H x W pixels, D =
n H W numbers in an image; τ tolerance, θ the largest Ritz value of CᵀC.
"""

from __future__ import annotations

from torch import Tensor

from hdnn.analysis.precision import in_full
from hdnn.spaces import VECTORS, Images
from hdnn.spaces.norms import convolution_norms


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
    if not 1e-6 <= tolerance <= 1:
        raise ValueError(f"`tolerance` must lie between 1e-6 and 1; got {tolerance}.")
    if not images:
        return VECTORS.norm(K, image_size)
    return convolution_norms(K, Images(K.shape[-1]), image_size, tolerance)
