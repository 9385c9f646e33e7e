"""What a flow keeps: J, volume, energy and the way back; and how fast directions grow where it keeps no length.

Legend: F_j = ∂y_{j+1}/∂y_j the Jacobian of layer j, M = F_{N−1} ⋯ F_0, M[i, k] = ∂y_N[i] / ∂y_0[k] per sample;
H(y) = 1ᵀ σ̃(K y + b) the energy; h step, T = N h; J = −Jᵀ the structure matrix. J is a Poisson matrix, so what a flow
keeps is M J Mᵀ = J; it is Mᵀ J M = J only where J⁻¹ is a multiple of J, as for the canonical one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdnn.analysis.checks import check_flow, check_vectors, check_weights, skew_matrix
from hdnn.analysis.jacobians import layer_jacobians
from hdnn.analysis.magnitudes import log_determinants
from hdnn.analysis.precision import in_full
from hdnn.analysis.sensitivity import sensitivities
from hdnn.doors import shelled
from hdnn.flow import Flow

# Two J are the same claim when they agree to this share of their size: single precision rounds at 1e-7.
_SAME = 1e-5


@dataclass(frozen=True, eq=False)
class Symplecticity:
    """How well a flow keeps its J at given inputs.

    Attributes:
        J: the structure matrix that was asked about, (n, n).
        factor: c of the claim M J Mᵀ = c J: 1, or e^(−γT) of a damped flow.
        M: ∂y_N/∂y_0, (..., n, n).
        absolute: ‖M J Mᵀ − c J‖_F, (...).
        relative: the same divided by ‖M‖₂² ‖J‖_F, (...). Rounding alone gives about N times the precision of the
            dtype. Where ‖M‖ is large, a small value says little: read both.
    """

    J: Tensor
    M: Tensor
    absolute: Tensor
    relative: Tensor
    factor: float = 1.0


@in_full
def symplecticity_residual(M: Tensor, J: Tensor, *, relative: bool = False, factor: float = 1.0) -> Tensor:
    """‖M J Mᵀ − c J‖_F, per sample.

    Args:
        M: Jacobians of any map, (..., n, n), M[i, k] = ∂y_N[i] / ∂y_0[k].
        J: the skew matrix that the map is said to keep, (n, n).
        relative: divide by ‖M‖₂² ‖J‖_F, the size of the numbers that cancel.
        factor: c, 1 for a map that keeps J, e^(−γT) for one that is conformal.

    Returns:
        (...). Take statistics of it, never of M: a mean of symplectic matrices is not symplectic.

    Raises:
        ValueError: if J is not skew, or the sizes do not agree.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VII.2 (Poisson maps).

    Example:
        >>> import torch, hdnn
        >>> shear = torch.tensor([[1.0, 0.3], [0.0, 1.0]])
        >>> symplecticity_residual(shear, hdnn.canonical(2))
        tensor(0.)
    """
    if M.dim() < 2 or M.shape[-1] != M.shape[-2]:
        raise ValueError(f"M must hold square matrices, (..., n, n); got {tuple(M.shape)}.")
    J = skew_matrix(J, M.shape[-1]).to(M)
    residual: Tensor = torch.linalg.matrix_norm(M @ J @ M.mT - factor * J)
    if relative:
        residual = residual / (torch.linalg.matrix_norm(M, 2).square() * torch.linalg.matrix_norm(J))
    return residual


@in_full
def check_symplecticity(flow: Flow, y0: Tensor, J: Tensor | None = None, **call: Any) -> Symplecticity:
    """How exactly a flow keeps its J, measured; refused where its factors do not promise to keep it.

    A flow keeps J when all its layers share this skew J, and its integrator is ImplicitMidpoint, GaussLegendre or a
    `Splitting`: SymplecticEuler, StormerVerlet, Yoshida4, Suzuki4. What is left is rounding. With `damping` γ of the
    momenta it scales J = block(X) instead, M J Mᵀ = e^(−γT) J, and that is measured.

    Args:
        flow: on vectors. On other spaces J acts at every position, on the whole state as kron(I, J) where the features
            are last, as at the nodes of a graph, and as kron(J, I) where they are first: see `symplecticity_residual`.
        y0: inputs, (..., n).
        J: the matrix of the claim; None means `flow.J`. Multiples of `flow.J` are kept with it.
        **call: what a call of the flow brings besides y0: `inputs`.

    Returns:
        The residuals, per sample.

    Raises:
        ValueError: if the flow does not keep this J; the message says which factor is to blame. To measure a map
            that promises nothing, pass its Jacobians to `symplecticity_residual`.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=8, step=0.1, dtype=torch.float64)
        >>> kept = check_symplecticity(flow, torch.randn(10, 4, dtype=torch.float64))
        >>> bool((kept.relative < 1e-14).all())
        True
    """
    whole = "kron(torch.eye(V), flow.J)" if flow.space.axis == -1 else "kron(flow.J, torch.eye(positions))"
    remedy = (
        f"There J acts at every position, on the whole state as torch.{whole}: measure "
        f"`symplecticity_residual(sensitivities(flow, y0)[0], torch.{whole})`, `flow.preserves_structure` promises."
    )
    check_vectors(flow, "`check_symplecticity`", remedy)
    check_weights(flow)
    _check_promise(flow)
    J = _kept(flow, J)
    M = sensitivities(flow, y0, **call)[0]
    c = math.exp(-flow.damping * flow.step * _steps(flow, call)) if flow.damping else 1.0
    absolute = symplecticity_residual(M, J, factor=c)
    return Symplecticity(J, M, absolute, symplecticity_residual(M, J, relative=True, factor=c), c)


def _check_promise(flow: Flow) -> None:
    """Refuse, with the factor to blame, a flow that keeps no J."""
    if flow.scales_structure:
        return
    measure = "To measure the residual all the same, use `symplecticity_residual(sensitivities(flow, y0)[0], J)`."
    if not flow.interconnection.skew:
        raise ValueError(
            f"This flow keeps no J: `{flow.interconnection!r}` does not state that J = -Jᵀ (`skew = True`), and J - R "
            f"is not kept. {measure}"
        )
    if not (flow.integrator.symplectic or flow.integrator.conformal):
        raise shelled(
            ValueError(
                f"This flow keeps no J: `{flow.integrator!r}` is not symplectic. Use `ImplicitMidpoint()`, or "
                f"`SymplecticEuler()`, `StormerVerlet()`, `Yoshida4()` or `Suzuki4()` on a separable field (`h2`, "
                f"`ms3`). {measure}"
            ),
            "This flow keeps no J, for its integrator is not symplectic; h2 and ms3 keep one.",
        )
    if flow.interconnection.is_inverse:
        reason = (
            "J = K⁻ᵀ is another matrix in every layer. Share the weights (`shared=True`)"
            if not flow.shared
            else "J = K⁻ᵀ does not exist for an odd number of features. Use an even one"
        )
        raise ValueError(f"This flow keeps no single J: {reason}, or use `h2` or `ms3`. {measure}")
    raise ValueError(
        f"This flow keeps no single J: `{flow.interconnection!r}` has another J in every layer. "
        f"Give all layers one J. {measure}"
    )


def _kept(flow: Flow, J: Tensor | None) -> Tensor:
    """The J of the claim, a multiple of the one that the flow keeps."""
    if not flow.recurrent and flow.layers == 0 and J is not None:  # the identity keeps every J
        return skew_matrix(J, flow.features)
    own = flow.J.detach()
    if own.dim() == 3 and len(own) == 0:
        raise ValueError("A flow without layers is the identity, which keeps every J, and has none of its own. Give J.")
    own = own[0] if own.dim() == 3 else own  # one layer, of a J of its own
    own = (own - own.mT) / 2  # K⁻ᵀ is skew up to rounding only
    if J is None:
        return own
    J = skew_matrix(J, flow.features).to(own)
    size = float(torch.linalg.matrix_norm(own)) or 1.0
    multiple = float((J * own).sum()) / size**2
    difference = float(torch.linalg.matrix_norm(J - multiple * own))
    if difference > _SAME * float(torch.linalg.matrix_norm(J)):
        raise ValueError(
            f"This flow keeps its own J, `{flow.interconnection!r}`, and no other: the given J is no multiple of it "
            f"(they differ by {difference:.3g} in norm). Pass `flow.J`, or make the flow with `Fixed(J)`."
        )
    return J


def log_volume(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """The logarithm of |det ∂y_N/∂y_0|, Σ_j log |det F_j|, per sample: zero where the flow keeps volume.

    The determinants are taken layer by layer, so that nothing overflows however deep the flow.

    Args:
        flow: any flow. `flow.preserves_volume` says whether zero is promised; forward Euler with σ′ ≥ 0 and a skew J
            gives zero or more.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`.

    Returns:
        (...) or (B,).

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.ms1(4, layers=8, step=0.1, dtype=torch.float64)
        >>> bool(log_volume(flow, torch.randn(10, 4, dtype=torch.float64)).abs().max() < 1e-13)
        True
    """
    _, logarithms = log_determinants(layer_jacobians(flow, y0, **call))
    return logarithms[0]


@in_full
@torch.no_grad()
def energy_drift(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """H(y_j) − H(y_0) along depth, for a flow that has one H.

    The continuous field keeps H exactly. Forward Euler gains energy where σ′ ≥ 0. A symplectic integrator stays near H
    for exponentially long times where σ is analytic (tanh, sigmoid, softplus, identity), the step small and the motion
    bounded. `relu` and `leaky_relu` have kinks, where that theory ends: each crossing may leave an error, and the
    errors may add up (to three times as much after 40,000 steps as after 100, where that of tanh had not grown).

    Args:
        flow: with shared weights (`shared=True`), or of one layer at most.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`; `inputs` the same at every step.

    Returns:
        (N + 1, ...) or (N + 1, B); the first entry is 0.

    Raises:
        ValueError: if the layers have weights or inputs of their own, hence no common energy.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section IX.8.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=100, step=0.1, shared=True)
        >>> energy_drift(flow, torch.randn(10, 4)).shape
        torch.Size([101, 10])
    """
    check_flow(flow, y0)
    if not flow.shared and flow.layers > 1:
        reason = f"Each of the {flow.layers} layers has weights of its own, so no single energy H could be kept."
        raise shelled(
            ValueError(f"{reason} Use `shared=True`, or look at one layer: `energy_drift(flow[j], y)`."), reason
        )
    states = flow.trajectory(y0, **call)
    if len(states) == 1:
        return states.new_zeros(1, *_leading(flow, y0))
    u = call.get("inputs")
    if u is not None and not torch.equal(u, u[:1].expand_as(u)):
        raise ValueError(
            "Inputs that change from step to step change H with them, so no single energy could be kept. Give the same "
            "`inputs` at every step, or look at one: `flow.energy(y, j, inputs=u)`."
        )
    energies = torch.stack([flow.energy(y, **call) for y in states])
    return energies - energies[0]


@in_full
@torch.no_grad()
def reversibility_error(flow: Flow, y0: Tensor, *, relative: bool = False, **call: Any) -> Tensor:
    """‖inverse(flow(y0)) − y0‖₂, per sample: what is lost on the way there and back.

    It is rounding, magnified by up to ‖M⁻¹‖.

    Args:
        flow: with an integrator that has an explicit inverse.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`.
        relative: divide by ‖y0‖₂.

    Returns:
        (...) or (B,).

    Raises:
        ValueError: if the integrator has no explicit inverse.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> bool(reversibility_error(flow, torch.randn(10, 4, dtype=torch.float64)).max() < 1e-12)
        True
    """
    check_flow(flow, y0)
    error = _norm(flow, flow.inverse(flow(y0, **call), **call) - y0)
    return error / _norm(flow, y0) if relative else error


def _norm(flow: Flow, y: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(y, dim=flow.space.axes)
    return norm


def _steps(flow: Flow, call: Mapping[str, Any]) -> int:
    return len(call["inputs"]) if flow.recurrent else flow.layers


def _leading(flow: Flow, y: Tensor) -> tuple[int, ...]:
    return tuple(y.shape[: -flow.space.rank])
