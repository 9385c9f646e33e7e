"""Contraction: whether any two states come together, at which rate, and under which condition.

Legend: A_j(y) = Wᵀ D K + (J − R) Q the Jacobian of the field of layer j, D = diag a σ′(K y + b) with unit weights a
(1), s₋ ≤ σ′ ≤ s₊, Q the Hessian of a quadratic energy (none); P = Pᵀ > 0 a metric, ‖v‖_P² = vᵀ P v, μ the logarithmic
norm in it (`numerical_abscissa`), ρ the rate, L a bound of ‖A‖_P.

Along any two trajectories ‖y(t) − z(t)‖_P ≤ e^(−ρ t) ‖y(0) − z(0)‖_P where μ(A(y)) ≤ −ρ at all y. With J = −Jᵀ that
cannot be: tr A = tr J S = 0, so that μ ≥ 0. Dissipation alone does not do it either: A = (J − R) S has the symmetric
part ½ [J, S] − ½ (R S + S R), whose first term has no sign, and where σ saturates S, and A with it, is nearly zero.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.analysis.bounds import Slopes, slope_range
from hdnn.analysis.checks import check_vectors, check_weights
from hdnn.analysis.precision import in_full
from hdnn.analysis.transient import in_metric, numerical_abscissa, root
from hdnn.energies import Quadratic
from hdnn.flow import Flow
from hdnn.flow.inputs import more
from hdnn.hamiltonian import Field

# Units up to which all corners of the box of slopes are looked at, 2^m.
_CORNERS = 12


@dataclass(frozen=True, eq=False)
class Contraction:
    """At which rate the fields of a flow bring states together.

    Attributes:
        rate: ρ of every layer, (N,), or of every layer and state, (N, ...): positive where it contracts, in 1/time.
        exact: whether ρ is the supremum over the slopes or the states that were asked for, not a bound of it.
        largest_step: h below which a step of `ForwardEuler` contracts as well, 2ρ/L², (N,); 0 where the field does not.
        reason: the condition and how it is met or missed, a sentence.
    """

    rate: Tensor
    exact: bool
    largest_step: Tensor
    reason: str

    @property
    def contractive(self) -> bool:
        """Whether every layer contracts."""
        return bool((self.rate > 0).all())


@in_full
@torch.no_grad()
def contraction(
    flow: Flow, y: Tensor | None = None, *, metric: Tensor | None = None, slopes: Slopes | None = None
) -> Contraction:
    """The contraction rate ρ = −sup μ(A) of the field of every layer, at all states or at those that are given.

    *At all states*: μ is convex in the slopes, so its supremum over s₋ ≤ σ′ ≤ s₊ lies in a corner of that box. Up to 12
    units all corners are looked at; the result is exact where every combination of slopes occurs, as it does for a K of
    full row rank. With more units, ρ is bounded by the slopes in the middle and the absolute values of what each unit
    adds. *At given states* y: μ(A_j(y)), which says nothing of others.

    What a step does: one of `ImplicitMidpoint` contracts wherever the field does, in the same metric, for any h; one of
    `ForwardEuler` where h < `largest_step`. Of others nothing is said.

    Args:
        flow: on vectors, undamped in its steps; with a `Dissipation`, or it cannot contract.
        y: states, (..., n); None asks for all.
        metric: P, symmetric and positive definite, (n, n); None is the identity.
        slopes: (smallest, largest) value of σ′, for an activation that does not state them.

    Raises:
        ValueError: if the flow is not on vectors, momenta are damped, a weight is not finite, or y or P do not fit.

    References:
        Zakwan, Xu, Ferrari-Trecate, Robust classification using contractive Hamiltonian neural ODEs, L-CSS 2022,
        https://arxiv.org/abs/2203.11805; Söderlind, The logarithmic norm, BIT 46, 2006.

    Example:
        >>> import torch, hdnn
        >>> damped = hdnn.Dissipation(hdnn.canonical(4), torch.ones(4))
        >>> _ = torch.manual_seed(0)
        >>> flow = hdnn.h1(4, layers=2, step=0.1, interconnection=damped, dtype=torch.float64)
        >>> print(contraction(flow).reason)
        Not contractive: layer 0 lets states part at the rate 0.431, where ρ > 0 asks for a negative one.
    """
    check_vectors(flow, "`contraction`")
    check_weights(flow)
    if flow.damping:
        raise ValueError(
            f"`contraction` is of a field, and the damping of this flow, γ = {flow.damping:g}, is of its steps alone: "
            f"M J Mᵀ = e^(−γT) J says that areas shrink, not distances. Use a `Dissipation`."
        )
    if not flow.recurrent and flow.layers == 0:
        raise ValueError("A flow without layers takes no time, so its states never come closer; got layers=0.")
    smallest, largest = slope_range(flow.activation, slopes)
    fields = _fields(flow)
    if flow.interconnection.of_state is not None and y is None:
        raise ValueError("J of this flow depends on the state, and with it A in more than its slopes. Give states `y`.")
    if y is not None:
        flow.space.check(y, flow.features)
        if flow.inputs is not None:
            raise ValueError(
                "Inputs shift the field of this flow from step to step. Leave `y` out, to ask of all states."
            )
        A = torch.stack([field.jacobian(y.detach().cpu().double()) for field in fields])
        rate, exact = -numerical_abscissa(A, metric), True
        norm = torch.linalg.matrix_norm(in_metric(A, metric), 2)
    else:
        factors = [_factors(field, metric) for field in fields]
        rest = [_rest(flow, field, metric) for field in fields]
        exact = flow.hamiltonian.hidden <= _CORNERS
        supremum = _at_corners if exact else _bounded
        parts = [(*of_units, B) for of_units, B in zip(factors, rest, strict=True)]
        rate = torch.stack([-supremum(_symmetric(W, K), (B + B.mT) / 2, smallest, largest) for W, K, B in parts])
        s = max(abs(smallest), abs(largest))
        norm = torch.stack([s * _size(W) * _size(K) + _size(B) for W, K, B in parts])
    step = (2 * rate / norm.square()).clamp_min(0.0)
    return Contraction(rate, exact, step, _reason(flow, rate, exact, y is not None))


def _fields(flow: Flow) -> list[Field]:
    """The fields of all layers that have weights of their own, in float64, each bound whole."""
    exact = copy.deepcopy(flow).to("cpu", torch.float64)
    layers = 1 if flow.shared else flow.layers
    return exact.hamiltonian.fields(exact.K, exact.bias, exact._J(), layers, halves=False, more=more(exact))


def _factors(field: Field, metric: Tensor | None) -> tuple[Tensor, Tensor]:
    """W, with the weights of the units in it, and K (m, n) of A = Wᵀ D K + …, for states in units of the metric."""
    layer = field.drives[0].layer
    K, W = layer.K, torch.eye(len(layer.K)).to(layer.K) if layer.W is None else layer.W
    W = W if layer.a is None else layer.a.unsqueeze(-1) * W
    L = root(K.shape[-1], metric)
    return (W, K) if L is None else (W @ L, torch.linalg.solve_triangular(L.mT, K, upper=True, left=False))


def _symmetric(W: Tensor, K: Tensor) -> Tensor:
    """What each unit adds to the symmetric part of A where its slope is 1, (m, n, n)."""
    units = W.unsqueeze(-1) * K.unsqueeze(-2)
    return (units + units.mT) / 2


def _rest(flow: Flow, field: Field, metric: Tensor | None) -> Tensor:
    """(J − R) Q, what of A no slope moves, (n, n), in units of the metric."""
    K, S, E = field.drives[0].layer.K, field.drives[0].layer.S, flow.hamiltonian.own
    if E is None or S is None:
        return K.new_zeros(flow.features, flow.features)
    if not isinstance(E, Quadratic):
        raise ValueError(f"What the Hessian of `{E!r}` is at all states is not known. Give the states to look at, `y`.")
    return in_metric(S * E.Q.detach().to(K), metric)


def _size(X: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(X, 2) if X.numel() else X.new_zeros(())
    return norm


def _at_corners(C: Tensor, B: Tensor, smallest: float, largest: float) -> Tensor:
    """max λ_max(B + Σ d_i C_i) over all d_i of the two slopes."""
    m = len(C)
    bits = (torch.arange(2**m)[:, None] >> torch.arange(m)) & 1
    d = smallest + (largest - smallest) * bits.to(C)
    return torch.stack([_highest(B + torch.einsum("cm,mij->cij", some, C)).max() for some in torch.split(d, 512)]).max()


def _bounded(C: Tensor, B: Tensor, smallest: float, largest: float) -> Tensor:
    """A bound of the same: λ_max(B + c Σ C_i + r Σ |C_i|), c the middle of the slopes and r half their range."""
    λ, V = torch.linalg.eigh(C)
    absolute = (V * λ.abs().unsqueeze(-2)) @ V.mT
    return _highest(B + ((smallest + largest) * C + (largest - smallest) * absolute).sum(0) / 2)


def _highest(symmetric: Tensor) -> Tensor:
    λ: Tensor = torch.linalg.eigvalsh(symmetric)[..., -1]
    return λ


def _reason(flow: Flow, rate: Tensor, exact: bool, local: bool) -> str:
    worst = rate.reshape(len(rate), -1).amin(1)
    layer = int(worst.argmin())
    where = "at the states that were given" if local else "at every state"
    if (lowest := float(worst[layer])) > 0:
        slowest = "" if len(worst) == 1 else f", slowest in layer {layer}"
        return f"Contractive {where}: distances fall at least like e^(−ρt), ρ = {lowest:.3g}{slowest}."
    if flow.interconnection.skew:
        return "Not contractive: J = −Jᵀ keeps the volume of the field, tr A = 0, so that no metric lets all shrink."
    which = "" if len(worst) == 1 else f"layer {layer} "
    verb = "lets states part at the rate" if exact else "may let states part, at a rate of up to"
    return f"Not contractive: {which or 'it '}{verb} {-lowest:.3g}, where ρ > 0 asks for a negative one."
