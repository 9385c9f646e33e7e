"""Implicit steps beside the midpoint rule: Gauss-Legendre of any stages, and the discrete gradient.

Legend: y state (S, n), one sample a row, y⁺ the state after a step, h step, f field with the Jacobian A; a, b, c the
tableau of s stages, Y_i = y + h Σ_j a_ij f(Y_j); u = K y + b, δ the divided difference of the potential σ̃.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hdnn.continuation import Equations, VectorField, solve
from hdnn.hamiltonian import Drive, Field
from hdnn.steps import Integrator

_MOST_STAGES = 4
# Differences of u, relative to its size, below which a divided difference would be of rounding alone.
_CLOSE = {torch.float64: 1e-4, torch.float32: 1e-2}


@dataclass(frozen=True)
class Implicit(Integrator):
    """A step that is the solution of equations, found per sample by Newton's method and by continuation in h.

    Gradients follow from the implicit function theorem, as for `ImplicitMidpoint`, whose restrictions hold as well: no
    `torch.func.vmap`, no fullgraph `torch.compile`, no `torch.export`; vectors, or pointwise images and signals.

    Args:
        tolerance: accepted residual, relative to 1 + ‖·‖₁ of the unknowns; None means what rounding leaves.
        iterations: Newton steps after which it gives up; and a quarter of the stages of the continuation.
    """

    tolerance: float | None = None
    iterations: int = 50
    traceable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"`tolerance` must be positive; got {self.tolerance}. Use None for the dtype's rounding.")
        if self.iterations < 1:
            raise ValueError(f"`iterations` must be at least 1; got {self.iterations}.")

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The method is symmetric: a step back is its inverse."""
        return self.step(field, y, -h)

    def _solved(self, equations: VectorField, start: Tensor, h: float) -> Tensor:
        """z = start + (h/2) equations(z), (S, ·), differentiable twice."""
        with torch.no_grad():
            steps = torch.full_like(start[:, :1], h)
            z, solved = solve(Equations(equations, start.detach(), steps, self.tolerance), self.iterations)
        if not bool(solved.all()):
            why = "" if start.isfinite().all() else "The state holds NaN or infinity. "
            raise RuntimeError(
                f"{type(self).__name__} did not converge at step size {h:g}, neither in {self.iterations} Newton steps "
                f"nor by approaching it: {int((~solved).sum())} of {len(start)} samples are left. {why}Use a smaller "
                f"step, smaller weights or float64; `ImplicitMidpoint` has a solution at every step."
            )
        for _ in range(2):  # Newton steps whose derivatives are those of the solution, the second ones as well
            A = equations.jacobian(z)
            system = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - (h / 2) * A
            residual = z - start - (h / 2) * equations(z)
            z = z - torch.linalg.solve(system, residual.unsqueeze(-1)).squeeze(-1)
        return z


@dataclass(frozen=True)
class GaussLegendre(Implicit):
    """Collocation at the s nodes of Gauss: y⁺ = y + h Σ b_i f(Y_i). Order 2s, symmetric, keeps every constant J.

    One stage is the implicit midpoint rule. From two stages on the equations need not have a solution, nor only one:
    where the solver finds none it raises. The cost is a solve of s n equations per sample and iteration.

    Args:
        stages: s, 1 to 4.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., sections II.1.3 and VI.4.2.

    Example:
        >>> GaussLegendre(2).order
        4
    """

    stages: int = 2
    symplectic: ClassVar[bool] = True
    reversible: ClassVar[bool] = True

    def __init__(self, stages: int = 2, tolerance: float | None = None, iterations: int = 50) -> None:
        for name, value in (("stages", stages), ("tolerance", tolerance), ("iterations", iterations)):
            object.__setattr__(self, name, value)
        if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= _MOST_STAGES:
            raise ValueError(f"`stages` must be a whole number from 1 to {_MOST_STAGES}; got {stages!r}.")
        self.__post_init__()

    @property
    def order(self) -> int:  # type: ignore[override]
        """2s."""
        return 2 * self.stages

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h Σ b_i f(Y_i), with the Y_i solved to the tolerance.

        Raises:
            RuntimeError: if the tolerance is not reached; the message names the step size.
        """
        start = y.movedim(field.axis, -1)
        rows = start.reshape(-1, start.shape[-1])
        a, b = (rows.new_tensor(x) for x in _tableau(self.stages))
        stages = _Stages(field.of_positions(), a)
        Y = self._solved(stages, rows.repeat(1, self.stages), h)
        after = rows + h * torch.einsum("i,sin->sn", b, stages.slopes(Y))
        return after.reshape(start.shape).movedim(-1, field.axis)


class _Stages:
    """All stages as one state (S, s n) of the equation Y = y + (h/2) F(Y), F_i = 2 Σ_j a_ij f(Y_j)."""

    def __init__(self, field: Field, a: Tensor) -> None:
        self.field, self.a = field, a

    def slopes(self, Y: Tensor) -> Tensor:
        """f(Y_j), (S, s, n)."""
        return self.field(self._apart(Y))

    def _apart(self, Y: Tensor) -> Tensor:
        return Y.reshape(len(Y), len(self.a), Y.shape[1] // len(self.a))

    def __call__(self, y: Tensor) -> Tensor:
        return 2 * torch.einsum("ij,sjn->sin", self.a, self.slopes(y)).flatten(1)

    def jacobian(self, y: Tensor) -> Tensor:
        A = self.field.jacobian(self._apart(y))
        whole = torch.einsum("ij,sjnm->sinjm", self.a, A)
        return 2 * whole.reshape(len(y), y.shape[1], y.shape[1])

    def magnitude(self, y: Tensor) -> Tensor:
        of_f = self.field.magnitude(self._apart(y))
        return 2 * torch.einsum("ij,sjn->sin", self.a.abs(), of_f).flatten(1)


def _tableau(stages: int) -> tuple[list[list[float]], list[float]]:
    """a and b of collocation at the nodes of Gauss: the integrals of the Lagrange polynomials, to c_i and to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(stages)
    c = (nodes + 1) / 2
    powers = np.arange(1, stages + 1)
    # Σ_j a_ij c_j^(k−1) = c_i^k / k for k = 1 … s, which polynomials of lower degree than s are integrated by.
    a = np.linalg.solve((c[:, None] ** (powers - 1)).T, (c[:, None] ** powers / powers).T).T
    return a.tolist(), (weights / 2).tolist()


