"""What learns by native steps: one network, or many of one shape.

Legend: E members, s samples, k steps without a pause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hdnn.kernels.training import Session
from hdnn.networks import Network
from hdnn.training.batches import Rows, Source
from hdnn.training.block import Block
from hdnn.training.course import Course, Stretch
from hdnn.training.learners import Learner
from hdnn.training.recipe import Recipe
from hdnn.training.tensors import Memory


class Native(Learner):
    """Networks that learn by native steps; each ends where a training of its own would, to the bit.

    Args:
        networks: E of them, for which `hdnn.training.backends.why_not` has no words.
        recipe: how.
        source: of the data of one network, or stacked.
    """

    backend = "native"

    def __init__(self, networks: Sequence[Network], recipe: Recipe, source: Rows) -> None:
        self.recipe, self.stacked, self.x = recipe, source.stacked, source.data.x
        self.block = Block(networks, recipe)
        x, y, weight = source.data if self.stacked else source.data.each(lambda part: part[None])
        self.y = y
        self.ends = [*range(0, source.count, source.size), source.count]
        self.sizes = [stop - start for start, stop in itertools.pairwise(self.ends)]
        self.bounds = torch.tensor(self.ends)
        self.session = Session(self.block.setup, self.block.trainees, x, y, weight)  # type: ignore[arg-type]

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, as many at a time as nobody wants to look at."""
        rows: Rows = source  # type: ignore[assignment]  # no other has native steps
        order = rows.order().view(len(self.y), -1)
        ends, sizes, done = self.ends, self.sizes, course.done
        self.session.begin(order, self.bounds, checked=True)
        if done:
            yield Stretch(done, sizes[:done], self._targets(order[:, : ends[done]]))
        while done < rows.batches:
            stop = course.stop()
            rates = [self.recipe.learning_rate * course.share(step) for step in range(done + 1, stop + 1)]
            losses, outputs = self._take(done, torch.tensor(rates, dtype=torch.float64))
            if not self.stacked:
                failed = int(self.block.trainees.failed[0])
                bad = stop if failed < 0 else stop - (self.block.trainees.done - failed)
                if bad > done:  # else the gradient is still that of the step before
                    self.block.show_gradient()
                if bad < stop:
                    self._fail(bad + 1, order[0, ends[bad] : ends[bad + 1]], course)
            seen = self._targets(order[:, ends[done] : ends[stop]])
            shown = (losses, outputs) if self.stacked else (losses[0], outputs[0])
            yield Stretch(stop, sizes[done:stop], seen, *shown)
            self.block.bind()
            done = stop

    def _take(self, first: int, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Steps; broken off, they were not taken."""
        block, trainees = self.block, self.block.trainees
        if len(rates) == 1:
            return self.session.take(first, rates, block.gradient)
        moving, failed, done = block.moving.clone(), trainees.failed.clone(), trainees.done
        try:
            return self.session.take(first, rates, block.gradient)
        except KeyboardInterrupt:
            block.moving.copy_(moving)
            trainees.failed.copy_(failed)
            trainees.done = done
            raise

    def _fail(self, step: int, chosen: Tensor, course: Course) -> None:
        x: Tensor = self.x  # type: ignore[assignment]  # no other inputs have native steps
        error = FloatingPointError("The objective is infinite or not a number.")
        course.failed(step, x[chosen], error)
        raise error

    def _targets(self, chosen: Tensor) -> Tensor:
        """Of rows, (rows, ...) or (E, rows, ...)."""
        if self.stacked:
            return self.y[torch.arange(len(chosen))[:, None], chosen]
        return self.y[0].index_select(0, chosen[0])

    def close(self) -> None:
        """Give the networks what they have learned."""
        self.block.close()

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, (E, ...) where members are stacked."""
        if self.stacked:
            return self.block.weights()
        return dict(self.block.networks[0].named_parameters())

    def memory(self) -> Memory:
        """Copies of what the optimizer remembers."""
        return self.block.memory(stacked=self.stacked)

    def remember(self, memory: Memory) -> None:
        """Go on with the memory of another such learner."""
        self.block.remember(memory, stacked=self.stacked)

    def is_finite(self) -> bool:
        """Whether weights, and what the optimizer remembers, are numbers."""
        moving = self.block.moving
        return float((moving - moving).sum()) == 0.0  # ∞ − ∞ is none; faster than to look at each
