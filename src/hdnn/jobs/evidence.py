"""What an analysis can give: findings with their tables and figures, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hdnn import plots
from hdnn.analysis import Statistics
from hdnn.doors import in_options
from hdnn.report import Picture, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
Summary = dict[str, float | str | None]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with the words that belong to it.

    Attributes:
        file: its name.
        figure: drawn.
        title: what it shows.
        alt: what is seen, for those who do not see it.
        caption: how to read it.
    """

    file: str
    figure: Figure
    title: str
    alt: str
    caption: str


def pictured(place: Path, figure: Figure, title: str, alt: str, caption: str) -> Picture:
    """A figure as a file, and that as a picture of a report."""
    return Picture(title, plots.save(figure, place).read_bytes(), alt, caption)


@dataclass(frozen=True, eq=False)
class Finding:
    """One analysis of a flow.

    Attributes:
        key: its name among the numbers.
        title: its head in the report.
        text: what was asked, in one or two sentences.
        numbers: plain values, for a JSON file.
        summary: the few of them that fit a line.
        tables: to show.
        drawings: to show.
    """

    key: str
    title: str
    text: str
    numbers: dict[str, Any]
    summary: Summary = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)


@dataclass(frozen=True)
class LeftOut:
    """An analysis that does not apply.

    Attributes:
        key: its name among the numbers.
        title: what it would have been.
        reason: one or two sentences.
    """

    key: str
    title: str
    reason: str


def or_reason(compute: Callable[[], T]) -> tuple[T | None, str]:
    """A result, or the reason why the library refuses to give one."""
    try:
        return compute(), ""
    except ValueError as error:
        return None, in_options(error, {})  # a page for those who typed a command


def plain(bands: Statistics) -> dict[str, Any]:
    """Statistics as numbers that a file can hold."""
    quantiles = {f"{level:g}": row.tolist() for level, row in zip(bands.levels, bands.quantiles, strict=True)}
    return {
        "minimum": bands.minimum.tolist(),
        "mean": bands.mean.tolist(),
        "maximum": bands.maximum.tolist(),
        "quantiles": quantiles,
    }
