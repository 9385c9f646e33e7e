"""From a flow to what a backend reads: the numbers of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hdnn.flow.inputs import bound, more, ported
from hdnn.flow.memory import loop
from hdnn.kernels.backend import Backend, Layers
from hdnn.kernels.plan import Plan

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def layers_of(
    flow: Flow,
    backend: Backend,
    plan: Plan | None,
    weight: Tensor,
    y: Tensor,
    inputs: Tensor | None,
    call: Mapping[str, Any],
) -> Layers:
    """What a backend reads of a flow, and of what a call brings.

    Args:
        flow: its factors.
        backend: that runs the call.
        plan: of the call.
        weight: the weights of the flow, read once.
        y: the state.
        inputs: as for `Flow.forward`, like all that the call brings.
        call: as for `Flow.forward`.
    """
    factors, states = flow.hamiltonian, plan is not None and plan.states
    plan = plan if backend.fused else None
    if plan is None or call or inputs is not None or plan.driven:
        space, b = bound(flow, y, inputs, call)
    else:  # nothing to ask for; small flows notice what that costs
        space, b = factors.space, flow.bias
    full, W = plan is None or backend.full_weights(plan), None
    if full:
        weight = factors.structure.build(weight, flow.places(weight.device).weight)
    if plan is None or plan.drive == "matrix":
        W = factors.interconnection.drive(flow._J(), weight, factors.space)
    if plan is not None and plan.driven:  # one number a step, sample and unit
        b = b.reshape(len(b), *[1] * (y.dim() + 1 - b.dim()), *b.shape[1:])
        b = b.expand(-1, *y.shape[:-1], -1).flatten(1, -2) if y.dim() > 1 else b.unsqueeze(1)
    g = flow.damping_weight if plan is not None else None
    if g is not None:
        b = torch.cat([b.flatten(), g])
    if plan is not None and flow._backend != "auto":
        return Layers(weight, b, W)  # what is named never falls back
    extra = more(flow, ported(flow, call.get("ports"), y))
    extra = extra if g is None else extra._replace(damping=None)
    return Layers(weight, b, W, partial(loop, flow, space, full, extra, states))
