"""Steps that solve an equation: the implicit midpoint rule, collocation at the nodes of Gauss, the discrete gradient.

Legend: y state, y⁺ the state after a step, h step, f field with the Jacobian A, F = ∂y⁺/∂y; z the unknown of a step,
z = z₀ + (h/2) E(z); a, b, c the tableau of s stages; u = K y + b, δ the mean of σ between u and u⁺; D = diag σ′,
R = √D K. One sample a row, (S, ·).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hdnn.arguments import whole
from hdnn.continuation import OF_STATE, Equations, VectorField, solve
from hdnn.hamiltonian import Drive, Field
from hdnn.steps import Gains, Integrator, log_of_inverse

_MOST_STAGES = 4


@dataclass(frozen=True)
class Implicit(Integrator):
    """A symmetric step that is the solution of an equation, found per sample by Newton's method with halved steps.

    Where these get stuck, by continuation: the equation is solved for a part of h, and that solution followed to the
    whole of h. The cost is a solve per sample and iteration, a dozen times that where continuation is needed.
    Gradients follow from the implicit function theorem: the derivatives of a Newton step at the solution are those of
    the solution itself. Two such steps are differentiated, which makes the second and third derivatives right as well.

    It reads the residual on the host to decide when to stop, so it does not run under `torch.func.vmap`, in a
    fullgraph `torch.compile` or in `torch.export`. It needs vectors, or images and signals with kernel_size=1.

    Args:
        tolerance: accepted residual |z − z₀ − (h/2) E(z)|, relative to 1 + ‖z‖₁. None means what rounding leaves: 64
            units of it, or 8 units of the numbers that the residual is summed from, which grow with h ‖J‖ ‖K‖².
        iterations: Newton steps after which it gives up; and a quarter of the stages of the continuation.
    """

    tolerance: float | None = None
    iterations: int = 50
    reversible: ClassVar[bool] = True
    traceable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"`tolerance` must be positive; got {self.tolerance}. Use None for the dtype's rounding.")
        if self.iterations < 1:
            raise ValueError(f"`iterations` must be at least 1; got {self.iterations}.")

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The state after a step, solved to the tolerance.

        Raises:
            RuntimeError: if the tolerance is not reached; the message names the step size.
        """
        # Features last, so that the pixels of a pointwise image flow are samples like any other.
        start = y.movedim(field.axis, -1)
        after = self._after(field.of_rows(y), start.reshape(-1, start.shape[-1]), h)
        return after.reshape(start.shape).movedim(-1, field.axis)

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The method is symmetric: a step back is its inverse."""
        return self.step(field, y, -h)

    def log_inverse_growth(self, x: Gains, *, monotone: bool) -> Tensor | None:
        """The inverse is the step with −h."""
        return self.log_growth(x, monotone=monotone)

    @abstractmethod
    def _after(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y⁺ (S, n) from y (S, n), the field bound to rows."""

    def _solved(self, E: VectorField, start: Tensor, h: float) -> Tensor:
        """z with z = start + (h/2) E(z), (S, ·), to be differentiated."""
        z = self.solution(E, start, h)
        for _ in range(2):
            A = E.jacobian(z)
            system = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - (h / 2) * A
            residual = torch.sub(z, start).sub(E(z), alpha=h / 2)
            z = z - torch.linalg.solve(system, residual.unsqueeze(-1)).squeeze(-1)
        return z

    def accepts(self, z: Tensor, residual: Tensor) -> bool:
        """Whether every sample has reached the tolerance, that of rounding by the size of the unknown alone."""
        tolerance = OF_STATE * torch.finfo(z.dtype).eps if self.tolerance is None else self.tolerance
        return bool((residual.abs() <= tolerance * (1 + z.abs().sum(-1, keepdim=True))).all())

    @torch.no_grad()
    def solution(self, E: VectorField, start: Tensor, h: float) -> Tensor:
        """z with z = start + (h/2) E(z), (S, ·), without gradients.

        Raises:
            RuntimeError: if the tolerance is not reached; the message names the step size.
        """
        steps = torch.full_like(start[:, :1], h)
        z, solved = solve(Equations(E, start.detach(), steps, self.tolerance), self.iterations)
        if not bool(solved.all()):
            raise RuntimeError(self._excuse(int((~solved).sum()), start, h))
        return z

    def _excuse(self, unsolved: int, y: Tensor, h: float) -> str:
        why = "" if y.isfinite().all() else "The state holds NaN or infinity. "
        accepted = "what rounding leaves" if self.tolerance is None else f"the tolerance {self.tolerance:g}"
        return (
            f"{type(self).__name__} did not converge in {self.iterations} Newton steps at step size {h:g}, nor by "
            f"approaching it in {4 * self.iterations} stages: {unsolved} of {len(y)} samples miss {accepted}. {why}"
            f"Use a smaller step, smaller weights or float64{self._remedy}."
        )

    @property
    def _remedy(self) -> str:
        return ""


