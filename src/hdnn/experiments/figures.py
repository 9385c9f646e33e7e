"""Figures of experiments: those of `hdnn.plots` as pictures of a page, and lines in axes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hdnn import plots
from hdnn.experiments.experiment import Numbers
from hdnn.plots.style import COLOURS, DPI, MARKERS, blank, dress, legend_on_top
from hdnn.report import Picture


def picture(title: str, figure: Figure, alt: str, caption: str = "") -> Picture:
    """A figure as a picture of a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Picture(title, buffer.getvalue(), alt, caption)


def film(title: str, coordinates: ArrayLike, labels: ArrayLike, classes: Sequence[str], caption: str = "") -> Picture:
    """Features on their way through the layers, (N + 1, B, 2), as a moving picture of a page."""
    with tempfile.TemporaryDirectory() as folder:
        path = plots.animate_features(coordinates, labels, classes, Path(folder) / "film.gif", frames=40)
        return Picture(title, path.read_bytes(), f"{title}: points of two colours move from layer to layer.", caption)


def lines(
    series: Mapping[str, tuple[Numbers, Numbers]],
    *,
    x: str,
    y: str,
    title: str = "",
    scales: tuple[Literal["linear", "log"], Literal["linear", "log"]] = ("log", "log"),
) -> Figure:
    """Named lines with markers in one pair of axes.

    Args:
        series: by name, the two coordinates of the points.
        x: label, with formulas between dollar signs.
        y: label.
        title: above the axes.
        scales: of both axes.
    """
    figure, (ax,) = blank(1, 1, width=6.0, height=3.6)
    drawn = [
        ax.plot(*map(np.asarray, points), color=COLOURS[i], marker=MARKERS[i], markersize=4, linewidth=1.4, label=name)[
            0
        ]
        for i, (name, points) in enumerate(series.items())
    ]
    dress(ax, title, x=x, y=y, grid=True, formulas=True)
    ax.set_xscale(scales[0])
    ax.set_yscale(scales[1])
    legend_on_top(figure, drawn)
    return figure
