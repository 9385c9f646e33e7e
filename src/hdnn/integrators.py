"""Integrators: one step of length h along y' = f(y).

Legend: y state, (p, q) its halves, h step size, f field of the layer, m midpoint, A Jacobian of f.
An integrator knows a `Field` only: not the axis of the features, not the structure of the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hdnn.hamiltonian import Field

Half = Literal["p", "q"]

# A Newton step shorter than 2^-20 of its length makes no progress worth another evaluation.
_HALVINGS = 20


class Integrator(ABC):
    """One step of a flow. To add one: subclass, state the attributes, implement `step` and `inverse`.

    Attributes:
        order: the global error is O(h^order) for smooth activations.
        separable_only: whether the field must be separable (each half of the state driven by the other half).
        symplectic: whether a step with a constant J keeps it, M J Mᵀ = J, where the integrator applies.
        kernel: which fused kernel runs the same method, None where there is none.
    """

    order: ClassVar[int]
    separable_only: ClassVar[bool] = False
    symplectic: ClassVar[bool] = False
    kernel: ClassVar[Literal["euler", "partitioned"] | None] = None

    @abstractmethod
    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The state one step later, of the shape of y."""

    @abstractmethod
    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The state one step earlier: step(inverse(y)) = y.

        Raises:
            ValueError: if the step has no explicit inverse.
        """


@dataclass(frozen=True)
class ForwardEuler(Integrator):
    """y⁺ = y + h f(y): a residual layer. Order 1, keeps nothing exactly."""

    order: ClassVar[int] = 1
    kernel: ClassVar[Literal["euler", "partitioned"] | None] = "euler"

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h f(y)."""
        return _moved(y, field(y), h)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """No explicit inverse exists."""
        raise ValueError(_no_inverse("ForwardEuler"))


@dataclass(frozen=True)
class SymplecticEuler(Integrator):
    """Semi-implicit Euler: one half moves, then the other sees where it went. Order 1.

    first="p": p⁺ = p + h f_p(q), then q⁺ = q + h f_q(p⁺). The step is explicit, has an explicit inverse, keeps
    volume always and a constant J exactly.

    Args:
        first: the half that moves first.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VI.3;
        Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023 (H2), https://arxiv.org/abs/2105.13205
    """

    first: Half = "p"
    order: ClassVar[int] = 1
    separable_only: ClassVar[bool] = True
    symplectic: ClassVar[bool] = True
    kernel: ClassVar[Literal["euler", "partitioned"] | None] = "partitioned"

    def __post_init__(self) -> None:
        _check_half(self.first)

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """Move one half, then the other."""
        p, q = field.split(y)
        if self.first == "p":
            p = _moved(p, field.p(q), h)
            q = _moved(q, field.q(p), h)
        else:
            q = _moved(q, field.q(p), h)
            p = _moved(p, field.p(q), h)
        return field.join(p, q)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The same moves undone in reverse order."""
        other: Half = "q" if self.first == "p" else "p"
        return SymplecticEuler(other).step(field, y, -h)


@dataclass(frozen=True)
class StormerVerlet(Integrator):
    """Half a step of one half, a step of the other, half a step of the first. Order 2, symmetric.

    first="p": p½ = p + (h/2) f_p(q), q⁺ = q + h f_q(p½), p⁺ = p½ + (h/2) f_p(q⁺). Keeps volume always and a
    constant J exactly, at three half fields a step.

    Args:
        first: the half that moves in two half steps.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section I.3.1.
    """

    first: Half = "p"
    order: ClassVar[int] = 2
    separable_only: ClassVar[bool] = True
    symplectic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_half(self.first)

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """Half, whole, half."""
        p, q = field.split(y)
        if self.first == "p":
            p = _moved(p, field.p(q), h / 2)
            q = _moved(q, field.q(p), h)
            p = _moved(p, field.p(q), h / 2)
        else:
            q = _moved(q, field.q(p), h / 2)
            p = _moved(p, field.p(q), h)
            q = _moved(q, field.q(p), h / 2)
        return field.join(p, q)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The method is symmetric: a step back is its inverse."""
        return self.step(field, y, -h)


