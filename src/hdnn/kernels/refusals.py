"""What the registered operators refuse: anyone may call them, with tensors that do not fit and plans that lie.

Calls of a flow do not come through here: its plan is made from factors that fit each other, and `calls` checks its
tensors. Legend: as in `calls`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.plan import Plan


def check(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, plan: Plan, name: str
) -> None:
    """Refuse what the kernels would read or write beyond its end.

    Raises:
        ValueError: if tensors and plan are not what a flow would give.
    """
    if not _fits(plan):
        raise ValueError(
            f"hdnn::{name} was given a plan that no flow has: {plan}. Plans are made by `hdnn.Flow`; call the flow."
        )
    tensors = [x for x in (y, weight, bias, W, g) if x is not None]
    if y.dtype not in (torch.float32, torch.float64) or any(x.dtype is not y.dtype for x in tensors):
        got = ", ".join(str(x.dtype) for x in tensors)
        raise ValueError(f"hdnn::{name} reads float32 or float64, all tensors alike; got {got}.")
    axes = (4 if plan.images else 2) + (flows > 0)
    if flows < 0 or y.dim() != axes or g.shape != y.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(
            f"hdnn::{name} reads states of {axes} axes here: rows by features, two axes of pixels where `images` says "
            f"so, and a first axis of flows where `flows` is not 0; got tensors of shapes {shapes}, flows={flows}."
        )
    if flows and any(x.dim() == 0 or x.shape[0] != flows for x in tensors):
        first = [tuple(x.shape) for x in tensors]
        raise ValueError(f"hdnn::{name} was told of {flows} flows, so every tensor leads with {flows}; got {first}.")


def _fits(plan: Plan) -> bool:
    """Whether words are known, sizes fit each other, and no count of numbers overflows."""
    n, m, layers = plan.features, plan.hidden, plan.layers
    units = (plan.p_units, plan.q_units)
    return (
        calls.knows(plan)
        and plan.method != "perceptron"
        and (n >= 1 and m >= 1 and 0 <= layers < 1 << 31)
        and (all(len(u) == 2 and min(u) >= 0 and sum(u) <= m for u in units))
        and layers * m * n < 1 << 60
        and (plan.drive != "canonical" or n % 2 == 0)
        and (_euler_fits(plan) if plan.method == "euler" else n % 2 == 0 and _halves_fit(plan))
    )


def _euler_fits(plan: Plan) -> bool:
    return plan.drive != "identity" or plan.hidden == plan.features


def _halves_fit(plan: Plan) -> bool:
    n, m = plan.features, plan.hidden
    if calls.full_weights(plan):
        return plan.drive != "identity" or plan.p_units[1] == plan.q_units[1] == n // 2
    narrow = plan.structure == "block_skew" or plan.drive == "identity"
    return m % 2 == 0 and (m == n or not narrow)
