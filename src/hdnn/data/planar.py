"""Three classification problems in the plane: two spirals, four moons, four circles.

Legend: x (size, 2) points, y (size,) labels 0 or 1, θ the angle along a curve, r its radius.
The curves are those of Galimberti, Furieri, Xu and Ferrari-Trecate, "Hamiltonian Deep Neural Networks
Guaranteeing Nonvanishing Gradients by Design", IEEE TAC 2023, https://arxiv.org/abs/2105.13205.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Labels = NDArray[np.int64]
Domain = tuple[tuple[float, float], tuple[float, float]]
"""The rectangle of a plot: ((x1 from, x1 to), (x2 from, x2 to))."""

DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "swiss_roll": ((-1.2, 1.2), (-1.2, 1.2)),
        "double_moons": ((-2.0, 5.0), (-1.0, 2.0)),
        "double_circles": ((-5.0, 5.0), (-5.0, 5.0)),
    }
)


def swiss_roll(size: int = 8000, seed: int = 0) -> tuple[Points, Labels]:
    """Draw two interleaved spirals of two turns each, without noise.

    x = r (cos θ, sin θ), θ over [0, 4π); r from 0 to 1 (class 1) and from 0.2 to 1.2 (class 0).

    Args:
        size: Number of points, at least 2; an odd one gives class 0 one more.
        seed: Seed of the order of the rows (the points themselves are fixed).

    Returns:
        x float64 (size, 2) and y int64 (size,), shuffled.

    Raises:
        ValueError: If `size` or `seed` is not such a number.

    Example:
        >>> x, y = swiss_roll(7)
        >>> x.shape, sorted(y.tolist())
        ((7, 2), [0, 0, 0, 0, 1, 1, 1])
    """
    inner, outer = _parts(size, 2)[::-1]
    curves = [
        _circle(np.linspace(start, start + 1, count), _angles(count, 4 * math.pi))
        for start, count in ((0.2, outer), (0.0, inner))
    ]
    return _shuffled(curves, 0.0, _generator(seed))


def double_moons(size: int = 8000, seed: int = 0, *, noise: float = 0.15) -> tuple[Points, Labels]:
    """Draw two pairs of half circles that reach into each other.

    Class 0: (cos θ, sin θ); class 1: (1 - cos θ, 0.5 - sin θ); each also moved by (2, 0); θ over [0, π).

    Args:
        size: Number of points, at least 2; the two classes differ by at most one.
        seed: Seed of the noise and of the order of the rows.
        noise: Half width of the uniform noise on each coordinate.

    Returns:
        x float64 (size, 2) and y int64 (size,), shuffled.

    Raises:
        ValueError: If `size`, `seed` or `noise` is not such a number.

    Example:
        >>> x, y = double_moons(100, noise=0.0)
        >>> x.min(axis=0).round(1).tolist(), x.max(axis=0).round(1).tolist()
        ([-1.0, -0.5], [4.0, 1.0])
    """
    curves = []
    for arc, count in enumerate(_parts(size, 4)):
        θ = _angles(count, math.pi)
        moon = _circle(1.0, θ) if arc % 2 == 0 else np.array([1.0, 0.5]) - _circle(1.0, θ)
        curves.append(moon + np.array([2.0 * (arc // 2), 0.0]))
    return _shuffled(curves, noise, _generator(seed))


def double_circles(size: int = 8000, seed: int = 0, *, noise: float = 0.3) -> tuple[Points, Labels]:
    """Draw four concentric circles whose labels alternate.

    x = r (cos θ, sin θ), θ over [0, 4π); r = 1, 2, 3, 4 has label 0, 1, 0, 1.

    Args:
        size: Number of points, at least 2; the two classes differ by at most one.
        seed: Seed of the noise and of the order of the rows.
        noise: Half width of the uniform noise on each coordinate.

    Returns:
        x float64 (size, 2) and y int64 (size,), shuffled.

    Raises:
        ValueError: If `size`, `seed` or `noise` is not such a number.

    Example:
        >>> x, y = double_circles(100, noise=0.0)
        >>> sorted(set(np.hypot(*x[y == 1].T).round(6).tolist()))
        [2.0, 4.0]
    """
    curves = [_circle(float(r), _angles(count, 4 * math.pi)) for r, count in enumerate(_parts(size, 4), start=1)]
    return _shuffled(curves, noise, _generator(seed))


def _parts(size: int, curves: int) -> list[int]:
    """Share `size` points among the curves, earlier curves first, so that no row is left empty."""
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 2:
        raise ValueError(
            f"`size` counts the points and must be a whole number of at least 2, one for each class; "
            f"got {size!r}. The papers use 8000."
        )
    return [int(size) // curves + (i < size % curves) for i in range(curves)]


def _angles(count: int, end: float) -> Points:
    return np.linspace(0.0, end, count, endpoint=False)


def _circle(r: float | Points, θ: Points) -> Points:
    return np.stack([r * np.cos(θ), r * np.sin(θ)], axis=-1)


def _generator(seed: int) -> np.random.Generator:
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"`seed` must be a whole number of at least 0; got {seed!r}. Use 0, say.")
    return np.random.default_rng(int(seed))


def _shuffled(curves: list[Points], noise: float, generator: np.random.Generator) -> tuple[Points, Labels]:
    """Join the curves, labelled 0, 1, 0, 1, ...; add the noise; shuffle the rows."""
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"`noise` is a half width and must be finite and at least 0; got {noise!r}.")
    x = np.concatenate(curves)
    x = x + generator.uniform(-noise, noise, x.shape)
    y = np.repeat(np.arange(len(curves)) % 2, [len(curve) for curve in curves]).astype(np.int64)
    order = generator.permutation(len(x))
    return x[order], y[order]
