"""What the layers do to the features: side by side, and as a film."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

from hdnn.files import write_whole
from hdnn.plots.style import (
    GRID,
    QUIET,
    SMALL,
    Floats,
    Integers,
    Stage,
    blank,
    class_legend,
    dress,
    ending,
    indices,
    numbers,
    scatter,
)

Window = tuple[tuple[float, float], tuple[float, float]]


def features_by_layer(
    coordinates: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    explained: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the features of some layers side by side, all in the same window.

    The window leaves out far outliers; a panel says how many of its points fall outside.

    Args:
        coordinates: two coordinates per sample after every layer, the input first, (N+1, B, 2); see
            `hdnn.analysis.principal_components`.
        labels: true classes as indices, (B,).
        classes: the names of the classes.
        layers: which layers to show; by default at most twelve, evenly, with the first and the last.
        explained: the share of the variance that each coordinate carries, (2,).
        names: of the panels, one for every layer and the input; by default their numbers.

    Returns:
        One panel per layer shown.

    Raises:
        ValueError: for arrays that do not fit each other, or layers that are not there.

    Example:
        >>> import numpy as np
        >>> coordinates = np.random.default_rng(0).normal(size=(65, 10, 2))
        >>> figure = features_by_layer(coordinates, [0, 1] * 5, ["no", "yes"])
        >>> [ax.get_title(loc="left") for ax in figure.axes][:3]
        ['input', 'layer 8', 'layer 16']
    """
    C, labels = _trajectory(coordinates, labels, classes)
    chosen = _evenly(len(C) - 1) if layers is None else list(layers)
    if not chosen or not all(0 <= layer < len(C) for layer in chosen):
        raise ValueError(f"`layers` must name some of the layers 0 to {len(C) - 1}; got {chosen}.")
    columns = len(chosen) if len(chosen) <= 4 else math.ceil(len(chosen) / 2) if len(chosen) <= 10 else 4
    rows = math.ceil(len(chosen) / columns)
    figure, axes = blank(rows, columns, width=max(1.9 * columns, 4.5), height=2.0 * rows + 0.4)
    window = _window(C)
    ticks = [MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(*limits)[1:-1] for limits in window]
    for place, (ax, layer) in enumerate(zip(axes, chosen, strict=False)):
        scatter(ax, C[layer], labels, size=float(np.clip(4000 / len(labels), 5, 18)))
        dress(ax, _layer(layer) if names is None else names[layer])
        _look_through(ax, window, C[layer])
        # Numbers at the left and under the lowest panel of each column are enough.
        _rule(ax, ticks, numbers=(place + columns >= len(chosen), place % columns == 0))
    for ax in axes[len(chosen) :]:
        ax.remove()
    shares = ["", ""]
    if explained is not None:
        shares = [f" ({share:.0%} of the variance)" for share in numbers(explained)[:2]]
    figure.supxlabel(f"component 1{shares[0]}", fontsize=SMALL, color=QUIET)
    figure.supylabel(f"component 2{shares[1]}", fontsize=SMALL, color=QUIET)
    class_legend(figure, classes, above=True)
    return figure


def animate_features(
    coordinates: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    path: str | Path,
    *,
    frames: int = 60,
) -> Path:
    """Write a GIF in which the features move through the layers, all in the same window.

    Every frame is a layer; nothing is interpolated. The film lasts some six seconds, rests on the last layer
    and starts again.

    Args:
        coordinates: two coordinates per sample after every layer, the input first, (N+1, B, 2).
        labels: true classes as indices, (B,).
        classes: the names of the classes.
        path: where to write, ending in `.gif`.
        frames: at most so many layers are shown, evenly, with the first and the last.

    Returns:
        The path.

    Raises:
        ValueError: for arrays that do not fit each other, another file ending, or fewer than two frames.
    """
    C, labels = _trajectory(coordinates, labels, classes)
    path = ending(path, ".gif")
    if frames < 2:
        raise ValueError(f"`frames` must be at least 2, for the first and the last layer; got {frames}.")
    chosen = np.unique(np.linspace(0, len(C) - 1, min(frames, len(C))).round().astype(int))
    figure, (ax,) = blank(1, 1, width=4.8, height=4.8)
    dots = scatter(ax, C[0], labels, size=float(np.clip(9000 / len(labels), 9, 26)))
    title = dress(ax, _layer(0), x="component 1", y="component 2", grid=True)
    _look_through(ax, _window(C))
    class_legend(figure, classes)
    stage = Stage(figure, [dots, title, *ax.spines.values()], dpi=100)
    pictures: list[Image.Image] = []
    for layer in chosen:
        dots.set_offsets(C[layer])
        title.set_text(f"{_layer(layer)} of {len(C) - 1}" if layer else _layer(0))
        pictures.append(Image.fromarray(stage.frame()))
    pace = int(np.clip(6000 / len(chosen), 60, 500))
    return write_whole(path, film(pictures, [800, *[pace] * (len(chosen) - 2), 2500][: len(chosen)]))


