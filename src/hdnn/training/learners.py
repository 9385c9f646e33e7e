"""What learns, as a trainer sees it, and one model that learns batch by batch; many do in `hdnn.training.stacked`.

Legend: E members; a stacked tensor has a leading axis E.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.training import answers, heads, state, steps
from hdnn.training.averaging import Mean
from hdnn.training.batches import Batch, Inputs, Source
from hdnn.training.course import Course, Stretch
from hdnn.training.distributed import Team
from hdnn.training.objective import Objective, check_dependence
from hdnn.training.optimizers import AnyOptimizer, clip, optimizer_of
from hdnn.training.recipe import Recipe, make_optimizer
from hdnn.training.sloped import Sloped
from hdnn.training.tensors import Memory


class Learner(ABC):
    """What learns, as a trainer sees it.

    Attributes:
        backend: what takes its steps, "native" or "torch".
        recipe: how it learns.
        mean: of the weights, where the recipe asks for it.
    """

    backend: str
    recipe: Recipe
    mean: Mean | None = None

    @abstractmethod
    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left."""

    @abstractmethod
    def memory(self) -> Memory:
        """Copies of what the optimizer remembers, by parameter and name."""

    @abstractmethod
    def remember(self, memory: Memory) -> None:
        """Go on with the memory of another such learner.

        Raises:
            ValueError: if it is none.
        """

    @abstractmethod
    def is_finite(self) -> bool:
        """Whether weights, and what the optimizer remembers, are numbers."""

    def show_gradient(self) -> None:  # noqa: B027
        """Give parameters the gradient of the last step, where they lack it and somebody is to be told."""

    def lose(self, members: Sequence[int]) -> None:  # noqa: B027
        """Move members no more, whose objectives were no numbers before a pause; through PyTorch they are none."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The parameters that change, by name."""

    def settle(self) -> None:  # noqa: B027
        """Leave the mean of the weights in the place of the last ones, where there is one."""

    @abstractmethod
    def close(self) -> None:
        """Give the models what they have learned."""


