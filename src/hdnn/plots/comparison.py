"""How several trainings went, one over the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hdnn.plots.history import History, curve, scale
from hdnn.plots.style import QUIET, blank, colour, dress, legend_on_top, short


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
            curve(ax, history, key, color=colour(i), linewidth=1.4, linestyle=style, markersize=3)
            for i, history in enumerate(histories.values())
            for key, style in zip(keys, ("-", "--"), strict=True)
        ]
        dress(ax, "", x="epoch", y=name, grid=True)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        scale(ax, np.concatenate(drawn), share=name == "accuracy")
    handles: list[Artist] = [
        Line2D([], [], color=colour(i), linewidth=1.6, label=short(name)) for i, name in enumerate(histories)
    ]
    if any(key.startswith("validation_") for key in told):
        key = Line2D([], [], color=QUIET, linewidth=1.4, label="train")
        handles += [key, Line2D([], [], color=QUIET, linewidth=1.4, linestyle="--", label="validation")]
    legend_on_top(figure, handles)
    return figure