def film(pictures: Sequence[Image.Image], durations: list[int]) -> bytes:
    """A GIF of the pictures, each shown for so many milliseconds, over and over."""
    # One palette for all frames, its background pure white: colours hold still and the file stays small.
    shared = pictures[0].quantize(96)
    colours = np.array(shared.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) > 245] = 255
    shared.putpalette(colours.ravel().tolist())
    frames = [picture.quantize(palette=shared, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _trajectory(coordinates: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> tuple[Floats, Integers]:
    C = numbers(coordinates)
    if C.ndim != 3 or C.shape[2] != 2 or not C.shape[0]:
        raise ValueError(
            f"Expected coordinates of shape (layers + 1, samples, 2); got {C.shape}. "
            "`hdnn.analysis.principal_components(states)` makes them from the states of a flow."
        )
    return C, indices(labels, C.shape[1], classes)


def _evenly(last: int) -> list[int]:
    """Layers 0 to `last`, thinned out to at most twelve; in equal strides if eight to twelve panels allow."""
    if last < 12:
        return list(range(last + 1))
    panels = next((count for count in (9, 11, 10, 8, 12) if last % (count - 1) == 0), 9)
    return [round(last * i / (panels - 1)) for i in range(panels)]


def _layer(index: int) -> str:
    return f"layer {index}" if index else "input"


def _window(C: Floats) -> Window:
    """Limits that hold, of every layer, all but the outermost hundredth on each side."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for points in C:
        finite = points[np.isfinite(points).all(axis=1)]
        if finite.size:
            low = np.minimum(low, np.percentile(finite, 1, axis=0))
            high = np.maximum(high, np.percentile(finite, 99, axis=0))
    if not np.isfinite(high).all():
        return (-1.0, 1.0), (-1.0, 1.0)
    middle, span = (low + high) / 2, high - low
    # One scale for both axes shows true shapes; only a cloud thinner than a third gets a scale of its own.
    if 3 * span.min() > span.max() or not span.min():
        span = np.full(2, span.max() or 1.0)
    (left, bottom), (right, top) = middle - 0.56 * span, middle + 0.56 * span
    return (float(left), float(right)), (float(bottom), float(top))


def _rule(ax: Axes, ticks: Sequence[Sequence[float]], *, numbers: tuple[bool, bool]) -> None:
    """A grid in a panel, with numbers along x and y or without."""
    horizontal, vertical = ax.get_xlim(), ax.get_ylim()
    style: dict[str, Any] = {"color": GRID, "linewidth": 0.6, "zorder": 0.5}
    ax.vlines(ticks[0], *vertical, **style)
    ax.hlines(ticks[1], *horizontal, **style)
    for axis, places, numbered in zip((ax.xaxis, ax.yaxis), ticks, numbers, strict=True):
        # An axis without numbers costs as much to lay out as one with them, and there are two in every panel.
        axis.set_ticks(places) if numbered else axis.set_visible(False)


def _look_through(ax: Axes, window: Window, points: Floats | None = None) -> None:
    """Set the window of a square panel, and say how many of the points it misses."""
    ax.set_xlim(window[0])
    ax.set_ylim(window[1])
    ax.set_box_aspect(1)
    if points is not None:
        (left, right), (bottom, top) = window
        x, y = points.T
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        if not inside.all():
            note = ax.annotate(f"{(~inside).sum()} outside", (0.98, 0.02), xycoords="axes fraction")
            note.set(ha="right", fontsize=6.5, color=QUIET)
