"""Vectors of n features: K is a matrix.

Legend: as in `space`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.spaces.norms import spectral
from hdnn.spaces.rows import Rows
from hdnn.spaces.space import Space


@dataclass(frozen=True)
class Vectors(Space):
    """States (..., n), the features last; K (m, n).

    Example:
        >>> import torch
        >>> Vectors().map(torch.ones(3, 2), torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    axis: ClassVar[int] = -1
    rank: ClassVar[int] = 1
    taps: ClassVar[tuple[int, ...]] = ()
    pointwise: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "vectors"

    def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
        """K y + b, (..., m)."""
        if b is None or b.dim() == 1:
            return functional.linear(y, K, b)
        return functional.linear(y, K) + b

    def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
        """Kᵀ z, (..., n)."""
        return torch.matmul(z, K)

    def rows(self, y: Tensor) -> Rows:
        """One row a vector."""
        return _ROWS

    def norm(self, K: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """‖K‖, the largest singular value."""
        if size is not None:
            raise ValueError(f"`image_size` is (H, W), the pixels of images; this flow is one of vectors. Got {size}.")
        return spectral(K)


VECTORS = Vectors()
_ROWS = Rows()
