"""Named curves over the seeds of an experiment: what is usual, and how far the seeds lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from hdnn.plots.style import QUIET, Floats, blank, colour, dress, legend_on_top, marked, numbers, tint

Scale = Literal["linear", "log"]

# A curve that spans less than this share of the largest span looks flat beside it.
_FLAT = 0.05


def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    title: str = "",
    scales: tuple[Scale, Scale] = ("linear", "linear"),
    floor: float | None = None,
    enlarge: bool = False,
) -> Figure:
    """Draw named curves, of one seed each or of several: the mean as a line, a band from the smallest to the largest.

    Args:
        series: by name, places (P,) and values: (P,) of one seed, or (S, P) of S seeds. What is not finite is left
            out: a place without any value is a gap.
        x: label, with formulas between dollar signs.
        y: label.
        title: above the axes.
        scales: of both axes.
        floor: a value that, like all below it, stands for "cannot be told from nothing"; where a seed reaches it, the
            curve is a broken line.
        enlarge: draw curves that look flat beside the largest once more, in a panel with a scale of their own.

    Returns:
        One panel, or two.

    Raises:
        ValueError: if there is no curve, or places and values do not fit each other.

    Example:
        >>> figure = curves({"h2": ([1, 2, 3], [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]])}, x="layers", y="error")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['h2', 'band: least to most of 2 seeds']
    """
    read = {name: _read(name, *points) for name, points in series.items()}
    if not read:
        raise ValueError("There is no curve to draw. Pass places and values of one at least.")
    flat = _flat({name: values for name, (_, values) in read.items()}, scales[1]) if enlarge else []
    figure, axes = blank(1, 2 if flat else 1, width=9.0 if flat else 6.0, height=3.6)
    handles: list[Artist] = []
    for i, (name, (places, values)) in enumerate(read.items()):
        for ax in axes if name in flat else axes[:1]:
            _draw(ax, places, values, i, floor)
        handles.append(marked(Line2D([], [], color=colour(i), linewidth=1.4, label=name), i))
    for ax, head in zip(axes, (title, "enlarged"), strict=False):
        dress(ax, head, x=x, y=y, grid=True, formulas=True)
        ax.set_xscale(scales[0])
        ax.set_yscale(scales[1])
    legend_on_top(figure, [*handles, *_keys([values for _, values in read.values()], floor)])
    return figure


def _read(name: str, places: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    at, found = numbers(places), np.atleast_2d(numbers(values))
    if at.ndim != 1 or not at.size or found.ndim != 2 or found.shape[1] != at.size or not found.shape[0]:
        raise ValueError(
            f"Expected places (P,) and values (P,), or (S, P) of S seeds, for {name!r}; got {np.shape(places)} and "
            f"{np.shape(values)}."
        )
    return at, found


def _flat(series: Mapping[str, Floats], scale: Scale) -> list[str]:
    """The curves whose course is not seen beside that of the others, if there are others."""
    spans = {}
    for name, values in series.items():
        seen = values[np.isfinite(values)]
        seen = np.log(seen[seen > 0]) if scale == "log" else seen
        spans[name] = float(np.ptp(seen)) if seen.size else 0.0
    return [name for name, span in spans.items() if 0 < span < _FLAT * max(spans.values())]


def _draw(ax: Axes, places: Floats, values: Floats, i: int, floor: float | None) -> None:
    seen = np.ma.masked_invalid(values)
    low, mean, high = (np.ma.filled(part, np.nan) for part in (seen.min(0), seen.mean(0), seen.max(0)))
    sunk = low <= floor if floor is not None else np.zeros(places.size, bool)
    if len(values) > 1:
        ax.fill_between(places, low, high, color=colour(i), alpha=0.18, linewidth=0, gid="band")
    marked(ax.plot(places, np.where(sunk, np.nan, mean), color=colour(i), linewidth=1.4)[0], i)
    if sunk.any():
        near = sunk.copy()  # with the last places that are not sunk, so that the line goes on
        near[1:] |= sunk[:-1]
        near[:-1] |= sunk[1:]
        ax.plot(places, np.where(near, mean, np.nan), color=colour(i), linewidth=1.2, linestyle=(0, (2, 2)), gid="sunk")


def _keys(values: Sequence[Floats], floor: float | None) -> list[Artist]:
    """What bands and broken lines mean, where there are any."""
    keys: list[Artist] = []
    seeds = sorted({len(each) for each in values if len(each) > 1})
    if seeds:
        number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        label = f"band: least to most of {number} seeds"
        keys.append(Patch(color=tint(QUIET, 0.7), linewidth=0, label=label))
    if floor is not None and any((each <= floor).any() for each in values):
        label = f"broken: a seed is at {floor:g} or below".replace("-", "−")
        keys.append(Line2D([], [], color=QUIET, linewidth=1.2, linestyle=(0, (2, 2)), label=label))
    return keys
