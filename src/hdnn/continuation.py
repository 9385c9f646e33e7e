"""Equations of implicit steps, m = y + (h/2) f(m), by Newton's method and by continuation in h.

Legend: y states (S, n), one sample a row; m midpoints, h step, f the field, A its Jacobian, r = m − y − (h/2) f(m).
Other implicit steps have other unknowns in the place of m, and other f.

Why there is one midpoint: u = K m + b solves u = K y + b + (h/2) Ω σ(u) with the skew Ω = K J Kᵀ. Of two solutions the
difference d has d = (h/2) Ω D d, where D ≥ 0 is diagonal and holds the secant slopes of σ; then dᵀ D d = 0, so D d = 0
and d = 0. The same holds on the way from h = 0, where m = y: a path of solutions, which never turns back, leads to m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

# Halvings of a Newton step before a sample is handed to continuation, which is then the shorter way.
_HALVINGS = 8
# Newton steps of one stage of the continuation: more are dearer than a shorter stage.
_CORRECTIONS = 8
# A stage that would be shorter than this share of h is given up.
_SHORTEST = 2.0**-50
# Units of rounding: of the state, and of the numbers that a value of the field is summed from.
OF_STATE, _OF_FIELD = 64, 8


class VectorField(Protocol):
    """f with its Jacobian and its rounding, on rows of features."""

    def __call__(self, y: Tensor) -> Tensor:
        """f(y), (S, n)."""

    def jacobian(self, y: Tensor) -> Tensor:
        """A(y), (S, n, n)."""

    def magnitude(self, y: Tensor) -> Tensor:
        """The size of the numbers that f(y) is summed from, (S, n)."""

    def of(self, which: Tensor) -> VectorField:
        """That of some samples, where it knows something of each."""


@dataclass(frozen=True, eq=False)
class Equations:
    """r(m) = 0 for many samples, each with a step of its own.

    Args:
        field: f.
        y: (S, n).
        h: (S, 1).
        tolerance: accepted |r|, relative to 1 + ‖m‖₁; None means what rounding leaves.
    """

    field: VectorField
    y: Tensor
    h: Tensor
    tolerance: float | None

    def residual(self, m: Tensor) -> Tensor:
        """r(m), (S, n)."""
        return m - self.y - (self.h / 2) * self.field(m)

    def solved(self, m: Tensor, residual: Tensor) -> Tensor:
        """Whether each sample has reached the tolerance, (S,)."""
        unit = torch.finfo(m.dtype).eps
        size = 1 + m.abs().sum(-1, keepdim=True)
        bar = size * (OF_STATE * unit if self.tolerance is None else self.tolerance)
        if self.tolerance is None and not bool((residual.abs() <= bar).all()):
            # h f(m) may be a small sum of large numbers, and no m brings r below the rounding of that sum.
            sum_of = m.abs() + self.y.abs() + (self.h.abs() / 2) * self.field.magnitude(m)
            bar = torch.maximum(bar, _OF_FIELD * unit * sum_of)
        return (residual.abs() <= bar).all(-1)

    def newton(self, m: Tensor, right: Tensor) -> Tensor:
        """(I − (h/2) A(m))⁻¹ right, (S, n); for σ′ ≥ 0 the matrix is never singular."""
        A = self.field.jacobian(m)
        system = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - (self.h / 2).unsqueeze(-1) * A
        # Without the check: a matrix of NaN, or a singular one where σ′ < 0, ends as a sample that is not solved.
        step: Tensor = torch.linalg.solve_ex(system, right.unsqueeze(-1)).result
        return step.squeeze(-1)

    def of(self, which: Tensor) -> Equations:
        """Those of some samples."""
        return replace(self, field=self.field.of(which), y=self.y[which], h=self.h[which])


@torch.no_grad()
def solve(equations: Equations, iterations: int) -> tuple[Tensor, Tensor]:
    """The midpoints of all samples: by damped Newton steps, and by continuation for those that these do not bring home.

    Args:
        equations: of S samples.
        iterations: Newton steps, and a quarter of the stages of the continuation, after which it gives up.

    Returns:
        m (S, n), and whether each sample is solved, (S,).
    """
    m, solved = _newton(equations, iterations)
    left = (~solved).nonzero().flatten()
    if len(left):
        m[left], solved[left] = _continued(equations.of(left), 4 * iterations)
    return m, solved


def _newton(equations: Equations, iterations: int) -> tuple[Tensor, Tensor]:
    """Newton steps from y, halved for the samples whose residual they do not reduce, until no sample gets further."""
    m = equations.y.clone()
    residual = equations.residual(m)
    solved = equations.solved(m, residual)
    moving = ~solved
    for _ in range(iterations):
        if not bool(moving.any()):
            break
        direction = equations.newton(m, residual)
        size = torch.linalg.vector_norm(residual, dim=-1, keepdim=True)
        share = torch.ones_like(size)
        for _ in range(_HALVINGS):
            trial = m - share * direction
            after = equations.residual(trial)
            better = torch.linalg.vector_norm(after, dim=-1, keepdim=True) <= (1 - share / 4) * size  # false for NaN
            if bool((better.squeeze(-1) | ~moving).all()):
                break
            share = torch.where(better, share, share / 2)
        taken = better & moving.unsqueeze(-1)
        m, residual = torch.where(taken, trial, m), torch.where(taken, after, residual)
        solved = equations.solved(m, residual)
        moving = taken.squeeze(-1) & ~solved
    return m, solved


def _continued(equations: Equations, stages: int) -> tuple[Tensor, Tensor]:
    """The path m(t) of the equations with t h, from m(0) = y to t = 1, in stages as long as each sample bears.

    A stage goes along the tangent, (I − (t h/2) A) dm/dt = (h/2) f(m), and then by plain Newton steps. At the kinks of
    a ReLU plain steps arrive, where damped ones creep up to the kink and never cross it. On the way √rounding is
    enough: whatever solution is found is the one there is.
    """
    m, h = equations.y.clone(), equations.h
    t, length = torch.zeros_like(h), torch.full_like(h, 0.25)
    rough = torch.finfo(m.dtype).eps ** 0.5
    for _ in range(stages):
        left = ((t < 1) & (length > _SHORTEST)).squeeze(-1).nonzero().flatten()
        if not len(left):
            break
        start, end = t[left], (t[left] + length[left]).clamp(max=1)
        here = replace(equations.of(left), h=start * h[left])
        tangent = here.newton(m[left], (h[left] / 2) * here.field(m[left]))
        there = replace(here, h=end * h[left])
        x, arrived = _corrected(there, m[left] + (end - start) * tangent, end < 1, rough)
        arrived = arrived.unsqueeze(-1)
        m[left], t[left] = torch.where(arrived, x, m[left]), torch.where(arrived, end, start)
        length[left] = torch.where(arrived, 2 * length[left], length[left] / 4)
    return m, (t >= 1).squeeze(-1)


def _corrected(equations: Equations, m: Tensor, on_the_way: Tensor, rough: float) -> tuple[Tensor, Tensor]:
    """Plain Newton steps, and which samples they have solved; those on the way to within `rough`."""
    residual = equations.residual(m)
    for count in range(_CORRECTIONS + 1):
        near = (residual.abs() <= rough * (1 + m.abs().sum(-1, keepdim=True))).all(-1)
        arrived = (near & on_the_way.squeeze(-1)) | equations.solved(m, residual)
        if count == _CORRECTIONS or bool(arrived.all()):
            break
        m = torch.where(arrived.unsqueeze(-1), m, m - equations.newton(m, residual))
        residual = equations.residual(m)
    return m, arrived