@dataclass(frozen=True)
class ImplicitMidpoint(Integrator):
    """y⁺ = y + h f((y + y⁺) / 2). Order 2, symmetric, keeps every constant J, separable or not.

    The midpoint m = y + (h/2) f(m) is found per sample by Newton's method, with halved steps where a full one does not
    reduce the residual. (For σ′ ≥ 0 the matrix I − (h/2) A is never singular, so the direction exists.) Steps may be
    large: N(0, 1) weights on 16 features allow h = 1. The cost is a solve of n equations per sample and iteration.
    Gradients follow from the implicit function theorem: the derivatives of a Newton step at the solution are those of
    the solution itself. Two such steps are differentiated, which makes the second and third derivatives right as well.

    It reads the residual on the host to decide when to stop, so it does not run under `torch.func.vmap`, in a
    fullgraph `torch.compile` or in `torch.export`. It needs vectors, or images with kernel_size=1.

    Args:
        tolerance: accepted residual |m − y − (h/2) f(m)|, relative to 1 + ‖m‖₁; None means 64 units of rounding.
        iterations: Newton steps after which it gives up.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VI.4.
    """

    tolerance: float | None = None
    iterations: int = 50
    order: ClassVar[int] = 2
    symplectic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"`tolerance` must be positive; got {self.tolerance}. Use None for the dtype's rounding.")
        if self.iterations < 1:
            raise ValueError(f"`iterations` must be at least 1; got {self.iterations}.")

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h f(m), with m solved to the tolerance.

        Raises:
            RuntimeError: if Newton's method does not reach the tolerance; the message names the step size.
        """
        # Features last, so that the pixels of a pointwise image flow are samples like any other.
        start = y.movedim(field.axis, -1)
        with torch.no_grad():
            m = self._solve(field, start.detach(), h)
        for _ in range(2):
            m = self._newton(field, start, m, h)
        return (2 * m - start).movedim(-1, field.axis)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The method is symmetric: a step back is its inverse."""
        return self.step(field, y, -h)

    def _solve(self, field: Field, y: Tensor, h: float) -> Tensor:
        tolerance = 64 * torch.finfo(y.dtype).eps if self.tolerance is None else self.tolerance
        m, residual = y, self._residual(field, y, y, h)
        for _ in range(self.iterations):
            if self._solved(m, residual, tolerance):
                return m
            m, residual = self._damped(field, y, m, residual, h)
        if self._solved(m, residual, tolerance):
            return m
        raise RuntimeError(
            f"ImplicitMidpoint did not converge in {self.iterations} Newton steps at step size {h:g}: the residual is "
            f"{float(residual.abs().max()):.3g}, the tolerance {tolerance:.3g} relative to the state. "
            f"Use a smaller step, or check the state for NaN."
        )

    def _solved(self, m: Tensor, residual: Tensor, tolerance: float) -> bool:
        bar = tolerance * (1 + m.abs().sum(-1, keepdim=True))
        return bool((residual.abs() <= bar).all())

    def _damped(self, field: Field, y: Tensor, m: Tensor, residual: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """A Newton step, halved for the samples whose residual it does not reduce; and the residual after it."""
        direction = self._direction(field, m, residual, h)
        size = torch.linalg.vector_norm(residual, dim=-1, keepdim=True)
        share = torch.ones_like(size)
        for _ in range(_HALVINGS):
            trial = m - share * direction
            after = self._residual(field, y, trial, h)
            worse = torch.linalg.vector_norm(after, dim=-1, keepdim=True) > (1 - share / 4) * size
            if not worse.any():
                break
            share = torch.where(worse, share / 2, share)
        return trial, after

    def _residual(self, field: Field, y: Tensor, m: Tensor, h: float) -> Tensor:
        f = field(m.movedim(-1, field.axis)).movedim(field.axis, -1)
        return torch.sub(m, y).sub(f, alpha=h / 2)

    def _direction(self, field: Field, m: Tensor, residual: Tensor, h: float) -> Tensor:
        A = field.jacobian(m)
        system = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - (h / 2) * A
        direction: Tensor = torch.linalg.solve(system, residual.unsqueeze(-1))
        return direction.squeeze(-1)

    def _newton(self, field: Field, y: Tensor, m: Tensor, h: float) -> Tensor:
        return m - self._direction(field, m, self._residual(field, y, m, h), h)


@dataclass(frozen=True)
class RungeKutta4(Integrator):
    """The classical fourth-order method. Accurate, but it keeps no J and may damp: norms of M can fall below 1.

    References:
        Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, section II.1.
    """

    order: ClassVar[int] = 4

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h (k₁ + 2 k₂ + 2 k₃ + k₄) / 6."""
        k1 = field(y)
        k2 = field(_moved(y, k1, h / 2))
        k3 = field(_moved(y, k2, h / 2))
        k4 = field(_moved(y, k3, h))
        return _moved(y, k1 + 2 * (k2 + k3) + k4, h / 6)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """No explicit inverse exists."""
        raise ValueError(_no_inverse("RungeKutta4"))


def _no_inverse(name: str) -> str:
    return (
        f"`{name}` has no explicit inverse: undoing it means solving for the state before the step. "
        f"Use `SymplecticEuler` or `StormerVerlet` (`h2`, `ms1`, `ms3`), or `ImplicitMidpoint`."
    )


def _check_half(first: str) -> None:
    if first not in ("p", "q"):
        raise ValueError(f'`first` must be "p" or "q", the half of the state that moves first; got {first!r}.')


def _moved(y: Tensor, f: Tensor, h: float) -> Tensor:
    """y + h f, as a difference: Inductor of PyTorch 2.13 makes `addmm` of a sum with a product and forgets h."""
    return torch.sub(y, f, alpha=-h)
