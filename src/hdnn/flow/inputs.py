"""What a call of a flow brings besides the state: edges of a graph, and inputs that drive the steps, b + V u.

Legend: N steps, d inputs, m hidden units; u (N, ..., d), V (m, d) the input weights of a step, G (n, d) those of ports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.flow.parameters import refresh
from hdnn.flow.settings import check_directed, check_layer
from hdnn.hamiltonian import More
from hdnn.spaces import Space

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def bound(flow: Flow, y: Tensor | None, inputs: Tensor | None, call: Mapping[str, Any]) -> tuple[Space, Tensor]:
    """The space with what a call brings, and the biases of all steps, b + V u where inputs drive the flow.

    Raises:
        TypeError: if the call brings what the flow does not know.
        ValueError: if something is missing or does not fit, or K = −Kᵀ does not hold on a directed graph.
    """
    refresh(flow)
    space = flow.space.bind(y, **{name: value for name, value in call.items() if name != "ports"})
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
    _check("inputs", flow, u, V, y)
    if len(V) == 1:
        return functional.linear(u, V[0], flow.bias[0])
    # Sizes in full: where there are no samples or no steps, nothing says what −1 stands for.
    rows = u.reshape(len(u), math.prod(u.shape[1:-1]), d)
    b = torch.baddbmm(flow.bias.unsqueeze(1), rows, V.mT)
    return b.reshape(*u.shape[:-1], b.shape[-1])


def ported(flow: Flow, u: Tensor | None, y: Tensor | None = None) -> Tensor | None:
    """G u of all steps, (N, ..., n); None of flows without ports, or where a call that needs none leaves them out.

    Args:
        flow: its G.
        u: (N, ..., d), one entry a step.
        y: the state that they drive; None where only the weights are asked for.

    Raises:
        TypeError: if ports are given to a flow that has none, or are no tensor of its numbers.
        ValueError: if they are missing, or of another size.
    """
    if flow.ports is None:
        if u is not None:
            raise TypeError("This flow has no `ports`; make it with `ports=d`, d numbers that drive it from outside.")
        return None
    if u is None:
        if y is None:
            return None
        raise ValueError(f"This flow has ports: give `ports=` (N, ..., {flow.ports}), one entry a step.")
    G: Tensor = flow.port_weight
    _check("ports", flow, u, G, y)
    return functional.linear(u, G)


def more(flow: Flow, c: Tensor | None = None) -> More:
    """What the layers of a flow have beside K, b and J, with G u of a call."""
    S = None
    if flow.hamiltonian.own is not None and flow.interconnection.of_state is None:
        J = flow._J()
        S = J if J is None or J.dim() == 3 else J.unsqueeze(0)
    learned = flow.damping_weight
    damping = None if learned is None else learned.square()
    a = None if flow.unit_weight is None else flow.unit_weight.square()
    if a is None and flow._beside.unit_weights is not None:
        a = flow.fixed_unit_weight
    return More(damping, a, S, c, flow._start + flow.step / 2, flow.step)


def of_layer(
    flow: Flow, y: Tensor, layer: int, inputs: Tensor | None, call: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor, Space, More]:
    """K and b of one layer, the state, the space, and what else the layer has: what its energy is computed from."""
    space, b = bound(flow, y, inputs, call)
    count = len(b) if flow.recurrent else flow.layers
    check_layer(layer, count)
    stored = 0 if flow.shared else layer
    extra = more(flow)
    a = None if extra.a is None else extra.a[0 if len(extra.a) == 1 else stored]
    extra = extra._replace(a=a, start=extra.start + layer % count * flow.step)
    return flow.K[stored], b[stored if inputs is None else layer], y, space, extra


def _check(name: str, flow: Flow, u: object, weight: Tensor, y: Tensor | None) -> None:
    """Refuse what is no tensor (N, ..., d) of the numbers of the weights that fits the state."""
    d = weight.shape[-1]
    if not isinstance(u, Tensor) or u.dtype is not weight.dtype:
        got = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise TypeError(f"`{name}` must be a tensor of {weight.dtype}, like the weights; got {got}.")
    if u.device != weight.device:
        raise ValueError(f"`{name}` are on {u.device} and the flow on {weight.device}. Move one of them.")
    steps = "N" if flow.recurrent else str(flow.layers)
    if u.dim() < 2 or u.shape[-1] != d or (not flow.recurrent and len(u) != flow.layers):
        raise ValueError(f"Expected {name} of shape ({steps}, ..., {d}), one entry a step; got {tuple(u.shape)}.")
    samples = u.shape[1:-1] if y is None else y.shape[: flow.space.axis]
    # No tuple to look into: a compiler leaves sizes open, and finds none of those in it.
    odd = [a for a, b in zip(u.shape[-2:0:-1], reversed(samples), strict=False) if a != b and a != 1]
    if odd or len(samples) < u.dim() - 2:
        raise ValueError(
            f"Expected {name} of shape ({steps}, ..., {d}) with axes between that fit those of the state before its "
            f"features, {tuple(samples)}; got {tuple(u.shape)}."
        )
