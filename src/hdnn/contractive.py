"""CH-NODE: a contractive Hamiltonian network, whose states come together at a rate that its parameters state.

Legend: y' = (J − r I) ∂H/∂y with H = 1ᵀ σ̃(K y + b) + κ²/2 ‖y‖², r the dissipation, κ² the stiffness,
0 ≤ σ′ ≤ s; S = Kᵀ D K with D = diag σ′, A = (J − r I)(S + κ² I) the Jacobian of the field, μ its logarithmic norm, ρ
the rate.

The symmetric part of A is ½ [J, S] − r S − r κ² I. As ‖[J, S]‖ ≤ ‖J‖ s ‖K‖², μ(A) ≤ ½ s ‖J‖ ‖K‖² − r κ²: the field
contracts where s ‖J‖ ‖K‖² < 2 r κ². r > 0 alone does not do it.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hdnn.dissipation import Dissipation
from hdnn.energies import Quadratic
from hdnn.flow import Flow
from hdnn.integrators import Integrator
from hdnn.interconnections import interconnection_of
from hdnn.presets import Options
from hdnn.structures import Dense

# The share of the largest norm of K that the default leaves: the rest is the rate.
_SHARE = 0.9


class Bounded(nn.Module):
    """Matrices of a spectral norm of at most c: those that are larger are shortened.

    Args:
        norm: c.
    """

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, K: Tensor) -> Tensor:
        """K min(1, c / ‖K‖₂), (N, m, n)."""
        largest = torch.linalg.matrix_norm(K, 2)
        shortened: Tensor = K * (self.norm / largest.clamp_min(self.norm))[..., None, None]
        return shortened

    def extra_repr(self) -> str:
        """c."""
        return f"{self.norm:g}"


def ch_node(
    features: int,
    layers: int,
    *,
    dissipation: float = 1.0,
    stiffness: float = 1.0,
    norm: float | None = None,
    interconnection: Tensor | str = "canonical",
    width: int | None = None,
    integrator: Integrator | type[Integrator] | str = "implicit_midpoint",
    **options: Unpack[Options],
) -> Flow:
    """CH-NODE: y' = (J − r I)(Kᵀ σ(K y + b) + κ² y), contractive by construction. Any two states come together.

    The condition is s ‖J‖ ‖K‖² < 2 r κ² with σ′ ≤ s. It holds at all times of training, for K is read as
    K min(1, c / ‖K‖₂) with c = `norm`; ‖y(t) − z(t)‖ ≤ e^(−ρt) ‖y(0) − z(0)‖ with ρ ≥ r κ² − s ‖J‖ c² / 2, and
    `hdnn.analysis.contraction(flow)` gives ρ of every layer. Steps of `ImplicitMidpoint` contract for any h, those of
    `ForwardEuler` where h is as short as is asked for here; of others nothing is said.

    What a contraction forgets no layer brings back: the sensitivities of the field fall like e^(−ρt), and those of its
    steps below 1.

    Args:
        features: n; even with the canonical J.
        layers: N.
        dissipation: r > 0.
        stiffness: κ² > 0.
        norm: c, the largest ‖K‖₂; None is 0.9 of what the condition allows.
        interconnection: J, a skew matrix or its name.
        width: m, hidden units a layer; None means n.
        integrator: "implicit_midpoint", or "forward_euler" with steps that are short enough.
        options: those of `Flow`, which refuses what does not fit.

    Raises:
        ValueError: if the condition is violated, or a step of forward Euler is too long for it.

    References:
        Zakwan, Xu, Ferrari-Trecate, Robust classification using contractive Hamiltonian neural ODEs, L-CSS 2022,
        https://arxiv.org/abs/2203.11805 (the condition here is ours)

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.ch_node(4, layers=10, step=0.2, dtype=torch.float64)
        >>> y, z = flow(torch.randn(2, 4, dtype=torch.float64)).detach()
        >>> hdnn.analysis.contraction(flow).contractive
        True
    """
    r, kappa2 = _positive("dissipation", dissipation, _NO_R), _positive("stiffness", stiffness, _NO_STIFFNESS)
    J = interconnection_of(interconnection, features)
    matrix = J.constant(features, layers)
    if matrix is None or matrix.dim() != 2:
        raise ValueError(f"CH-NODE has one constant J for all layers; got `{J!r}`. Give a skew matrix (n, n).")
    damped = Dissipation(J, torch.full((features,), r, dtype=torch.float64))
    chosen: dict[str, Any] = {**options, "energy": Quadratic(torch.full((features,), kappa2))}
    if options.get("energy") is not None:
        raise ValueError("The energy of CH-NODE beside its units is κ²/2 ‖y‖². Leave `energy` out, or use `hdnn.h1`.")
    flow = Flow(features, layers, structure=Dense(width), interconnection=damped, integrator=integrator, **chosen)
    slopes = flow.activation.slopes
    if slopes is None or slopes[0] < 0:
        raise ValueError(
            f"The condition of CH-NODE asks for slopes 0 <= σ′ <= s; those of `{flow.activation!r}` are {slopes}."
        )
    size = slopes[1] * float(torch.linalg.matrix_norm(matrix, 2))
    allowed = math.sqrt(2 * r * kappa2 / size) if size else math.inf
    c = _SHARE * allowed if norm is None else _positive("norm", norm, "leaves no K")
    if c >= allowed:
        raise ValueError(
            f"Not contractive: with `norm={c:g}` s ‖J‖ ‖K‖² may be {size * c**2:.3g}, and must stay below 2 r κ² = "
            f"{2 * r * kappa2:.3g}. Use a norm below {allowed:.3g}, or more `dissipation` or `stiffness`."
        )
    if flow.integrator.kernel == "euler":
        turning = math.hypot(size / slopes[1], r)  # ‖J − r I‖
        _check_step(flow.step, r * kappa2 - size * c**2 / 2, turning * (slopes[1] * c**2 + kappa2))
    parametrize.register_parametrization(flow, "weight", Bounded(c))
    return flow


_NO_R = "without dissipation the field keeps its volume, and some states part"
_NO_STIFFNESS = "where σ saturates nothing else draws states together"


def _positive(name: str, value: float, why: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be positive and finite; got {value}: {why}.")
    return float(value)


def _check_step(h: float, rate: float, largest: float) -> None:
    """Refuse steps of forward Euler that a contractive field does not excuse: h < 2ρ/L²."""
    if h >= 2 * rate / largest**2:
        raise ValueError(
            f"Not contractive: a step of forward Euler contracts where h < 2 ρ / L² = {2 * rate / largest**2:.3g}, and "
            f'this one is {h:g}. Use shorter steps, or integrator="implicit_midpoint", which contracts with any.'
        )
