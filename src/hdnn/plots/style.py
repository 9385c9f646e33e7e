"""The one look of all figures: palette, axes, legends.

Everything is set artist by artist, so that neither the user's matplotlib settings nor ours touch each other.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hdnn.files import write_whole
from hdnn.plots.glyphs import drawable, write

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]

# Four of Okabe and Ito's colours and six more, all at least three times as dark as the paper. Any two are told apart
# by readers with protanopia, deuteranopia and tritanopia (CIEDE2000 at least 11, tests/plots/test_plots_colours.py).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000",
           "#A42449", "#2014C8", "#9280FF", "#614E05", "#00331C")  # fmt: skip
MARKERS = ("o", "^", "s", "X", "v", "P", "D", "*", "<", ">")
# More classes than these are not all named: nobody looks up sixty colours.
_NAMED = 40
# Points of a line up to which each of them gets a marker.
_MARKED = 12
INK, QUIET, GRID = "#222222", "#666666", "#e4e4e4"
SMALL, NORMAL = 8.0, 9.5  # points
DPI = 150
_LEGEND: dict[str, Any] = {
    "fontsize": SMALL,
    "labelcolor": INK,
    "frameon": False,
    "borderaxespad": 0.2,
    "columnspacing": 1.2,
    "handletextpad": 0.4,
}


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a PNG or SVG file, whole or not at all.

    Args:
        figure: what one of the functions of `hdnn.plots` returned.
        path: where to write, ending in `.png` or `.svg`.

    Returns:
        The path.

    Raises:
        ValueError: for another file ending.
        FileNotFoundError: if the folder is not there.
    """
    if Path(path).suffix.lower() == ".svg":
        return write_whole(path, svg(figure))
    return write_whole(ending(path, ".png", ".svg"), png(figure))


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    before = figure.canvas, figure.dpi
    try:
        figure.dpi = DPI
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()  # `savefig` would draw all of it a first time, only to lay it out
        Image.fromarray(np.array(canvas.buffer_rgba())[:, :, :3]).save(buffer, "PNG", dpi=(DPI, DPI))
    finally:
        figure.set_canvas(before[0])
        figure.dpi = before[1]
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """A figure as the bytes of an SVG file, the same for the same figure."""
    buffer = io.BytesIO()
    before = figure.canvas
    try:
        with rc_context({"svg.hashsalt": "hdnn"}):
            canvas: Any = FigureCanvasSVG(figure)
            canvas.print_svg(buffer, metadata={"Date": None})
    finally:
        figure.set_canvas(before)
    return buffer.getvalue()


class Stage:
    """A figure of which some artists move: all others are drawn once, and stand still.

    Args:
        figure: all of it; its layout is settled here, so that no frame jumps.
        moving: what changes from frame to frame and what it may cover, the lowest first.
        dpi: points an inch.
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist], *, dpi: int) -> None:
        self._figure, self._moving = figure, moving
        figure.set_dpi(dpi)
        canvas: Any = FigureCanvasAgg(figure)
        if (engine := figure.get_layout_engine()) is not None:
            for _ in range(2):  # the layout settles in its second pass
                engine.execute(figure)
        figure.set_layout_engine("none")
        for artist in moving:
            artist.set_animated(True)
        canvas.draw()
        self._canvas, self._ground = canvas, canvas.copy_from_bbox(figure.bbox)

    def frame(self) -> Pixels:
        """The figure as it is now, in red, green and blue (H, W, 3)."""
        self._canvas.restore_region(self._ground)
        for artist in self._moving:
            self._figure.draw_artist(artist)
        return np.array(self._canvas.buffer_rgba())[:, :, :3]


def ending(path: str | Path, *suffixes: str) -> Path:
    """The path, if it ends as one of the formats wants it."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        either = " or ".join(suffixes)
        raise ValueError(f"This writes a {either} file; got {str(path)!r}. Let the name end in {either}.")
    return path