@dataclass(frozen=True)
class ImplicitMidpoint(Implicit):
    """y⁺ = y + h f((y + y⁺) / 2). Order 2, symmetric, keeps every constant J, separable or not.

    The midpoint m = y + (h/2) f(m) exists and is the only one for every h and every σ with σ′ ≥ 0, ReLU included.
    N(0, 1) weights on 64 features allow h = 1 and more, linear flows any h. Solvers and their limits are those of all
    implicit steps: a solve of n equations per sample and iteration, no `torch.func.vmap`, no fullgraph `torch.compile`,
    no `torch.export`; vectors, or images and signals with kernel_size=1.

    Args:
        tolerance: accepted residual |m − y − (h/2) f(m)|, relative to 1 + ‖m‖₁. None means what rounding leaves: 64
            units of it, or 8 units of the numbers that the residual is summed from, which grow with h ‖J‖ ‖K‖².
        iterations: Newton steps after which it gives up; and a quarter of the stages of the continuation.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VI.4.
    """

    order: ClassVar[int] = 2
    symplectic: ClassVar[bool] = True
    midpoint: ClassVar[bool] = True

    def _after(self, field: Field, y: Tensor, h: float) -> Tensor:
        """2m − y."""
        return 2 * self._solved(field, y, h) - y

    def jacobian(self, A: Callable[[Tensor], Tensor], y: Tensor, after: Tensor, h: float) -> Tensor:
        """y⁺ = y + h f(m) with m = (y + y⁺) / 2, hence F = I + (h/2) A(m) (I + F)."""
        of_m = A((y + after) / 2)
        eye = torch.eye(of_m.shape[-1], dtype=of_m.dtype, device=of_m.device)
        F: Tensor = torch.linalg.solve(eye - (h / 2) * of_m, eye + (h / 2) * of_m)
        return F

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """F = I + h J Rᵀ (I − (h/2) R J Rᵀ)⁻¹ R, the inverse of norm ≤ 1: 1 + x; else (1 + x/2) / (1 − x/2)."""
        return _log_of_midpoint(x[0], monotone)


def _log_of_midpoint(x: Tensor, monotone: bool) -> Tensor:
    return torch.log1p(x) if monotone else log_of_inverse((1 - x / 2) / (1 + x / 2))


