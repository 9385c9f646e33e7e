"""What learns by native steps: one network, or many of one shape.

Legend: E members, s samples, k steps without a pause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from hdnn.kernels.training import Session
from hdnn.networks import Network
from hdnn.training.batches import Inputs, Rows, Source
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

    def __init__(self, networks: Sequence[Network], recipe: Recipe, source: Source) -> None:
        self.recipe, self.stacked = recipe, source.stacked
        self.block = Block(networks, recipe)
        if isinstance(source, Rows):
            self._bind(source)

    def _bind(self, source: Rows) -> None:
        """Hold the data of all epochs."""
        self.x: Tensor = source.data.x  # type: ignore[assignment]  # no other inputs have native steps
        x, y, weight = source.data if self.stacked else source.data.each(lambda part: part[None])
        self.y = y
        self.ends = [*range(0, source.count, source.size), source.count]
        self.sizes = [stop - start for start, stop in itertools.pairwise(self.ends)]
        self.bounds = torch.tensor(self.ends)
        self.session = Session(self.block.setup, self.block.trainees, x, y, weight)  # type: ignore[arg-type]

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, as many at a time as nobody wants to look at."""
        return self._over_rows(source, course) if isinstance(source, Rows) else self._over_batches(source, course)

    def _over_batches(self, source: Source, course: Course) -> Iterator[Stretch]:
        """One by one, as a loader gives them."""
        setup, trainees = self.block.setup, self.block.trainees
        for number, (x, y, weight) in enumerate(source.epoch(), start=1):
            self.block.bind()
            self.x, self.y = _rows_of(x, setup.inputs), y[None]
            self.session = Session(setup, trainees, self.x[None], self.y, None if weight is None else weight[None])
            rows = torch.arange(len(y))
            self.session.begin(rows[None], torch.tensor([0, len(y)]), checked=True)
            rate = self.recipe.learning_rate * course.share(number)
            losses, outputs = self._take(0, torch.tensor([rate], dtype=torch.float64))
            self._look(number - 1, losses, [rows], course)
            yield Stretch(number, [len(y)], y, losses[0], outputs[0])

    def _over_rows(self, rows: Rows, course: Course) -> Iterator[Stretch]:
        """Many at a time."""
        order = rows.order().view(len(self.y), -1)
        ends, sizes, done = self.ends, self.sizes, course.done
        self.session.begin(order, self.bounds, checked=True)
        if done:
            yield Stretch(done, sizes[:done], self._targets(order[:, : ends[done]]))
        while done < rows.batches:
            self.block.bind()
            stop = course.stop()
            rates = [self.recipe.learning_rate * course.share(step) for step in range(done + 1, stop + 1)]
            losses, outputs = self._take(done, torch.tensor(rates, dtype=torch.float64))
            if not self.stacked:
                self._look(done, losses, torch.split(order[0], rows.size)[done:], course)
            seen = self._targets(order[:, ends[done] : ends[stop]])
            shown = (losses, outputs) if self.stacked else (losses[0], outputs[0])
            yield Stretch(stop, sizes[done:stop], seen, *shown)
            done = stop

    def _take(self, first: int, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Steps; broken off, they were not taken."""
        block, trainees = self.block, self.block.trainees
        if len(rates) == 1:
            return self.session.take(first, rates, block.gradient)
        kept, done = (trainees.parameters, block.moments, trainees.failed), trainees.done
        before = [value.clone() for value in kept]
        try:
            return self.session.take(first, rates, block.gradient)
        except BaseException:  # Ctrl-C, and what else a handler of signals raises
            for value, old in zip(kept, before, strict=True):
                value.copy_(old)
            trainees.done = done
            raise

    def _look(self, done: int, losses: Tensor, batches: Sequence[Tensor], course: Course) -> None:
        """Show the gradient of the last step; raise if there is none, as one network failed."""
        failed, steps = int(self.block.trainees.failed[0]), losses.shape[1]
        good = steps if failed < 0 else steps - (self.block.trainees.done - failed)
        if good:  # else the gradient is still that of the step before
            self.block.show_gradient()
        if good < steps:
            error = FloatingPointError("The objective is infinite or not a number.")
            course.failed(done + good + 1, self.x[batches[good]], error)
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
        numbers = (self.block.trainees.parameters, self.block.moments)
        return all(float((each - each).sum()) == 0.0 for each in numbers)  # ∞ − ∞ is none; faster than to look at each

    def lose(self, members: Sequence[int]) -> None:
        """Move members no more, whose objectives were no numbers before a pause."""
        trainees = self.block.trainees
        trainees.failed[list(members)] = max(0, trainees.done - 1)


def _rows_of(x: Inputs, count: int) -> Tensor:
    """The inputs of a batch of a loader.

    Raises:
        ValueError: if they are no rows of so many numbers.
    """
    if isinstance(x, Mapping) and x.keys() == {"x"}:
        x = x["x"]
    if isinstance(x, tuple | list) and len(x) == 1:
        x = x[0]
    if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != count:
        told = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"The network takes rows of {count} numbers, (B, {count}); the loader gave {told}.")
    return x
