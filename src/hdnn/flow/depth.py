"""Flows made from a flow: some of its layers, or the same horizon in finer steps.

Legend: N layers, h step; K_j and b_j the weights of layer j, which stand for the time (j + 1/2) h.
"""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hdnn.flow.parameters import refresh, trained
from hdnn.flow.settings import layer_range
from hdnn.interconnections import Interconnection

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


_OF_LAYERS = ("weight", "bias", "input_weight")


def part(flow: Flow, layers: int | slice) -> Flow:
    """A flow of some of the layers, with copies of their weights; see `Flow.__getitem__`."""
    start, stop = layer_range(layers, flow.layers)
    state = _values(flow)
    if not flow.shared:
        state.update({name: state[name][start:stop] for name in _OF_LAYERS if name in state})
    if flow.interconnection_matrix is not None and flow.interconnection_matrix.dim() == 3:
        state["interconnection_matrix"] = flow.interconnection_matrix[start:stop]
    return _remade(flow, stop - start, flow.step, flow.interconnection.layers(start, stop), state)


def refined(flow: Flow, factor: int) -> Flow:
    """The same horizon in `factor` times as many layers; see `Flow.refine`."""
    if not isinstance(factor, Integral) or isinstance(factor, bool) or factor < 1:
        raise ValueError(
            f"`factor` counts the new layers for each old one, a whole number of at least 1; got {factor}."
        )
    factor = int(factor)
    state = _values(flow)
    if not flow.shared:
        state.update({name: _interpolated(state[name], factor) for name in _OF_LAYERS if name in state})
    if flow.interconnection_matrix is not None and flow.interconnection_matrix.dim() == 3:
        state["interconnection_matrix"] = flow.interconnection_matrix.repeat_interleave(factor, dim=0)
    interconnection = flow.interconnection.refined(factor)
    layers = None if flow.recurrent else flow.layers * factor
    return _remade(flow, layers, flow.step / factor, interconnection, state)


def _values(flow: Flow) -> dict[str, Tensor]:
    """What the parameters and the constants of a flow are now, also those that PyTorch computes from others."""
    refresh(flow)
    names = (*_OF_LAYERS, "interconnection_weight", "interconnection_matrix", "damping_weight")
    return {name: value.detach() for name in names if (value := getattr(flow, name)) is not None}


def _interpolated(weights: Tensor, factor: int) -> Tensor:
    """(N, ...) values at the middles of N intervals to (N · factor, ...) at the middles of finer ones."""
    if not len(weights):
        return weights
    place = (torch.arange(len(weights) * factor, device=weights.device, dtype=torch.float64) + 0.5) / factor - 0.5
    place = place.clamp(0, len(weights) - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=len(weights) - 1)
    share = (place - before).to(weights.dtype).view(-1, *[1] * (weights.dim() - 1))
    return torch.lerp(weights[before], weights[after], share)


def _remade(
    flow: Flow, layers: int | None, step: float, interconnection: Interconnection, state: dict[str, Tensor]
) -> Flow:
    """A flow like another but for depth, step and weights; what was frozen stays frozen."""
    from hdnn.flow.module import Flow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what there is to say was said of the flow itself
        made = Flow(
            flow.features,
            layers,
            step=step,
            structure=flow.structure,
            interconnection=interconnection,
            activation=flow.activation,
            integrator=flow.integrator,
            space=flow.space,
            inputs=flow.inputs,
            shared=flow.shared,
            backend=flow.backend,
            memory=flow.memory,
            init_std=flow.init_std,
            device="meta",
            dtype=flow.weight.dtype,
        ).to_empty(device=flow.weight.device)
    made.load_state_dict(state)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(trained(flow, name))
    return made.train(flow.training)
