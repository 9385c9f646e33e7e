"""Eigenvalues in the complex plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray

from hdnn.plots.style import INK, blank, dot, dress, gradation, legend_beside, marker

# Half the width of the window, as a share of its half height: narrower, rounding would look like a spectrum.
_NARROWEST = 0.6
_SMALLEST = 1e-3


def eigenvalues(
    groups: Mapping[str, ArrayLike], *, boundary: Literal["imaginary axis", "unit circle"] = "imaginary axis"
) -> Figure:
    """Draw eigenvalues in the complex plane, with the line on which a system neither grows nor decays.

    For A = J Kᵀ D K, the Jacobian of the field, that is the imaginary axis; for ∂y_{j+1}/∂y_j, the Jacobian of a
    layer, the unit circle. Both axes have one scale.

    Args:
        groups: by name, complex numbers of any shape; a marker and a colour each, from dark to light.
        boundary: what to draw: "imaginary axis" or "unit circle".

    Raises:
        ValueError: if there is no eigenvalue, or one that is not finite.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import linearize
        >>> flow, y = hdnn.h2(4, layers=8, step=0.1), torch.randn(10, 4)
        >>> figure = eigenvalues({"layer 0": linearize(flow, y).eigenvalues})
    """
    if boundary not in ("imaginary axis", "unit circle"):
        raise ValueError(f'`boundary` must be "imaginary axis" or "unit circle"; got {boundary!r}.')
    points = {name: np.asarray(values, complex).ravel() for name, values in groups.items()}
    every = np.concatenate([*points.values(), np.empty(0)])
    if not every.size or not np.isfinite(every).all():
        raise ValueError(f"Expected finite eigenvalues; got {every.size}, {(~np.isfinite(every)).sum()} not finite.")
    figure, (ax,) = blank(1, 1, width=4.4, height=4.2)
    look: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": "--", "zorder": 1}
    if boundary == "unit circle":
        ax.add_patch(Circle((0, 0), 1, fill=False, **look))
    else:
        ax.axvline(0, **look)
    shades = gradation(len(points))
    for i, (values, shade) in enumerate(zip(points.values(), shades, strict=True)):
        dots = ax.scatter(values.real, values.imag, s=16, color=shade, alpha=0.75, marker=marker(i), gid="eigenvalues")
        dots.set(linewidth=0, zorder=2)
    dress(ax, "", x="real part", y="imaginary part", grid=True)
    _look_at(ax, every, 1.0 if boundary == "unit circle" else 0.0)
    names = [dot(marker(i), shade, name) for i, (name, shade) in enumerate(zip(points, shades, strict=True))]
    legend_beside(ax, [*names, Line2D([], [], label=boundary, **look)])
    return figure


def _look_at(ax: Axes, values: NDArray[np.complex128], edge: float) -> None:
    """A window with one scale for both axes, that holds the values and a piece of the boundary at the real `edge`."""
    left, right = min(float(values.real.min()), edge), max(float(values.real.max()), edge)
    high = 1.1 * float(np.abs(values.imag).max())
    half = max(0.55 * (right - left), _NARROWEST * high, _SMALLEST)
    ax.set_xlim((left + right) / 2 - half, (left + right) / 2 + half)
    ax.set_ylim(-max(high, half), max(high, half))
    ax.set_aspect("equal")
