"""How far exp(t A) grows before it settles, which the eigenvalues of A do not tell.

Legend: A (n, n) the Jacobian of a field, exp(t A) what its linear system does to states; μ the numerical abscissa, 𝒦
the Kreiss constant, z = x + iω a point right of the imaginary axis, P = Pᵀ > 0 a metric, ‖v‖_P² = vᵀ P v.

The three numbers frame the growth: it starts at the rate μ, reaches at least 𝒦 and at most e n 𝒦 (the Kreiss matrix
theorem). For a marginally stable A = J S all of it is what S does not share with the identity: 𝒦 = 1 for S = I.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Points right of the imaginary axis, as shares of ‖A‖, and how often the interval around the best of them is halved.
_NEAREST, _FARTHEST, _POINTS, _HALVINGS = 1e-7, 1e2, 73, 30
# Between two times that are looked at, exp(t A) grows by e^(1/4) at most; so many of them at a time, and at all.
_TIMES_A_UNIT, _MANY, _MOST = 4, 1024, 10**6
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class TransientGrowth:
    """The largest ‖exp(t A)‖₂ over an interval.

    Attributes:
        value: of the norm, at least 1.
        time: when it is reached.
    """

    value: float
    time: float


def numerical_abscissa(A: Tensor, metric: Tensor | None = None) -> Tensor:
    """The largest rate at which the system y' = A y can grow at any moment: μ(A), its logarithmic norm.

    μ = max vᵀ A v / vᵀ v = λ_max((A + Aᵀ)/2), the slope of ‖exp(t A)‖ at t = 0, and ‖exp(t A)‖ ≤ e^(μ t) for t ≥ 0. It
    is zero for a normal A on the imaginary axis, as J S with S = I, and positive for most others. In a metric P both
    are meant of ‖v‖_P.

    Args:
        A: (..., n, n), such as `linearize(flow, y).A`.
        metric: P, symmetric and positive definite, (n, n); None is the identity.

    Returns:
        (...), in 1/time, float64.

    Raises:
        ValueError: if A is not square or not finite, or P is not positive definite.

    References:
        Trefethen, Embree, Spectra and Pseudospectra, 2005, chapter 14.

    Example:
        >>> import torch, hdnn
        >>> numerical_abscissa(hdnn.canonical(2) @ torch.diag(torch.tensor([1.0, 0.5])))
        tensor(0.2500, dtype=torch.float64)
    """
    A = in_metric(_square(A), metric)
    highest: Tensor = torch.linalg.eigvalsh((A + A.mT) / 2)[..., -1]
    return highest


def in_metric(A: Tensor, metric: Tensor | None) -> Tensor:
    """A for states in units of which ‖v‖_P is the Euclidean norm: Lᵀ A L⁻ᵀ with P = L Lᵀ."""
    L = root(A.shape[-1], metric)
    return A if L is None else torch.linalg.solve_triangular(L.mT, L.mT @ A, upper=True, left=False)


def root(features: int, metric: Tensor | None) -> Tensor | None:
    """L, lower triangular, with P = L Lᵀ, float64; None for the identity.

    Raises:
        ValueError: if P is not a symmetric, positive definite (n, n) matrix.
    """
    if metric is None:
        return None
    P = metric.detach().to("cpu", torch.float64)
    if P.shape != (features, features) or not torch.equal(P, P.mT):
        raise ValueError(
            f"`metric` must be a symmetric {features} x {features} matrix; got shape {tuple(P.shape)}. "
            f"Use `(P + P.mT) / 2`."
        )
    L, failed = torch.linalg.cholesky_ex(P)
    if failed or not L.isfinite().all():
        raise ValueError("`metric` must be positive definite, or it measures no distance. Add to its diagonal.")
    return torch.as_tensor(L)


def kreiss_constant(A: Tensor) -> float:
    """𝒦(A) = sup over Re z > 0 of Re z · ‖(z − A)⁻¹‖₂: how far exp(t A) is certain to grow.

    𝒦 ≤ sup over t ≥ 0 of ‖exp(t A)‖ ≤ e n 𝒦. It is 1 for normal matrices, infinite where A has an eigenvalue right of
    the imaginary axis, or a Jordan block on it.

    On each of 73 lines Re z = x the maximum over ω is the H∞ norm of (z − A)⁻¹, found by levels of a Hamiltonian
    matrix; then the best x is refined. Every number that is looked at is one of those that the supremum is taken of, so
    that what comes back is above it by rounding alone; a peak over x narrower than a third of a decade may be missed.

    Args:
        A: one matrix (n, n), such as `linearize(flow, y).A`.

    Raises:
        ValueError: if A is not square or not finite.

    References:
        Kreiss, BIT 2, 1962; Bruinsma, Steinbuch, Systems & Control Letters 14, 1990 (levels);
        Mitchell, SIAM Journal on Matrix Analysis 41, 2020, https://doi.org/10.1137/19M1275127

    Example:
        >>> import torch, hdnn
        >>> S = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
        >>> round(kreiss_constant(hdnn.canonical(2, dtype=torch.float64) @ S), 4)  # (1 + 0.01) / (2 √0.01)
        5.05
    """
    A = _one(A)
    scale = float(torch.linalg.matrix_norm(A, 2)) if A.numel() else 0.0
    if scale == 0:
        return 1.0
    A = A / scale
    spectrum = torch.linalg.eigvals(A)
    if float(spectrum.real.max()) > _NEAREST:
        return math.inf
    lines = torch.logspace(math.log10(_NEAREST), math.log10(_FARTHEST), _POINTS, dtype=torch.float64, device="cpu")
    found = [_on_line(A, spectrum.imag, float(x)) for x in lines]
    per_decade = round((_POINTS - 1) / math.log10(_FARTHEST / _NEAREST))
    if found[0] > 3 * found[per_decade]:  # like 1/x, as beside a Jordan block, where it would be level
        return math.inf
    best = max(range(_POINTS), key=found.__getitem__)
    low, high = (math.log(float(lines[min(max(best + side, 0), _POINTS - 1)])) for side in (-1, 1))
    peak = _highest(lambda log: _on_line(A, spectrum.imag, math.exp(log)), low, high)
    return max(1.0, *found, peak[0])


def transient_growth(A: Tensor, horizon: float) -> TransientGrowth:
    """The largest ‖exp(t A)‖₂ for 0 ≤ t ≤ T, and when it is reached.

    Args:
        A: one matrix (n, n), such as `linearize(flow, y).A`.
        horizon: T > 0.

    Raises:
        ValueError: if A is not square or not finite, T is not positive and finite, or T ‖A‖ is above 250,000.

    Example:
        >>> import torch, hdnn
        >>> A = hdnn.canonical(2) @ torch.diag(torch.tensor([1.0, 0.01]))
        >>> found = transient_growth(A, horizon=20.0)
        >>> round(found.value, 3), round(found.time, 2)  # 1 / √0.01, after a quarter of a turn
        (10.0, 15.71)
    """
    A = _one(A)
    if not (math.isfinite(horizon) and horizon > 0):
        raise ValueError(f"`horizon` must be a positive, finite time; got {horizon}.")
    size = float(torch.linalg.matrix_norm(A, 2)) if A.numel() else 0.0
    count = 1 + max(64, math.ceil(_TIMES_A_UNIT * size * horizon))
    if count > _MOST:
        raise ValueError(
            f"Over {horizon:g} units of time a matrix of norm {size:.3g} turns too often to be followed. Use a horizon "
            f"of at most {_MOST / _TIMES_A_UNIT / size:.3g}."
        )
    times = torch.linspace(0.0, horizon, count, dtype=A.dtype, device=A.device)
    norms = torch.cat([_grown(A, some) for some in torch.split(times, _MANY)])
    if not norms.isfinite().all():
        raise ValueError(f"exp(t A) overflows before t = {horizon:g}. Use a shorter `horizon`.")
    best = int(norms.argmax())
    low, high = (float(times[min(max(best + side, 0), count - 1)]) for side in (-1, 1))
    value, time = _highest(lambda t: float(_grown(A, times.new_tensor([t]))), low, high)
    on_grid = TransientGrowth(float(norms[best]), float(times[best]))
    return TransientGrowth(value, time) if value >= on_grid.value else on_grid


def _grown(A: Tensor, times: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(torch.linalg.matrix_exp(times[:, None, None] * A), 2)
    return norms


def _on_line(A: Tensor, frequencies: Tensor, x: float) -> float:
    """The maximum over ω of x ‖(x + iω − A)⁻¹‖₂, by levels, from the frequencies of the eigenvalues of A."""
    n = len(A)
    B, eye = A - x * torch.eye(n).to(A), torch.eye(n).to(A)
    smallest = _smallest(B, torch.cat((frequencies, frequencies.new_zeros(1))))
    for _ in range(10):
        s = smallest * (1 - 1e-9)
        crossings = torch.linalg.eigvals(torch.cat((torch.cat((B, s * eye), 1), torch.cat((-s * eye, -B.mT), 1))))
        ω = crossings.imag[crossings.real.abs() < 1e-7].sort().values
        if len(ω) < 2:
            break
        lower = _smallest(B, (ω[1:] + ω[:-1]) / 2)
        if lower >= smallest:
            break
        smallest = lower
    return x / smallest if smallest else math.inf


def _smallest(B: Tensor, frequencies: Tensor) -> float:
    """The smallest singular value of iω − B over some ω."""
    eye = torch.eye(len(B)).to(B)
    return float(torch.linalg.svdvals(torch.complex(-B, 0 * B) + 1j * frequencies[:, None, None] * eye)[:, -1].min())


def _highest(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """The maximum of a function that has one peak in an interval, and where, by golden sections."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(_HALVINGS):
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = function(b)
    return (at_a, a) if at_a > at_b else (at_b, b)


def _square(A: Tensor) -> Tensor:
    if not isinstance(A, Tensor) or A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        shape = tuple(A.shape) if isinstance(A, Tensor) else type(A).__name__
        raise ValueError(f"A must be a square matrix, (..., n, n); got {shape}. Use `linearize(flow, y).A`.")
    if not A.isfinite().all():
        raise ValueError("A has NaN or infinite entries, so nothing can be said about exp(t A).")
    return A.detach().to("cpu", torch.float64)


def _one(A: Tensor) -> Tensor:
    A = _square(A)
    if A.dim() > 2:
        raise ValueError(f"One matrix at a time; got {tuple(A.shape)}. Pass A[i].")
    return A
