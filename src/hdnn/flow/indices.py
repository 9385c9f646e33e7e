"""Where the free numbers of a flow stand in K and J: integers that are no state of the model.

A buffer would be averaged, cast, sharded or emptied with the weights, and a number of an index that is averaged moves a
weight to another place of K. So these constants follow from the factors alone, and each device gets one copy of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdnn.hamiltonian import Hamiltonian
from hdnn.kernels import transforms

_CPU = torch.device("cpu")


class Places(NamedTuple):
    """The index of K and that of a learned J, see `hdnn.entries`; None where `build` reads none."""

    weight: Tensor | None
    interconnection: Tensor | None

    def to(self, device: torch.device) -> Places:
        """Both on another device."""
        return Places(*(None if index is None else index.to(device) for index in self))


class Indices:
    """The places of a Hamiltonian on every device that asks for them.

    They are made once, on the CPU, when the flow is made; copies of the flow share them, and its pickles leave them
    out.

    Args:
        hamiltonian: whose structure and interconnection are asked.
        layers: N.
    """

    def __init__(self, hamiltonian: Hamiltonian, layers: int | None) -> None:
        self._arguments = hamiltonian, layers
        structure, interconnection, features = hamiltonian.structure, hamiltonian.interconnection, hamiltonian.features
        weight = structure.index(features, hamiltonian.space) if structure.indexed else None
        learned = interconnection.constant(features, layers or 0) if interconnection.free_shape(features) else None
        self._on = {_CPU: Places(weight, learned)}

    def on(self, device: torch.device) -> Places:
        """The places on a device."""
        found = self._on.get(device)
        if found is None:
            found = self._on[_CPU].to(device)
            if _outlasts(found):
                self._on[device] = found
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Indices:
        return self

    def __reduce__(self) -> tuple[type[Indices], tuple[Hamiltonian, int | None]]:
        return Indices, self._arguments


def _outlasts(places: Places) -> bool:
    """Whether these are numbers, and nothing that a compiler, an exporter or a transform makes up for a while."""
    traced = torch.compiler.is_compiling() or transforms.transformed() or transforms.watched()
    return not traced and all(index is None or (type(index) is Tensor and not index.is_meta) for index in places)


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """What a pickled flow holds, also one of hdnn 0.1.0, where the indices were buffers."""
    state = dict(state)
    old = {"structure_index", "interconnection_index"}
    state["_buffers"] = {name: buffer for name, buffer in state["_buffers"].items() if name not in old}
    state["_non_persistent_buffers_set"] = state["_non_persistent_buffers_set"] - old
    if "_indices" not in state:
        state["_indices"] = Indices(state["hamiltonian"], state["_layers"])
    state.setdefault("_inputs", None)
    # Behind the others: optimizers count parameters.
    late = dict.fromkeys(("input_weight", "damping_weight", "unit_weight"))
    state["_parameters"] = {**state["_parameters"], **{k: v for k, v in late.items() if k not in state["_parameters"]}}
    return {name: value for name, value in state.items() if name not in old}
