"""Maps between the stages of a network: fewer positions, more channels, and no parameters.

Legend: y = (p, q) a state of c channels, p the first half; J interconnections of the states before and after.
"""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.arguments import truth, whole
from hdnn.stages.halves import Halves


class Pool(nn.Module):
    """The mean over cells of size x size positions: P J Pᵀ = J / size² for images, J / size for signals.

    Where positions do not come out even, the cells at the far edge are smaller, and J is divided by less there.

    Args:
        size: positions along each axis that become one.
        scaled: multiply by size, √size for signals, so that P J Pᵀ = J; the published networks do not. Positions must
            come out even then.
        axes: of positions, 2 for images and 1 for signals, of which one alone is then taken as well, (c, H, W) or
            (c, L). None takes batches alone: four axes are images, and three are signals.

    References:
        Chang et al., Reversible architectures for arbitrarily deep residual neural networks, AAAI 2018,
        https://arxiv.org/abs/1709.03698

    Example:
        >>> import torch
        >>> Pool(2)(torch.ones(5, 8, 28, 28)).shape, Pool(2, scaled=True)(torch.ones(5, 8, 28)).max()
        (torch.Size([5, 8, 14, 14]), tensor(1.4142))
    """

    axes: int | None = None  # of pickles that do not say which

    def __init__(self, size: int = 2, *, scaled: bool = False, axes: int | None = None) -> None:
        super().__init__()
        self.size = whole("size", size)
        if self.size < 1:
            raise ValueError(f"`size` counts the positions that become one, so it must be at least 1; got {size}.")
        self.scaled = truth("scaled", scaled)
        self.axes = _checked_axes(axes)

    @overload
    def forward(self, y: Tensor) -> Tensor: ...
    @overload
    def forward(self, y: Halves) -> Halves: ...
    def forward(self, y: Tensor | Halves) -> Tensor | Halves:
        """(B, c, H, W) to (B, c, ⌈H / size⌉, ⌈W / size⌉), (B, c, L) to (B, c, ⌈L / size⌉).

        Raises:
            ValueError: if y is neither, or scaled cells do not come out even.
        """
        if isinstance(y, Halves):
            return Halves(*map(self.forward, y))
        axes = _positions(y, self.axes)
        if self.scaled and any(length % self.size for length in y.shape[-axes:]):
            raise ValueError(
                f"Scaled pools keep J where cells of {self.size} positions come out even; got {tuple(y.shape[-axes:])}."
            )
        pool = functional.avg_pool2d if axes == 2 else functional.avg_pool1d
        pooled = pool(y, self.size, ceil_mode=True, count_include_pad=False)
        return pooled * math.sqrt(self.size**axes) if self.scaled else pooled

    def extra_repr(self) -> str:
        """The size, whether J is kept, and the axes of positions."""
        return f"{self.size}{', scaled=True' if self.scaled else ''}{_shown(self.axes)}"


class Widen(nn.Module):
    """Zero channels around each half of the state, half of them before it and half behind: Wᵀ J W = J, J canonical.

    p stays in the first half and q in the second, which zeros at the end of the state alone would undo.

    Args:
        channels: c of the state that comes out, even.
        axes: of positions, as for `Pool`.

    References:
        Chang et al., AAAI 2018, https://arxiv.org/abs/1709.03698

    Example:
        >>> import torch
        >>> Widen(8)(torch.ones(1, 4, 1, 1)).flatten()
        tensor([0., 1., 1., 0., 0., 1., 1., 0.])
    """

    axes: int | None = None  # of pickles that do not say which

    def __init__(self, channels: int, *, axes: int | None = None) -> None:
        super().__init__()
        self.channels = whole("channels", channels)
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"`channels` are two halves, (p, q), so they must be even; got {channels}.")
        self.axes = _checked_axes(axes)

    @overload
    def forward(self, y: Tensor) -> Tensor: ...
    @overload
    def forward(self, y: Halves) -> Halves: ...
    def forward(self, y: Tensor | Halves) -> Tensor | Halves:
        """(B, c, H, W) to (B, channels, H, W), (B, c, L) to (B, channels, L).

        Raises:
            ValueError: if y has more channels already, or an odd number of them.
        """
        axes = _positions(y.p if isinstance(y, Halves) else y, self.axes)
        channels = y.shape[-axes - 1]
        if channels > self.channels or channels % 2:
            raise ValueError(
                f"Expected a state of an even number of channels, at most {self.channels}; got {tuple(y.shape)}."
            )
        more = (self.channels - channels) // 2
        around = (*[0] * (2 * axes), more // 2, more - more // 2)
        if isinstance(y, Halves):
            return Halves(*(functional.pad(half, around) for half in y))
        return torch.cat([functional.pad(half, around) for half in y.chunk(2, -axes - 1)], -axes - 1)

    def extra_repr(self) -> str:
        """The channels that come out, and the axes of positions."""
        return f"{self.channels}{_shown(self.axes)}"


def _positions(y: Tensor, axes: int | None) -> int:
    """How many axes of positions states have: as was said, or of a batch two for images and one for signals."""
    if axes is None and y.dim() not in (3, 4):
        raise ValueError(f"Expected images of shape (B, c, H, W), or signals (B, c, L); got {tuple(y.shape)}.")
    if axes is not None and y.dim() not in (axes + 1, axes + 2):
        expected = "images of shape (B, c, H, W)" if axes == 2 else "signals of shape (B, c, L)"
        raise ValueError(f"Expected {expected}, or one of them; got {tuple(y.shape)}.")
    return y.dim() - 2 if axes is None else axes


def _checked_axes(axes: int | None) -> int | None:
    if axes is not None and whole("axes", axes) not in (1, 2):
        raise ValueError(f"`axes` are those of positions, 2 for images and 1 for signals; got {axes}.")
    return axes


def _shown(axes: int | None) -> str:
    return "" if axes is None else f", axes={axes}"
