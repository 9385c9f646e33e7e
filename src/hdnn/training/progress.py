"""What callbacks are told while a network trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from hdnn.training.scores import Record
from hdnn.training.state import TrainingState
from hdnn.training.together import TogetherProgress


def _no_state() -> TrainingState:
    raise ValueError("This progress was not told by `fit`, so there is no training whose state could be taken.")


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every step.

    Args:
        epoch: counted from 1.
        epochs: planned.
        batch: steps done in this epoch.
        batches: steps of an epoch.
        loss: the objective on the batch, a scalar tensor without gradient (reading it may wait for the device).
        record: the epoch's record when this step ended it, else None.
        state: call it for the `TrainingState` of the moment, with which `fit(..., resume=...)` goes on. It copies the
            weights, so call it now and then. After `fit` it still tells the optimizer's memory, beside the weights that
            `fit` returned. It raises FloatingPointError where weights are no longer finite.
        search: records of the training that found the number of epochs, once training on all rows has begun; see
            `Recipe.refit`.
        is_search: whether this training is to find the number of epochs, so that another comes.
        rows: samples of an epoch; 0 of a loader, which does not tell.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: Tensor
    record: Record | None
    state: Callable[[], TrainingState] = field(default=_no_state, repr=False, compare=False)
    search: tuple[Record, ...] = field(default=(), repr=False)
    is_search: bool = False
    rows: int = 0

    @property
    def iteration(self) -> int:
        """Steps since training began."""
        return (self.epoch - 1) * self.batches + self.batch


Callback = Callable[[Progress], None]
StartCallback = Callable[[TogetherProgress[TrainingState]], None]
