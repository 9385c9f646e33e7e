"""What learns batch by batch through PyTorch: models of one shape, stacked.

Legend: E members; every stacked tensor has a leading axis E.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hdnn.training.batches import Batch, Inputs
from hdnn.training.learners import Headed
from hdnn.training.objective import Objective
from hdnn.training.optimizers import AnyOptimizer, optimizer_of
from hdnn.training.recipe import Recipe, make_optimizer


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