def blank(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A white figure, in inches, with its axes in reading order."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure((width, height), dpi=DPI, layout=layout, facecolor="white")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def dress(ax: Axes, title: str, *, x: str = "", y: str = "", grid: bool = False, formulas: bool = False) -> Text:
    """Give axes the common look; returns the title, for an animation to change.

    Names come from the user: a dollar sign in them is a dollar sign. With `formulas`, x and y are ours and hold
    mathematics between dollar signs.
    """
    ax.set_facecolor("white")
    for side, spine in ax.spines.items():
        spine.set(color=QUIET, linewidth=0.8, visible=side in ("left", "bottom"))
    ax.tick_params(which="both", labelsize=SMALL, labelcolor=INK, color=QUIET)
    ax.grid(visible=False)
    if grid:
        ax.grid(visible=True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    labels = [ax.set_xlabel(x, fontsize=NORMAL, color=INK), ax.set_ylabel(y, fontsize=NORMAL, color=INK)]
    head = ax.set_title(title, loc="left", fontsize=NORMAL, color=INK)
    write(head, *([] if formulas else labels))
    return head


def legend_above(ax: Axes, lines: Sequence[Artist]) -> None:
    """Name the lines of axes above them, at the right, where they cover no data."""
    _name(ax, lines, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)


def legend_beside(ax: Axes, lines: Sequence[Artist]) -> None:
    """Name the lines of axes at their right, one below the other."""
    _name(ax, lines, loc="upper left", bbox_to_anchor=(1, 1))


def legend_on_top(figure: Figure, lines: Sequence[Artist]) -> None:
    """Name lines that all axes share, above them; the figure grows by the height this takes."""
    _grow(figure, lines, "outside upper center", width=11)


def class_legend(figure: Figure, classes: Sequence[str], *more: Line2D, above: bool = False) -> None:
    """Name the classes below (or above) the axes; the figure grows by the height this takes."""
    handles = [dot(marker(i), colour(i), short(name)) for i, name in enumerate(classes[:_NAMED])]
    if len(classes) > _NAMED:
        handles.append(Line2D([], [], linestyle="none", label=f"… and {len(classes) - _NAMED} more"))
    _grow(figure, [*handles, *more], "outside upper center" if above else "outside lower center", width=13)


def _grow(figure: Figure, handles: Sequence[Artist], loc: str, *, width: float) -> None:
    """A legend outside of all axes, in evenly filled rows of so many letters an inch."""
    longest = max(len(drawable(str(handle.get_label()))) for handle in handles)
    columns = int(np.clip(figure.get_figwidth() * width // (longest + 5), 1, len(handles)))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.18 * rows)
    _name(figure, handles, loc=loc, ncols=math.ceil(len(handles) / rows))


def _name(owner: Axes | Figure, handles: Sequence[Artist], **place: Any) -> None:
    write(*owner.legend(handles=list(handles), **place, **_LEGEND).get_texts())


def dot(shape: str, fill: str, label: str, *, edge: str = "none", size: float = 6.0) -> Line2D:
    """A marker for a legend."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=shape,
        markersize=size,
        markerfacecolor=fill,
        markeredgecolor=edge,
        label=label,
    )


def scatter(ax: Axes, points: Floats, labels: Integers, *, size: float, edge: str = "none") -> PathCollection:
    """Draw points (S, 2) by class, each class with a colour and a marker of its own."""
    # One collection in the order of the samples: drawn class by class, the last class would cover the others.
    x, y = points.T
    dots = ax.scatter(x, y, s=size, c=[colour(i) for i in labels], gid="samples", zorder=2)
    shapes = [MarkerStyle(marker(i)) for i in range(int(labels.max()) + 1)]
    outlines = [shape.get_path().transformed(shape.get_transform()) for shape in shapes]
    dots.set_paths([outlines[i] for i in labels])
    dots.set(edgecolor=edge, linewidth=0.5)
    return dots


def colour(label: int) -> str:
    """The colour of a class."""
    return COLOURS[label % len(COLOURS)]


def marker(label: int) -> str:
    """The marker of a class: of the first hundred no two look alike, of the first ten none share colour or marker."""
    return MARKERS[(label + label // len(COLOURS)) % len(MARKERS)]


def marked(line: Line2D, label: int) -> Line2D:
    """A line with the marker of its place in the legend, at every point of a few, at some of many."""
    points = len(np.asarray(line.get_xdata()))
    line.set(marker=marker(label), markersize=4)
    if points > _MARKED:
        line.set_markevery((label % 4, points // 8))
    return line


def gradation(count: int) -> list[str]:
    """Colours for things that follow one another, such as layers: from dark to light, told apart in grey as well."""
    # Lighter ones, the yellows, are lost on white paper.
    return [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0.0, 0.7, count))]


def decades(ax: Axes) -> None:
    """Give the vertical axis a logarithmic scale whose decades are plain numbers: the first power takes long to set."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def logarithmic(ax: Axes, values: Floats) -> None:
    """Give the vertical axis a logarithmic scale for these values; few decades get more numbers, zeros a note."""
    seen = values[np.isfinite(values) & (values > 0)]
    if not seen.size:
        return
    if (values <= 0).any():
        note = ax.annotate("where a line is broken, it is 0", (0.02, 0.02), xycoords="axes fraction")
        note.set(fontsize=SMALL, color=QUIET)
    low, high = float(seen.min()), float(seen.max())
    margin = (high / low) ** 0.05 if high > low else 1.5
    ax.set_yscale("log")
    ax.set_ylim(low / margin, high * margin)
    if high / low < 200:
        between = (1.0, 3.0) if high / low > 20 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        ax.yaxis.set_major_locator(LogLocator(subs=between) if high / low > 4 else MaxNLocator(6, steps=[1, 2, 5, 10]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())


def numbers(values: object) -> Floats:
    """What is to be drawn as an array; of a tensor the numbers alone, whether or not a gradient is asked of it."""
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach(), float)


def tint(shade: str, white: float) -> str:
    """A colour mixed with so much white, between 0 and 1."""
    red, green, blue = (white + (1 - white) * part for part in to_rgb(shade))
    return to_hex((red, green, blue))


def short(name: str) -> str:
    """A name that fits a legend or an axis."""
    name = drawable(" ".join(str(name).split()))
    return name if len(name) <= 24 else name[:23] + "…"


def indices(values: ArrayLike, samples: int, classes: Sequence[str], what: str = "labels") -> Integers:
    """Class indices (S,) that fit the samples and the names of the classes."""
    given = np.asarray(values)
    whole = given.astype(np.int64) if given.dtype.kind in "biuf" and np.isfinite(given).all() else None
    if given.shape != (samples,) or not samples:
        raise ValueError(f"Expected one of `{what}` for each of {samples} samples; got shape {given.shape}.")
    if whole is None or (whole != given).any() or whole.min() < 0 or whole.max() >= len(classes):
        raise ValueError(
            f"`{what}` must be indices from 0 to {len(classes) - 1} into the {len(classes)} classes; "
            f"got values such as {given[:3].tolist()}. Name all classes, or encode the labels."
        )
    return whole
