"""Small pictures in rows: images, and what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hdnn.plots.style import INK, SMALL, blank, short


def picture_rows(rows: Sequence[Sequence[ArrayLike]], titles: Sequence[Sequence[str]]) -> Figure:
    """Draw pictures side by side, each under a title; they keep their pixels.

    Args:
        rows: pictures (H, W), or (H, W, 3) with colours from 0 to 1, of any sizes; rows may differ in length.
        titles: of each; an empty one takes no room.

    Raises:
        ValueError: if there is nothing to draw, titles do not fit, or something is no picture.

    Example:
        >>> import numpy as np
        >>> figure = picture_rows([[np.eye(3), np.eye(2)]], [["input", "after"]])
        >>> [ax.get_title() for ax in figure.axes]
        ['input', 'after']
    """
    if not rows or not all(rows) or [len(row) for row in rows] != [len(row) for row in titles]:
        raise ValueError("Every row has one picture at least, and a title for each; got others.")
    columns = max(len(row) for row in rows)
    height = sum(1.0 + 0.25 * any(row) for row in titles)
    figure, axes = blank(len(rows), columns, width=max(4.5, 1.15 * columns), height=height)
    for k, (row, names) in enumerate(zip(rows, titles, strict=True)):
        for ax, given, name in zip(axes[k * columns :], row, names, strict=False):
            pixels = np.asarray(given, dtype=float)
            coloured = pixels.ndim == 3 and pixels.shape[2] == 3
            if not (pixels.ndim == 2 or coloured) or not np.isfinite(pixels).all():
                raise ValueError(f"A picture is (H, W) or (H, W, 3), of finite numbers; got shape {pixels.shape}.")
            ax.imshow(np.clip(pixels, 0, 1) if coloured else pixels, cmap="gray", interpolation="nearest")
            if name:
                ax.set_title(short(name), fontsize=SMALL, color=INK, parse_math=False)
        for ax in axes[k * columns : (k + 1) * columns]:
            ax.set_axis_off()
    return figure
