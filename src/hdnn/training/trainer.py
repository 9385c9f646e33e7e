"""The loop: epochs of steps, for one model and for many that train together.

Legend: E members. A step is one optimizer step on one batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from hdnn.training.batches import Inputs, Source
from hdnn.training.course import Stretch
from hdnn.training.learners import Learner
from hdnn.training.pace import Audience
from hdnn.training.recipe import rate_factor


class Trainer(ABC):
    """What changes from step to step while something learns; what it keeps of an epoch is its members' own.

    Args:
        learner: what learns.
        source: from what.
        callbacks: whom to tell.
    """

    def __init__(self, learner: Learner, source: Source, callbacks: Iterable[Callable[[Any], None]]) -> None:
        self.learner, self.source, self.audience = learner, source, Audience(callbacks)
        self.recipe = learner.recipe
        self.batches = source.batches
        self.factor = rate_factor(self.recipe, self.batches)
        self.epoch = 1  # that runs
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
            self.epoch = epoch
            for stretch in self.learner.walk(self.source, self):
                self.note(stretch)
                if stretch.losses is None:
                    continue
                self.done = stretch.last
                if self.done == self.batches:
                    self.record(epoch, self.recipe.learning_rate * self.share(1))
                    self.done = 0
                if not self.audience:  # nobody else asks for a state, or wants to be told
                    continue
                if not self.done:
                    self.orders = [generator.get_state() for generator in self.source.generators]
                told = partial(self.progress, stretch.last, stretch.losses[..., -1])
                self.audience.tell(epoch, stretch.last, self.batches, told)

    def share(self, step: int) -> float:
        """The learning rate of a step of the epoch that runs, as a share of the largest."""
        return self.factor((self.epoch - 1) * self.batches + step - 1)

    def shares(self, first: int, last: int) -> list[float]:
        """Those of a row of steps, which may go on beyond this epoch."""
        before = (self.epoch - 1) * self.batches - 1
        return [self.factor(step) for step in range(before + first, before + last + 1)]

    def stop(self) -> int:
        """The step of this epoch after which somebody wants to look."""
        return self.audience.stop(self.epoch, self.done, self.batches)

    def unseen(self) -> int:
        """Epochs, with that which begins, into and between which nobody looks."""
        return 0

    def records(self, sizes: Sequence[int], losses: Tensor, outputs: Tensor, y: Tensor) -> Sequence[dict[str, float]]:
        """What the steps of `unseen` epochs have shown: losses (epochs, k), outputs (epochs, s, ...), targets y."""
        raise NotImplementedError

    @abstractmethod
    def note(self, stretch: Stretch) -> None:
        """Keep what steps have shown, for the record of the epoch."""

    # A training that keeps nothing for later, and tells nobody, has nothing to do in these.

    def failed(self, step: int, x: Inputs, error: Exception) -> None:  # noqa: B027
        """Raise what explains the failure of a step."""

    def record(self, epoch: int, rate: float) -> None:  # noqa: B027
        """End an epoch."""

    def progress(self, step: int, losses: Tensor) -> Any:  # noqa: B027
        """What callbacks are told after a step."""
