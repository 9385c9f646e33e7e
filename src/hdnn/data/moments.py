"""Columns of dates and times: one stated format a column, read by pandas, and what the network gets to see of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import dates, documents
from hdnn.data.cells import FloatArray, IntArray, center, row_number
from hdnn.data.columns import grown, marks
from hdnn.data.notation import USUAL_MARKS

if TYPE_CHECKING:
    import pandas as pd

ISO = "ISO8601"
"""The format of dates as programs write them: year, month, day, and perhaps a time and a zone."""

TYPED = ""
"""The format of a column that its file or a user's table holds as dates."""

PARTS = {"day": 1.0, "week": 7.0, "year": 365.2425}
"""What comes again and again, and after how many days."""

QUARTERS = "quarters"
"""The format of quarters of years, as in 1974Q1 or 1974-Q1."""

_QUARTER = r"^[0-9]{4}[- ]?Q[1-4]$"
_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?)?$"
)
_DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d",
    "%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%m-%d-%y", "%Y-%m-%d", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y",
    "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y", "%b-%d-%Y", "%Y-%b-%d", "%Y %b %d", "%d%b%Y",
    "%a, %d %b %Y", "%A, %B %d, %Y", "%A, %d %B %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", " %I:%M%p")
_MONTHS = ("%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%Y-%m", "%Y/%m", "%m/%Y", "%Y %b", "%Y-%b")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")


@dataclass(frozen=True, slots=True)
class Moment:
    """A column of dates or times t, which enters the network as (t - mean) / scale and as what comes again.

    Time is counted in days. Each of `parts` adds sin and cos of 2 pi t / (its days).

    Args:
        name: The column's name.
        format: How texts are written, as for `pandas.to_datetime`: "ISO8601", or as in "%d.%m.%Y"; empty where the
            file has a type for dates, and a text is one as programs write it, 2021-12-31.
        parts: Of "day", "week" and "year".
        mean: Mean of the training part, in days since 1970.
        scale: Standard deviation of the training part, above 0.
        fill: What stands in for a missing t: the median of the training part.
        missing: Marks that stand for a missing value in this column, beside those that do so everywhere.

    Raises:
        ValueError: If a number is not finite, or a part is none.
    """

    kind: ClassVar[str] = "moment"
    name: str
    format: str
    parts: tuple[str, ...]
    mean: float
    scale: float
    fill: float
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        documents.text(self.name, "The name of a column")
        if not isinstance(self.format, str) or len(self.format) > 60:
            raise ValueError(f"The format of column {self.name!r} must be a short text.")
        documents.names(self.parts, f"The parts of column {self.name!r}", least=0)
        if set(self.parts) - PARTS.keys():
            raise ValueError(f"The parts of column {self.name!r} must be of {', '.join(PARTS)}.")
        for what in ("mean", "scale", "fill"):
            documents.number(getattr(self, what), f"The {what} of column {self.name!r}", positive=what == "scale")
        marks(self.missing, self.name)

    @property
    def width(self) -> int:
        """The number of inputs."""
        return 1 + 2 * len(self.parts)

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call the inputs: the time, and sine and cosine of what comes again."""
        return (self.name, *(f"{self.name}_{part}_{wave}" for part in self.parts for wave in ("sin", "cos")))

    @classmethod
    def fit(
        cls,
        name: str,
        column: pd.Series[Any],
        format: str = TYPED,
        missing: tuple[str, ...] = (),
        parts: tuple[str, ...] | None = None,
    ) -> Moment:
        """Take mean, deviation and median from the training part, and those parts that it saw come again."""
        t = days(name, column, format, missing)
        t = t[~np.isnan(t)]
        if not len(t):
            raise ValueError(f"Column {name!r} has no value at all in the training part. Leave the column out.")
        mean, scale = center(t)
        return cls(name, format, _parts(t) if parts is None else parts, mean, scale, float(np.median(t)), missing)

    def again(self, column: pd.Series[Any]) -> Moment:
        """The same column fitted to other rows, its cells read in the same way."""
        return self.fit(self.name, column, self.format, self.missing, self.parts)

    def values(self, column: pd.Series[Any]) -> FloatArray:
        """The days of a column, NaN where one is missing."""
        return days(self.name, column, self.format, self.missing)

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, width) and the number of unseen values, which is 0 for dates."""
        t = self.values(column)
        t = np.where(np.isnan(t), self.fill, t)
        inputs = [(t - self.mean) / self.scale]
        for part in self.parts:
            angle = 2 * np.pi * (t / PARTS[part] % 1.0)
            inputs += [np.sin(angle), np.cos(angle)]
        return np.stack(inputs, axis=1).astype(np.float32), np.zeros(0, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "format": self.format,
            "parts": list(self.parts),
            "mean": float(self.mean),
            "scale": float(self.scale),
            "fill": float(self.fill),
            **({"missing": list(self.missing)} if self.missing else {}),
        }

    @classmethod
    def from_dict(cls, document: object) -> Moment:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("kind", "name", "format", "parts", "mean", "scale", "fill", "missing")
        read = documents.mapping(grown(document, {"missing": []}), "a column of dates", keys)
        read |= {key: documents.items(read[key], f"The {key} of a column") for key in ("parts", "missing")}
        return cls(*(read[key] for key in keys[1:]))


