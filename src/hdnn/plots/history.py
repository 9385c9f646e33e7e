"""How trainings went, epoch by epoch: one, the starts of one, or several over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hdnn.plots.style import (
    COLOURS,
    GRID,
    INK,
    QUIET,
    SMALL,
    Floats,
    blank,
    colour,
    decades,
    dress,
    legend_above,
    legend_on_top,
    short,
)

History = Sequence[Mapping[str, Any]]
_FEW = 30  # points of a curve up to which each is marked: few epochs, even a single one, must be seen


def training_curves(history: History, *, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the loss, and the score where there is one, against the epoch.

    Values that are not finite leave a gap; a dotted line marks the first epoch that lost its loss to them.

    Args:
        history: one mapping per epoch with "epoch" and "loss"; optionally "validation_loss",
            "train_accuracy" and "validation_accuracy" (between 0 and 1), or "train_error" and
            "validation_error", and "learning_rate", drawn if it changes. An epoch may lack a key.
        names: of what is drawn, where "loss", "accuracy" and "error" do not say enough: with its unit, for one.

    Returns:
        One panel for the loss and one each for accuracy and error, where the history has them.

    Raises:
        ValueError: for a history without epochs.

    Example:
        >>> figure = training_curves([{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.5}])
        >>> figure.axes[0].get_xlabel()
        'epoch'
    """
    if not history:
        raise ValueError("The history has no epoch to draw. Train for at least one epoch.")
    panels = [("loss", ["loss", "validation_loss"])]
    for score in ("accuracy", "error"):
        keys = [f"train_{score}", f"validation_{score}"]
        if any(row.get(key) is not None for row in history for key in keys):
            panels.append((score, keys))
    figure, axes = blank(1, len(panels), width=4.5 * max(len(panels), 1.4), height=3.2)
    for ax, (name, keys) in zip(axes, panels, strict=True):
        drawn = [
            _curve(ax, history, key, color=COLOURS[i], linewidth=1.6, label=label, markersize=4)
            for i, (key, label) in enumerate(zip(keys, ("train", "validation"), strict=True))
        ]
        dress(ax, "", x="epoch", y=(names or {}).get(name, name), grid=True)
        _epochs(ax, [float(row["epoch"]) for row in history])
        _scale(ax, np.concatenate(drawn), share=name == "accuracy")
        if ax.lines:
            legend_above(ax, ax.lines)
    _divergence(axes[0], history)
    _learning_rate(axes[0], history)
    return figure


def start_curves(histories: Sequence[History]) -> Figure:
    """Draw the objective of trainings that began from different weights, the best at the end in front.

    Args:
        histories: of each start one mapping per epoch with "epoch" and "loss"; a start that diverged says nan.

    Raises:
        ValueError: if there is no start, or a start without epochs.

    Example:
        >>> figure = start_curves([[{"epoch": 1, "loss": 0.7}], [{"epoch": 1, "loss": 0.5}]])
        >>> len(figure.axes[0].lines)
        2
    """
    if not histories or not all(histories):
        raise ValueError("There is no epoch of a start to draw. Train with several starts for at least one epoch.")
    figure, (ax,) = blank(1, 1, width=6.3, height=3.2)
    values = np.array([[float(row["loss"]) for row in history] for history in histories])
    values[~np.isfinite(values)] = np.nan
    epochs = [float(row["epoch"]) for row in histories[0]]
    best = int(np.argmin(np.where(np.isnan(values[:, -1]), np.inf, values[:, -1])))
    marker = "o" if len(epochs) <= _FEW else ""
    for k in [*(k for k in range(len(values)) if k != best), best]:
        shade, width, name = (COLOURS[0], 2.2, f"start {k + 1}") if k == best else (QUIET, 0.9, "the other starts")
        line = ax.plot(epochs, values[k])[0]
        line.set(color=shade, linewidth=width, label=name, marker=marker, markersize=3)
    dress(ax, "", x="epoch", y="objective", grid=True)
    _epochs(ax, epochs)
    _scale(ax, values[~np.isnan(values)])
    legend_above(ax, [*ax.lines[-1:], *ax.lines[:-1][:1]])
    return figure


