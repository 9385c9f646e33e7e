"""What the registered operators refuse: anyone may call them, with tensors that do not fit and plans that lie.

Calls of a flow do not come through here: its plan is made from factors that fit each other, and `calls` checks its
tensors. Legend: as in `calls`.
"""

from __future__ import annotations

import math

from torch import Tensor

from hdnn.kernels.backend import Backend, Layers
from hdnn.kernels.plan import Plan


def check(backend: Backend, plan: Plan, y: Tensor, layers: Layers, g: Tensor) -> None:
    """Refuse what a kernel would read or write beyond its end.

    Raises:
        ValueError: if tensors and plan are not what a flow would give.
    """
    if not _fits(plan, backend.full_weights(plan)):
        raise ValueError(
            f"The {backend.name} backend was given a plan that no flow has: {plan}. Plans are made by `hdnn.Flow`; "
            "call the flow."
        )
    weight, bias, W, _, flows = layers
    tensors = [x for x in (y, weight, bias, W, g) if x is not None]
    if any(x.dtype is not y.dtype or x.device != y.device for x in tensors):
        got = ", ".join(f"{x.dtype} on {x.device}" for x in tensors)
        raise ValueError(f"Tensors of a run are all of one kind and on one device; got {got}.")
    axes = (4 if plan.images else 2) + (flows > 0)
    states = (plan.layers + 1,) if plan.states and g is not y else ()
    if flows < 0 or y.dim() != axes or tuple(g.shape) != (*y.shape[: flows > 0], *states, *y.shape[flows > 0 :]):
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(
            f"States of this run have {axes} axes: rows by features, two axes of pixels where `images` says so, and a "
            f"first axis of flows where `flows` is not 0; got tensors of shapes {shapes}, flows={flows}."
        )
    if flows and any(x.dim() == 0 or x.shape[0] != flows for x in tensors):
        first = [tuple(x.shape) for x in tensors]
        raise ValueError(f"The run is of {flows} flows, so every tensor leads with {flows}; got {first}.")


def _fits(plan: Plan, full: bool) -> bool:
    """Whether sizes fit each other and no count of numbers overflows."""
    n, m, layers = plan.features, plan.hidden, plan.layers
    return (
        plan.method != "perceptron"
        and not (plan.images and (plan.driven or plan.states))
        and (n >= 1 and m >= 1 and 0 <= layers < 1 << 31 and layers * m * n < 1 << 60)
        and all(len(units) == 2 and min(units) >= 0 and sum(units) <= m for units in (plan.p_units, plan.q_units))
        and (plan.drive != "canonical" or n % 2 == 0)
        and (_halves_fit(plan, full) if plan.method == "partitioned" else _whole_fits(plan))
    )


def _whole_fits(plan: Plan) -> bool:
    return not plan.learn_damping and (plan.drive != "identity" or plan.hidden == plan.features)


def _halves_fit(plan: Plan, full: bool) -> bool:
    n, m = plan.features, plan.hidden
    if n % 2 or len(plan.fractions) < 2 or not 0 <= plan.damping < math.inf:
        return False
    if full:
        return plan.drive != "identity" or plan.p_units[1] == plan.q_units[1] == n // 2
    narrow = plan.structure == "block_skew" or plan.drive == "identity"
    return m % 2 == 0 and (m == n or not narrow)
