"""Sensitivities in continuous time: the variational equation along y' = J Kᵀ(t) σ(K(t) y + b(t)).

Legend: A(y, t) = J Kᵀ D K the Jacobian of the field, T horizon; Φ(t) = ∂y(t)/∂y(0) solves Φ' = A Φ, Φ(0) = I;
M(t) = ∂y(T)/∂y(T − t) solves dM/dt = M A(y(T − t), T − t), M(0) = I; the papers' φ(T, T − t) is Mᵀ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from hdnn.analysis.invariants import symplecticity_residual
from hdnn.analysis.ode import HamiltonianODE
from hdnn.flow import Flow

# Times closer than this share of the horizon are one time: j · h and a float32 linspace differ in their last bits.
_ONE_TIME = 1e-6
# About two minutes, from one reported time to the next: longer is more likely a mistake than a wish.
_EVALUATIONS = 2_000_000


@dataclass(frozen=True, eq=False)
class ContinuousSensitivities:
    """A trajectory and its Jacobians at P times, ascending; float64, on the CPU.

    Attributes:
        times: t, (P,).
        states: y(t), (P, ..., n).
        forward: Φ(t) = ∂y(t)/∂y(0), (P, ..., n, n).
        backward: ∂y(T)/∂y(t) = M(T − t), (P, ..., n, n): the entry that corresponds to `sensitivities(flow, y0)[j]`
            at t = j h.
        residuals: ‖M J Mᵀ − J‖_F of the entries of `backward`, (P, ...): zero but for the error of the solver. None
            where J varies with t or J Kᵀ = I.
    """

    times: Tensor
    states: Tensor
    forward: Tensor
    backward: Tensor
    residuals: Tensor | None


def continuous_sensitivities(
    system: HamiltonianODE | Flow,
    y0: Tensor,
    times: Sequence[float] | Tensor | None = None,
    *,
    tolerance: float = 1e-10,
) -> ContinuousSensitivities:
    """Integrate y and its sensitivities to the tolerance, where the flow would take steps of size h.

    From each time to the next, y' = f(y, t) and F' = A(y, t) F are solved together from F = I. Products of these F
    give both Φ(t) and M(t) forward in time, so that no equation is run backward and K(t) is read at its own time.
    The solver is SciPy's DOP853, of order 8; it starts anew at every jump of the weights.

    Args:
        system: the ODE, or a flow that discretises it.
        y0: y(0), (..., n).
        times: where to report, between 0 and T; None means t = j h for a flow; for an ODE 0, its jumps and T.
        tolerance: of the solver, relative, and a hundredth of it, absolute; in the mean over the samples.

    Returns:
        The trajectory and its Jacobians at `times`, ascending.

    Raises:
        ValueError: if y0 does not fit, times lie outside, or the tolerance is out of reach.
        RuntimeError: if the sensitivities overflow, or vary too fast for the solver.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, lemma 2 (there φ = Mᵀ), https://arxiv.org/abs/2104.13166;
        Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, sections I.14 and II.5.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=8, step=0.1)
        >>> exact = continuous_sensitivities(flow, torch.randn(10, 4))
        >>> exact.backward.shape, bool(exact.residuals.max() < 1e-8)
        (torch.Size([9, 10, 4, 4]), True)
    """
    if isinstance(system, Flow):
        times = [j * system.step for j in range(system.layers + 1)] if times is None else times
        system = HamiltonianODE.of(system)
    if not 1e-13 <= tolerance < 1:
        raise ValueError(f"`tolerance` must lie between 1e-13 and 1, what float64 can reach; got {tolerance}.")
    y = _start(system, y0)
    edges = [0.0, *system.jumps, system.horizon]
    reported = _reported(times, edges)
    edges = sorted({*edges, *reported})
    states, factors = [y], []
    for start, stop in itertools.pairwise(edges):
        y, F = _solve(system, y, start, stop, tolerance)
        states.append(y)
        factors.append(F)
    eye = torch.eye(y.shape[-1], dtype=y.dtype).expand(*y.shape, -1)
    forward, backward = [eye], [eye]
    for F, G in zip(factors, reversed(factors), strict=True):
        forward.append(F @ forward[-1])
        backward.append(backward[-1] @ G)
    chosen = torch.tensor([edges.index(t) for t in reported])
    M = torch.stack(backward[::-1])[chosen]
    residuals = symplecticity_residual(M, system.J) if system.J is not None else None
    t, Y, Phi = torch.tensor(reported, dtype=y.dtype), torch.stack(states)[chosen], torch.stack(forward)[chosen]
    return ContinuousSensitivities(t, Y, Phi, M, residuals)


def _solve(ode: HamiltonianODE, y: Tensor, start: float, stop: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """The state at `stop` and its Jacobian with respect to that at `start`."""
    n, count = y.shape[-1], y.numel()
    where = f"between t = {start:g} and {stop:g}"
    # The method reads the end of a step, too: there the weights must still be those before the jump.
    last = math.nextafter(stop, start)
    calls = itertools.count(1)

    def rate(t: float, z: NDArray[np.float64]) -> NDArray[np.float64]:
        field = ode.field(min(max(t, start), last))
        numbers = torch.from_numpy(z)
        state, F = numbers[:count].view(y.shape), numbers[count:].view(*y.shape, n)
        rates = torch.cat((field(state).flatten(), (field.jacobian(state) @ F).flatten()))
        # SciPy would try smaller steps without end.
        if not torch.isfinite(rates).all():
            raise RuntimeError(f"The sensitivities overflow {where}. Use smaller weights or a shorter horizon.")
        if next(calls) > _EVALUATIONS:
            raise RuntimeError(
                f"{_EVALUATIONS:,} evaluations of the field do not suffice {where}: it varies too fast. Loosen "
                f"`tolerance`, ask for `times` in between, or use smaller weights."
            )
        return rates.numpy()

    eye = torch.eye(n, dtype=y.dtype).expand(*y.shape, n)
    z = torch.cat((y.flatten(), eye.flatten())).numpy()
    found = solve_ivp(rate, (start, stop), z, method="DOP853", t_eval=[stop], rtol=tolerance, atol=tolerance / 100)
    if not found.success:
        raise RuntimeError(
            f"The solver gave up {where}: {found.message} The weights may vary too fast or be too large; name their "
            f"jumps in `jumps`, or loosen `tolerance`."
        )
    end = torch.from_numpy(found.y[:, -1].copy())
    return end[:count].view(y.shape), end[count:].view(*y.shape, n)


def _start(ode: HamiltonianODE, y0: Tensor) -> Tensor:
    if y0.dim() < 1 or y0.shape[-1] != ode.features:
        raise ValueError(f"Expected a state of shape (..., {ode.features}); got {tuple(y0.shape)}.")
    if not torch.isfinite(y0).all():
        raise ValueError("The initial state has NaN or infinite entries.")
    return y0.detach().to("cpu", torch.float64)


def _reported(times: Sequence[float] | Tensor | None, edges: list[float]) -> list[float]:
    """The times to report, ascending, each moved onto the edge that it means."""
    if times is None:
        return edges
    horizon = edges[-1]
    found = []
    for t in sorted({float(t) for t in times}):
        nearest = min(edges, key=lambda edge: abs(edge - t))
        t = nearest if abs(nearest - t) <= _ONE_TIME * horizon else t
        if not 0 <= t <= horizon:
            raise ValueError(f"`times` must lie between 0 and the horizon {horizon:g}; got {t:g}.")
        found.append(t)
    if not found:
        raise ValueError("`times` is empty. Name at least one time, or leave it out.")
    return list(dict.fromkeys(found))
