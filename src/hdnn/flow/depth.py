"""Flows made from a flow: some of its layers, or the same horizon in finer steps.

Legend: N layers, h step; K_j and b_j the weights of layer j, which stand for the time (j + 1/2) h.
"""

from __future__ import annotations

import copy
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


OF_LAYERS = ("weight", "bias", "input_weight", "unit_weight")
_OF_ALL = ("interconnection_weight", "interconnection_matrix", "damping_weight", "fixed_unit_weight", "port_weight")
_MODULES = ("own_energy.", "state_dependent_interconnection.")


def part(flow: Flow, layers: int | slice) -> Flow:
    """A flow of some of the layers, with copies of their weights; see `Flow.__getitem__`."""
    start, stop = layer_range(layers, flow.layers)
    state = _values(flow)
    if not flow.shared:
        state.update({name: state[name][start:stop] for name in OF_LAYERS if name in state})
    if flow.interconnection_matrix is not None and flow.interconnection_matrix.dim() == 3:
        state["interconnection_matrix"] = flow.interconnection_matrix[start:stop]
    made = _remade(flow, stop - start, flow.step, flow.interconnection.layers(start, stop), state)
    made._start = flow._start + start * flow.step
    return made


def refined(flow: Flow, factor: int) -> Flow:
    """The same horizon in `factor` times as many layers; see `Flow.refine`."""
    if not isinstance(factor, Integral) or isinstance(factor, bool) or factor < 1:
        raise ValueError(
            f"`factor` counts the new layers for each old one, a whole number of at least 1; got {factor}."
        )
    factor = int(factor)
    state = _values(flow)
    if not flow.shared:
        state.update({name: _interpolated(state[name], factor) for name in OF_LAYERS if name in state})
    if flow.interconnection_matrix is not None and flow.interconnection_matrix.dim() == 3:
        state["interconnection_matrix"] = flow.interconnection_matrix.repeat_interleave(factor, dim=0)
    interconnection = flow.interconnection.refined(factor)
    layers = None if flow.recurrent else flow.layers * factor
    made = _remade(flow, layers, flow.step / factor, interconnection, state)
    made._start = flow._start
    return made


def _values(flow: Flow) -> dict[str, Tensor]:
    """What the parameters and the constants of a flow are now, also those that PyTorch computes from others."""
    refresh(flow)
    found = {n: value.detach() for n in (*OF_LAYERS, *_OF_ALL) if (value := getattr(flow, n, None)) is not None}
    return found | {name: value for name, value in flow.state_dict().items() if name.startswith(_MODULES)}


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

    # Modules keep more than their state, such as constants that are no part of it: they are copied as they are.
    device = flow.weight.device if flow.hamiltonian.beyond_units else torch.device("meta")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # what there is to say was said of the flow itself
        made = Flow(
            flow.features,
            layers,
            step=step,
            structure=flow.structure,
            interconnection=copy.deepcopy(interconnection) if interconnection.of_state else interconnection,
            energy=copy.deepcopy(flow.hamiltonian.own),
            unit_weights=flow._beside.unit_weights,
            learn_unit_weights=flow._beside.learned,
            ports=flow._beside.ports,
            activation=flow.activation,
            integrator=flow.integrator,
            space=flow.space,
            inputs=flow.inputs,
            shared=flow.shared,
            backend=flow.backend,
            memory=flow.memory,
            init_std=flow.init_std,
            device=device,
            dtype=flow.weight.dtype,
        )
    if device.type == "meta":
        made = made.to_empty(device=flow.weight.device)
    made.load_state_dict(state)
    for name, parameter in made.named_parameters():
        owner, _, own = name.rpartition(".")
        parameter.requires_grad_(trained(flow.get_submodule(owner), own))
    return made.train(flow.training)
