"""What one rank does of a field: its units, the features they read, and where its numbers stand.

Legend: K (m, n) with m = n units; u = K y + b, z = σ(u), g = Kᵀ z, f = J g. A part is a half of the state that moves by
the other, or the whole. Unit i belongs to the node of feature i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.activations import Activation
from hdnn.distributed.halos import Halo, Line
from hdnn.fields import Drive, Layer
from hdnn.flow import Flow
from hdnn.spaces import VECTORS


class Part(NamedTuple):
    """A half of the state, or the whole of it: features that move, features that are read, and units between them."""

    moved: Tensor
    read: Tensor
    units: Tensor
    turned: bool  # whether J Kᵀ is more than the identity


class Cut(NamedTuple):
    """What one rank does of a part.

    Attributes:
        part: of the whole flow.
        halo: of the features that are read, counted within them.
        units: that this rank computes.
        rounds: of one field.
        of_ranks: the units that every rank computes.
    """

    part: Part
    halo: Halo
    units: Tensor
    rounds: int
    of_ranks: list[Tensor]

    def places(self, index: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Where the entries of K and b stand among the numbers that a rank holds, own ones and fetched ones."""
        free = int(index.abs().max())
        place = torch.zeros(free + len(index) + 1, dtype=torch.int64)
        place[numbers + 1] = torch.arange(1, len(numbers) + 1)
        K = index[self.units][:, self.part.read[self.halo.places]]
        return place[K.abs()] * K.sign(), place[free + self.units + 1] - 1

    def turning(self, J: Tensor, features: Tensor) -> Tensor:
        """J from the features read to those moved, of this rank."""
        own = features.to("cpu")
        moved, read = (torch.isin(own, x).nonzero().flatten().to(J.device) for x in (self.part.moved, self.part.read))
        return J[..., moved, :][..., read]


class CutDrive(Drive):
    """The part of a drive that one rank owns: states come from its neighbours, and what its units push goes to them."""

    __slots__ = ("cut",)

    def __init__(self, layer: Layer, activation: Activation, cut: Cut) -> None:
        super().__init__(layer, VECTORS, activation)
        self.cut = cut

    def __call__(self, y: Tensor) -> Tensor:
        """What moves the features of this rank, from those that it reads."""
        K, b, S, halo = self.layer.K, self.layer.b, self.layer.S, self.cut.halo
        z = self.activation.value(functional.linear(torch.cat((y, halo.fetch(y)), -1), K, b))
        if S is None:
            return z
        if self.cut.rounds == 1:
            return torch.matmul(torch.matmul(z, K[:, : y.shape[-1]]), S.mT)
        own, ghosts = torch.split(torch.matmul(z, K), [y.shape[-1], len(halo.ghosts)], -1)
        return torch.matmul(own + halo.give(ghosts), S.mT)


def parts_of(flow: Flow) -> list[Part]:
    """Two halves where the integrator moves halves, else the whole."""
    H, everything, turned = flow.hamiltonian, torch.arange(flow.features), not flow.interconnection.is_inverse
    if not flow.integrator.separable_only:
        return [Part(everything, everything, everything, turned)]
    p, q = everything.chunk(2)
    of_p, of_q = (everything[units] for units in H.units)
    return [Part(p, q, of_p, turned), Part(q, p, of_q, turned)]


def cut_of(part: Part, pattern: Tensor, owner: Tensor, line: Line, rounds: int) -> Cut:
    """What this rank does of a part, in so many rounds."""
    ranks, of_units = range(int(owner.max()) + 1), owner[part.units]
    if part.turned and rounds == 1:  # every unit that pushes on features of a rank
        pushes = pattern[part.units][:, part.read]
        units = [part.units[pushes[:, owner[part.read] == rank].any(1)] for rank in ranks]
    else:
        units = [part.units[of_units == rank] for rank in ranks]
    wanted = [pattern[own][:, part.read].any(0).nonzero().flatten() for own in units]
    halo = Halo(line, owner[part.read], wanted)
    return Cut(part, halo, units[line.rank], rounds, units)


def shared_numbers(index: Tensor, owner: Tensor, cuts: Sequence[Cut], line: Line) -> Halo:
    """Of free numbers, then biases. A number that stands in rows of several ranks is owned by the rank of the first."""
    free, units = int(index.abs().max()), len(index)
    rows = torch.arange(units)[:, None].expand_as(index)
    first = torch.full((free + 1,), units, dtype=torch.int64)
    first = first.scatter_reduce(0, index.abs().flatten(), rows.flatten(), "amin")[1:]
    wanted = []
    for rank in range(int(owner.max()) + 1):
        own = torch.unique(torch.cat([cut.of_ranks[rank] for cut in cuts]))
        numbers = torch.unique(index[own].abs())
        wanted.append(torch.cat((numbers[numbers > 0] - 1, free + own)))
    return Halo(line, torch.cat((owner[first], owner)), wanted)
