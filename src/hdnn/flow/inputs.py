"""What a call of a flow brings besides the state: edges of a graph, and inputs that drive the steps, b + V u.

Legend: N steps, d inputs, m hidden units; u (N, ..., d), V (m, d) the input weights of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.flow.settings import check_directed
from hdnn.spaces import Space

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def bound(flow: Flow, y: Tensor | None, inputs: Tensor | None, call: Mapping[str, Any]) -> tuple[Space, Tensor]:
    """The space with what a call brings, and the biases of all steps, b + V u where inputs drive the flow.

    Raises:
        TypeError: if the call brings what the flow does not know.
        ValueError: if something is missing or does not fit, or K = −Kᵀ does not hold on a directed graph.
    """
    space = flow.space.bind(y, **call)
    check_directed(flow.integrator, flow.hamiltonian, space)
    # Without a call it is the weights alone that are asked for.
    return space, flow.bias if y is None and inputs is None else driven(flow, inputs, y)


def driven(flow: Flow, u: Tensor | None, y: Tensor | None = None) -> Tensor:
    """The biases of all steps: (N, m) or (1, m) as they are stored, (N, ..., m) with inputs.

    Args:
        flow: its weights.
        u: (N, ..., d), one entry a step; None for flows without inputs.
        y: the state that they drive.

    Raises:
        TypeError: if inputs are given to a flow that takes none, or are no tensor of its numbers.
        ValueError: if they are missing, or of another size.
    """
    d, V = flow.inputs, flow.input_weight
    if d is None or V is None:
        if u is not None:
            raise TypeError("This flow takes no `inputs`; make it with `inputs=d`, d numbers that drive every step.")
        return flow.bias
    if u is None:
        raise ValueError(f"This flow is driven: give `inputs=` (N, ..., {d}), one entry a step.")
    if not isinstance(u, Tensor) or u.dtype is not V.dtype:
        got = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise TypeError(f"`inputs` must be a tensor of {V.dtype}, like the weights; got {got}.")
    if u.device != V.device:
        raise ValueError(f"`inputs` are on {u.device} and the flow on {V.device}. Move one of them.")
    steps = "N" if flow.recurrent else str(flow.layers)
    if u.dim() < 2 or u.shape[-1] != d or (not flow.recurrent and len(u) != flow.layers):
        raise ValueError(f"Expected inputs of shape ({steps}, ..., {d}), one entry a step; got {tuple(u.shape)}.")
    samples = u.shape[1:-1] if y is None else y.shape[: flow.space.axis]
    # No tuple to look into: a compiler leaves sizes open, and finds none of those in it.
    odd = [a for a, b in zip(u.shape[-2:0:-1], reversed(samples), strict=False) if a != b and a != 1]
    if odd or len(samples) < u.dim() - 2:
        raise ValueError(
            f"Expected inputs of shape ({steps}, ..., {d}) with axes between that fit those of the state before its "
            f"features, {tuple(samples)}; got {tuple(u.shape)}."
        )
    if len(V) == 1:
        return functional.linear(u, V[0], flow.bias[0])
    rows = u.reshape(len(u), -1, d)
    b = torch.baddbmm(flow.bias.unsqueeze(1), rows, V.mT)
    return b.reshape(*u.shape[:-1], -1)