def compared_curves(histories: Mapping[str, History]) -> Figure:
    """Draw the loss, and the score where there is one, of several trainings against the epoch.

    Args:
        histories: by name, one mapping per epoch as for `training_curves`. What is not finite leaves a gap.

    Returns:
        One panel for the loss and one each for accuracy and error, where a history has them; a colour a training,
        whole lines for the training data, broken ones for validation data.

    Raises:
        ValueError: if there is no training, or one without epochs.

    Example:
        >>> figure = compared_curves({"h1": [{"epoch": 1, "loss": 0.7}], "h2": [{"epoch": 1, "loss": 0.5}]})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['h1', 'h2']
    """
    if not histories or not all(histories.values()):
        raise ValueError("There is no epoch of a training to draw. Pass at least one history, each with an epoch.")
    told = {key for history in histories.values() for row in history for key, value in row.items() if value is not None}
    panels = {"loss": ("loss", "validation_loss")}
    for score in ("accuracy", "error"):
        keys = (f"train_{score}", f"validation_{score}")
        if told & {*keys}:
            panels[score] = keys
    figure, axes = blank(1, len(panels), width=4.5 * max(len(panels), 1.4), height=3.4)
    for ax, (name, keys) in zip(axes, panels.items(), strict=True):
        drawn = [
            _curve(ax, history, key, color=colour(i), linewidth=1.4, linestyle=style, markersize=3)
            for i, history in enumerate(histories.values())
            for key, style in zip(keys, ("-", "--"), strict=True)
        ]
        dress(ax, "", x="epoch", y=name, grid=True)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        _scale(ax, np.concatenate(drawn), share=name == "accuracy")
    handles: list[Artist] = [
        Line2D([], [], color=colour(i), linewidth=1.6, label=short(name)) for i, name in enumerate(histories)
    ]
    if any(key.startswith("validation_") for key in told):
        key = Line2D([], [], color=QUIET, linewidth=1.4, label="train")
        handles += [key, Line2D([], [], color=QUIET, linewidth=1.4, linestyle="--", label="validation")]
    legend_on_top(figure, handles)
    return figure


def _curve(ax: Axes, history: History, key: str, **look: Any) -> Floats:
    """Draw one series and return its finite values; a lacking key is passed over, a NaN leaves a gap."""
    rows = [row for row in history if row.get(key) is not None]
    values: Floats = np.array([float(row[key]) for row in rows], float)
    finite = np.isfinite(values)
    if finite.any():
        line = ax.plot([float(row["epoch"]) for row in rows], np.where(finite, values, np.nan))[0]
        line.set(marker="o" if finite.sum() <= _FEW else "", **look)
    kept: Floats = values[finite]
    return kept


def _scale(ax: Axes, values: Floats, *, share: bool = False) -> None:
    """The vertical axis: of shares in percent, of all else in decades where finite values span a factor of 20."""
    if share:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif values.size and values.min() > 0 and values.max() > 20 * values.min():
        decades(ax)


def _epochs(ax: Axes, epochs: list[float]) -> None:
    margin = 0.02 * (max(epochs) - min(epochs)) or 0.5
    ax.set_xlim(min(epochs) - margin, max(epochs) + margin)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _divergence(ax: Axes, history: History) -> None:
    lost = [row["epoch"] for row in history if not math.isfinite(row.get("loss") or 0.0)]
    if lost:
        ax.axvline(lost[0], color=QUIET, linewidth=1, linestyle=":", gid="diverged")
        note = ax.annotate(f"not finite from epoch {lost[0]} on", (0.5, 0.5), xycoords="axes fraction")
        note.set(ha="center", fontsize=SMALL, color=INK, bbox={"facecolor": "white", "edgecolor": GRID})


def _learning_rate(ax: Axes, history: History) -> None:
    """Draw it on an axis of its own at the right, if it changes at all."""
    rows = [row for row in history if row.get("learning_rate") is not None]
    rates = [float(row["learning_rate"]) for row in rows]
    if len(set(rates)) > 1:
        other = ax.twinx()
        other.plot([float(row["epoch"]) for row in rows], rates, color=QUIET, linewidth=1, linestyle=":")
        dress(other, "", y="learning rate (dotted)")
        other.spines["right"].set_visible(True)
        _scale(other, np.array(rates))
