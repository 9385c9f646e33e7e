"""One HTML page about one run: what was trained, how good it is, and how to do it again.

The page is a single string with its pictures and its style inside: it loads nothing, runs no script, and can be
mailed, archived or opened from a disk. Every text is escaped, for names of classes and columns are user data.
"""

from __future__ import annotations

import base64
import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from hdnn.names import printable

_PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG file begins


@dataclass(frozen=True)
class Table:
    """A table of text and numbers.

    Attributes:
        title: what the rows are.
        columns: the heads, C; empty heads throughout make a list of names and values.
        rows: C cells each: text as it stands, numbers rounded to four digits, None a dash. Under a head, the
            numbers of a column get equally many decimals.
        note: how to read it, written below.
        marked: indices of rows to be noticed, such as those of results that fall short.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    marked: Collection[int] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table {self.title!r} has {len(self.columns)} columns; got a row of {len(row)} cells."
                )

    @property
    def cells(self) -> list[list[tuple[str, bool]]]:
        """What to print in every cell, and whether it stands at the right as numbers do."""
        if not any(self.columns):  # a list of names and values: the values have nothing in common
            return [[(_cell(value), False) for value in row] for row in self.rows]
        columns = [_column(column) for column in zip(*self.rows, strict=True)]
        return [list(row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Picture:
    """A picture with the words that belong to it.

    Attributes:
        title: what it shows, in a few words.
        data: the bytes of a PNG or GIF file.
        alt: what one sees, for those who do not see it.
        caption: how to read it.
    """

    title: str
    data: bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.data.startswith((_PNG, b"GIF8")) or len(self.data) < 24:
            raise ValueError(
                f"Picture {self.title!r} is neither PNG nor GIF; it starts with {self.data[:8]!r}. "
                "Pass the bytes of a file that `hdnn.plots` wrote."
            )
        if not self.alt.strip():
            raise ValueError(f"Picture {self.title!r} needs an `alt` text that says what one sees.")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page; a PNG is shown at two thirds, so that fine screens show it sharp."""
        if self.data.startswith(_PNG):
            width, height = int.from_bytes(self.data[16:20], "big"), int.from_bytes(self.data[20:24], "big")
            return round(width / 1.5), round(height / 1.5)
        return int.from_bytes(self.data[6:8], "little"), int.from_bytes(self.data[8:10], "little")

    @property
    def kind(self) -> str:
        """png or gif."""
        return "png" if self.data.startswith(_PNG) else "gif"

    @property
    def source(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """A head with tables and pictures under it, in the order given."""

    title: str
    parts: Sequence[Table | Picture]
    text: str = ""


@dataclass(frozen=True)
class Report:
    """All that the page says.

    Attributes:
        title: of the page.
        lead: one or two sentences: what was trained on what.
        headline: the few results that matter, as names and values; the first is printed largest.
        sections: tables and pictures, in the order to be read.
        notes: what a reader must know before believing the numbers, such as a run that diverged.
        command: what to type to get the same run.
        versions: of the software and the machine, by name.
    """

    title: str
    lead: str
    headline: Sequence[tuple[str, object]] = ()
    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
    command: str = ""
    versions: Mapping[str, object] = field(default_factory=dict)


def render(report: Report) -> str:
    """Write the report as one self-contained HTML page.

    Args:
        report: what to say.

    Returns:
        The page; the same report gives the same page, byte for byte.

    Example:
        >>> page = render(Report("Swiss roll", "h2 with 64 layers.", [("test accuracy", "99.4 %")]))
        >>> page.startswith("<!doctype html>"), "99.4 %" in page
        (True, True)
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters["cell"] = _cell
    environment.tests["table"] = lambda part: isinstance(part, Table)
    source = files("hdnn").joinpath("templates", "report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(report=report)


def _shown(value: object) -> object:
    """Texts without what a browser would obey, such as letters that turn the direction of a line."""
    return printable(value) if isinstance(value, str) else value


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _column(values: Sequence[object]) -> list[tuple[str, bool]]:
    """The cells of one column, its numbers with equally many decimals so that they can be compared."""
    texts = [_cell(value) for value in values]
    fractions = [i for i, value in enumerate(values) if _is_number(value) and not isinstance(value, numbers.Integral)]
    if not any("e" in texts[i] for i in fractions):
        decimals = max((len(texts[i].partition(".")[2]) for i in fractions), default=0)
        for i in fractions:
            texts[i] = f"{values[i]:.{decimals}f}"
    return [(text, _is_number(value)) for text, value in zip(texts, values, strict=True)]


def _cell(value: object) -> str:
    """A value as a reader wants it: four digits, yes and no, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral) or not isinstance(value, numbers.Real):
        return str(value)
    number = float(value)
    if math.isfinite(number) and 1e4 <= abs(number) < 1e7:
        return f"{number:.0f}"  # rather than 1.234e+04
    return f"{number:.4g}"
