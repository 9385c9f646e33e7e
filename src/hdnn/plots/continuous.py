"""Sensitivities in continuous time: the entries of a matrix along a trajectory."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from hdnn.plots.style import COLOURS, INK, QUIET, blank, dot, dress, legend_above, numbers

# Beyond this many features the n² entries can no longer be told apart.
_MOST = 3


def sensitivity_entries(times: ArrayLike, states: ArrayLike, matrices: ArrayLike) -> Figure:
    """Draw a trajectory beside the entries of its sensitivity matrix: states may stay bounded where these grow.

    Args:
        times: t, ascending, (P,).
        states: y(t) of one sample, (P, n), n at most 3. Two features are drawn in their plane, others against time.
        matrices: Φ(t) = ∂y(t)/∂y(0), or M(t), of the same sample, (P, n, n).

    Raises:
        ValueError: if arrays do not fit each other, or n is larger.

    References:
        Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, appendix III, https://arxiv.org/abs/2105.13205

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import HamiltonianODE, continuous_sensitivities
        >>> ode = HamiltonianODE.piecewise(torch.eye(2), torch.zeros(2), -hdnn.canonical(2), horizon=20.0)
        >>> found = continuous_sensitivities(ode, torch.tensor([0.57, -0.82]), range(21))
        >>> figure = sensitivity_entries(found.times, found.states, found.forward)
    """
    t, Y, M = (numbers(values) for values in (times, states, matrices))
    n = Y.shape[-1] if Y.ndim == 2 else 0
    if t.ndim != 1 or not t.size or Y.shape != (t.size, n) or M.shape != (t.size, n, n):
        raise ValueError(
            f"Expected times (P,), states (P, n) and matrices (P, n, n) of one sample; got {t.shape}, {Y.shape} and "
            f"{M.shape}. Of a batch pass one: states[:, i] and matrices[:, i]."
        )
    if not 1 <= n <= _MOST:
        raise ValueError(f"At most {_MOST} features can be drawn, with their n² entries; got {n}. Pick a block.")
    figure, (left, right) = blank(1, 2, width=9.0, height=3.8)
    if n == 2:
        left.plot(Y[:, 0], Y[:, 1], color=COLOURS[0], linewidth=1.0)
        left.plot(*Y[0], marker="o", markersize=5, color=INK, linestyle="none", gid="start")
        dress(left, "trajectory", x="y₁", y="y₂", grid=True)
        left.set_aspect("equal", adjustable="datalim")
        legend_above(left, [dot("o", INK, f"t = {t[0]:g}")])
    else:
        for i in range(n):
            left.plot(t, Y[:, i], color=COLOURS[i], linewidth=1.2, label=f"y{'₁₂₃'[i]}")
        dress(left, "trajectory", x="t", y="state", grid=True)
        legend_above(left, left.lines)
    lines: list[Line2D] = []
    for place, (i, k) in enumerate(np.ndindex(n, n)):
        line = right.plot(t, M[:, i, k], color=COLOURS[place], linewidth=1.2, label=f"∂y{'₁₂₃'[i]} / ∂y{'₁₂₃'[k]}")[0]
        lines.append(line)
    right.axhline(0, color=QUIET, linewidth=0.8)
    dress(right, "sensitivity", x="t", y="entries", grid=True)
    legend_above(right, lines)
    return figure
