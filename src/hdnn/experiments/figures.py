"""Figures of experiments: those of `hdnn.plots` as pictures of a page."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hdnn import plots
from hdnn.plots.style import DPI
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
