"""What a flow has beside K, b and J: an energy of one's own, weights of its units, ports.

Legend: n features, m hidden units; E(y, t) the energy, a (m,) > 0 the weights in H = aᵀ σ̃(K y + b) + E, G (n, d) of
G u.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hdnn.arguments import shown, truth, whole
from hdnn.energies import Energy, check_curvature
from hdnn.entries import Slot
from hdnn.hamiltonian import Hamiltonian

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


class Beside(NamedTuple):
    """Weights of units and ports, as they were given.

    Attributes:
        unit_weights: a (m,), float64 on the CPU; None where all are 1 for good.
        learned: whether every layer trains its own a = g² from there.
        ports: G (n, d), float64 on the CPU; d of a learned one; None without ports.
    """

    unit_weights: Tensor | None = None
    learned: bool = False
    ports: Tensor | int | None = None

    def __bool__(self) -> bool:
        return self.unit_weights is not None or self.ports is not None

    def slots(self, features: int, stored: int) -> dict[str, Slot]:
        """What a flow keeps of them, by name."""
        found, a, G = {}, self.unit_weights, self.ports
        if a is not None and self.learned:
            found["unit_weight"] = Slot((stored, len(a)), a.sqrt().expand(stored, -1))
        elif a is not None:
            found["fixed_unit_weight"] = Slot((1, len(a)), a.unsqueeze(0), trained=False)
        if isinstance(G, Tensor):
            found["port_weight"] = Slot(tuple(G.shape), G, trained=False)
        elif G is not None:
            found["port_weight"] = Slot((features, G), 1 / math.sqrt(G))
        return found


def beside(
    unit_weights: Tensor | float | None, learned: bool, ports: Tensor | int | None, hamiltonian: Hamiltonian
) -> Beside:
    """Both, checked.

    Raises:
        ValueError: if weights are not positive, or sizes do not fit.
    """
    learned = truth("learn_unit_weights", learned)
    return Beside(_units(unit_weights, learned, hamiltonian.hidden), learned, _ports(ports, hamiltonian.features))


def _units(weights: Tensor | float | None, learned: bool, hidden: int) -> Tensor | None:
    if not learned and weights is None:
        return None
    a = _as_numbers(1.0 if weights is None else weights)
    if a.dim() > 1 or (a.dim() == 1 and len(a) != hidden) or not (a.isfinite() & (a > 0)).all():
        raise ValueError(
            f"`unit_weights` must be positive, one number or one for each of the {hidden} hidden units; got "
            f"{tuple(a.shape) if isinstance(weights, Tensor) else shown(weights)}."
        )
    return a.expand(hidden).clone()


def _as_numbers(weights: Any) -> Tensor:
    truths = isinstance(weights, bool) or (isinstance(weights, Tensor) and weights.dtype is torch.bool)
    with suppress(RuntimeError, TypeError, ValueError):
        if not truths:
            return torch.as_tensor(weights, dtype=torch.float64, device="cpu").detach()
    got = "truths" if isinstance(weights, Tensor) else shown(weights)
    raise TypeError(f"`unit_weights` must be a number, or a tensor (m,) of one for each hidden unit; got {got}.")


def _ports(ports: Tensor | int | None, features: int) -> Tensor | int | None:
    if ports is None or not isinstance(ports, Tensor):
        if ports is not None and whole("ports", ports) < 1:
            raise ValueError(f"`ports` counts the numbers that drive the flow from outside, at least 1; got {ports}.")
        return ports
    if ports.dim() != 2 or len(ports) != features or not ports.shape[1] or not ports.isfinite().all():
        raise ValueError(
            f"`ports` must be a finite matrix G ({features}, d), or d where it is learned; got {tuple(ports.shape)}."
        )
    return ports.detach().to("cpu", torch.float64, copy=True)


def width_of_ports(flow: Flow) -> int | None:
    """d, numbers that drive every step from outside; None where nothing does."""
    G = flow._beside.ports  # no property of a tuple: compilers before PyTorch 2.11 cannot read one
    return G.shape[1] if isinstance(G, Tensor) else G


def checked_energy(energy: Energy | None, device: torch.device | str | None, dtype: torch.dtype) -> Energy | None:
    """An energy of one's own, on the device and in the numbers of the flow.

    Raises:
        TypeError: if it is none.
        ValueError: if its curvature is no pair of bounds.
    """
    if energy is None:
        return None
    if not isinstance(energy, Energy):
        raise TypeError(
            f"`energy` must be an `Energy`, a module with `value(y, t)`; got {shown(energy)}. Subclass `hdnn.Energy`, "
            f"or use `Separable(T, V)` or `Quadratic(Q)`."
        )
    check_curvature(energy)
    return energy.to(device=device, dtype=dtype)


def adopt(module: nn.Module, hamiltonian: Hamiltonian, device: torch.device | str | None, dtype: torch.dtype) -> None:
    """Take the modules that factors bring: an energy of one's own, and what gives J(y)."""
    if hamiltonian.own is not None:
        module.add_module("own_energy", hamiltonian.own)
        module.register_state_dict_post_hook(_with_start)  # type: ignore[no-untyped-call]
        module.register_load_state_dict_pre_hook(_take_start)  # type: ignore[no-untyped-call]
    J = hamiltonian.interconnection.of_state
    if isinstance(J, nn.Module):
        module.add_module("state_dependent_interconnection", J.to(device=device, dtype=dtype))


# The time of the first layer is a Python number and no buffer, which a cast would round. PyTorch's name for what a
# module keeps beside tensors is known to its checkpoints of many processes, too.
_START = "_extra_state"


def _with_start(flow: Flow, state: dict[str, Any], prefix: str, _: object) -> None:
    """Write t of the first layer into the state: E(y, t) of a part of a flow goes on from there."""
    state[prefix + _START] = torch.tensor(flow._start, dtype=torch.float64, device="cpu")


def _take_start(flow: Flow, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Read it; a state of an earlier version has none."""
    start = state.pop(prefix + _START, None)
    if start is not None and not (isinstance(start, Tensor) and start.is_meta):
        flow._start = float(start)
