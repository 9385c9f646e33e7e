"""How sensitivities and gradients of every layer develop while a network trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hdnn.plots.style import (
    INK,
    QUIET,
    Floats,
    blank,
    dress,
    gradation,
    legend_beside,
    legend_on_top,
    logarithmic,
    numbers,
    tint,
)

# Layers beyond which their lines can no longer be told apart.
_MOST = 9


class RecordedSensitivities(Protocol):
    """Norms by layer and iteration, as `hdnn.SensitivityRecorder` keeps them."""

    @property
    def layers(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def iterations(self) -> ArrayLike: ...  # noqa: D102
    @property
    def minimum(self) -> ArrayLike: ...  # noqa: D102
    @property
    def mean(self) -> ArrayLike: ...  # noqa: D102
    @property
    def maximum(self) -> ArrayLike: ...  # noqa: D102


class RecordedGradients(Protocol):
    """Norms by layer and iteration, as `hdnn.GradientRecorder` keeps them."""

    @property
    def iterations(self) -> ArrayLike: ...  # noqa: D102
    @property
    def norms(self) -> ArrayLike: ...  # noqa: D102


def sensitivities_by_iteration(networks: Mapping[str, RecordedSensitivities], *, lower: float | None = 1.0) -> Figure:
    """Draw ‖∂y_N/∂y_j‖₂ against the iteration, a line for every recorded layer: figure 2 of the L4DC paper.

    Lines are means over the samples; the grey range is that of all samples and all layers that were recorded.

    Args:
        networks: by name, what was recorded; a panel each.
        lower: a bound that no norm of a Hamiltonian network falls below; None draws none.

    Raises:
        ValueError: if there is no network, or one without records.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, figure 2, https://arxiv.org/abs/2104.13166

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(100, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=16, horizon=1.0))
        >>> recorder = hdnn.SensitivityRecorder(network.flow, network.lift(x[:32]))
        >>> history = hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=2), callbacks=[recorder])
        >>> figure = sensitivities_by_iteration({"h1": recorder})
    """
    figure, panels = _panels(list(networks))
    bound: list[Line2D] = []
    for ax, (name, recorded) in zip(panels, networks.items(), strict=True):
        x, mean = _records(name, recorded.iterations, recorded.mean, len(recorded.layers))
        low, high = numbers(recorded.minimum), numbers(recorded.maximum)
        ax.fill_between(x, low.min(1), high.max(1), color=tint(QUIET, 0.75), linewidth=0, gid="range")
        _lines(ax, x, mean, recorded.layers)
        seen = [low.ravel(), high.ravel()]
        if lower is not None:
            line = ax.axhline(lower, color=INK, linewidth=1, linestyle="--", label=f"lower bound {lower:g}")
            bound, seen = [line], [*seen, np.array([lower])]
        dress(ax, name, x="iteration", y=r"$\|\partial y_N/\partial y_j\|_2$", grid=True, formulas=True)
        logarithmic(ax, np.concatenate(seen))
    _name_layers(figure, panels, [recorded.layers for recorded in networks.values()], bound)
    return figure


def gradients_by_iteration(networks: Mapping[str, RecordedGradients]) -> Figure:
    """Draw ‖dL/dθ_j‖₂ against the iteration, a line for up to nine layers, evenly.

    Args:
        networks: by name, what was recorded; a panel each.

    Raises:
        ValueError: if there is no network, or one without records.
    """
    figure, panels = _panels(list(networks))
    shown: list[Sequence[int]] = []
    for ax, (name, recorded) in zip(panels, networks.items(), strict=True):
        norms = numbers(recorded.norms)
        x, norms = _records(name, recorded.iterations, norms, norms.shape[-1])
        last = norms.shape[1] - 1
        layers = sorted({round(last * i / (_MOST - 1)) for i in range(_MOST)})
        _lines(ax, x, norms[:, layers], layers)
        dress(ax, name, x="iteration", y=r"$\|dL/d\theta_j\|_2$", grid=True, formulas=True)
        logarithmic(ax, norms[:, layers].ravel())
        shown.append(layers)
    _name_layers(figure, panels, shown, [])
    return figure


def _panels(names: list[str]) -> tuple[Figure, list[Axes]]:
    if not names:
        raise ValueError("There is nothing to draw. Pass what was recorded of one network at least.")
    columns = min(len(names), 2)
    rows = math.ceil(len(names) / columns)
    figure, axes = blank(rows, columns, width=6.0 if columns == 1 else 9.0, height=3.2 * rows)
    for ax in axes[len(names) :]:
        ax.remove()
    return figure, axes[: len(names)]


def _records(name: str, iterations: ArrayLike, values: ArrayLike, layers: int) -> tuple[Floats, Floats]:
    x, heights = numbers(iterations), numbers(values)
    if x.ndim != 1 or not x.size or heights.shape != (x.size, layers):
        raise ValueError(
            f"Expected records of {name!r}, (R,) iterations and (R, {layers}) norms; got {x.shape} and "
            f"{heights.shape}. Pass the recorder to `fit` as a callback first."
        )
    return x, heights


def _lines(ax: Axes, x: Floats, heights: Floats, layers: Sequence[int]) -> None:
    for column, (layer, shade) in enumerate(zip(layers, gradation(len(layers)), strict=True)):
        line = ax.plot(x, heights[:, column], color=shade, linewidth=1.2, label=f"j = {layer}")[0]
        if x.size <= 12:
            line.set(marker="o", markersize=3.5)
    margin = 0.02 * np.ptp(x) or 0.5
    ax.set_xlim(x[0] - margin, x[-1] + margin)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _name_layers(figure: Figure, panels: Sequence[Axes], layers: Sequence[Sequence[int]], more: list[Line2D]) -> None:
    """Name the layers once where all panels show the same, else beside every panel."""
    if len({tuple(of_panel) for of_panel in layers}) == 1:
        legend_on_top(figure, [*panels[0].lines[: len(layers[0])], *more])
        return
    for ax, of_panel in zip(panels, layers, strict=True):
        legend_beside(ax, ax.lines[: len(of_panel)])
    if more:
        legend_on_top(figure, more)
