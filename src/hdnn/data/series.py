"""Time series from files: the .ts format of aeon and sktime, and tables of one row a step.

Legend: s series, T steps, d channels: numbers a step. A file of .ts writes each channel as a list, `1,2,3:4,5,6:label`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.cells import numbers
from hdnn.data.dialect import Dialect
from hdnn.data.kinds import kinds
from hdnn.data.moments import days
from hdnn.names import hint, printable

if TYPE_CHECKING:
    import pandas as pd

_LINE = 1 << 28  # characters of the longest line; beyond it a file is none of time series
_FLAGS = ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel")
_COUNTS = ("dimensions", "dimension", "serieslength")
_KNOWN = (*_FLAGS, *_COUNTS, "problemname", "data")


@dataclass(frozen=True)
class Series:
    """Time series and what is said of each.

    Args:
        values: (T, d) each, float64; NaN where a value is missing.
        targets: labels, texts as they are written; or numbers; or None where the file says nothing of them.
        labels: the labels that the file announces, in its order; () for others.
        name: of the problem, "" where the file gives none.
    """

    values: list[NDArray[np.float64]]
    targets: NDArray[Any] | None
    labels: tuple[str, ...] = ()
    name: str = ""

    @property
    def array(self) -> NDArray[np.float64]:
        """(s, T, d).

        Raises:
            ValueError: if they are of several lengths.
        """
        if len(lengths := {len(each) for each in self.values}) > 1:
            raise ValueError(f"The series have from {min(lengths)} to {max(lengths)} steps, so they are no one array.")
        return np.stack(self.values)


@dataclass
class _Header:
    """What stands above the data."""

    flags: dict[str, bool]
    counts: dict[str, int]
    labels: tuple[str, ...] = ()
    name: str = ""


def read_ts(path: str | os.PathLike[str]) -> Series:
    r"""Read a file of the .ts format.

    Args:
        path: of the file, UTF-8.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged or says what this reader does not know, such as time stamps; with the line.

    References:
        https://www.sktime.net/en/stable/api_reference/file_specifications/ts.html

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "two.ts"
        >>> _ = file.write_text("@problemName two\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n3,2,1:6,5,4:b\n")
        >>> series = read_ts(file)
        >>> series.array.shape, series.targets.tolist()
        ((2, 3, 2), ['a', 'b'])
    """
    place = Path(path)
    header, rows = _Header({}, {}), None
    values: list[NDArray[np.float64]] = []
    targets: list[str] = []
    for number, line in _lines(place):
        where = f"{place}, line {number}"
        if rows is None:
            rows = _announced(header, line, where)
        else:
            series, target = _row(header, line, where)
            if values and series.shape[1] != values[0].shape[1]:
                raise ValueError(
                    f"{where}: {series.shape[1]} channels, where the first series has {values[0].shape[1]}."
                )
            values.append(series)
            targets.append(target)
    if rows is None:
        raise ValueError(f"{place} has no line @data, so it is no file of time series.")
    if not values:
        raise ValueError(f"{place} has no series behind @data.")
    _check_lengths(header, values, place)
    return Series(values, _targets(header, targets, place), header.labels, header.name)


def _lines(place: Path) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    try:
        with place.open(encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(_LINE + 1):
                number += 1
                if len(line) > _LINE:
                    raise ValueError(f"{place}, line {number} is longer than {_LINE:,} characters.")
                line = line.strip()
                if line and not line.startswith(("#", "%")):
                    yield number, line
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: {error.reason} at byte {error.start}.") from error


def _announced(header: _Header, line: str, where: str) -> bool | None:
    """Take a line of the header; True at the one before the data."""
    if not line.startswith("@"):
        raise ValueError(f"{where}: expected @data or another line with @ before any series; got {line[:40]!r}.")
    word, *rest = line[1:].split() or [""]
    word, key = printable(word[:40]), word.lower()
    if key not in _KNOWN:
        raise ValueError(f"{where}: @{word} is none of this format. {hint(key, _KNOWN)}")
    if key in header.flags or key in header.counts:
        raise ValueError(f"{where}: @{word} is said a second time.")
    if key == "data":
        return True
    if key == "problemname":
        header.name = " ".join(rest)
        return None
    if not rest:
        raise ValueError(f"{where}: @{word} says nothing behind it.")
    if key in _COUNTS:
        if not rest[0].isdecimal() or len(rest) > 1 or not 1 <= int(rest[0]) < 1 << 31:
            raise ValueError(f"{where}: @{word} is a whole number, at least 1; got {' '.join(rest)[:40]!r}.")
        header.counts[key] = int(rest[0])
        return None
    if rest[0].lower() not in ("true", "false"):
        raise ValueError(f"{where}: @{word} is true or false; got {rest[0][:40]!r}.")
    header.flags[key] = rest[0].lower() == "true"
    if key == "timestamps" and header.flags[key]:
        raise ValueError(f"{where}: series with time stamps are not read. Write their values alone, at even times.")
    if key == "classlabel" and header.flags[key]:
        header.labels = tuple(rest[1:])
        if len(set(header.labels)) < len(header.labels):
            raise ValueError(f"{where}: a label is announced twice.")
    elif len(rest) > 1:
        raise ValueError(f"{where}: @{word} has more behind it than true or false.")
    return None


def _row(header: _Header, line: str, where: str) -> tuple[NDArray[np.float64], str]:
    """One series (T, d), and what is said of it."""
    channels = line.split(":")
    target = ""
    if header.flags.get("classlabel") or header.flags.get("targetlabel"):
        *channels, target = channels
        target = target.strip()
        if not channels:
            raise ValueError(f"{where}: a series, a colon and its label are expected; got {line[:40]!r}.")
        if header.labels and target not in header.labels:
            raise ValueError(
                f"{where}: the label {target[:40]!r} is none of those announced. {hint(target, header.labels)}"
            )
    wanted = header.counts.get("dimensions", header.counts.get("dimension"))
    if header.flags.get("univariate") and len(channels) > 1:
        raise ValueError(f"{where}: {len(channels)} channels, where @univariate says that there is one.")
    if wanted is not None and len(channels) != wanted:
        raise ValueError(f"{where}: {len(channels)} channels, where the file announces {wanted}.")
    found = [_numbers(channel, header, where) for channel in channels]
    if len(lengths := {len(each) for each in found}) > 1:
        raise ValueError(f"{where}: channels of {min(lengths)} to {max(lengths)} steps in one series.")
    return np.stack(found, axis=1), target


def _numbers(channel: str, header: _Header, where: str) -> NDArray[np.float64]:
    found = [_number(cell) for cell in channel.split(",")]
    if None in found:
        wrong = channel.split(",")[found.index(None)].strip()
        raise ValueError(f"{where}: {wrong[:40]!r} is no number. Values are numbers, and ? where one is missing.")
    numbers = np.array(found, dtype=np.float64)
    if np.isinf(numbers).any():
        raise ValueError(f"{where}: a value is infinite.")
    if np.isnan(numbers).any() and header.flags.get("missing") is False:
        raise ValueError(f"{where}: a value is missing, where @missing says that none is.")
    return numbers


def _number(cell: str) -> float | None:
    try:
        return math.nan if cell.strip() == "?" else None if "_" in cell else float(cell)
    except ValueError:
        return None


def _check_lengths(header: _Header, values: list[NDArray[np.float64]], place: Path) -> None:
    lengths = {len(each) for each in values}
    if header.flags.get("equallength") and len(lengths) > 1:
        raise ValueError(
            f"{place}: series of {min(lengths)} to {max(lengths)} steps, where @equalLength says one length."
        )
    wanted = header.counts.get("serieslength")
    if header.flags.get("equallength") and wanted is not None and lengths != {wanted}:
        raise ValueError(f"{place}: series of {max(lengths)} steps, where @seriesLength says {wanted}.")


def _targets(header: _Header, targets: list[str], place: Path) -> NDArray[Any] | None:
    if header.flags.get("classlabel"):
        return np.array(targets)
    if not header.flags.get("targetlabel"):
        return None
    try:
        numbers = np.array([float(target) for target in targets])
    except ValueError as error:
        raise ValueError(f"{place}: a target is no number: {str(error)[:80]}.") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{place}: a target is not finite.")
    return numbers


def series_of(frame: pd.DataFrame, sequence: str, time: str, target: str | None = None) -> Series:
    """The series in a table of one row a step.

    Args:
        frame: with a column that names the series of every row, one that orders its rows, and numbers.
        sequence: the column that names the series.
        time: the column that orders the rows of a series: numbers or dates, or texts that are read as such.
        target: a column that says one thing of each series, the same in all of its rows.

    Returns:
        The series in the order of their first rows; all other columns are channels.

    Raises:
        ValueError: if a column is missing or holds no numbers, times are no numbers and no dates, two rows of a series
            have one time, a value is infinite, or a target changes within a series.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"id": [7, 7, 8], "t": [1, 0, 0], "v": [2.0, 1.0, 5.0], "y": ["a", "a", "b"]})
        >>> series = series_of(frame, sequence="id", time="t", target="y")
        >>> [each.tolist() for each in series.values], series.targets.tolist()
        ([[[1.0], [2.0]], [[5.0]]], ['a', 'b'])
    """
    special = [sequence, time, *([] if target is None else [target])]
    for name in special:
        if name not in frame.columns:
            free = [str(each) for each in frame.columns if each not in special]
            raise ValueError(f"The table has no column {name!r}. {hint(name, free)}")
    if frame[special].isna().any(axis=None):
        raise ValueError(f"The columns {', '.join(map(repr, special))} must be filled in every row.")
    channels = [name for name in frame.columns if name not in special]
    if not channels or len(frame) == 0:
        raise ValueError("A table of series has rows, and a column of numbers beside those that name and order them.")
    for name in channels:
        if frame[name].dtype.kind in "mM":
            raise ValueError(
                f"Column {name!r} holds dates or times, and channels are numbers. Leave it out, or make it numbers, "
                f"such as the hours since the first step."
            )
    frame = _ordered(frame, time)
    values, targets = [], []
    for series, rows in frame.groupby(sequence, sort=False):
        if rows[time].duplicated().any():
            raise ValueError(
                f"Two rows of series {series!r} have the same {time!r}, so nobody knows which comes first."
            )
        try:
            values.append(rows.sort_values(time)[channels].to_numpy(dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Series {series!r} holds what is no number: {str(error)[:80]}.") from error
        if np.isinf(values[-1]).any():
            name = channels[int(np.isinf(values[-1]).any(0).argmax())]
            raise ValueError(f"Series {series!r} has an infinite value in {name!r}. Correct it, or leave it empty.")
        if target is not None:
            if rows[target].nunique() > 1:
                raise ValueError(f"{target!r} changes within series {series!r}, where it is to say one thing of it.")
            targets.append(rows[target].iloc[0])
    return Series(values, None if target is None else np.array(targets))


def _ordered(frame: pd.DataFrame, time: str) -> pd.DataFrame:
    """The table, with times of texts as the numbers or dates that they are: as texts, 10 would come before 2."""
    if frame[time].dtype.kind in "biufmM":
        return frame
    t = times_of(frame[[time]].reset_index(drop=True), Dialect())
    if np.isnan(t).any():
        row = int(np.isnan(t).argmax())
        raise ValueError(f"Column {time!r} says no time in row {row + 1}: {str(frame[time].iloc[row])[:40]!r}.")
    return frame.assign(**{time: t})


def times_of(frame: pd.DataFrame, given: Dialect) -> NDArray[np.float64]:
    """When each step is, NaN where a time is missing."""
    time = str(frame.columns[0])
    kind = kinds(frame, given)[time]
    if kind.what == "number":
        t = numbers(time, frame[time], kind.notation, kind.missing)
        return t if np.nanmax(np.abs(t), initial=0.0) < 2.0**53 else _long(frame[time], t)
    if kind.what != "date":
        unsure = kind.what == "other" and kind.note  # which of two kinds of dates it holds, and what would say it
        what = kind.doubt or (f"its {unsure}" if unsure else f"holds {kind.words}")
        raise ValueError(f"Column {time!r} is to order the steps, but {what}. Name a column of numbers or dates.")
    return days(time, frame[time], kind.format, kind.missing)


def _long(column: pd.Series[Any], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers with more digits than a float holds, as nanoseconds since 1970: counted from the least of them."""
    cells = column.to_numpy(dtype=object)
    try:
        whole = {place: int(cells[place]) for place in np.flatnonzero(~np.isnan(t)).tolist()}
    except ValueError:  # written in another way
        return t
    if any(isinstance(cells[place], float) for place in whole):
        return t
    least, passed = min(whole.values()), np.full(len(t), np.nan)
    passed[list(whole)] = [each - least for each in whole.values()]
    return passed
