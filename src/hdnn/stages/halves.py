"""A state in two pieces, as it goes from part to part of a network in stages: cut once, and joined once at the end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Halves(NamedTuple):
    """The halves of a state (p, q), each in one piece.

    Attributes:
        p: (B, n/2, H, W) or (B, n/2, L).
        q: the shape of p.
    """

    p: Tensor
    q: Tensor

    def joined(self) -> Tensor:
        """The state, (B, n, ...)."""
        return torch.cat(self, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the state."""
        batch, half, *positions = self.p.shape
        return batch, 2 * half, *positions
