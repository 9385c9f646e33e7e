"""The stacked parameters of many networks of one shape, and how a step moves them.

Legend: E members; a stacked tensor has a leading axis E; W, μ the output layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hdnn.modes import evaluating
from hdnn.networks import Network
from hdnn.training.objective import EVALUATION_BATCH, Objective, Penalty, squared_norm
from hdnn.training.recipe import Recipe, make_optimizer, rate_factor

Stacked = dict[str, nn.Parameter]


class Members:
    """The stacked parameters of the networks, and how a step moves them."""

    def __init__(
        self, networks: Sequence[Network], recipe: Recipe, penalties: Sequence[Penalty], *, batches: int
    ) -> None:
        self.networks = networks
        self.recipe = recipe
        self.template = copy.deepcopy(networks[0]).train()
        self.objective = Objective(
            self.template,
            smoothness=recipe.smoothness,
            head_decay=recipe.head_decay,
            label_smoothing=recipe.label_smoothing,
            penalties=penalties,
        )
        named = [dict(network.named_parameters()) for network in networks]
        self.parameters: Stacked = {
            name: nn.Parameter(torch.stack([member[name].detach() for member in named]), one.requires_grad)
            for name, one in named[0].items()
        }
        self.heads = {name: p for name, p in self.parameters.items() if name.startswith("head.")}
        kept = self.heads if recipe.method == "alternating" else {}
        self.moved = [p for name, p in self.parameters.items() if p.requires_grad and name not in kept]
        self.optimizer = make_optimizer(recipe, self.moved)
        self.factor = rate_factor(recipe, batches)
        self.steps = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.recipe.learning_rate * self.factor(self.steps)

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step of every member on its own batch; objectives (E,) and outputs (E, B, outputs) before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        if self.recipe.method == "alternating":
            self._fresh_heads(x, y, weight)
        for parameter in self.parameters.values():
            parameter.grad = None
        losses, outputs = self._mapped(self._objective, self.parameters, x, y, weight)
        torch.autograd.backward(losses.sum())  # members share no parameter: each gets its own gradient
        if self.recipe.clip is not None:
            _clip(self.moved, self.recipe.clip)
        self.optimizer.step()
        self.steps += 1
        return losses.detach(), outputs.detach()

    def train_heads(self, x: Tensor, y: Tensor, weight: Tensor | None, generators: Sequence[torch.Generator]) -> None:
        """The output layers alone, on the features of the finished flows."""
        with torch.no_grad(), evaluating(self.template):
            parts = [
                self._mapped(self._features, self.parameters, part) for part in torch.split(x, EVALUATION_BATCH, dim=1)
            ]
            features = torch.cat(parts, dim=1)
        optimizer = self._new_heads()
        for _ in range(self.recipe.head_epochs):
            for batch in member_batches(features, y, weight, generators, self.recipe.batch_size):
                self._head_step(optimizer, *batch)

    def unstack(self) -> None:
        """Give each network its weights."""
        with torch.no_grad():
            for name, stacked in self.parameters.items():
                for network, value in zip(self.networks, stacked, strict=True):
                    network.get_parameter(name).copy_(value)

    def _fresh_heads(self, x: Tensor, y: Tensor, weight: Tensor | None) -> None:
        with torch.no_grad():
            features = self._mapped(self._features, self.parameters, x)
        optimizer = self._new_heads()
        for _ in range(self.recipe.head_steps):
            self._head_step(optimizer, features, y, weight)

    def _new_heads(self) -> torch.optim.Optimizer:
        with torch.no_grad():
            for head in self.heads.values():
                head.zero_()
        return torch.optim.Adam(list(self.heads.values()), lr=self.recipe.head_learning_rate, fused=True)

    def _head_step(self, optimizer: torch.optim.Optimizer, features: Tensor, y: Tensor, weight: Tensor | None) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(self._mapped(self._head_objective, self.heads, features, y, weight).sum())
        optimizer.step()

    def _mapped(self, function: Callable[..., Any], *stacked: Any) -> Any:
        """A function of one member, for all."""
        return vmap(function, in_dims=tuple(None if x is None else 0 for x in stacked))(*stacked)

    def _objective(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        named = {f"network.{name}": value for name, value in parameters.items()}
        result: tuple[Tensor, Tensor] = functional_call(self.objective, named, (x, y, weight))
        return result

    def _features(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        part = {name: value for name, value in parameters.items() if name not in self.heads}
        result: Tensor = functional_call(_Features(self.template), {f"network.{n}": v for n, v in part.items()}, (x,))
        return result

    def _head_objective(
        self, parameters: dict[str, Tensor], features: Tensor, y: Tensor, weight: Tensor | None
    ) -> Tensor:
        head = {name.removeprefix("head."): value for name, value in parameters.items()}
        loss = self.objective.data_loss(functional_call(self.template.head, head, (features,)), y, weight)
        return loss + self.recipe.head_decay * squared_norm(head.values())


class _Features(nn.Module):
    """What the output layer sees, as the forward call that `functional_call` asks for."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, features)."""
        return self.network.features(x)


def member_batches(
    x: Tensor, y: Tensor, weight: Tensor | None, generators: Sequence[torch.Generator], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """The batches of an epoch: every member's rows in its own order; (E, b, ...) each."""
    order = torch.stack([torch.randperm(x.shape[1], generator=generator) for generator in generators]).to(x.device)
    member = torch.arange(len(x), device=x.device)[:, None]
    for chosen in torch.split(order, size, dim=1):
        yield x[member, chosen], y[member, chosen], None if weight is None else weight[member, chosen]


def _clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradient of each member to a norm of at most `largest`, as `clip_grad_norm_` does for one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
