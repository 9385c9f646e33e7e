"""Attributes of a flow: those that may be set are checked like arguments, the others are kept for life."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hdnn.flow.beside import checked_energy
from hdnn.flow.parameters import inverse_transpose, refresh
from hdnn.spaces import VECTORS

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def setting(name: str, meaning: str, *, of_equation: bool = False) -> Any:
    """An attribute that may be set, and is then checked with all that it must fit.

    Args:
        name: of the attribute.
        meaning: its documentation.
        of_equation: whether it stands in the flow's `hamiltonian`.
    """

    def set(flow: Flow, value: object) -> None:
        flow._settle(**{name: value})

    return property(_getter(name, of_equation), set, doc=meaning)


def constant(name: str, meaning: str, *, of_equation: bool = False, read: Callable[[Any], object] | None = None) -> Any:
    """An attribute that stays as it is, since the weights were made for it; arguments as for `setting`.

    Args:
        name: of the attribute.
        meaning: its documentation.
        of_equation: whether it stands in the flow's `hamiltonian`.
        read: what to make of it when it is read.
    """
    get = _getter(name, of_equation)

    def refuse(flow: Flow, value: object) -> None:
        raise AttributeError(
            f"A flow keeps its `{name}` for life, for its weights were made for it. Make another flow with "
            f"{name}={value!r}."
        )

    return property(get if read is None else lambda flow: read(get(flow)), refuse, doc=meaning)


def promise(of_flow: Callable[[Flow], object]) -> Any:
    """What a flow says of itself, documented where it is computed."""
    return property(of_flow, doc=of_flow.__doc__)


def _getter(name: str, of_equation: bool) -> Callable[[Flow], object]:
    own = f"_{name}"

    def of_flow(flow: Flow) -> object:
        return getattr(flow, own)

    def of_hamiltonian(flow: Flow) -> object:
        return getattr(flow.hamiltonian, name)

    return of_hamiltonian if of_equation else of_flow


def assigned(flow: Flow, name: str, value: Any) -> None:
    """`flow.name = value`; another energy of one's own is checked like the argument, and the flow follows it.

    Raises:
        AttributeError: if a flow has none that another could replace, or J(y) is to be replaced.
        TypeError: if it is no `Energy`.
        ValueError: if the integrator cannot take it.
    """
    if name == "own_energy" or (name == "energy" and isinstance(value, nn.Module)):
        if name == "energy" or flow.hamiltonian.own is None or value is None:
            raise AttributeError(
                "A flow has an energy of its own or none for life. Make another flow with `energy=`, or replace the "
                "energy of one that has one: `flow.own_energy = E`."
            )
        value = checked_energy(value, flow.weight.device, flow.weight.dtype)
        equation = dataclasses.replace(flow.hamiltonian, own=value)
        flow._choose(equation, flow.integrator, flow.backend, flow.memory)
    elif name == "state_dependent_interconnection":
        raise AttributeError(
            "A flow keeps its J(y) for life. Replace the module that gives its entries, "
            "`flow.state_dependent_interconnection.module = net`, or make another flow."
        )
    nn.Module.__setattr__(flow, name, value)


SETTINGS = ("activation", "integrator", "backend", "memory", "init_std")
_RENAMED = ("layers", "shared", "backend", "memory", "integrator", "init_std")


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """What a pickled flow holds, where hdnn 0.1.0 kept the attributes under their own names."""
    state = {name: value for name, value in state.items() if name != "features"}
    return {f"_{name}" if name in _RENAMED else name: value for name, value in state.items()}


def built(flow: Flow) -> Tensor:
    """The weights of all layers, (N, m, n) and the taps, as (k, k) of images; N = 1 where they are shared."""
    refresh(flow)
    weight = flow.weight
    return flow.structure.build(weight, flow.places(weight.device).weight)


def turning(flow: Flow) -> Tensor:
    """The interconnection, (n, n), or (N, n, n) where it varies by layer; for `Inverse`, J = K⁻ᵀ.

    Raises:
        ValueError: for `Inverse`, where K has no inverse: odd n, a singular K, or weights of more than one tap; and for
            a J of the state.
    """
    if (J := flow._J()) is not None:
        return J
    if flow.interconnection.of_state is not None:
        raise ValueError("J(y) depends on the state: `flow.interconnection.of_state(y)` gives it.")
    J = inverse_transpose(flow.K)
    return J[0] if flow.shared else J


def described(flow: Flow, *, how: bool = True) -> str:
    """The sizes and the factors, as a flow prints them; `how` it runs, which is not what it is, may be left out."""
    sizes = f"features={flow.features}, layers={flow._layers}, step={flow.step:g}"
    sizes += f", space={flow.space!r}" if flow.space != VECTORS else ""
    sizes += f", inputs={flow._inputs}" if flow._inputs is not None else ""
    sizes += f", ports={flow.ports}" if flow.ports is not None else ""
    sizes += ", shared=True" if flow.shared else ""
    sizes += f", backend={flow.backend!r}" if how and flow.backend != "auto" else ""
    sizes += f", memory={flow.memory!r}" if how and flow.memory is not None else ""
    return (
        f"{sizes},\nstructure={flow.structure!r},\ninterconnection={flow.interconnection!r},\n"
        f"activation={flow.activation!r},\nintegrator={flow.integrator!r}"
    )
