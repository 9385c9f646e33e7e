"""How a step is taken: on everything at once, by a line search, or on output layer and flow in turn.

Each is a function of what learns and a batch, to the objectives and outputs before the step.

Legend: features are the flattened states after the flow; the output layer is W y_N + μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hdnn.modes import evaluating
from hdnn.training.batches import Batch, Rows, Source
from hdnn.training.objective import EVALUATION_BATCH
from hdnn.training.optimizers import AnyOptimizer
from hdnn.training.recipe import Recipe

if TYPE_CHECKING:
    from hdnn.training.learners import Headed, Stepwise

Step = Callable[[Any, Batch], tuple[Tensor, Any]]  # of a learner; the alternating step needs one with a head


def step_of(recipe: Recipe) -> Step:
    """The kind of step that a recipe asks for."""
    if recipe.optimizer == "lbfgs":
        return line_search_step
    return alternating_step if recipe.method == "alternating" else joint_step


def joint_step(learner: Stepwise, batch: Batch) -> tuple[Tensor, Any]:
    """One optimizer step on everything.

    Raises:
        FloatingPointError: if the objective of a single model is not finite, before anything is changed (on the CPU;
            looking would make another device wait).
    """
    found = learner.step(batch)
    _forget_casts()
    return found


def line_search_step(learner: Stepwise, batch: Batch) -> tuple[Tensor, Any]:
    """L-BFGS evaluates the objective as often as it needs; loss and output are those before the step."""
    seen: list[tuple[Tensor, Any]] = []

    def closure() -> Tensor:
        _forget_casts()
        # A line search may look at places where the objective overflows, and turns back.
        seen.append(learner.pull(batch, finite=not seen))
        return seen[-1][0]

    learner.optimizer.step(closure)  # type: ignore[arg-type]  # annotated to return a float, documented as a tensor
    _forget_casts()
    return seen[0]


def alternating_step(learner: Headed, batch: Batch) -> tuple[Tensor, Any]:
    """A fresh output layer fitted to frozen features, then one step of the flow under it."""
    _, y, weight, _ = batch
    with torch.no_grad():
        features = learner.seen(batch)
    data, count = Batch(features, y, weight), learner.recipe.head_steps
    if not learner.fit_head(data, [torch.arange(len(y)).repeat(count)], len(y)):
        optimizer = _fresh_head(learner)
        for _ in range(count):
            _head_step(learner, optimizer, data)
    for p in learner.heads:
        p.requires_grad_(False)
    try:
        return joint_step(learner, batch)
    finally:
        for p in learner.heads:
            p.requires_grad_(True)


def train_head(learner: Headed, source: Source, generators: Sequence[torch.Generator], *, stacked: bool) -> None:
    """The output layer alone, on the features of the finished flow.

    Args:
        learner: whose.
        source: all samples.
        generators: of the order of the batches, one a member.
        stacked: whether there are members.
    """
    axis = int(stacked)
    seen: list[Batch] = []
    with torch.no_grad(), evaluating(learner.objective.network):
        for x, y, weight, _ in source.parts(EVALUATION_BATCH):
            seen.append(Batch(learner.features(x), y, weight))
    features, y = torch.cat([part.x for part in seen], axis), torch.cat([part.y for part in seen], axis)  # type: ignore[misc]
    weights = [part.weight for part in seen if part.weight is not None]
    data = Batch(features, y, torch.cat(weights, axis) if weights else None)
    rows = Rows(data, learner.recipe.batch_size, generators, stacked=stacked)
    if learner.fit_head(data, (rows.order() for _ in range(learner.recipe.head_epochs)), rows.size):
        return
    optimizer = _fresh_head(learner)
    for _ in range(learner.recipe.head_epochs):
        for batch in rows.epoch():
            _head_step(learner, optimizer, batch)


def _head_step(learner: Headed, optimizer: AnyOptimizer, batch: Batch) -> None:
    features, y, weight, _ = batch
    optimizer.zero_grad()
    torch.autograd.backward(sum_of(learner.head_losses(features, y, weight)))  # type: ignore[arg-type]
    optimizer.step()
    _forget_casts()


def _fresh_head(learner: Headed) -> AnyOptimizer:
    """The output layer begins anew, at zero."""
    with torch.no_grad():
        for p in learner.heads:
            p.zero_()
    return learner.head_optimizer()


def sum_of(losses: Tensor) -> Tensor:
    """Members share no parameter: each gets its own gradient."""
    return losses.sum() if losses.dim() else losses


def require_finite(losses: Tensor) -> None:
    """Refuse the objective of a single model that is no number.

    Raises:
        FloatingPointError: if it is none (on the CPU; looking would make another device wait).
    """
    if losses.dim() == 0 and losses.is_cpu and not math.isfinite(losses.item()):
        raise NotFinite(f"The objective is {losses.item()}.")


class NotFinite(FloatingPointError):
    """The objective is no number, on every rank alike."""


def _forget_casts() -> None:
    """Under `torch.autocast` around the whole training, PyTorch would go on with the weights before the step."""
    torch.clear_autocast_cache()