@dataclass(frozen=True)
class DiscreteGradient(Implicit):
    """y⁺ = y + h S ∇̄H with H(y⁺) − H(y) = ∇̄Hᵀ (y⁺ − y): the step that keeps the balance of energy. Order 2, symmetric.

    The mean of ∂H/∂y along the step is ∇̄H = Kᵀ δ with the divided differences δ = (σ̃(u⁺) − σ̃(u)) / (u⁺ − u), exactly
    (the averaged vector field). So H is kept where S = J, and falls by h ∇̄Hᵀ R ∇̄H where S = J − R, at any step size;
    rounding, and kinks of σ that are closer than 1e-4, are what is left. It keeps neither J nor volume.
    With σ′ ≥ 0 and R ≥ 0 the equation has one solution at every h, as that of `ImplicitMidpoint`.

    References:
        Quispel, McLaren, A new class of energy-preserving numerical integration methods, J. Phys. A 41 (2008);
        McLachlan, Quispel, Robidoux, Geometric integration using discrete gradients, Phil. Trans. R. Soc. A 357 (1999).
    """

    order: ClassVar[int] = 2
    reversible: ClassVar[bool] = True

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """y + h Wᵀ δ(u, u⁺), with y⁺ solved to the tolerance.

        Raises:
            RuntimeError: if the tolerance is not reached; the message names the step size.
        """
        start = y.movedim(field.axis, -1)
        rows = start.reshape(-1, start.shape[-1])
        (drive,) = field.of_positions().drives
        after = self._solved(_Mean(drive, rows), rows, h)
        return after.reshape(start.shape).movedim(-1, field.axis)


class _Mean:
    """2 Wᵀ δ(u, u⁺) as a function of y⁺: twice the mean of the field from y to y⁺."""

    def __init__(self, drive: Drive, y: Tensor) -> None:
        self.drive = drive
        self.K, self.b, self.W = drive.layer[:3]
        self.u = drive.space.map(self.K, y, self.b)

    def __call__(self, y: Tensor) -> Tensor:
        z = self._differences(self._u(y))[0]
        return 2 * (z if self.W is None else self.drive.space.adjoint(self.W, z))

    def jacobian(self, y: Tensor) -> Tensor:
        scaled = 2 * self._differences(self._u(y))[1].unsqueeze(-1) * self.K
        return scaled if self.W is None else torch.matmul(self.W.mT, scaled)

    def magnitude(self, y: Tensor) -> Tensor:
        """Here a divided difference is of rounding alone: where it is just not close."""
        u = self._u(y)
        of_z = self._differences(u)[0].abs() + (u.abs() + self.u.abs() + 1) / _CLOSE[u.dtype]
        return 2 * (of_z if self.W is None else self.drive.space.adjoint(self.W.abs(), of_z))

    def _u(self, after: Tensor) -> Tensor:
        return self.drive.space.map(self.K, after, self.b)

    def _differences(self, after: Tensor) -> tuple[Tensor, Tensor]:
        """δ(u, u⁺) and its derivative by u⁺: (σ(u⁺) − δ) / (u⁺ − u); by Simpson's rule where both are close."""
        sigma, before = self.drive.activation, self.u
        d = after - before
        close = d.abs() < _CLOSE[d.dtype] * (1 + before.abs())
        wide = torch.where(close, 1, d)
        far = torch.where(close, before + 1, after)  # no 0/0 may reach a gradient
        delta = (sigma.potential(far) - sigma.potential(before)) / wide
        middle = before + d / 2
        near = (sigma.value(before) + 4 * sigma.value(middle) + sigma.value(after)) / 6
        slope = (sigma.value(far) - delta) / wide
        near_slope = (2 * sigma.slope(middle) + sigma.slope(after)) / 6
        return torch.where(close, near, delta), torch.where(close, near_slope, slope)
