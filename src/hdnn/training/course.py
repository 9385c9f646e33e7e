"""What a learner and a trainer tell each other on the way through an epoch.

Legend: a step is counted from 1 within its epoch; k steps are taken without a pause; E members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from hdnn.training.batches import Inputs


class Stretch(NamedTuple):
    """Steps that were taken without a pause.

    Args:
        last: of them.
        sizes: k numbers of rows; of answers where each step of a sequence is one, (k,) or of each member (E, k).
        y: the targets of their rows.
        losses: (k,), or (E, k), the objectives before each; None where the steps were done before a pause.
        output: what was said to the rows, each before its step.
        record: what the steps of a whole epoch have shown, where `Course.records` was asked.
    """

    last: int
    sizes: Sequence[Any]
    y: Tensor
    losses: Tensor | None = None
    output: Any = None
    record: dict[str, float] | None = None


class Course(Protocol):
    """An epoch as a learner sees it."""

    epoch: int
    done: int

    def share(self, step: int) -> float:
        """The learning rate of a step, as a share of the largest."""

    def shares(self, first: int, last: int) -> list[float]:
        """Those of a row of steps, which may go on beyond this epoch."""

    def stop(self) -> int:
        """The step after which somebody wants to look."""

    def unseen(self) -> int:
        """Epochs, with that which begins, into and between which nobody looks; 0 where somebody may."""

    def records(self, sizes: Sequence[int], losses: Tensor, outputs: Tensor, y: Tensor) -> Sequence[dict[str, float]]:
        """What the steps of whole epochs have shown.

        Args:
            sizes: rows of the steps of an epoch, k of them.
            losses: (epochs, k).
            outputs: (epochs, s, outputs).
            y: (epochs, s, ...), their targets.
        """

    def failed(self, step: int, x: Inputs, error: Exception) -> None:
        """Raise what explains the failure of a step better than its error does; `x` are the inputs of its batch."""
