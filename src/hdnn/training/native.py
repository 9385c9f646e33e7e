"""What learns by native steps: one network, or many of one shape.

Legend: E members, s samples, k steps without a pause.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hdnn.kernels.training import Session
from hdnn.training.batches import Inputs, Rows, Source
from hdnn.training.block import Block
from hdnn.training.course import Course, Stretch
from hdnn.training.fused import sighted, takes, wanted
from hdnn.training.learners import Learner
from hdnn.training.losses import known
from hdnn.training.objective import Loss
from hdnn.training.recipe import Recipe
from hdnn.training.tensors import Memory

_NUMBERS = 2**21  # of inputs that are made together, 8 MiB
_AHEAD = 1024  # steps that are taken at most without a look at what they did


class Native(Learner):
    """Networks that learn by native steps; each ends where a training of its own would, to the bit.

    Args:
        networks: E of them, for which `hdnn.training.backends.why_not` has no words.
        recipe: how.
        source: of the data of one network, or stacked.
        loss: None where it is their own.
    """

    backend = "native"

    def __init__(self, networks: Sequence[nn.Module], recipe: Recipe, source: Source, loss: Loss | None = None) -> None:
        self.recipe, self.stacked = recipe, source.stacked
        self.block = Block(networks, recipe, known(loss))
        self._told: deque[Stretch] = deque()  # of epochs that were taken ahead
        self._drawn: deque[Tensor] = deque()  # orders of epochs to come
        if isinstance(source, Rows) and source.is_made:
            self._bind(source)

    def _bind(self, source: Rows) -> None:
        """Hold the data of all epochs."""
        self.x: Tensor = source.data.x  # type: ignore[assignment]  # no other inputs have native steps
        x, y, weight, _ = source.data if self.stacked else source.data.each(lambda part: part[None])
        self.y = y
        self.ends = [*range(0, source.count, source.size), source.count]
        self.sizes = [stop - start for start, stop in itertools.pairwise(self.ends)]
        self.bounds = torch.tensor(self.ends)
        self.session = self._session(x, y, weight)  # type: ignore[arg-type]

    def _session(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Session:
        """The networks bound to data, (E, s, ...)."""
        setup = sighted(self.block.setup, x.shape[2:])
        return Session(setup, self.block.trainees, x.flatten(2), y, weight)

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, as many at a time as nobody wants to look at."""
        if isinstance(source, Rows) and not source.is_made:
            return self._over_made(source, course)
        if not isinstance(source, Rows):
            return self._over_batches(source, course)
        if not (self.stacked or course.done or self._told):
            self._run_ahead(source, course)
        return iter([self._told.popleft()]) if self._told else self._over_rows(source, course)

    def _run_ahead(self, rows: Rows, course: Course) -> None:
        """Take the steps of several epochs that nobody looks into, and keep what they show.

        Where numbers go bad nothing was done: they are taken again epoch by epoch, to see when and where.
        """
        epochs = min(course.unseen(), _AHEAD // rows.batches)
        if epochs < 2 or self._drawn:
            return
        self.block.bind()
        orders = rows.orders(epochs)
        order = orders.view(1, -1)
        starts = rows.count * torch.arange(epochs)[:, None]
        bounds = torch.cat([self.bounds[:1], (starts + self.bounds[1:]).flatten()])
        self.session.begin(order, bounds, checked=True)
        kept = self._kept()
        losses, outputs = self._take(0, self._rates(course, 1, epochs * rows.batches))
        if int(self.block.trainees.failed[0]) >= 0 or not self.is_finite():
            self._put_back(*kept)
            self._drawn.extend(orders)
            return
        self.block.show_gradient()
        y = self._targets(order).view(epochs, rows.count, *self.y.shape[2:])
        losses, outputs = losses.view(epochs, -1), outputs.view(epochs, rows.count, -1)
        found = course.records(self.sizes, losses, outputs, y)
        for targets, row, record in zip(y, losses, found, strict=True):
            self._told.append(Stretch(rows.batches, self.sizes, targets, row, record=record))

    def _over_batches(self, source: Source, course: Course) -> Iterator[Stretch]:
        """One by one, as a loader gives them."""
        for number, (x, y, weight, _) in enumerate(source.epoch(course.epoch), start=1):
            self.block.bind()
            self.x, self.y = _rows_of(x, self.block.networks[0]), y[None]
            self.session = self._session(self.x[None], self.y, None if weight is None else weight[None])
            rows = torch.arange(len(y))
            self.session.begin(rows[None], torch.tensor([0, len(y)]), checked=True)
            losses, outputs = self._take(0, self._rates(course, number, number))
            self._look(number - 1, losses, [rows], course)
            yield Stretch(number, [len(y)], y, losses[0], outputs[0])

    def _over_made(self, rows: Rows, course: Course) -> Iterator[Stretch]:
        """Some at a time, of inputs that are made as they are drawn."""
        batches, done = rows.epoch(course.epoch), course.done
        for number, batch in enumerate(itertools.islice(batches, done), start=1):
            yield Stretch(number, [len(batch.y)], batch.y)
        together = max(1, _NUMBERS // (rows.size * math.prod(rows.data.x.shape[1:])))  # type: ignore[union-attr]
        while done < rows.batches:
            given = list(itertools.islice(batches, min(together, course.stop() - done)))
            self.block.bind()
            sizes = [len(batch.y) for batch in given]
            ends = [0, *itertools.accumulate(sizes)]
            self.x, y = (torch.cat([batch[k] for batch in given]) for k in (0, 1))  # type: ignore[misc]
            weights = [batch.weight[None] for batch in given if batch.weight is not None]
            self.session = self._session(self.x[None], y[None], torch.cat(weights, 1) if weights else None)
            order = torch.arange(ends[-1])
            self.session.begin(order[None], torch.tensor(ends), checked=True)
            losses, outputs = self._take(0, self._rates(course, done + 1, done + len(given)))
            self._look(done, losses, torch.split(order, rows.size), course)
            done += len(given)
            yield Stretch(done, sizes, y, losses[0], outputs[0])

    def _over_rows(self, rows: Rows, course: Course) -> Iterator[Stretch]:
        """Many at a time."""
        order = (self._drawn.popleft() if self._drawn else rows.order()).view(len(self.y), -1)
        ends, sizes, done = self.ends, self.sizes, course.done
        self.session.begin(order, self.bounds, checked=True)
        if done:
            yield Stretch(done, sizes[:done], self._targets(order[:, : ends[done]]))
        while done < rows.batches:
            self.block.bind()
            stop = course.stop()
            losses, outputs = self._take(done, self._rates(course, done + 1, stop))
            if not self.stacked:
                self._look(done, losses, torch.split(order[0], rows.size)[done:], course)
            seen = self._targets(order[:, ends[done] : ends[stop]])
            shown = (losses, outputs) if self.stacked else (losses[0], outputs[0])
            yield Stretch(stop, sizes[done:stop], seen, *shown)
            done = stop

    def _rates(self, course: Course, first: int, last: int) -> Tensor:
        """The learning rates of steps."""
        most = self.recipe.learning_rate
        return torch.tensor([most * share for share in course.shares(first, last)], dtype=torch.float64)

    def _take(self, first: int, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Steps; broken off, they were not taken."""
        if len(rates) == 1:
            return self.session.take(first, rates, self.block.gradient)
        kept = self._kept()
        try:
            return self.session.take(first, rates, self.block.gradient)
        except BaseException:  # Ctrl-C, and what else a handler of signals raises
            self._put_back(*kept)
            raise

    def _kept(self) -> tuple[int, Sequence[Tensor]]:
        """Steps done, and copies of what they moved."""
        return self.block.trainees.done, [value.clone() for value in self._moving()]

    def _put_back(self, done: int, before: Sequence[Tensor]) -> None:
        """As if no step had been taken since."""
        for value, old in zip(self._moving(), before, strict=True):
            value.copy_(old)
        self.block.trainees.done = done

    def _moving(self) -> Sequence[Tensor]:
        return self.block.trainees.parameters, self.block.moments, self.block.trainees.failed

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
        if self._told:
            return True  # those that were taken ahead are, as they are at the end
        numbers = (self.block.trainees.parameters, self.block.moments)
        return all(float((each - each).sum()) == 0.0 for each in numbers)  # ∞ − ∞ is none; faster than to look at each

    def lose(self, members: Sequence[int]) -> None:
        """Move members no more, whose objectives were no numbers before a pause."""
        trainees = self.block.trainees
        trainees.failed[list(members)] = max(0, trainees.done - 1)


def _rows_of(x: Inputs, network: nn.Module) -> Tensor:
    """The inputs of a batch of a loader.

    Raises:
        ValueError: if they are no rows of what a network reads.
    """
    if isinstance(x, Mapping) and x.keys() == {"x"}:
        x = x["x"]
    if isinstance(x, tuple | list) and len(x) == 1:
        x = x[0]
    if not isinstance(x, Tensor) or not takes(network, x.shape[1:]):
        told = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"The network takes {wanted(network)}; the loader gave {told}.")
    return x
