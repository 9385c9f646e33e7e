"""Signals and images: K is a zero-padded convolution, and Kᵀ its exact adjoint.

Legend: as in `space`; d axes of positions, k taps along each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.arguments import whole
from hdnn.spaces.norms import convolution_norms
from hdnn.spaces.space import Space


@dataclass(frozen=True)
class _Grid(Space):
    """Positions on a grid of d axes, channels first.

    Args:
        kernel_size: odd k; 1 acts on every position alone.
    """

    kernel_size: int
    axis: ClassVar[int] = -2
    rank: ClassVar[int] = 2
    transposes: ClassVar[bool] = True
    dimensions: ClassVar[int]
    convolve: ClassVar[Callable[..., Tensor]]
    convolve_back: ClassVar[Callable[..., Tensor]]

    def __post_init__(self) -> None:
        k = whole("kernel_size", self.kernel_size)
        if k < 1 or k % 2 == 0:
            what = "image" if self.dimensions == 2 else "signal"
            raise ValueError(
                f"`kernel_size` must be odd, so that the convolution and its adjoint keep the size of the {what}; got "
                f"{k}. Use {max(1, k + 1)}, or `Vectors()`, kernel_size=None, for vectors."
            )
        object.__setattr__(self, "kernel_size", k)

    @property
    def taps(self) -> tuple[int, ...]:
        """(k,) * d."""
        return (self.kernel_size,) * self.dimensions

    @property
    def pointwise(self) -> bool:
        """Whether k = 1."""
        return self.kernel_size == 1

    def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
        """K y + b: a zero-padded convolution."""
        if b is not None and b.dim() > 1:
            return self.map(K, y) + b.reshape(*b.shape, *[1] * self.dimensions)
        if self.kernel_size == 1:
            return self._at_positions(self.matrix(K), y, b)
        return type(self).convolve(y, K, b, padding=self.kernel_size // 2)

    def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
        """Kᵀ z: the transposed convolution."""
        if self.kernel_size == 1:
            return self._at_positions(self.matrix(K).mT, z, None)
        return type(self).convolve_back(z, K, padding=self.kernel_size // 2)

    def transposed(self, K: Tensor) -> Tensor:
        """First axes swapped, all tap axes reversed."""
        return super().transposed(K).flip(tuple(range(-self.dimensions, 0)))

    def norm(self, K: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Never too small; on positions of any size at most 1.04 times too large, of one size at most 1 %."""
        return convolution_norms(K, self, size)

    def _at_positions(self, K: Tensor, y: Tensor, b: Tensor | None) -> Tensor:
        """K y + b at every position, with K (m, n) and y (B, n, *size) or (n, *size).

        One batched product on the positions where they lie: forward and backward of a convolution of one tap and few
        channels take several times longer on a CPU, and so does a product that folds the batch into the positions.
        """
        if y.dim() == self.rank:
            return self._at_positions(K, y.unsqueeze(0), b).squeeze(0)
        positions = y.flatten(-self.dimensions)
        weights = K.expand(positions.shape[0], *K.shape)
        z = torch.bmm(weights, positions) if b is None else torch.baddbmm(b.unsqueeze(-1), weights, positions)
        return z.reshape(y.shape[0], K.shape[0], *y.shape[-self.dimensions :])


@dataclass(frozen=True)
class Images(_Grid):
    """States (B, n, H, W), channels first; K (m, n, k, k), a zero-padded convolution with odd k.

    Args:
        kernel_size: odd k; 1 acts on every pixel alone, as in the paper's network for MNIST.

    Raises:
        ValueError: if k is even.

    Example:
        >>> import torch
        >>> Images(3).map(torch.ones(4, 2, 3, 3), torch.ones(5, 2, 28, 28)).shape
        torch.Size([5, 4, 28, 28])
    """

    axis: ClassVar[int] = -3
    rank: ClassVar[int] = 3
    kernel: ClassVar[str | None] = "images"
    dimensions: ClassVar[int] = 2
    convolve = staticmethod(functional.conv2d)
    convolve_back = staticmethod(functional.conv_transpose2d)

    def check(self, y: Tensor, features: int) -> None:
        """Refuse what is no image (n, H, W) and no batch of them."""
        if y.dim() not in (3, 4) or y.shape[-3] != features:
            raise ValueError(f"Expected images of shape (B, {features}, H, W); got {tuple(y.shape)}.")


@dataclass(frozen=True)
class Signals(_Grid):
    """States (B, n, L), channels first: series over time or positions along a line; K (m, n, k), zero-padded, odd k.

    Args:
        kernel_size: odd k; 1 acts on every position alone.

    Raises:
        ValueError: if k is even.

    Example:
        >>> import torch
        >>> Signals(5).map(torch.ones(4, 2, 5), torch.ones(3, 2, 100)).shape
        torch.Size([3, 4, 100])
    """

    dimensions: ClassVar[int] = 1
    convolve = staticmethod(functional.conv1d)
    convolve_back = staticmethod(functional.conv_transpose1d)

    def check(self, y: Tensor, features: int) -> None:
        """Refuse what is no signal (n, L) and no batch of them."""
        if y.dim() not in (2, 3) or y.shape[-2] != features:
            raise ValueError(f"Expected signals of shape (B, {features}, L); got {tuple(y.shape)}.")
