"""From a flow to what a kernel is asked to run: the plain values of its factors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import Integrator
from hdnn.kernels.plan import Plan

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def make_plan(
    hamiltonian: Hamiltonian, integrator: Integrator, step: float, layers: int, shared: bool, driven: bool
) -> Plan | None:
    """What a fused kernel would be asked to run; None where only the eager path serves.

    Args:
        hamiltonian: structure, interconnection, activation and sizes.
        integrator: how a step is taken.
        step: h.
        layers: N.
        shared: one K and b for all layers.
        driven: whether inputs drive every step.
    """
    structure, space = hamiltonian.structure.kernel, hamiltonian.space
    if not (structure and space.kernel and space.pointwise):
        return None
    if driven and (space.kernel == "images" or integrator.learn_damping):
        return None
    return plan_of_factors(hamiltonian, integrator, step, layers, shared, structure, driven)


def plan_of_factors(
    hamiltonian: Hamiltonian, integrator: Integrator, step: float, layers: int, shared: bool, structure: str = "dense",
    driven: bool = False,
) -> Plan | None:  # fmt: skip
    """As `make_plan`, whatever the space is, and the structure where K comes in full."""
    method, activation = integrator.kernel, hamiltonian.activation
    if hamiltonian.beyond_units or not (method and activation.kernel):
        return None
    units = hamiltonian.units if integrator.separable_only else (slice(0, 0), slice(0, 0))
    p, q = units
    if not (isinstance(p, slice) and isinstance(q, slice)):
        return None
    drive: Literal["identity", "canonical", "matrix"] = "canonical" if hamiltonian.canonical else "matrix"
    return Plan(
        method=method,
        first=integrator.first,
        structure=structure,
        drive="identity" if hamiltonian.interconnection.is_inverse else drive,
        activation=activation.kernel,
        negative_slope=activation.negative_slope,
        step=step,
        features=hamiltonian.features,
        hidden=hamiltonian.hidden,
        layers=layers,
        shared=shared,
        images=hamiltonian.space.kernel == "images",
        p_units=(p.start, p.stop - p.start),
        q_units=(q.start, q.stop - q.start),
        fractions=tuple(map(float, integrator.fractions)),
        damping=integrator.damping,
        learn_damping=integrator.learn_damping,
        driven=driven,
    )


def plan_of_call(flow: Flow, inputs: Tensor | None, states: bool = False) -> Plan | None:
    """The plan of one call: inputs may say how many steps it takes."""
    plan = flow.plan
    if plan is None or not plan.driven:
        return plan
    layers = len(inputs) if isinstance(inputs, Tensor) and inputs.dim() else 0
    return replace(plan, layers=layers if flow.recurrent else plan.layers, states=states)
