"""Integrators: one step of length h along y' = f(y), each with the facts that it states about its steps.

Legend: y state, (p, q) its halves, h step size, f field of the layer, A Jacobian of f, F = ∂y⁺/∂y that of a step;
x = h s ‖W‖ ‖K‖ the gain of a drive of f, where σ′ is at most s; D = diag σ′, R = √D K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hdnn.arguments import factor
from hdnn.hamiltonian import Field
from hdnn.implicit import DiscreteGradient as DiscreteGradient
from hdnn.implicit import GaussLegendre as GaussLegendre
from hdnn.implicit import ImplicitMidpoint as ImplicitMidpoint
from hdnn.steps import Gains, log_of_inverse, moved, no_inverse
from hdnn.steps import Integrator as Integrator
from hdnn.steps import Splitting as Splitting

_YOSHIDA = 1 / (2 - 2 ** (1 / 3))
_SUZUKI = 1 / (4 - 4 ** (1 / 3))


@dataclass(frozen=True)
class ForwardEuler(Integrator):
    """y⁺ = y + h f(y): a residual layer. Order 1, keeps nothing exactly."""

    order: ClassVar[int] = 1
    explicit: ClassVar[bool] = True
    expansive: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "euler"

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h f(y)."""
        return moved(y, field(y), h)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """No explicit inverse exists."""
        raise no_inverse("ForwardEuler")

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """‖I + hA‖ ≤ 1 + x."""
        return torch.log1p(x[0])

    def log_inverse_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """With R = √D K, (I + hA)⁻¹ = I − h J Rᵀ (I + h R J Rᵀ)⁻¹ R, at most 1 + x; without J skew, 1 / (1 − x)."""
        return torch.log1p(x[0]) if monotone else log_of_inverse(1 - x[0])


class SymplecticEuler(Splitting):
    """Semi-implicit Euler: one half moves, then the other sees where it went. Order 1.

    first="p": p⁺ = p + h f_p(q), then q⁺ = q + h f_q(p⁺). The step is explicit, has an explicit inverse, keeps
    volume always and a constant J exactly.

    Args:
        first: the half that moves first.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VI.3;
        Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023 (H2), https://arxiv.org/abs/2105.13205
    """

    order: ClassVar[int] = 1
    fractions: ClassVar[tuple[float, ...]] = (1.0, 1.0)


class StormerVerlet(Splitting):
    """Half a step of one half, a step of the other, half a step of the first. Order 2, symmetric.

    first="p": p½ = p + (h/2) f_p(q), q⁺ = q + h f_q(p½), p⁺ = p½ + (h/2) f_p(q⁺). Keeps volume always and a
    constant J exactly, at three half fields a step.

    Args:
        first: the half that moves in two half steps.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section I.3.1.
    """

    order: ClassVar[int] = 2
    fractions: ClassVar[tuple[float, ...]] = (0.5, 1.0, 0.5)


def verlet_steps(*weights: float) -> tuple[float, ...]:
    """The fractions of Störmer-Verlet steps of w₁ h, w₂ h, … one after another, equal halves in a row made one move.

    Weights w that sum to 1 with Σ w³ = 0, the same from both ends, raise the order from 2 to 4.

    Args:
        weights: what part of h each step takes; some are negative above order 2.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., sections II.4 and V.3.2.

    Example:
        >>> verlet_steps(0.5, 0.5)
        (0.25, 0.5, 0.5, 0.5, 0.25)
    """
    moves = [weights[0] / 2]
    for w, following in zip(weights, (*weights[1:], 0.0), strict=True):
        moves += [w, (w + following) / 2]
    return tuple(moves)


class Yoshida4(Splitting):
    """Three Störmer-Verlet steps, of w, 1 − 2w and w times h with w = 1 / (2 − 2^(1/3)) = 1.35. Order 4, symmetric.

    The middle step goes back. Keeps volume always and a constant J exactly, at seven half fields a step.

    Args:
        first: the half that moves first and last.

    References:
        Yoshida, Construction of higher order symplectic integrators, Physics Letters A 150 (1990);
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., example II.4.2.
    """

    order: ClassVar[int] = 4
    fractions: ClassVar[tuple[float, ...]] = verlet_steps(_YOSHIDA, 1 - 2 * _YOSHIDA, _YOSHIDA)


class Suzuki4(Splitting):
    """Five Störmer-Verlet steps, of w, w, 1 − 4w, w and w times h, w = 1 / (4 − 4^(1/3)) = 0.41. Order 4, symmetric.

    The middle step goes back, by less than that of `Yoshida4`, and the error is smaller by far. Keeps volume always and
    a constant J exactly, at eleven half fields a step.

    Args:
        first: the half that moves first and last.

    References:
        Suzuki, Fractal decomposition of exponential operators, Physics Letters A 146 (1990);
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., example II.4.3.
    """

    order: ClassVar[int] = 4
    fractions: ClassVar[tuple[float, ...]] = verlet_steps(_SUZUKI, _SUZUKI, 1 - 4 * _SUZUKI, _SUZUKI, _SUZUKI)


@dataclass(frozen=True)
class RungeKutta4(Integrator):
    """The classical fourth-order method. Accurate, but it keeps no J and may damp: norms of M can fall below 1.

    References:
        Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, section II.1.
    """

    order: ClassVar[int] = 4
    explicit: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "runge_kutta"

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h (k₁ + 2 k₂ + 2 k₃ + k₄) / 6."""
        k1 = field(y)
        k2 = field(moved(y, k1, h / 2))
        k3 = field(moved(y, k2, h / 2))
        k4 = field(moved(y, k3, h))
        return moved(y, k1 + 2 * (k2 + k3) + k4, h / 6)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """No explicit inverse exists."""
        raise no_inverse("RungeKutta4")

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """1 + x + x²/2 + x³/6 + x⁴/24."""
        return torch.log1p(_departure(x[0]))

    def log_inverse_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """1 / (1 − x − x²/2 − x³/6 − x⁴/24)."""
        return log_of_inverse(1 - _departure(x[0]))


def _departure(x: Tensor) -> Tensor:
    """x + x²/2 + x³/6 + x⁴/24: how far a step of `RungeKutta4` can be from the identity."""
    return x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4)))


INTEGRATORS: dict[str, Integrator] = {
    "forward_euler": ForwardEuler(),
    "symplectic_euler": SymplecticEuler(),
    "stormer_verlet": StormerVerlet(),
    "yoshida4": Yoshida4(),
    "suzuki4": Suzuki4(),
    "implicit_midpoint": ImplicitMidpoint(),
    "runge_kutta4": RungeKutta4(),
    "gauss_legendre": GaussLegendre(),
    "discrete_gradient": DiscreteGradient(),
}


def integrator_of(given: Integrator | type[Integrator] | str) -> Integrator:
    """The integrator that was given itself, by its class or by its name."""
    *names, last = (f"`{type(known).__name__}()`" for known in INTEGRATORS.values())
    remedy = f"Use {', '.join(names)} or {last}."
    return factor("integrator", given, Integrator, INTEGRATORS, remedy)  # type: ignore[type-abstract]
