"""Data frames as tables: their cells as they would be read from the file that they were written to."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hdnn.data.cells import is_text, require_different
from hdnn.data.notation import USUAL_MARKS

if TYPE_CHECKING:
    import pandas as pd

_SPOKEN = ("timedelta64", "timedelta", "period", "interval", "time")
"""Types of pandas for cells that a file holds as text."""


def as_read(frame: pd.DataFrame, missing: Collection[str] | None = None) -> pd.DataFrame:
    """The same table with gaps in place of marks, and texts in place of what only a data frame can hold.

    Numbers, dates, true and false stay as they are, and so do categories that are no texts.

    Args:
        frame: Any.
        missing: What stands for a missing value in columns of text beside a blank; None takes the usual marks.

    Raises:
        ValueError: If two columns have one name.

    Example:
        >>> import pandas as pd
        >>> as_read(pd.DataFrame({"town": ["Bern", "NA", " "]}))["town"].isna().tolist()
        [False, True, True]
    """
    import pandas as pd

    frame = frame.rename(columns=str)
    require_different("The table", list(frame.columns))
    absent = {"", *(USUAL_MARKS if missing is None else missing)}
    frame = spoken(frame)
    return pd.DataFrame({name: _as_read(frame[name], absent) for name in frame.columns}, index=frame.index)


def spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with texts in place of durations, times of day, periods and intervals, as files write them.

    Example:
        >>> import pandas as pd
        >>> spoken(pd.DataFrame({"took": pd.to_timedelta([300, 90], unit="s")}))["took"].tolist()
        ['0 days 00:05:00', '0 days 00:01:30']
    """
    found = {name: _spoken(frame[name]) for name in frame.columns if _is_spoken(frame[name])}
    return frame.assign(**found) if found else frame


def _is_spoken(column: pd.Series[Any]) -> bool:
    from pandas.api import types

    if column.dtype.kind in "iufbM":
        return False
    if column.dtype == object:
        column = column[~column.map(lambda cell: isinstance(cell, str)).astype(bool)]  # marks, if others are durations
    return types.infer_dtype(column, skipna=True) in _SPOKEN


def _spoken(column: pd.Series[Any]) -> pd.Series[Any]:
    import datetime

    import pandas as pd

    def text(cell: object) -> object:
        return str(pd.Timedelta(cell)) if isinstance(cell, datetime.timedelta) else str(cell)

    return column.astype(object).map(text, na_action="ignore")


def _as_read(column: pd.Series[Any], absent: Collection[str]) -> pd.Series[Any]:
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        if not is_text(column.cat.categories.to_series()):
            return column
        column = column.astype(object)
    if is_text(column):
        return column.mask(column.str.strip().isin(absent))
    if column.dtype == object:
        return column.mask(column.map(lambda cell: isinstance(cell, str) and cell.strip() in absent).astype(bool))
    return column
