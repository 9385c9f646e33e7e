"""Trainings of many members at once: what their callbacks are told, and the state in which they can stand still.

Legend: E members. The starts of `Recipe.restarts` are the members of such a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from hdnn.training.scores import Record
from hdnn.training.tensors import Memory, Weights, backend_of, columns, doubles, number, parted, records, require, under

State = TypeVar("State", covariant=True)
Histories = tuple[tuple[Record, ...], ...]


@dataclass(frozen=True)
class TogetherState:
    """All that is needed to go on after a step of many members; once they are done, their history alone.

    Args:
        history: for each member its records of the finished epochs.
        weights: the parameters of all, (E, ...) by name; empty once they are done.
        optimizer: memory of the optimizer, as in `TrainingState`.
        orders: (E, ...), states of the generators before they drew the order of the epoch that has begun.
        losses: (E,), sums over the samples seen in this epoch.
        scores: (E,), the same of the scores.
        batches: steps done in this epoch.
        seconds: spent in this epoch so far.
        chosen: the start that training went on with; -1 before.
        backend: what took the steps, "native" or "torch".
    """

    history: Histories
    weights: Weights = field(default_factory=dict)
    optimizer: Memory = field(default_factory=dict)
    orders: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.uint8))
    losses: Tensor = field(default_factory=lambda: doubles([]))
    scores: Tensor = field(default_factory=lambda: doubles([]))
    batches: int = 0
    seconds: float = 0.0
    chosen: int = -1
    backend: str = "torch"  # as in states of earlier versions

    @property
    def members(self) -> int:
        """E."""
        return len(self.history)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history[0])

    @property
    def is_over(self) -> bool:
        """Whether one of the starts was chosen."""
        return self.chosen >= 0

    def to_tensors(self) -> Weights:
        """The state as named tensors, see `TrainingState.to_tensors`."""
        arrays = {name: value for name, value in self.optimizer.items() if isinstance(value, Tensor)}
        joined = [record for history in self.history for record in history]
        return {
            **under("weights", self.weights),
            **under("optimizer", arrays),
            **under("history", columns(joined)),
            "orders": self.orders,
            "losses": self.losses,
            "scores": self.scores,
            "members": number(self.members),
            "batches": number(self.batches),
            "seconds": number(self.seconds),
            "chosen": number(self.chosen),
            "native": number(int(self.backend == "native")),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TogetherState:
        """The state that `to_tensors` took apart.

        Raises:
            ValueError: if names, shapes or kinds of numbers are not those of a state.
        """
        parts, single = parted(tensors, ("weights", "optimizer", "history"))
        backend = backend_of(single)
        counts = ("members", "batches", "chosen")
        expected = {"orders", "losses", "scores", "seconds", *counts}
        if single.keys() != expected:
            odd = sorted(single.keys() ^ expected)[0]
            raise ValueError(f"The state of the starts consists of other parts: {odd!r} is missing or unknown.")
        for name in counts:
            require(name, single[name], torch.int64, ())
        require("seconds", single["seconds"], torch.float64, ())
        members, batches, chosen = (int(single[name]) for name in counts)
        joined = records(parts["history"])
        running = 0 if chosen >= 0 else members
        if not (members > 0 and chosen < members and batches >= 0 and len(joined) % members == 0):
            raise ValueError(f"A state of {members} starts cannot have {len(joined)} records, with {chosen} chosen.")
        require("orders", single["orders"], torch.uint8, (running, _ORDER if running else 0))
        for name in ("losses", "scores"):
            require(name, single[name], torch.float64, (running,))
        each = len(joined) // members
        return cls(
            history=tuple(tuple(joined[i * each : (i + 1) * each]) for i in range(members)),
            weights=parts["weights"],
            optimizer=dict(parts["optimizer"]),
            orders=single["orders"],
            losses=single["losses"],
            scores=single["scores"],
            batches=batches,
            seconds=float(single["seconds"]),
            chosen=chosen,
            backend=backend,
        )


_ORDER = len(torch.Generator().get_state())


@dataclass(frozen=True)
class TogetherProgress(Generic[State]):
    """What a callback is told after every step of many members.

    Args:
        epoch: counted from 1.
        epochs: planned.
        batch: steps done in this epoch.
        batches: steps of an epoch.
        losses: (E,), the objective of every member on its batch.
        histories: for each member its records of the finished epochs.
        state: call it for the state of the moment, with which the training goes on; it copies the weights.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    losses: Tensor
    histories: Sequence[Sequence[Record]]
    state: Callable[[], State] = field(repr=False, compare=False)

    @property
    def iteration(self) -> int:
        """Steps since training began."""
        return (self.epoch - 1) * self.batches + self.batch

    @property
    def best(self) -> tuple[int, float] | None:
        """The member with the smallest objective over the last finished epoch, and this objective; None before."""
        return best_of(self.histories)


def best_of(histories: Sequence[Sequence[Record]]) -> tuple[int, float] | None:
    """The member with the smallest finite objective over the last epoch, the first of equals, and this objective."""
    losses = [history[-1]["loss"] if history else math.nan for history in histories]
    finite = [k for k, loss in enumerate(losses) if math.isfinite(loss)]
    if not finite:
        return None
    best = min(finite, key=losses.__getitem__)
    return best, losses[best]
