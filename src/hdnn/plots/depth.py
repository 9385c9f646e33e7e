"""What depends on depth: norms, singular values, energy, gradients, as bands over the samples of a batch.

The state before layer j stands at j, the output at N. Bands reach from the smallest to the largest sample, lines are
means. Several networks of different depth are aligned at their outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hdnn.plots.style import (
    INK,
    Floats,
    blank,
    colour,
    dress,
    gradation,
    legend_above,
    legend_on_top,
    logarithmic,
    marked,
    numbers,
)

_BOUND: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": "--"}
# Singular values, and networks, beyond which lines can no longer be told apart.
_MOST = 8
# By how much a bound may exceed what it bounds before it leaves the picture: else nothing but the bound is seen.
_FAR = 1e3


class Band(Protocol):
    """Statistics over samples at every depth, as `hdnn.analysis.statistics` returns them."""

    @property
    def minimum(self) -> ArrayLike: ...  # noqa: D102
    @property
    def mean(self) -> ArrayLike: ...  # noqa: D102
    @property
    def maximum(self) -> ArrayLike: ...  # noqa: D102


def norms_by_depth(
    networks: Mapping[str, Band],
    *,
    lower: float | None = 1.0,
    upper: Mapping[str, ArrayLike] | None = None,
    depths: Sequence[int] | None = None,
) -> Figure:
    """Draw ‖∂y_N/∂y_j‖ of one or several networks against depth, on one logarithmic axis.

    Args:
        networks: by name, statistics over the samples of the norms at every depth, (N + 1,).
        lower: a bound that no norm of a Hamiltonian network falls below; None draws none.
        upper: by name, bounds that the norms of a network do not exceed, (N + 1,).
        depths: j of every entry, where not all depths were computed; for networks of one depth.

    Raises:
        ValueError: if there is no network, or arrays do not fit each other.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import norms, sensitivities, statistics
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> M = sensitivities(flow, torch.randn(10, 4, dtype=torch.float64))
        >>> figure = norms_by_depth({"h2": statistics(norms(M))})
        >>> figure.axes[0].get_yscale()
        'log'
    """
    figure, (ax,) = blank(1, 1, width=6.0, height=3.6)
    places, label = _places(networks, depths)
    lines, values = [], []
    for i, (name, band) in enumerate(networks.items()):
        lines.append(marked(_band(ax, places[name], band, colour(i), name), i))
        values += [numbers(band.minimum), numbers(band.maximum)]
    largest = float(np.max(np.concatenate(values)))
    for name, bound in (upper or {}).items():
        # Cut off above the picture: a scale must not see numbers that it cannot square.
        heights = np.minimum(numbers(bound), 10 * _FAR * largest)
        shade = colour(list(networks).index(name))
        title = "upper bound" if len(networks) == 1 else f"{name}: upper bound"
        lines.append(ax.plot(places[name], heights, color=shade, linewidth=1.2, linestyle=":", label=title)[0])
        values.append(np.clip(heights, None, _FAR * largest))
    if lower is not None:
        lines.append(ax.axhline(lower, **_BOUND, label=f"lower bound {lower:g}"))
        values.append(np.array([lower]))
    dress(ax, "", x=label, y=r"$\|\partial y_N/\partial y_j\|_2$", grid=True, formulas=True)
    _layers(ax, places)
    logarithmic(ax, np.concatenate(values))
    legend_on_top(figure, lines)
    return figure


def singular_values_by_depth(values: Sequence[Band], *, depths: Sequence[int] | None = None) -> Figure:
    """Draw the singular values of ∂y_N/∂y_j against depth; those below 1 are directions in which gradients shrink.

    Args:
        values: for s₁ ≥ s₂ ≥ … ≥ s_n, statistics over the samples at every depth, (N + 1,). Of more than eight, eight
            are drawn, evenly, with the first and the last.
        depths: j of every entry, where not all depths were computed.

    Raises:
        ValueError: if there is none, or arrays do not fit each other.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import sensitivities, singular_values, statistics
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> s = singular_values(sensitivities(flow, torch.randn(10, 4, dtype=torch.float64)))
        >>> figure = singular_values_by_depth([statistics(of_samples) for of_samples in s.unbind(-1)])
    """
    chosen = np.unique(np.linspace(0, len(values) - 1, min(_MOST, max(1, len(values)))).round().astype(int))
    named = {f"s{_subscript(i + 1)}": values[i] for i in chosen} if len(values) else {}
    figure, (ax,) = blank(1, 1, width=6.0, height=3.6)
    places, label = _places(named, depths)
    lines = [
        _band(ax, places[name], band, shade, name)
        for (name, band), shade in zip(named.items(), gradation(len(named)), strict=True)
    ]
    ax.axhline(1.0, **_BOUND)
    dress(ax, "", x=label, y=r"singular values of $\partial y_N/\partial y_j$", grid=True, formulas=True)
    extremes = [numbers(band.minimum) for band in named.values()]
    extremes += [numbers(band.maximum) for band in named.values()]
    _layers(ax, places)
    logarithmic(ax, np.concatenate([*extremes, np.ones(1)]))
    legend_on_top(figure, lines)
    return figure


def energy_by_depth(networks: Mapping[str, Band]) -> Figure:
    """Draw the drift of the energy, H(y_j) − H(y_0), against depth.

    Args:
        networks: by name, statistics over the samples of `hdnn.analysis.energy_drift`, (N + 1,).

    Raises:
        ValueError: if there is no network, or arrays do not fit each other.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import energy_drift, statistics
        >>> flow = hdnn.h2(4, layers=64, step=0.1, shared=True)
        >>> figure = energy_by_depth({"h2": statistics(energy_drift(flow, torch.randn(10, 4)))})
    """
    figure, (ax,) = blank(1, 1, width=6.0, height=3.6)
    places, label = _places(networks, None)
    lines = [
        marked(_band(ax, places[name], band, colour(i), name), i) for i, (name, band) in enumerate(networks.items())
    ]
    ax.axhline(0.0, **_BOUND)
    dress(ax, "", x=label, y="$H(y_j) - H(y_0)$", grid=True, formulas=True)
    _layers(ax, places)
    legend_on_top(figure, lines)
    return figure


def gradients_by_depth(states: Band, parameters: Mapping[str, ArrayLike]) -> Figure:
    """Draw the gradients of a loss by layer: with respect to the states, and to the parameters.

    Args:
        states: statistics over the samples of ‖dL/dy_j‖, (N + 1,).
        parameters: by name, ‖dL/dθ_j‖ of every layer, (N,).

    Raises:
        ValueError: if arrays do not fit each other.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.analysis import gradients, statistics
        >>> flow = hdnn.h2(4, layers=64, step=0.1)
        >>> found = gradients(flow, torch.randn(10, 4), lambda y: y.square().mean())
        >>> figure = gradients_by_depth(statistics(found.state_norms), found.parameter_norms)
    """
    figure, (left, right) = blank(1, 2, width=8.6, height=3.4)
    places, label = _places({"": states}, None)
    _band(left, places[""], states, colour(0), "")
    dress(left, "states", x=label, y=r"$\|dL/dy_j\|_2$", grid=True, formulas=True)
    _layers(left, places)
    logarithmic(left, np.concatenate([numbers(states.minimum), numbers(states.maximum)]))
    lines = []
    for i, (name, norms) in enumerate(parameters.items()):
        heights = numbers(norms)
        if heights.shape not in ((len(places[""]) - 1,), (1,)):
            raise ValueError(
                f"Expected one norm of {name!r} for each of the {len(places['']) - 1} layers; got {heights.shape}."
            )
        shade = colour(i)
        if heights.size == 1:
            lines.append(right.axhline(heights[0], color=shade, linewidth=1.6, label=f"{name} (shared)"))
        else:
            line = right.plot(places[""][:-1], heights, color=shade, linewidth=1.6, label=name)[0]
            lines.append(marked(line, i))
    dress(right, "parameters", x="layer $j$", y=r"$\|dL/d\theta_j\|_2$", grid=True, formulas=True)
    _layers(right, places)
    if lines:
        logarithmic(right, np.concatenate([numbers(norms) for norms in parameters.values()]))
        legend_above(right, lines)
    return figure


def _places(bands: Mapping[str, Band], depths: Sequence[int] | None) -> tuple[dict[str, Floats], str]:
    """Where the entries of every band stand, and what that axis is called."""
    if not bands:
        raise ValueError("There is nothing to draw. Pass statistics of one network at least.")
    for name, band in bands.items():
        shapes = {np.shape(np.asarray(part)) for part in (band.minimum, band.mean, band.maximum)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or shapes == {(0,)}:
            raise ValueError(
                f"The statistics of {name!r} must have one entry a depth, (N + 1,); got {sorted(shapes)}. "
                "`hdnn.analysis.statistics` makes them from one number per depth and sample."
            )
    sizes = {name: np.size(np.asarray(band.mean)) for name, band in bands.items()}
    if depths is not None:
        if set(sizes.values()) != {len(depths)}:
            raise ValueError(f"`depths` names {len(depths)} depths; the statistics have {sorted(set(sizes.values()))}.")
        return {name: numbers(depths) for name in bands}, "state before layer $j$"
    if len(set(sizes.values())) == 1:
        return {name: np.arange(size, dtype=float) for name, size in sizes.items()}, "state before layer $j$"
    return {name: np.arange(1 - size, 1, dtype=float) for name, size in sizes.items()}, "$j - N$, the output at 0"


def _band(ax: Axes, x: Floats, band: Band, shade: str, label: str) -> Line2D:
    """Draw the range over the samples and their mean."""
    low, mean, high = (numbers(part) for part in (band.minimum, band.mean, band.maximum))
    ax.fill_between(x, low, high, color=shade, alpha=0.22, linewidth=0, gid="band")
    line = ax.plot(x, mean, color=shade, linewidth=1.6, label=label)[0]
    if len(x) <= 12:
        line.set(marker="o", markersize=4)
    return line


def _layers(ax: Axes, places: Mapping[str, Floats]) -> None:
    """The horizontal axis, wide enough for all networks."""
    first, last = min(x[0] for x in places.values()), max(x[-1] for x in places.values())
    margin = 0.02 * (last - first) or 0.5
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
