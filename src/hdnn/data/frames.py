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
    return pd.DataFrame({name: _as_read(frame[name], absent) for name in frame.columns}, index=frame.index)


def _as_read(column: pd.Series[Any], absent: Collection[str]) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    if isinstance(column.dtype, pd.CategoricalDtype):
        if not is_text(column.cat.categories.to_series()):
            return column
        column = column.astype(object)
    elif types.infer_dtype(column, skipna=True) in _SPOKEN:
        return column.astype(str).where(column.notna())
    if is_text(column):
        return column.mask(column.str.strip().isin(absent))
    if column.dtype == object:
        return column.mask(column.map(lambda cell: isinstance(cell, str) and cell.strip() in absent).astype(bool))
    return column
