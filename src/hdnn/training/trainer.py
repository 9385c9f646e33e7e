"""The loop: epochs of steps, for one model and for many that train together.

Legend: E members. A step is one optimizer step on one batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from hdnn.training.batches import Batch, Source
from hdnn.training.learners import Learner
from hdnn.training.recipe import rate_factor
from hdnn.training.steps import step_of


class Trainer(ABC):
    """What changes from step to step while something learns; what it keeps of an epoch is its members' own.

    Args:
        learner: what learns.
        source: from what.
    """

    def __init__(self, learner: Learner, source: Source) -> None:
        self.learner, self.source = learner, source
        self.recipe = learner.recipe
        self.batches = source.batches
        self.factor = rate_factor(self.recipe, self.batches)
        self.take_step = step_of(self.recipe)
        self.done = 0  # steps of this epoch
        self.orders = [generator.get_state() for generator in source.generators]

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return 0

    @property
    def is_stuck(self) -> bool:
        """Whether to end before all epochs are over."""
        return False

    def run(self) -> None:
        """Epoch after epoch, from where it stands to the end or until patience runs out."""
        for epoch in range(self.epochs + 1, self.recipe.epochs + 1):
            if self.is_stuck:
                break
            done = self.done
            for number, batch in enumerate(self.source.epoch(), start=1):
                if number <= done:
                    self.pass_over(batch)
                    continue
                self.learner.set_rate(self.factor((epoch - 1) * self.batches + number - 1))
                losses, output = self.step(epoch, number, batch)
                self.done = number
                self.note(losses, output, batch)
                if number == self.batches:
                    self.record(epoch, self.recipe.learning_rate * self.factor((epoch - 1) * self.batches))
                    self.done = 0
                    self.orders = [generator.get_state() for generator in self.source.generators]
                self.tell(epoch, number, losses)

    def step(self, epoch: int, number: int, batch: Batch) -> tuple[Tensor, Any]:
        """One step: the objectives and outputs before it."""
        return self.take_step(self.learner, batch)

    @abstractmethod
    def note(self, losses: Tensor, output: Any, batch: Batch) -> None:
        """Keep what a step has shown, for the record of the epoch."""

    # A training that keeps nothing for later has nothing to do in these.

    def pass_over(self, batch: Batch) -> None:  # noqa: B027
        """See a batch of the epoch that was learned from before the pause."""

    def record(self, epoch: int, rate: float) -> None:  # noqa: B027
        """End an epoch."""

    def tell(self, epoch: int, number: int, losses: Tensor) -> None:  # noqa: B027
        """Tell callbacks of a step."""
