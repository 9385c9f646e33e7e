"""What neighbouring processes tell each other: the numbers just outside of what each owns, out and back.

Legend: of P ranks each owns some of the places of a vector x, and reads some that others own, its *ghosts*. `fetch` is
x ↦ x at the ghosts; `give`, its adjoint, adds what stands at the ghosts to the numbers of their owners:
Σ ⟨fetch(x), c⟩ = Σ ⟨x, give(c)⟩, summed over all ranks. So each is the backward pass of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Traffic:
    """What one rank has sent since it began, or since `clear`.

    Attributes:
        rounds: exchanges in which it took part, forward and backward; all its messages of a round go at once.
        messages: that it sent.
        bytes: that it sent.
        longest: the most bytes of one message.
    """

    rounds: int = 0
    messages: int = 0
    bytes: int = 0
    longest: int = 0

    def clear(self) -> None:
        """Count from zero again."""
        self.rounds = self.messages = self.bytes = self.longest = 0

    def count(self, sent: Sequence[Tensor]) -> None:
        """One more round."""
        sizes = [x.numel() * x.element_size() for x in sent]
        self.rounds += 1
        self.messages += len(sizes)
        self.bytes += sum(sizes)
        self.longest = max([self.longest, *sizes])


@dataclass(frozen=True)
class Line:
    """How one rank talks to the others.

    Attributes:
        rank: of this process in the group.
        group: of torch.distributed; None is all processes.
        timeout: seconds after which a silent neighbour is an error.
        traffic: what has been sent.
    """

    rank: int
    group: dist.ProcessGroup | None
    timeout: float
    traffic: Traffic = field(default_factory=Traffic)

    def swap(self, out: Mapping[int, Tensor], into: Mapping[int, Tensor]) -> None:
        """Send to some ranks and fill what comes from some, all at once.

        Raises:
            RuntimeError: if a rank has ended, or is silent for longer than `timeout`.
        """
        peers = sorted({*out, *into})
        if not peers:
            return
        operations = []
        for peer in peers:  # all is posted before anything is waited for, so that no order of ranks can lock
            address = peer if self.group is None else dist.get_global_rank(self.group, peer)
            operations += [dist.P2POp(dist.isend, out[peer], address, self.group)] if peer in out else []
            operations += [dist.P2POp(dist.irecv, into[peer], address, self.group)] if peer in into else []
        try:
            for work in dist.batch_isend_irecv(operations):
                work.wait(timedelta(seconds=self.timeout))
        except RuntimeError as error:
            raise RuntimeError(
                f"Rank {self.rank} exchanges numbers with ranks {peers}, and one of them has ended, or said nothing "
                f"for {self.timeout:g} seconds. Every rank must run the same calls, forward and backward, on batches "
                f"of the same size; look at what the other ranks printed. ({error})"
            ) from error
        self.traffic.count([*out.values()])


class Halo:
    """Who sends what to whom, for one kind of number.

    Args:
        line: how this rank talks.
        owner: which rank owns every place, (n,).
        wanted: the places that every rank reads, its own or not.
    """

    def __init__(self, line: Line, owner: Tensor, wanted: Sequence[Tensor]) -> None:
        self.line = line
        self.own = (owner == line.rank).nonzero().flatten()
        ghosts: list[Tensor] = []
        self.outgoing: dict[int, Tensor] = {}  # where in one's own numbers stands what a peer reads
        self.incoming: dict[int, int] = {}  # how many of a peer's numbers are read here
        for peer in range(len(wanted)):
            if peer == line.rank:
                continue
            theirs = torch.unique(wanted[peer][owner[wanted[peer]] == line.rank])
            mine = torch.unique(wanted[line.rank][owner[wanted[line.rank]] == peer])
            if len(theirs):
                self.outgoing[peer] = torch.searchsorted(self.own, theirs)
            if len(mine):
                self.incoming[peer] = len(mine)
                ghosts.append(mine)
        self.ghosts = torch.cat(ghosts) if ghosts else self.own[:0]

    @property
    def peers(self) -> list[int]:
        """The ranks that this one talks to."""
        return sorted({*self.outgoing, *self.incoming})

    @property
    def places(self) -> Tensor:
        """The places of `torch.cat((own, fetch(own)), -1)`."""
        return torch.cat((self.own, self.ghosts))

    def fetch(self, x: Tensor) -> Tensor:
        """The numbers at the ghosts (..., ghosts), from one's own (..., own)."""
        return _exchanged(self, False, x) if self.peers else x[..., :0]

    def give(self, ghosts: Tensor) -> Tensor:
        """What the other ranks have at the places of one's own, summed (..., own), from (..., ghosts)."""
        return _exchanged(self, True, ghosts) if self.peers else ghosts.new_zeros(*ghosts.shape[:-1], len(self.own))

    def move(self, x: Tensor, back: bool) -> Tensor:
        """One round: `give` if `back`, else `fetch`."""
        counts = {peer: len(places) for peer, places in self.outgoing.items()}
        if back:
            parts = torch.split(x, list(self.incoming.values()), -1)
            out = {peer: part.contiguous() for peer, part in zip(self.incoming, parts, strict=True)}
        else:
            out = {peer: x.index_select(-1, places.to(x.device)) for peer, places in self.outgoing.items()}
            counts = self.incoming
        into = {peer: x.new_empty(*x.shape[:-1], count) for peer, count in counts.items()}
        self.line.swap(out, into)
        if not back:
            return torch.cat([*into.values()], -1) if into else x[..., :0]
        total = x.new_zeros(*x.shape[:-1], len(self.own))
        for peer, came in into.items():  # in the order of the ranks: the same bits every time
            total.index_add_(-1, self.outgoing[peer].to(x.device), came)
        return total


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, halo: Halo, back: bool, x: Tensor) -> Tensor:
        ctx.halo, ctx.back = halo, back
        return halo.move(x.detach(), back)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _exchanged(ctx.halo, not ctx.back, g)


def _exchanged(halo: Halo, back: bool, x: Tensor) -> Tensor:
    moved: Tensor = _Exchange.apply(halo, back, x)  # type: ignore[no-untyped-call]
    return moved
