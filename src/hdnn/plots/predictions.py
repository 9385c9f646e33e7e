"""What a trained network says, against the truth, and how far its probabilities can be taken at their word."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from hdnn.plots.glyphs import write
from hdnn.plots.style import (
    COLOURS,
    GRID,
    INK,
    QUIET,
    SMALL,
    Floats,
    blank,
    class_legend,
    colour,
    dot,
    dress,
    indices,
    legend_above,
    legend_on_top,
    numbers,
    scatter,
    short,
    tint,
)

# Names that fit beside each other along an axis of the confusion matrix.
_NAMED = 40


def decision_regions(
    x: ArrayLike,
    y: ArrayLike,
    probability: ArrayLike,
    points: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    predicted: ArrayLike | None = None,
    title: str | None = None,
    names: tuple[str, str] = ("x₁", "x₂"),
) -> Figure:
    """Colour the plane by what a classifier says there, with samples on top.

    Args:
        x: grid along the first feature, increasing, (W,).
        y: grid along the second feature, increasing, (H,).
        probability: of the second of two classes, as floats between 0 and 1, (H, W); or the index of the
            class, as integers, for any number of classes.
        points: samples, (S, 2).
        labels: their true classes as indices, (S,).
        classes: the names of the classes.
        predicted: their predicted classes, (S,); samples where it differs from `labels` are ringed.
        title: written above the axes.
        names: of the two features.

    Raises:
        ValueError: for arrays that do not fit each other, or probabilities of other than two classes.

    Example:
        >>> import numpy as np
        >>> grid = np.linspace(-1, 1, 20)
        >>> probability = np.tile(grid > 0, (20, 1)).astype(float)
        >>> figure = decision_regions(grid, grid, probability, [[0.5, 0.0]], [1], ["left", "right"])
    """
    x, y, said = np.asarray(x, float), np.asarray(y, float), np.asarray(probability)
    if x.ndim != 1 or y.ndim != 1 or said.shape != (y.size, x.size) or min(said.shape) < 2:
        raise ValueError(
            f"Expected grid axes (W,) and (H,) with values (H, W); got {x.shape}, {y.shape} and {said.shape}."
        )
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"Expected points in the plane, of shape (samples, 2); got {points.shape}.")
    labels = indices(labels, len(points), classes)
    width, height = np.clip([np.ptp(x), np.ptp(y)] / max(np.ptp(x), np.ptp(y)) * 4.8, 2.4, None)
    figure, (ax,) = blank(1, 1, width=width + 1.4, height=height + 0.5)
    if np.issubdtype(said.dtype, np.integer):
        tints = ListedColormap([tint(colour(i), 0.65) for i in range(len(classes))])
        ax.pcolormesh(x, y, said, cmap=tints, vmin=-0.5, vmax=len(classes) - 0.5, shading="nearest")
        for label in np.unique(said):  # the borders, for those to whom two tints look alike
            if (said != label).any():
                ax.contour(x, y, said == label, levels=[0.5], colors=[INK], linewidths=0.5)
    elif len(classes) == 2:
        _probability(figure, ax, x, y, said, classes)
    else:
        raise ValueError(
            f"A probability tells two classes apart; got {len(classes)}. Pass the index of the most probable "
            "class, as integers, instead."
        )
    scatter(ax, points, labels, size=float(np.clip(9000 / len(points), 10, 26)), edge="white")
    dress(ax, title or "", x=names[0], y=names[1])
    ax.set_aspect("equal")
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if predicted is None:
        class_legend(figure, classes)
    else:
        wrong = labels != indices(predicted, len(points), classes, "predicted")
        thin = min(1.0, float(60 / max(wrong.sum(), 1)) ** 0.5)  # hundreds of thick rings hide what they are around
        size, width = max(70 * thin, 24), max(1.3 * thin, 0.4)
        rings = ax.scatter(points[wrong, 0], points[wrong, 1], s=size, gid="misclassified", zorder=3)
        rings.set(facecolor="none", edgecolor=INK, linewidth=width)
        text = f"misclassified: {wrong.sum()} of {wrong.size}"
        class_legend(figure, classes, dot("o", "none", text, edge=INK, size=9))
    return figure


def confusion_matrix(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw how often each true class was taken for each class.

    The shade is the share of the true class (of the row); up to twenty classes the counts are written in.

    Args:
        counts: rows the true, columns the predicted classes, (C, C).
        classes: the names of the classes, C.

    Raises:
        ValueError: for counts that are not a square of that size, or negative.

    Example:
        >>> figure = confusion_matrix([[9, 1], [0, 10]], ["no", "yes"])
    """
    counts = np.asarray(counts)
    size = len(classes)
    if counts.shape != (size, size) or not size or (counts < 0).any():
        raise ValueError(
            f"{size} classes need counts of shape ({size}, {size}), none negative; got shape {counts.shape}."
        )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.42 * size, 3.6, 8.0))
    figure, (ax,) = blank(1, 1, width=side + 0.6, height=side)
    shade = LinearSegmentedColormap.from_list("share", ["white", tint(COLOURS[0], 0.5), COLOURS[0]])
    image = ax.imshow(share, cmap=shade, vmin=0, vmax=1)
    if size <= 20:
        _write_counts(ax, counts, share)
    dress(ax, "", x="predicted class", y="true class")
    names = [short(name) for name in classes]
    upright = max(map(len, names)) * size > 10 * side
    # Of many classes every second, third, ... is named: all of them would cover each other.
    named = range(0, size, math.ceil(size / _NAMED))
    ax.set_xticks(named, [names[i] for i in named], rotation=90 if upright else 0)
    ax.set_yticks(named, [names[i] for i in named])
    write(*ax.get_xticklabels(), *ax.get_yticklabels())
    if size <= _NAMED:  # else the lines between the cells are all that is seen
        for rule in (ax.hlines, ax.vlines):  # cheaper to lay out than minor ticks with a grid
            rule(np.arange(1, size) - 0.5, -0.5, size - 0.5, colors=GRID, linewidth=0.6, zorder=0.5)
    ax.tick_params(which="both", length=0)
    _scale(figure, ax, image, "share of the true class")
    return figure


