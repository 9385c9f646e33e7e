"""The output layer alone, fitted to frozen features by native steps: those of a network without layers.

Legend: B samples, n features, W, μ the output layer; R is how many steps are taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.kernels import training, transforms
from hdnn.kernels.plan import Plan
from hdnn.kernels.training import Session, Setup, Trainees
from hdnn.training import answers
from hdnn.training.batches import Batch
from hdnn.training.objective import Objective
from hdnn.training.recipe import Recipe
from hdnn.training.standing import watched


def serves(objective: Objective, data: Batch) -> bool:
    """Whether native steps can fit the output layer of a single model to features, as the alternating method asks."""
    head, loss = objective.network.head, objective.loss
    if (
        answers.taught(objective)
        or loss is not None
        or type(head) is not nn.Linear
        or head.bias is None
        or watched(head)
    ):
        return False
    if not all(type(p) is nn.Parameter and p.requires_grad for p in head.parameters()):
        return False
    dtype, around = head.weight.dtype, transforms.transformed() or transforms.watched() or transforms.forward_mode()
    if training.why_not(dtype, head.weight.device) or around or transforms.autocasting("cpu"):
        return False
    numbers = [data.x, *([data.y] if objective.network.task == "regression" else []), data.weight]
    return all(x is None or (isinstance(x, Tensor) and x.dtype is dtype and x.is_cpu) for x in numbers)


def fit_head(objective: Objective, recipe: Recipe, data: Batch, orders: Iterable[Tensor], size: int) -> None:
    """Begin W and μ anew at zero, and take Adam's steps on batches of the features.

    Args:
        objective: of the network, for which `serves` says yes.
        recipe: of which the rate of the output layer and its decay count.
        data: (B, n) features, targets and weights.
        orders: of the rows, for each pass over them.
        size: rows of a batch.
    """
    head, plain = objective.network.head, objective.network.task == "regression"
    outputs, n = head.weight.shape
    setup = Setup(
        plan=_without_layers(n),
        inputs=n,
        outputs=outputs,
        linear=False,
        loss="squares" if plain else "binary" if outputs == 1 else "classes",
        optimizer="adam",
        alpha_c=objective.head_decay,
        label_smoothing=objective.label_smoothing,
        trains=("head_weight", "head_bias"),
    )
    x: Any = data.x
    trainees = Trainees.fresh(torch.zeros(1, outputs * (n + 1), dtype=x.dtype), "adam")
    weight = None if data.weight is None else data.weight[None]
    session = Session(setup, trainees, x[None], (data.y if plain else data.y.long())[None], weight)
    gradient = torch.zeros_like(trainees.parameters)
    for order in orders:
        ends = torch.tensor([*range(0, len(order), size), len(order)])
        session.begin(order[None], ends)
        session.take(0, torch.full((len(ends) - 1,), recipe.head_learning_rate, dtype=torch.float64), gradient)
    (W, μ), (to_W, to_μ) = (torch.split(row[0], [outputs * n, outputs]) for row in (trainees.parameters, gradient))
    with torch.no_grad():
        head.weight.copy_(W.view(outputs, n))
        head.bias.copy_(μ)
    head.weight.grad, head.bias.grad = to_W.view(outputs, n), to_μ


def _without_layers(features: int) -> Plan:
    return Plan(
        method="euler",
        first="",
        structure="dense",
        drive="identity",
        activation="identity",
        negative_slope=0.0,
        step=1.0,
        features=features,
        hidden=features,
        layers=0,
        shared=False,
        images=False,
        p_units=(0, 0),
        q_units=(0, 0),
    )
