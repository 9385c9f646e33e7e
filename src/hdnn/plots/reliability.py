"""How far the probabilities of a classifier can be taken at their word."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from hdnn.plots.style import QUIET, blank, colour, dress, legend_on_top, numbers


def reliability_diagram(rows: ArrayLike, shares: ArrayLike, probabilities: ArrayLike) -> Figure:
    """Draw how often predictions are right against how probable they were said to be, bin by bin.

    Args:
        rows: how many predictions are in each bin, (B,); empty bins are left out.
        shares: which share of them is right, (B,).
        probabilities: the mean probability that was said, (B,).

    Returns:
        One panel with a dot for each bin, its area as the rows in it.

    Raises:
        ValueError: if the three do not fit each other, or there is no row.

    Example:
        >>> figure = reliability_diagram([0, 10, 30], [0, 0.5, 0.9], [0, 0.6, 0.95])
        >>> len(figure.axes[0].collections[0].get_offsets())
        2
    """
    counts, right, said = (numbers(each) for each in (rows, shares, probabilities))
    if not counts.shape == right.shape == said.shape or counts.ndim != 1 or not counts.sum() > 0:
        raise ValueError(
            f"Expected rows, shares and probabilities of the same bins, with a row at least; got shapes "
            f"{counts.shape}, {right.shape} and {said.shape} with {counts.sum():g} rows."
        )
    there = counts > 0
    figure, (ax,) = blank(1, 1, width=4.6, height=3.4)
    line = ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), gid="honest")[0]
    area = 20 + 280 * counts[there] / counts.max()
    ax.scatter(said[there], right[there], s=area, color=colour(0), alpha=0.8, linewidth=0, gid="bins", zorder=3)
    dress(ax, "", x="probability of what was said", y="share that is right", grid=True)
    low = max(0.0, float(np.floor(10 * min(said[there].min(), right[there].min()))) / 10 - 0.05)
    ax.set_xlim(low, 1.05)
    ax.set_ylim(low, 1.05)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    line.set_label("as often right as said")
    dots = Line2D([], [], color=colour(0), marker="o", linestyle="none", label="area: test rows")
    legend_on_top(figure, [line, dots])
    return figure
