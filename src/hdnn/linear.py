"""The linear maps of a layer: K y, Kᵀ z and the adjoint of K, for vectors and for images.

Legend: y state, z hidden values, K weights. Vectors (..., n) take K of shape (m, n). Channels-first images
(B, n, H, W) take K of shape (m, n, k, k), a zero-padded convolution with odd k; Kᵀ is then the exact adjoint,
⟨K y, z⟩ = ⟨y, Kᵀ z⟩, not an approximate inverse.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def apply(K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
    """K y + b.

    Args:
        K: (m, n) for vectors, (m, n, k, k) for images.
        y: (..., n) or (B, n, H, W).
        b: (m,), or None for no bias.

    Returns:
        (..., m) or (B, m, H, W).
    """
    if K.dim() == 2:
        return functional.linear(y, K, b)
    if K.shape[-1] == 1:
        return _pointwise(K[..., 0, 0], y, b)
    return functional.conv2d(y, K, b, padding=K.shape[-1] // 2)


def apply_adjoint(K: Tensor, z: Tensor) -> Tensor:
    """Kᵀ z.

    Args:
        K: (m, n) for vectors, (m, n, k, k) for images.
        z: (..., m) or (B, m, H, W).

    Returns:
        (..., n) or (B, n, H, W).
    """
    if K.dim() == 2:
        return torch.matmul(z, K)
    if K.shape[-1] == 1:
        return _pointwise(K[..., 0, 0].mT, z, None)
    return functional.conv_transpose2d(z, K, padding=K.shape[-1] // 2)


def adjoint(K: Tensor, images: bool) -> Tensor:
    """The weights of Kᵀ: `apply(adjoint(K), z) == apply_adjoint(K, z)`.

    Args:
        K: (..., m, n), or (..., m, n, k, k) when `images` is True.
        images: whether the last two axes are the taps of a convolution.

    Returns:
        (..., n, m), or (..., n, m, k, k) with both tap axes reversed.
    """
    if not images:
        return K.mT
    return K.transpose(-3, -4).flip(-1, -2)


def mix(J: Tensor, K: Tensor, images: bool) -> Tensor:
    """K Jᵀ, whose adjoint is J Kᵀ: the interconnection folded into the weights, once for all layers.

    Args:
        J: (n, n), or (N, n, n).
        K: (N, m, n), or (N, m, n, k, k) when `images` is True.
        images: whether the last two axes of K are the taps of a convolution.

    Returns:
        The shape of K (leading size N when only J varies by layer).
    """
    if not images:
        return torch.matmul(K, J.mT)
    return torch.einsum("...ij,...mjab->...miab", J, K)


def _pointwise(K: Tensor, y: Tensor, b: Tensor | None) -> Tensor:
    """K y + b at every pixel, with K (m, n) and y (B, n, H, W) or (n, H, W).

    One batched product on the pixels where they lie: forward and backward of a 1 x 1 convolution of few channels take
    several times longer on a CPU, and so does a product that folds the batch into the pixels.
    """
    if y.dim() == 3:
        return _pointwise(K, y.unsqueeze(0), b).squeeze(0)
    pixels = y.flatten(-2)
    weights = K.expand(pixels.shape[0], *K.shape)
    z = torch.bmm(weights, pixels) if b is None else torch.baddbmm(b.unsqueeze(-1), weights, pixels)
    return z.reshape(y.shape[0], K.shape[0], *y.shape[-2:])
