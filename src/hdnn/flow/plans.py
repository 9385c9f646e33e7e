"""From the factors of a flow to the plain values that a fused kernel reads."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hdnn.activations import LeakyReLU
from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import Integrator, SymplecticEuler
from hdnn.kernels import native
from hdnn.kernels.plan import Plan
from hdnn.spaces import Images, Vectors
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, Masked, OffDiagonal, Skew, Structure

_STRUCTURES: dict[type[Structure], str] = {
    Dense: "dense",
    Skew: "skew",
    BlockSkew: "block_skew",
    OffDiagonal: "off_diagonal",
    BlockDiagonal: "block_diagonal",
    Masked: "masked",
}


def make_plan(hamiltonian: Hamiltonian, integrator: Integrator, step: float, layers: int, shared: bool) -> Plan | None:
    """What a fused kernel would be asked to run; None where only the eager path serves.

    Args:
        hamiltonian: structure, interconnection, activation and sizes.
        integrator: how a step is taken.
        step: h.
        layers: N.
        shared: one K and b for all layers.
    """
    activation = hamiltonian.activation
    structure = _STRUCTURES.get(type(hamiltonian.structure))
    space = hamiltonian.space
    plain = space.pointwise and type(space) in (Vectors, Images)
    if integrator.kernel is None or activation.kernel is None or structure is None or not plain:
        return None
    units = hamiltonian.units if integrator.separable_only else (slice(0, 0), slice(0, 0))
    p, q = units
    if not (isinstance(p, slice) and isinstance(q, slice)):
        return None
    drive: Literal["identity", "canonical", "matrix"] = "canonical" if hamiltonian.canonical else "matrix"
    return Plan(
        method=integrator.kernel,
        first=integrator.first if isinstance(integrator, SymplecticEuler) else "",
        structure=structure,
        drive="identity" if hamiltonian.interconnection.is_inverse else drive,
        activation=activation.kernel,
        negative_slope=activation.negative_slope if isinstance(activation, LeakyReLU) else 0.0,
        step=step,
        features=hamiltonian.features,
        hidden=hamiltonian.hidden,
        layers=layers,
        shared=shared,
        images=bool(space.taps),
        p_units=(p.start, p.stop - p.start),
        q_units=(q.start, q.stop - q.start),
    )


def served(plan: Plan | None, backend: str, memory: str | None, y: Tensor, weight: Tensor) -> Plan | None:
    """The plan where the native backend takes this call, None where the eager path does.

    The kernels keep no layer, so every `memory` but "store" leaves the choice of the path open.

    Raises:
        ValueError: if the user named the native backend and it cannot take the call.
    """
    if backend == "eager" or memory == "store" or plan is None or not native.available():
        return None
    if native.serves(y, weight):
        return plan
    if backend == "native":
        raise ValueError(
            'backend="native" takes CPU tensors, state and weights both float32 or both float64, no forward-mode '
            "differentiation, no transform of torch.func inside a compiled function, and nothing that writes a program "
            f"down (torch.export, torch.jit.trace); got a {y.dtype} state on {y.device} and {weight.dtype} weights on "
            f"{weight.device}. "
            f'Convert them, or use backend="auto" or "eager".'
        )
    return None
