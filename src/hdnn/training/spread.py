"""Starts spread over ranks: each rank trains whole ones of its own, as one process would, and all hear of all.

Ranks meet after the steps of which a callback wants to be told, on whatever rank it stands, and at the end. Between
these nothing is exchanged.

Legend: E starts, R ranks; rank r has the starts r, r + R, ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hdnn.ranks import Ranks
from hdnn.training.distributed import hand_out
from hdnn.training.pace import Audience, Pace
from hdnn.training.scores import Record
from hdnn.training.together import TogetherProgress, TogetherState, best_of

Thing = TypeVar("Thing")


class Spread:
    """Callback of the starts of one rank, which tells the callbacks of all ranks of the starts of all.

    Args:
        ranks: of which this is one; all make one at once.
        count: E.
        callbacks: of this rank.
        histories: of all starts, so far.

    Attributes:
        own: the starts of this rank; where there are fewer than ranks, one that another rank has, too, and counts.
        histories: of all starts, as of the last meeting.
    """

    def __init__(
        self,
        ranks: Ranks,
        count: int,
        callbacks: Iterable[Callable[[TogetherProgress[TogetherState]], None]] = (),
        histories: Sequence[Sequence[Record]] = (),
    ) -> None:
        self.ranks, self.count = ranks, count
        self.own = [*range(ranks.rank, count, ranks.count)] or [ranks.rank % count]
        self.histories = [list(history) for history in histories] or [[] for _ in range(count)]
        self.audience = Audience(callbacks)
        self.listening = [rank for rank, listens in enumerate(ranks.told(bool(self.audience))) if listens]
        self._next = 1
        self._own: Callable[[], TogetherState] | None = None  # while a callback of this rank is told

    @property
    def pace(self) -> Pace:
        """The step after which all ranks meet next, which they agree on when they meet."""
        return Pace(steps=self._next)

    def __call__(self, progress: TogetherProgress[TogetherState]) -> None:
        """Meet."""
        self.hear(progress.histories)
        losses = torch.stack(self._all(list(progress.losses.detach().cpu()))).to(progress.losses)
        self._tell(dataclasses.replace(progress, losses=losses, histories=self.histories, state=self._state), progress)
        epoch, batch, batches = progress.epoch, progress.batch, progress.batches
        if batch == batches:
            epoch, batch = epoch + 1, 0
        self._next = (epoch - 1) * batches + min(self.ranks.told(self.audience.stop(epoch, batch, batches)))

    def hear(self, histories: Sequence[Sequence[Record]]) -> list[list[Record]]:
        """The histories of all, from those of the starts of this rank."""
        new = [list(history[len(self.histories[k]) :]) for k, history in zip(self.own, histories, strict=True)]
        for history, more in zip(self.histories, self._all(new), strict=True):
            history.extend(more)
        return self.histories

    def take_best(self, network: nn.Module, starts: Sequence[nn.Module]) -> int | None:
        """Give the network on all ranks the weights of the best start of all; which it is, None where none is finite.

        Args:
            network: its weights are replaced.
            starts: those of this rank.
        """
        best = best_of(self.histories)
        if best is None:
            return None
        chosen, owner = best[0], best[0] % self.ranks.count
        if owner == self.ranks.rank:
            network.load_state_dict(starts[self.own.index(chosen)].state_dict())
        hand_out(self.ranks, network, owner)
        return chosen

    def part(self, state: TogetherState) -> TogetherState:
        """What of a state of all is this rank's."""
        found = _made(lambda value: torch.stack([value[k] for k in self.own]) if value.dim() else value, state)
        return dataclasses.replace(found, history=tuple(state.history[k] for k in self.own))

    def _all(self, own: Sequence[Thing]) -> list[Thing]:
        """What there is of every start, from what there is of those of this rank."""
        return self._in_order(self.ranks.told(list(own)))

    def _in_order(self, parts: Sequence[Any]) -> list[Any]:
        return [parts[k % self.ranks.count][k // self.ranks.count] for k in range(self.count)]

    def _tell(self, told: TogetherProgress[TogetherState], own: TogetherProgress[TogetherState]) -> None:
        """Tell the callbacks of one rank after the other, while the others give what states are made of."""
        held: BaseException | None = None
        for rank in self.listening:
            if rank != self.ranks.rank:
                while self.ranks.told(False)[rank]:
                    self._joined(own.state())
                continue
            self._own = own.state
            try:
                self.audience.tell(told.epoch, told.batch, told.batches, lambda: told)
            except BaseException as error:  # the callbacks of others are told, too: they may end it as well
                held = error
            self._own = None
            self.ranks.told(False)
        if held is not None:
            raise held

    def _state(self) -> TogetherState:
        """The state of all starts, while a callback of this rank is told."""
        if self._own is None:
            raise ValueError(
                "The starts of `restarts` are spread over processes, which give their states only while a callback is "
                "told. Take the state there, and keep it."
            )
        own = self._own()
        self.ranks.told(True)
        return self._joined(own)

    def _joined(self, own: TogetherState) -> TogetherState:
        """A state of all, from that of this rank; every rank makes it at once."""

        def joined(mine: Tensor, *parts: Tensor) -> Tensor:
            return torch.stack(self._in_order(parts)).to(mine.device) if mine.dim() else mine  # the number of steps

        parts = self.ranks.told(_made(lambda value: value.cpu(), own))
        history = tuple(tuple(dict(record) for record in history) for history in self.histories)
        return dataclasses.replace(_made(joined, own, *parts), history=history)


def _made(function: Callable[..., Tensor], *states: TogetherState) -> TogetherState:
    """The first of some states with other tensors, each made from those of its name in all."""
    first = states[0]
    memory = {name: value for name, value in first.optimizer.items() if isinstance(value, Tensor)}
    return dataclasses.replace(
        first,
        weights={name: function(*(state.weights[name] for state in states)) for name in first.weights},
        optimizer={
            **first.optimizer,
            **{name: function(*(state.optimizer[name] for state in states)) for name in memory},
        },
        orders=function(*(state.orders for state in states)),
        losses=function(*(state.losses for state in states)),
        scores=function(*(state.scores for state in states)),
    )
