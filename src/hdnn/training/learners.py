"""What learns: one model, or many of one shape, their parameters stacked, so that a step moves them all.

Legend: E members; a stacked tensor has a leading axis E; W, μ the output layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hdnn.training import heads, state, steps
from hdnn.training.averaging import Mean
from hdnn.training.batches import Batch, Inputs, Source
from hdnn.training.course import Course, Stretch
from hdnn.training.distributed import Team
from hdnn.training.objective import Objective
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
            rows = [batch.y.shape[int(source.stacked)]]
            if number <= done:
                yield Stretch(number, rows, batch.y)
                continue
            self.set_rate(course.share(number))
            try:
                losses, output = take_step(self, batch)
            except (FloatingPointError, RuntimeError, ValueError) as error:
                course.failed(number, batch.x, error)
                raise
            yield Stretch(number, rows, batch.y, losses[..., None], output)

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
        """
        losses, output = self.losses(batch)
        if finite:
            steps.require_finite(losses)
        # Of what this optimizer moves: a frozen output layer still carries the gradient of its own last step.
        for parameter in self.moved:
            parameter.grad = None
        torch.autograd.backward(steps.sum_of(losses))
        return losses.detach(), output.detach() if isinstance(output, Tensor) else output

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

    def move(self) -> None:
        """One step along the gradients that are there."""
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

    def head_optimizer(self) -> AnyOptimizer:
        """Moves the output layer alone."""
        return optimizer_of("adam", self.heads, lr=self.recipe.head_learning_rate)

    def clip(self, largest: float) -> None:
        """Scale the gradient to a norm of at most `largest`."""
        clip(self.moved, largest)


class Stacked(Headed):
    """Models of one shape, stacked; `close` gives them what they have learned.

    Args:
        models: E of them.
        objective: of a copy of one of them.
        recipe: how they learn.
    """

    def __init__(self, models: Sequence[nn.Module], objective: Objective, recipe: Recipe) -> None:
        self.models, self.objective, self.recipe = models, objective, recipe
        named = [dict(model.named_parameters()) for model in models]
        self.parameters = {
            name: nn.Parameter(torch.stack([member[name].detach() for member in named]), one.requires_grad)
            for name, one in named[0].items()
        }
        self.head = {name: p for name, p in self.parameters.items() if name.startswith("head.")}
        self.heads = list(self.head.values()) if recipe.method == "alternating" else []
        kept = {id(p) for p in self.heads}
        self.moved = [p for p in self.parameters.values() if p.requires_grad and id(p) not in kept]
        self.optimizer = make_optimizer(recipe, self.moved)

    def losses(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objectives (E,) and the outputs (E, B, ...)."""
        found: tuple[Tensor, Any] = self._mapped(self._losses, self.parameters, *batch[:3])
        return found

    def features(self, x: Inputs) -> Tensor:
        """What the output layers see, (E, B, features)."""
        body = {name: p for name, p in self.parameters.items() if name not in self.head}
        found: Tensor = self._mapped(self._features, body, x)
        return found

    def head_losses(self, features: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """What of the objectives the output layers can change, (E,)."""
        found: Tensor = self._mapped(self._head_losses, self.head, features, y, weight)
        return found

    def head_optimizer(self) -> AnyOptimizer:
        """Moves the output layers alone."""
        return optimizer_of("adam", self.heads, lr=self.recipe.head_learning_rate)

    def clip(self, largest: float) -> None:
        """Scale the gradient of each member to a norm of at most `largest`, as `clip_grad_norm_` does for one."""
        gradients = [p.grad for p in self.moved if p.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factors = (largest / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))

    def weights(self) -> dict[str, Tensor]:
        """All parameters (E, ...), by name."""
        return dict(self.parameters)

    def close(self) -> None:
        """Give each model its weights."""
        with torch.no_grad():
            for name, stacked in self.parameters.items():
                for model, value in zip(self.models, stacked, strict=True):
                    model.get_parameter(name).copy_(value)

    def _mapped(self, function: Callable[..., Any], *stacked: Any) -> Any:
        """A function of one member, for all."""
        return vmap(function, in_dims=tuple(None if x is None else 0 for x in stacked))(*stacked)

    def _losses(self, parameters: dict[str, Tensor], x: Inputs, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Any]:
        result: tuple[Tensor, Any] = functional_call(self.objective, _named(parameters), (x, y, weight))
        return result

    def _features(self, parameters: dict[str, Tensor], x: Inputs) -> Tensor:
        result: Tensor = functional_call(_Part(self.objective, "features"), _named(parameters, "objective."), (x,))
        return result

    def _head_losses(self, head: dict[str, Tensor], features: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        call = (features, y, weight)
        result: Tensor = functional_call(_Part(self.objective, "head_loss"), _named(head, "objective."), call)
        return result


class _Part(nn.Module):
    """A method of an objective as the forward call that `functional_call` asks for."""

    def __init__(self, objective: Objective, method: str) -> None:
        super().__init__()
        self.objective, self.method = objective, method

    def forward(self, *values: Any) -> Tensor:
        """What the method says."""
        result: Tensor = getattr(self.objective, self.method)(*values)
        return result


def _named(parameters: dict[str, Tensor], within: str = "") -> dict[str, Tensor]:
    return {f"{within}network.{name}": value for name, value in parameters.items()}
