"""Cells that are dates, and the marks among them that a user says stand for a missing value."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_YEAR_FIRST = re.compile(r"([0-9]{4})(?:([-/.])([0-9]{1,2})\2([0-9]{1,2})|([0-9]{2})([0-9]{2}))(?=[T ]|$)")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})(?=[T ]|$)")


def are_typed(column: pd.Series[Any]) -> bool:
    """Whether the cells of a column are dates, not texts."""
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        return True
    return types.is_object_dtype(column.dtype) and types.infer_dtype(column, skipna=True) in ("date", "datetime")


def year_first(text: str) -> str:
    """A date whose year stands first as programs write it; any other text as it is.

    Example:
        >>> [year_first(text) for text in ("2021/12/31", "2021-1-5 08:00", "20211231", "12/31/2021")]
        ['2021-12-31', '2021-01-05 08:00', '2021-12-31', '12/31/2021']
    """
    if not (found := _YEAR_FIRST.match(text)):
        return text
    month, day = found[3] or found[5], found[4] or found[6]
    return f"{found[1]}-{month:0>2}-{day:0>2}{text[found.end() :]}"


def unambiguous(text: str) -> str:
    """A date that can be read in one way only as programs write it; any other text as it is.

    Before points the day stands first; otherwise day and month are beyond doubt where one is above 12, or both are the
    same.

    Example:
        >>> [unambiguous(text) for text in ("1900/1/1", "02.01.1900", "13/02/1900", "01/01/1900", "01/02/1900")]
        ['1900-01-01', '1900-01-02', '1900-02-13', '1900-01-01', '01/02/1900']
    """
    if not (found := _YEAR_LAST.match(text)):
        return year_first(text)
    day, month = int(found[1]), int(found[3])
    if month > 12 and found[2] != ".":
        day, month = month, day
    elif found[2] != "." and day <= 12 and day != month:
        return text
    return f"{found[4]}-{month:02}-{day:02}{text[found.end() :]}"


def gaps(column: pd.Series[Any], marks: Sequence[str], format: str = "") -> NDArray[np.bool_]:
    """Where dates are missing because of a mark.

    A mark without a zone means the local time of a cell.

    Args:
        column: (s,) cells that are dates.
        marks: What stands for a missing value; those that are no dates mean none.
        format: In which texts of the column are written, as for `pandas.to_datetime`; empty if not known.
    """
    import pandas as pd

    read = [moment for mark in marks if (moment := _moment(mark.strip(), format)) is not None]
    found = np.zeros(len(column), dtype=bool)
    for zoned in (False, True):
        if meant := [each for each in read if (each.tzinfo is not None) == zoned]:
            t = microseconds(pd.to_datetime(column if zoned else _local(column), errors="coerce", utc=True))
            found |= np.isin(t, microseconds(pd.Series([pd.to_datetime(each, utc=True) for each in meant])))
            found &= ~np.isnat(t)
    return found


def microseconds(moments: pd.Series[Any]) -> NDArray[np.datetime64]:
    """Moments of UTC as numpy's, in microseconds, which hold any year."""
    found: NDArray[np.datetime64] = moments.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return found


def _local(column: pd.Series[Any]) -> pd.Series[Any]:
    """The same times without their zones."""
    from pandas.api import types

    if not types.is_object_dtype(column.dtype):
        return column if column.dt.tz is None else column.dt.tz_localize(None)
    return column.map(lambda cell: cell.replace(tzinfo=None) if isinstance(cell, datetime.datetime) else cell)


def _moment(mark: str, format: str) -> pd.Timestamp | None:
    """The moment that a mark stands for, without a zone if it names none."""
    import pandas as pd

    if "%" in format:
        try:
            return pd.Timestamp(datetime.datetime.strptime(mark, format))
        except (ValueError, re.error):
            pass
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text := unambiguous(mark)):
        return None
    try:
        return pd.Timestamp(datetime.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None
