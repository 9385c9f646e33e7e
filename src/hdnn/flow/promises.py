"""What a flow promises: the conjunction of what its factors state, never read off one of them.

Legend: M = ∂y_N/∂y_0, J the interconnection, γ the damping of the momenta, T the horizon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def damping(flow: Flow) -> float:
    """γ, the rate at which the momenta decay, as it is now where it is learned; 0 where nothing is damped."""
    learned = flow.damping_weight
    return flow.integrator.damping if learned is None else float(learned.detach().square())


def preserves_structure(flow: Flow) -> bool:
    """Whether M J Mᵀ = J with this flow's `J` at every input (M = ∂y_N/∂y_0), up to rounding.

    True when all layers share one constant skew J and the integrator keeps it. For a canonical J this is
    symplecticity. J acts at every position of a state; that of `Inverse` and weights of several taps is an operator
    that `flow.J` cannot print.
    """
    return flow._layers == 0 or (_one_J(flow) and flow.integrator.symplectic)


def scales_structure(flow: Flow) -> bool:
    """Whether M J Mᵀ = e^(−γT) J with this flow's `J` at every input, γ = `flow.damping`, up to rounding.

    True when all layers share one constant J = block(X) and the integrator keeps it but for its damping; and for all
    flows that preserve their structure, where γ = 0.
    """
    return preserves_structure(flow) or (_one_J(flow) and flow.integrator.conformal and flow.hamiltonian.off_diagonal)


def preserves_volume(flow: Flow) -> bool:
    """Whether det M = 1 at every input, also where J varies by layer."""
    return flow._layers == 0 or (flow.interconnection.skew and flow.integrator.symplectic)


def in_words(flow: Flow, structure: str = "M J Mᵀ = J") -> str:
    """What a flow keeps, for reports.

    Args:
        flow: any.
        structure: how to say that it keeps its J.
    """
    if preserves_structure(flow):
        return structure
    if scales_structure(flow):
        return f"M J Mᵀ = e^(−γT) J, γ = {damping(flow):.4g}"
    if preserves_volume(flow):
        return "volume"
    return f"volume but for e^(−γTn/2), γ = {damping(flow):.4g}" if flow.integrator.conformal else "nothing exactly"


def _one_J(flow: Flow) -> bool:
    """Whether all layers share one skew J."""
    J = flow.interconnection
    inverse = J.is_inverse and flow.shared and flow.features % 2 == 0 and flow.space.transposes
    return J.skew and (J.constant_over_layers or inverse)