@dataclass(frozen=True, init=False)
class GaussLegendre(Implicit):
    """Collocation at the s nodes of Gauss: y⁺ = y + h Σ b_i f(Y_i). Order 2s, symmetric, keeps every constant J.

    The stages Y_i = y + h Σ_j a_ij f(Y_j) are solved for together. One stage is `ImplicitMidpoint`. From two stages on
    they need not exist at large h ‖J‖ ‖K‖², nor be the only ones: where the solver finds none it raises. A step solves
    s n equations per sample and iteration; what else holds of implicit steps is said at `ImplicitMidpoint`.

    Args:
        stages: s, 1 to 4.
        tolerance: accepted residual of the stages, relative to 1 + ‖Y‖₁; None means what rounding leaves.
        iterations: Newton steps after which it gives up; and a quarter of the stages of the continuation.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., sections II.1.3 and VI.4.2.

    Example:
        >>> GaussLegendre(2).order
        4
    """

    stages: int = 2
    symplectic: ClassVar[bool] = True

    def __init__(self, stages: int = 2, tolerance: float | None = None, iterations: int = 50) -> None:
        for name, value in (("stages", whole("stages", stages)), ("tolerance", tolerance), ("iterations", iterations)):
            object.__setattr__(self, name, value)
        if not 1 <= self.stages <= _MOST_STAGES:
            raise ValueError(f"`stages` must be a whole number from 1 to {_MOST_STAGES}; got {stages}.")
        self.__post_init__()

    @property
    def order(self) -> int:  # type: ignore[override]
        """2s."""
        return 2 * self.stages

    def _after(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h Σ b_i f(Y_i)."""
        a, b = (y.new_tensor(x) for x in _tableau(self.stages))
        stages = _Stages(field, a)
        Y = self._solved(stages, y.repeat(1, self.stages), h)
        return y + h * torch.einsum("i,sin->sn", b, stages.slopes(Y))

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        r"""With m = (y + y⁺) / 2, Y = 1 ⊗ m + h (a − ½ 1 bᵀ) f(Y), so that y⁺ − y = B (y + y⁺) / 2 as for the midpoint.

        For β = √b, G = diag(β) (a − ½ 1 bᵀ) diag(β)⁻¹ is skew (b_i a_ij + b_j a_ji = b_i b_j), with κ = ‖G‖, √3/6 for
        two stages. So B = h (βᵀ ⊗ J) S (I − h (G ⊗ J) S)⁻¹ (β ⊗ I) with S = diag(Kᵀ D_i K) has ‖B‖ ≤ g = x / (1 − κ x),
        and it is J times a symmetric matrix, ≥ 0 where κ x < 1 for G ⊗ J is symmetric: the bound of the midpoint rule
        holds with g in the place of x.
        """
        kept = 1 - _coupling(self.stages) * x[0]
        g = x[0] / torch.where(kept > 0, kept, 1)
        return torch.where(kept > 0, _log_of_midpoint(g, monotone), torch.inf)

    @property
    def _remedy(self) -> str:
        return "; the implicit midpoint rule has a solution at every step" if self.stages > 1 else ""


class _Stages:
    """All stages as one state (S, s n) of the equation Y = y + (h/2) E(Y), E_i = 2 Σ_j a_ij f(Y_j)."""

    def __init__(self, field: Field, a: Tensor) -> None:
        self.field, self.a = field, a

    def of(self, which: Tensor) -> _Stages:
        return _Stages(self.field.of(which), self.a)

    def slopes(self, Y: Tensor) -> Tensor:
        """f(Y_j), (S, s, n)."""
        return torch.stack([self.field(Y_j) for Y_j in self._apart(Y)], 1)

    def _apart(self, Y: Tensor) -> tuple[Tensor, ...]:
        return Y.chunk(len(self.a), 1)

    def __call__(self, y: Tensor) -> Tensor:
        return 2 * torch.einsum("ij,sjn->sin", self.a, self.slopes(y)).flatten(1)

    def jacobian(self, y: Tensor) -> Tensor:
        A = torch.stack([self.field.jacobian(Y_j) for Y_j in self._apart(y)], 1)
        together = torch.einsum("ij,sjnm->sinjm", self.a, A)
        return 2 * together.reshape(len(y), y.shape[1], y.shape[1])

    def magnitude(self, y: Tensor) -> Tensor:
        of_f = torch.stack([self.field.magnitude(Y_j) for Y_j in self._apart(y)], 1)
        return 2 * torch.einsum("ij,sjn->sin", self.a.abs(), of_f).flatten(1)


@cache
def _tableau(stages: int) -> tuple[list[list[float]], list[float]]:
    """a and b of collocation at the nodes of Gauss: the integrals of the Lagrange polynomials, to c_i and to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(stages)
    c = (nodes + 1) / 2
    powers = np.arange(1, stages + 1)
    # Σ_j a_ij c_j^(k−1) = c_i^k / k for k = 1 … s, which polynomials of lower degree than s are integrated by.
    a = np.linalg.solve((c[:, None] ** (powers - 1)).T, (c[:, None] ** powers / powers).T).T
    return a.tolist(), (weights / 2).tolist()


@cache
def _coupling(stages: int) -> float:
    """κ = ‖diag(√b) (a − ½ 1 bᵀ) diag(√b)⁻¹‖: 0 for one stage, √3/6 for two."""
    a, b = map(np.asarray, _tableau(stages))
    root = np.sqrt(b)
    return 0.0 if stages == 1 else float(np.linalg.norm(root[:, None] * (a - b / 2) / root, 2))


@dataclass(frozen=True)
class DiscreteGradient(Implicit):
    """y⁺ = y + h S ∇̄H with H(y⁺) − H(y) = ∇̄Hᵀ (y⁺ − y): the step that keeps the balance of energy. Order 2, symmetric.

    The mean of ∂H/∂y along the step is ∇̄H = Kᵀ δ, exactly, with δ the mean of σ between u and u⁺ (the averaged vector
    field); of energies of one's own see `Energy.mean`. So H is kept where S = J or J(y), and falls by h ∇̄Hᵀ R ∇̄H where
    S = J − R, at any step size, to rounding; ports with one u a step feed in h (Gᵀ ∇̄H)ᵀ u. It keeps neither J nor
    volume. With σ′ ≥ 0 and R ≥ 0 the equation has one solution at every h, as that of `ImplicitMidpoint`,
    where it is said what else holds of implicit steps.

    Args:
        tolerance: accepted residual |y⁺ − y − h S ∇̄H|, relative to 1 + ‖y⁺‖₁; None means what rounding leaves.
        iterations: Newton steps after which it gives up; and a quarter of the stages of the continuation.

    References:
        Quispel, McLaren, A new class of energy-preserving numerical integration methods, J. Phys. A 41 (2008);
        McLachlan, Quispel, Robidoux, Geometric integration using discrete gradients, Phil. Trans. R. Soc. A 357 (1999).
    """

    order: ClassVar[int] = 2

    def _after(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h (S ∇̄H + c), which is its own equation."""
        return self._solved(_Mean(field.drives[0], y), y, h)

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """(I − h J Kᵀ D⁺ K) F = I + h J Kᵀ D⁻ K, where D⁺ and D⁻, the slopes of δ, are at most s/2.

        With D⁺ ≥ 0 and J skew the inverse of the first factor has norm ≤ 1 + x/2, as for the midpoint rule:
        (1 + x/2)²; else (1 + x/2) / (1 − x/2).
        """
        return 2 * torch.log1p(x[0] / 2) if monotone else log_of_inverse((1 - x[0] / 2) / (1 + x[0] / 2))


class _Mean:
    """2 (S ∇̄H + c) as a function of y⁺: twice the mean of the field from y to y⁺."""

    def __init__(self, drive: Drive, before: Tensor) -> None:
        self.drive, self.before = drive, before

    def of(self, which: Tensor) -> _Mean:
        return _Mean(self.drive.of(which), self.before[which])

    def __call__(self, y: Tensor) -> Tensor:
        return 2 * self.drive.mean(self.before, y)

    def jacobian(self, y: Tensor) -> Tensor:
        return 2 * self.drive.mean_jacobian(self.before, y)

    def magnitude(self, y: Tensor) -> Tensor:
        """That of the field at both ends, and of differences of potentials between ends that are far enough apart."""
        drive, (K, b, W, _, a, *_) = self.drive, self.drive.layer
        sigma, u, after = drive.activation, *(drive.space.map(K, x, b) for x in (self.before, y))
        potentials = sigma.potential(u).abs() + sigma.potential(after).abs()
        of_z = potentials / (after - u).abs().clamp(min=sigma.CLOSE)
        of_z = of_z if a is None else of_z * a
        differences = of_z if W is None else drive.space.adjoint(W.abs(), of_z)
        return 2 * (differences + drive.magnitude(self.before) + drive.magnitude(y))