def _parts(t: FloatArray) -> tuple[str, ...]:
    """What comes again in days t, each part at least twice, and has more than one phase."""
    span = float(t.max() - t.min())
    timed = len(np.unique(t % 1.0 * 1440 // 1)) > 1
    found = ["day"] if timed else []
    found += ["week"] if span >= 14 and len(np.unique(t // 1 % 7)) > 1 else []
    return (*found, *(["year"] if span >= 2 * PARTS["year"] and len(np.unique(t % PARTS["year"] // 15)) > 1 else []))


def days(name: str, column: pd.Series[Any], format: str, missing: tuple[str, ...] = ()) -> FloatArray:
    """Read a column as days since 1970, a missing cell as NaN.

    Args:
        name: The column's name, for messages.
        column: (s,) cells.
        format: How texts are written; see `Moment`.
        missing: What stands for a missing value beside the usual marks.

    Returns:
        float64 (s,), each finite or NaN.

    Raises:
        ValueError: If a cell is no such date; the message names the first.
    """
    import pandas as pd

    given, empty = column, column.isna().to_numpy(dtype=bool, copy=True)
    is_typed = dates.are_typed(column)
    if not is_typed:
        cells = column.astype(object).map(lambda cell: str(cell).strip(), na_action="ignore")
        empty |= cells.isin(["", *USUAL_MARKS, *missing]).to_numpy(dtype=bool)
        column = cells.where(~empty).astype(object)  # a column without any text is one of numbers to pandas
        if format == TYPED:
            column = column.map(dates.year_first, na_action="ignore").astype(object)
            column = column.where(column.str.match(_ISO, na=False))
    t = _days(column, format or ISO) if not is_typed else _typed_days(column)
    if missing and (is_typed or format == TYPED):
        read = column if is_typed else pd.to_datetime(column, format=ISO, errors="coerce", utc=True)
        gaps = dates.gaps(read, missing, format)
        t, empty = np.where(gaps, np.nan, t), empty | gaps
    wrong = np.flatnonzero(np.isnan(t) & ~empty)
    if len(wrong):
        place = int(wrong[0])
        how = f"dates written as {format}" if format else "dates, as texts written as 2021-12-31"
        raise ValueError(
            f"Column {name!r} must hold {how}, but data row {row_number(column, place)} holds "
            f"{str(given.iloc[place])[:40]!r}. Correct that value, or leave it empty to have it filled in."
        )
    return t


def _typed_days(column: pd.Series[Any]) -> FloatArray:
    """Days since 1970 of cells that are dates."""
    import pandas as pd

    try:
        return _since_1970(pd.to_datetime(column, errors="coerce", utc=True))
    except (ValueError, TypeError, OverflowError):
        return np.full(len(column), np.nan)


def _days(column: pd.Series[Any], format: str) -> FloatArray:
    """Days since 1970 of texts; NaN for what is no date."""
    import pandas as pd

    column = column.astype(object)
    column = column.where(column.str.contains("[0-9]", na=False)).astype(
        object
    )  # `today` is a date to pandas, in any format
    if format == QUARTERS:
        month = {"1": "-01", "2": "-04", "3": "-07", "4": "-10"}
        written = column.where(column.str.match(_QUARTER, na=False))
        column = written.map(lambda text: text[:4] + month[text[-1]], na_action="ignore")
        format = "%Y-%m"
    try:
        return _since_1970(pd.to_datetime(column, format=format, errors="coerce", utc=True))
    except (ValueError, TypeError, OverflowError, re.error):
        return np.full(len(column), np.nan)


def _since_1970(moments: pd.Series[Any]) -> FloatArray:
    moment = dates.microseconds(moments)
    t: FloatArray = np.where(np.isnat(moment), np.nan, moment.astype(np.int64) / 86_400_000_000)
    return t


def formats(cells: pd.Series[Any], given: str | None = None) -> list[str]:
    """The formats by which every text is a date, one for each way to read them: none, one, or several in doubt.

    Args:
        cells: Different texts, none missing and without blanks around them.
        given: The format that a user names, which decides where it fits.
    """
    if not len(cells) or not cells.str.contains(r"[0-9]", regex=True).all() or cells.str.len().max() > 40:
        return []
    if given is not None and not np.isnan(_days(cells, given)).any():
        return [given]
    if cells.str.match(_QUARTER).all():
        return [QUARTERS]
    if cells.str.match(_ISO).all():
        return [ISO] if not np.isnan(_days(cells, ISO)).any() else []
    if not cells.str.contains(r"[/.:\- ][0-9]|[0-9][/.:\- ]|[A-Za-z]{3}", regex=True).all():
        return []
    found: list[tuple[str, FloatArray]] = []
    first = cells.iloc[:20]
    for format in _fitting(str(cells.iloc[0])):
        if np.isnan(_days(first, format)).any():
            continue
        t = _days(cells, format)
        if not np.isnan(t).any() and not any(np.array_equal(t, other) for _, other in found):
            found.append((format, t))
    return [format for format, _ in found]


def nearly(cells: pd.Series[Any], share: float) -> tuple[str, str] | None:
    """The format by which nearly all texts are dates, and the first that is none; None if there is no such format.

    Args:
        cells: As for `formats`.
        share: Of the texts that may be none.
    """
    first = cells.iloc[:50]
    tried = dict.fromkeys(format for text in first.iloc[:3] for format in (ISO, *_fitting(str(text))))
    for format in tried:
        if np.isnan(_days(first, format)).mean() <= share:
            wrong = np.isnan(_days(cells, format))
            if 0 < wrong.mean() <= share:
                return format, str(cells.iloc[int(np.flatnonzero(wrong)[0])])
    return None


def _fitting(text: str) -> Sequence[str]:
    """The formats that a text of this shape may have."""
    every = [*(date + time for date in _DATES for time in _TIMES), *_MONTHS, *_CLOCKS]
    signs = re.sub(r"[A-Za-z0-9]+", "", text)
    return [each for each in every if re.sub(r"%[A-Za-z]|T", "", each) == signs]


def is_compact(x: FloatArray) -> bool:
    """Whether different whole numbers are dates written as 20210304, which no other numbers are by chance."""
    import pandas as pd

    if len(x) < 20 or x.min() < 19000101 or x.max() > 21001231:
        return False
    return not np.isnan(_days(pd.Series(x.astype(np.int64).astype(str)), "%Y%m%d")).any()
