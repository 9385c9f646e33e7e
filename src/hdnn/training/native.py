"""What learns by native steps: one network, or many of one shape.

Legend: E members, s samples, k steps without a pause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

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
        self.session = Session(self.block.setup, self.block.trainees, x, y, weight)  # type: ignore[arg-type]

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, as many at a time as nobody wants to look at."""
        rows: Rows = source  # type: ignore[assignment]  # no other has native steps
        order = rows.order().view(len(self.y), -1)
        ends = [*range(0, rows.count, rows.size), rows.count]
        sizes = [stop - start for start, stop in itertools.pairwise(ends)]
        self.session.begin(order, torch.tensor(ends))
        done = course.done
        if done:
            yield Stretch(done, sizes[:done], self._targets(order[:, : ends[done]]))
        while done < rows.batches:
            stop = course.stop()
            rates = [self.recipe.learning_rate * course.share(step) for step in range(done + 1, stop + 1)]
            losses, outputs = self._take(done, torch.tensor(rates, dtype=torch.float64))
            if not self.stacked:
                bad = done + int(losses[0].isfinite().sum())  # after the first that is none there are no more
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
        kept = (trainees.parameters, trainees.first, trainees.second, trainees.failed)
        before, done = [None if value is None else value.clone() for value in kept], trainees.done
        try:
            return self.session.take(first, rates, block.gradient)
        except KeyboardInterrupt:
            for value, old in zip(kept, before, strict=True):
                if value is not None and old is not None:
                    value.copy_(old)
            trainees.done = done
            raise

    def _fail(self, step: int, chosen: Tensor, course: Course) -> None:
        x: Tensor = self.x  # type: ignore[assignment]  # no other inputs have native steps
        error = FloatingPointError("The objective is infinite or not a number.")
        course.failed(step, x[chosen], error)
        raise error

    def _targets(self, chosen: Tensor) -> Tensor:
        """Of rows, (rows, ...) or (E, rows, ...)."""
        return self.y[torch.arange(len(chosen))[:, None], chosen] if self.stacked else self.y[0, chosen[0]]

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

    def remembered(self) -> Iterable[Tensor]:
        """What the optimizer remembers, itself."""
        return [value for value in (self.block.trainees.first, self.block.trainees.second) if value is not None]
