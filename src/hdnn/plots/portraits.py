"""Phase portraits: levels of the energy, the field across them, and trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from hdnn.plots.style import COLOURS, INK, QUIET, SMALL, Floats, blank, dot, dress, gradation, legend_on_top, numbers

_LEVELS = 14
_ARROWS: dict[str, Any] = {"color": "#b5b5b5", "linewidth": 0.6, "arrowsize": 0.7, "density": 1.1, "zorder": 1}


def phase_portrait(
    x: ArrayLike,
    y: ArrayLike,
    energy: ArrayLike,
    velocity: ArrayLike,
    *,
    trajectories: ArrayLike | None = None,
    names: tuple[str, str] = ("p", "q"),
    note: str = "",
) -> Figure:
    """Draw the levels of an energy, the field that moves states along them, and where trajectories went.

    A Hamiltonian field without dissipation follows the levels; one with it crosses them downwards.

    Args:
        x: values of the first coordinate, ascending, (P,).
        y: of the second, (R,).
        energy: H at (x[k], y[i]), (R, P).
        velocity: the field there, (2, R, P).
        trajectories: states after every layer, the start first, of some samples, (N + 1, S, 2), or of one, (N + 1, 2).
        names: of the two coordinates.
        note: what the reader must know of the plane, below the figure.

    Raises:
        ValueError: if the arrays do not fit each other, or are not finite.

    Example:
        >>> import hdnn
        >>> from hdnn.analysis import phase_portrait as portrait
        >>> found = portrait(hdnn.h2(2, layers=8, step=0.1), ((-2, 2), (-2, 2)))
        >>> figure = phase_portrait(found.x, found.y, found.energy, found.velocity, names=found.names)
    """
    X, Y, H, V = (numbers(values) for values in (x, y, energy, velocity))
    if X.ndim != 1 or Y.ndim != 1 or H.shape != (Y.size, X.size) or V.shape != (2, *H.shape) or min(H.shape) < 2:
        raise ValueError(
            f"Expected x (P,), y (R,), energy (R, P) and velocity (2, R, P); got {X.shape}, {Y.shape}, {H.shape} and "
            f"{V.shape}. `hdnn.analysis.phase_portrait(flow, window)` makes them."
        )
    if not (np.isfinite(H).all() and np.isfinite(V).all()):
        raise ValueError("The energy or the velocity has entries that are not finite. Look at a smaller window.")
    figure, (ax,) = blank(1, 1, width=5.0, height=4.6)
    handles: list[Line2D] = []
    if np.abs(V).max() > 0:
        ax.streamplot(X, Y, V[0], V[1], **_ARROWS)
        handles.append(Line2D([], [], color=_ARROWS["color"], linewidth=1.0, label="field"))
    if np.ptp(H) > 0:
        levels = ax.contour(X, Y, H, levels=_LEVELS, colors=gradation(_LEVELS), linewidths=1.0, zorder=2)
        levels.set_gid("levels")
        ax.clabel(levels, np.asarray(levels.levels)[::3], fontsize=6.5, fmt="%.3g")
        handles.append(Line2D([], [], color=gradation(3)[1], linewidth=1.2, label="levels of H"))
    if trajectories is not None:
        handles += _trajectories(ax, numbers(trajectories))
    dress(ax, "", x=names[0], y=names[1])
    ax.set(xlim=(X[0], X[-1]), ylim=(Y[0], Y[-1]))
    if note:
        figure.supxlabel(note, fontsize=SMALL, color=QUIET)
    if handles:
        legend_on_top(figure, handles)
    return figure


def _trajectories(ax: Axes, states: Floats) -> list[Line2D]:
    if states.ndim == 2:
        states = states[:, None]
    if states.ndim != 3 or states.shape[2] != 2 or not states.size:
        raise ValueError(
            f"Expected trajectories (N + 1, S, 2) or (N + 1, 2); got {states.shape}. Pick two coordinates."
        )
    for sample in states.swapaxes(0, 1):
        ax.plot(*sample.T, color=COLOURS[1], linewidth=1.2, marker=".", markersize=3, zorder=3, gid="trajectory")
        ax.plot(*sample[0], marker="o", markersize=5, color=INK, linestyle="none", zorder=4, gid="start")
    named = Line2D([], [], color=COLOURS[1], linewidth=1.2, marker=".", markersize=3, label="layers")
    return [named, dot("o", INK, "input")]