class Stepwise(Learner):
    """What learns batch by batch through PyTorch.

    Attributes:
        moved: the parameters that the optimizer moves.
        optimizer: moves them.
    """

    backend = "torch"
    moved: list[nn.Parameter]
    optimizer: AnyOptimizer

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, one by one."""
        take_step, done = steps.step_of(self.recipe), course.done
        for number, batch in enumerate(source.epoch(course.epoch), start=1):
            sizes = self.sizes(batch.y, stacked=source.stacked)
            if number <= done:
                yield Stretch(number, sizes, batch.y)
                continue
            self.set_rate(course.share(number))
            try:
                losses, output = take_step(self, batch)
            except (FloatingPointError, RuntimeError, ValueError) as error:
                course.failed(number, batch.x, error)
                raise
            yield Stretch(number, sizes, batch.y, losses[..., None], output)

    def memory(self) -> Memory:
        """Copies of what the optimizer remembers."""
        return state.memory(self.optimizer)

    def remember(self, memory: Memory) -> None:
        """Go on with the memory of another such learner."""
        state.remember(self.optimizer, memory)

    def is_finite(self) -> bool:
        """Whether weights, and what the optimizer remembers, are numbers."""
        kept = (value for each in self.optimizer.state.values() for value in each.values())
        numbers = (*self.weights().values(), *(value for value in kept if isinstance(value, Tensor)))
        return all(bool(value.isfinite().all()) for value in numbers)

    def sizes(self, y: Tensor, *, stacked: bool) -> Sequence[Any]:
        """What the objective of one step is a mean of, for `Stretch`: so many rows."""
        return [y.shape[int(stacked)]]

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objective, of each member (E,), and the outputs."""

    @abstractmethod
    def clip(self, largest: float) -> None:
        """Scale the gradient, of each member, to a norm of at most `largest`."""

    def pull(self, batch: Batch, *, finite: bool = True) -> tuple[Tensor, Any]:
        """The objectives and outputs; what the optimizer moves is given its gradients.

        Raises:
            FloatingPointError: if `finite`, and the objective of a single model is not; nothing is changed then.
            ValueError: if there is no gradient.
        """
        losses, output = self.losses(batch)
        if finite:
            steps.require_finite(losses)
        check_dependence(losses, output)
        # Of what this optimizer moves: a frozen output layer still carries the gradient of its own last step.
        for parameter in self.moved:
            parameter.grad = None
        torch.autograd.backward(steps.sum_of(losses))
        return losses.detach(), output.detach() if isinstance(output, Tensor) else output

    def step(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objectives and outputs before one step on everything."""
        found = self.pull(batch)
        self.clip_and_move()
        return found

    def clip_and_move(self) -> None:
        """One step along the gradients that are there, or what the recipe leaves of them."""
        if self.recipe.clip is not None:
            self.clip(self.recipe.clip)
        self.move()

    def set_rate(self, share: float) -> None:
        """Set the learning rate of the next step, as a share of the largest."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * share

    def move(self) -> None:
        """One step along the gradients that are there."""
        self.optimizer.step()


class Headed(Stepwise):
    """What learns by an objective; its output layer may be fitted by itself.

    Attributes:
        objective: of the model, or of one like the members.
        heads: parameters of the output layer, where the alternating method fits it by itself.
    """

    objective: Objective
    heads: list[nn.Parameter]

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left, one by one."""
        self.objective._begins = course.epoch == 1 and course.done == 0
        yield from super().walk(source, course)

    def sizes(self, y: Tensor, *, stacked: bool) -> Sequence[Any]:
        """What the objective of one step is a mean of: rows, or of each member the answers that count."""
        if not answers.taught(self.objective):
            return super().sizes(y, stacked=stacked)
        network = self.objective.network
        return [[answers.count(network, each)] for each in y] if stacked else [answers.count(network, y)]

    @abstractmethod
    def features(self, x: Inputs) -> Tensor:
        """What the output layer sees."""

    def seen(self, batch: Batch) -> Tensor:
        """What the output layer sees of a whole batch."""
        return self.features(batch.x)

    @abstractmethod
    def head_losses(self, features: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """What of the objective the output layer can change, of each member (E,)."""

    def fit_head(self, data: Batch, orders: Iterable[Tensor], size: int) -> bool:
        """Fit a fresh output layer to features by native steps, if these serve.

        Args:
            data: the features, targets and weights.
            orders: of the rows, for each pass over them.
            size: rows of a batch.

        Returns:
            Whether it was done; else nothing was.
        """
        return False

    @abstractmethod
    def head_optimizer(self) -> AnyOptimizer:
        """Moves the output layer alone."""


class Single(Headed):
    """One model, trained in place.

    Args:
        objective: of the model.
        recipe: how it learns.
        sloped: finds the gradient of all but penalties, where it may.
        team: what the model needs of other processes, where these train it, too.
    """

    def __init__(
        self, objective: Objective, recipe: Recipe, sloped: Sloped | None = None, team: Team | None = None
    ) -> None:
        self.objective, self.recipe, self.sloped, self.team = objective, recipe, sloped, team
        self.heads = list(objective.network.head.parameters()) if recipe.method == "alternating" else []
        heads = {id(p) for p in self.heads}
        self.moved = [p for p in objective.network.parameters() if id(p) not in heads]
        self.optimizer = make_optimizer(recipe, self.moved)
        self.mean = Mean(objective.network, recipe.average) if recipe.average else None

    def walk(self, source: Source, course: Course) -> Iterator[Stretch]:
        """The steps of an epoch that are left.

        Raises:
            ValueError: if a parameter has come into the network that no step would move.
        """
        known = {id(p) for p in (*self.moved, *self.heads)}
        for name, p in self.objective.network.named_parameters():
            if p.requires_grad and id(p) not in known:
                raise ValueError(
                    f"A callback has put a parameter into the network that is not trained ({name}), beside the others "
                    f"or in the place of one. Change the numbers of those that are there, as `load_state_dict` does "
                    f"without `assign`, or do so between two calls of `fit`."
                )
        yield from super().walk(source, course)

    def step(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objective and outputs before one step on everything, which is taken natively where that serves."""
        sloped = None if self.team is not None else self.sloped
        found = None if sloped is None else sloped.step(batch, self.optimizer)
        if sloped is None or found is None:
            return super().step(batch)
        if not sloped.moves:
            self.clip_and_move()
        return found

    def show_gradient(self) -> None:
        """Give parameters the gradient of the last step."""
        if self.sloped is not None:
            self.sloped.show_gradient()

    def memory(self) -> Memory:
        """Copies of what the optimizer remembers."""
        self._follow()
        return super().memory()

    def remember(self, memory: Memory) -> None:
        """Go on with the memory of another such learner."""
        self._follow()
        super().remember(memory)

    def is_finite(self) -> bool:
        """Whether weights, and what the optimizer remembers, are numbers."""
        if self.sloped is not None and self.sloped.leads:
            return self.sloped.is_finite()
        return super().is_finite()

    def _follow(self) -> None:
        """Let the optimizer stand where native steps have come to."""
        if self.sloped is not None:
            self.sloped.follow(self.optimizer)

    def move(self) -> None:
        """One step along the gradients that are there."""
        self._follow()
        super().move()
        if self.mean is not None:
            self.mean.note(self.objective.network)

    def settle(self) -> None:
        """Leave the mean of the weights in the place of the last ones, where there is one."""
        if self.mean is not None:
            self.objective.network.load_state_dict(self.mean.network.state_dict())
            self.mean = None

    def losses(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objective, a scalar, and the outputs."""
        if self.team is not None:
            return self.team.losses(batch)
        found: tuple[Tensor, Any] = self.objective(*batch[:3])
        return found

    def pull(self, batch: Batch, *, finite: bool = True) -> tuple[Tensor, Any]:
        """The objective and outputs; gradients are found natively where that serves."""
        if self.team is not None:
            with self.team.at(batch):
                found = super().pull(batch, finite=finite)
            self.team.average(self.moved)
            return found
        native = None if self.sloped is None else self.sloped.pull(batch)
        return super().pull(batch, finite=finite) if native is None else native

    def seen(self, batch: Batch) -> Tensor:
        """What the output layer sees of a whole batch, of all ranks."""
        if self.team is None:
            return super().seen(batch)
        with self.team.at(batch):
            found: Tensor = self.team.joined(self.features(batch.x), batch)
        return found

    def features(self, x: Inputs) -> Tensor:
        """What the output layer sees."""
        return self.objective.features(x)

    def fit_head(self, data: Batch, orders: Iterable[Tensor], size: int) -> bool:
        """Fit a fresh output layer to features by native steps, if these serve."""
        if not heads.serves(self.objective, data):
            return False
        heads.fit_head(self.objective, self.recipe, data, orders, size)
        return True

    def head_losses(self, features: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """What of the objective the output layer can change."""
        return self.objective.head_loss(features, y, weight)

    def weights(self) -> dict[str, Tensor]:
        """All parameters, by name."""
        return dict(self.objective.network.named_parameters())

    def close(self) -> None:
        """It learns in place; what was broken off has a mean yet."""
        self.settle()
        self.show_gradient()

    def head_optimizer(self) -> AnyOptimizer:
        """Moves the output layer alone."""
        return optimizer_of("adam", self.heads, lr=self.recipe.head_learning_rate)

    def clip(self, largest: float) -> None:
        """Scale the gradient to a norm of at most `largest`."""
        clip(self.moved, largest)
