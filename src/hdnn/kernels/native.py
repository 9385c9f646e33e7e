"""The fused backend: all layers, forward or backward, in one compiled call."""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.kernels import calls, operators, transforms
from hdnn.kernels.plan import Plan


def available() -> bool:
    """Whether the compiled extension is part of this installation."""
    return calls.extension is not None


def describe() -> str:
    """One line for `hdnn info`."""
    extension = calls.extension
    if extension is None:
        return f"not available: {calls.why_not}"
    return f"available ({extension.instruction_set()}, {'OpenMP' if extension.has_openmp() else 'one thread'})"


def instruction_set() -> str:
    """The instruction set that the kernels run with, "none" where the extension is missing; bits depend on it."""
    return "none" if calls.extension is None else str(calls.extension.instruction_set())


def serves(y: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can run these tensors here and now.

    They take CPU tensors, both float32 or both float64, and know reverse mode alone. Under `torch.export` and
    `torch.jit.trace` the eager path runs, so that programs need no hdnn, and so it does under transforms inside a
    compiled function, which know neither our rule of vmap nor our second derivatives.
    """
    dtype = y.dtype
    return (
        y.is_cpu
        and weight.is_cpu
        and dtype is weight.dtype
        and (dtype is torch.float32 or dtype is torch.float64)
        and not transforms.forward_mode()
        and not (torch.compiler.is_compiling() and (transforms.exporting() or transforms.transformed()))
        and not transforms.tracing()
    )


def wants_full_weights(plan: Plan) -> bool:
    """Whether the kernels want K in full (S, m, n) instead of the free numbers of its structure."""
    return calls.full_weights(plan)


def run(
    plan: Plan, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, again: operators.Again | None = None
) -> Tensor:
    """The states after the last layer.

    Args:
        plan: what to run.
        y: (..., n), or (B, n, H, W).
        weight: free numbers (S, ...), or K (S, m, n) where `wants_full_weights`.
        bias: (S, m).
        W: K Jᵀ, (N or 1, m, n), for plans whose drive is "matrix".
        again: the same run layer by layer, to differentiate gradients with; without it second derivatives raise.

    Returns:
        The shape of y.
    """
    if y.dim() == (4 if plan.images else 2):
        return operators.apply(y, weight, bias, W, plan, again)
    states = y.unsqueeze(0) if plan.images else y.reshape(-1, plan.features)
    return operators.apply(states, weight, bias, W, plan, again).reshape(y.shape)
