"""One training step: on everything at once, or on output layer and flow in turn.

Legend: features are the flattened states after the flow; the output layer is W y_N + μ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hdnn.modes import evaluating
from hdnn.training.objective import Objective, batches, squared_norm
from hdnn.training.recipe import Recipe


def joint_step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One optimizer step on everything.

    Raises:
        FloatingPointError: if the objective is not finite, before anything is changed (on the CPU; looking would make
            another device wait).
    """
    if recipe.optimizer == "lbfgs":
        return _line_search_step(objective, optimizer, x, y, weight)
    loss, output = objective(x, y, weight)
    _require_finite(loss)
    # Of what this optimizer moves: a frozen output layer still carries the gradient of its own last step.
    moved = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in moved:
        parameter.grad = None
    torch.autograd.backward(loss)
    if recipe.clip is not None:
        nn.utils.clip_grad_norm_(moved, recipe.clip)
    optimizer.step()
    _forget_casts()
    return loss.detach(), output.detach()


def _line_search_step(
    objective: Objective, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """L-BFGS evaluates the objective as often as it needs; loss and output are those before the step."""
    seen: list[tuple[Tensor, Tensor]] = []

    def closure() -> Tensor:
        _forget_casts()
        loss, output = objective(x, y, weight)
        if not seen:  # a line search may look at places where the objective overflows, and turns back
            _require_finite(loss)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        seen.append((loss.detach(), output.detach()))
        value: Tensor = loss
        return value

    optimizer.step(closure)  # type: ignore[arg-type]  # annotated to return a float, documented to return a tensor
    _forget_casts()
    return seen[0]


def alternating_step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A fresh output layer fitted to frozen features, then one step of the flow under it."""
    head = objective.network.head
    with torch.no_grad():
        features = objective.network.features(x)
    _forget(head)
    inner = torch.optim.Adam(head.parameters(), lr=recipe.head_learning_rate)
    for _ in range(recipe.head_steps):
        _head_step(objective, inner, features, y, weight)
    head.requires_grad_(False)
    try:
        return joint_step(objective, optimizer, x, y, recipe, weight)
    finally:
        head.requires_grad_(True)


def train_head(objective: Objective, x: Tensor, y: Tensor, recipe: Recipe, weight: Tensor | None = None) -> None:
    """The output layer alone, on the features of the finished flow."""
    network = objective.network
    with torch.no_grad(), evaluating(network):
        features = torch.cat([network.features(part) for part in batches(x)])
    _forget(network.head)
    optimizer = torch.optim.Adam(network.head.parameters(), lr=recipe.head_learning_rate)
    order = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.head_epochs):
        permutation = torch.randperm(len(x), generator=order).to(x.device)
        for chosen in torch.split(permutation, recipe.batch_size):
            weights = None if weight is None else weight[chosen]
            _head_step(objective, optimizer, features[chosen], y[chosen], weights)


def _head_step(
    objective: Objective, optimizer: torch.optim.Optimizer, features: Tensor, y: Tensor, weight: Tensor | None
) -> None:
    head = objective.network.head
    optimizer.zero_grad()
    penalty = objective.head_decay * squared_norm(head.parameters())
    torch.autograd.backward(objective.data_loss(head(features), y, weight) + penalty)
    optimizer.step()
    _forget_casts()


def _forget(head: nn.Module) -> None:
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()


def _require_finite(loss: Tensor) -> None:
    if loss.is_cpu and not math.isfinite(loss.item()):
        raise FloatingPointError(f"The objective is {loss.item()}.")


def _forget_casts() -> None:
    """Under `torch.autocast` around the whole training, PyTorch would go on with the weights before the step."""
    torch.clear_autocast_cache()