def predicted_against_true(true: ArrayLike, predicted: ArrayLike, name: str) -> Figure:
    """Draw predictions of a number against the truth; on the diagonal a prediction is exact.

    Args:
        true: the measured values, (S,).
        predicted: the predicted values, (S,). What is not finite is left out, and the title says how many.
        name: of the quantity, with its unit.

    Raises:
        ValueError: for arrays that are empty or of different lengths.

    Example:
        >>> figure = predicted_against_true([1.0, 2.0], [1.1, 1.8], "price (k€)")
    """
    both = np.asarray(true, float).ravel(), np.asarray(predicted, float).ravel()
    if both[0].size != both[1].size or not both[0].size:
        raise ValueError(f"Expected as many predictions as true values; got {both[1].size} and {both[0].size}.")
    pairs = np.stack(both)
    finite = np.isfinite(pairs).all(axis=0)
    low, high = (pairs[:, finite].min(), pairs[:, finite].max()) if finite.any() else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    figure, (ax,) = blank(1, 1, width=4.8, height=4.7)
    exact = ax.axline((low, low), slope=1, color=QUIET, linewidth=1, linestyle="--", label="exact")
    size = float(np.clip(9000 / finite.size, 6, 26))
    ax.scatter(pairs[0, finite], pairs[1, finite], s=size, color=COLOURS[0], alpha=0.6, linewidths=0, gid="samples")
    title = "" if finite.all() else f"{(~finite).sum()} of {finite.size} not finite"
    dress(ax, title, x=f"true {name}", y=f"predicted {name}", grid=True)
    ax.set_aspect("equal")
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(low - margin, high + margin)
    legend_above(ax, [exact])
    return figure


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


def _probability(
    figure: Figure, ax: Axes, x: Floats, y: Floats, said: NDArray[np.generic], classes: Sequence[str]
) -> None:
    """Colour by the probability of the second class, with a line where the two are equal."""
    said = np.ma.masked_invalid(np.asarray(said, float))
    ends = LinearSegmentedColormap.from_list("probability", [tint(COLOURS[0], 0.55), "white", tint(COLOURS[1], 0.55)])
    image = ax.pcolormesh(x, y, said, cmap=ends, vmin=0, vmax=1, shading="nearest")
    if said.count() and said.min() < 0.5 < said.max():
        ax.contour(x, y, said, levels=[0.5], colors=[INK], linewidths=1)
    _scale(figure, ax, image, f"probability of {short(classes[1])}")


def _scale(figure: Figure, ax: Axes, image: ScalarMappable, label: str) -> None:
    """A thin colour bar."""
    bar = figure.colorbar(image, ax=ax, shrink=0.7, aspect=25, pad=0.02)
    bar.set_label(label, fontsize=SMALL, color=INK)
    write(bar.ax.yaxis.label)
    bar.ax.tick_params(labelsize=SMALL, labelcolor=INK, color=QUIET)
    bar.outline.set_visible(False)


def _write_counts(ax: Axes, counts: NDArray[np.generic], share: Floats) -> None:
    """The number into every cell that has one; empty cells stay quiet."""
    for row, column in np.argwhere(counts):
        text = ax.text(column, row, f"{counts[row, column]:,}".replace(",", "\u2009"))
        text.set(ha="center", va="center", fontsize=SMALL if len(counts) <= 12 else 6.5)
        text.set_color("white" if share[row, column] > 0.6 else INK)
