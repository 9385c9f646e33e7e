"""What in a table may mislead: columns that number the rows, that give the answer away, or hold marks as numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.cells import FloatArray, label_of, numbers, texts
from hdnn.data.columns import Categorical, Numeric
from hdnn.data.moments import Moment
from hdnn.names import count, few

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from hdnn.data.encoders import TableEncoder
    from hdnn.data.kinds import Kind

SENTINELS = (-99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0, -1e30, 1e30)
"""Numbers that often stand for a missing value."""

_LEAST_ROWS = 20
_MOST_SAID = 12
_TIME = re.compile(r"year|date|time|day|month|week|hour|minute|second|jahr|datum|zeit|tag|monat|an+[eé]e|^t$", re.I)
_ID = re.compile(
    r"^(?:.*[\W_])?(?:ids?|index|idx|nr|no|num|key|code|row|rows|rownames?|obs|serial|uuid|guid|unnamed.*|column1)\.?$"
    r"|[a-z](?:ID|Id|No|Nr)$|number$",
    re.I,
)


def counts_rows(x: FloatArray, name: str, rows: NDArray[np.int64]) -> bool:
    """Whether a column numbers the rows: 0, 1, 2, ... or 1, 2, 3, ..., or any next numbers of a column called an id.

    Args:
        x: (s,) numbers of the column.
        name: Its name.
        rows: (s,) the places of these rows in their table, counted from 0.
    """
    ahead = x - rows
    if len(x) < 10 or not (ahead == ahead[0]).all():
        return False
    return bool(ahead[0] in (0, 1)) or is_id_name(name)


def is_id_name(name: str) -> bool:
    """Whether a column is called an id."""
    return _ID.search(name) is not None and _TIME.search(name) is None


def id_like(x: FloatArray, name: str) -> str:
    """Why whole numbers look like an id, in words; empty if they do not."""
    if len(x) < _LEAST_ROWS or np.isnan(x).any() or _TIME.search(name) is not None:
        return ""
    if (np.diff(x) > 0).all():
        return "whole numbers that only rise and never repeat"
    if is_id_name(name) and len(np.unique(x)) == len(x):
        return "whole numbers that differ in every row"
    return ""


def sentinel(x: FloatArray) -> tuple[float, int] | None:
    """A number that lies far from all others and often stands for a missing value, and how often it occurs."""
    x = x[~np.isnan(x)]
    for mark in SENTINELS:
        times = int((x == mark).sum())
        others = x[x != mark]
        if times < 1 or len(others) < 10 or len(np.unique(others)) < 3:
            continue
        low, high = float(others.min()), float(others.max())
        if mark < low - (high - low) or mark > high + (high - low):
            return mark, times
    return None


def gives_away(x: FloatArray, y: NDArray[Any], *, classes: bool) -> bool:
    """Whether numbers alone give the answer: each class is a stretch of them, or they rise or fall with the answer.

    Args:
        x: (s,) numbers of a column.
        y: (s,) class indices, or numbers.
        classes: Whether these are classes.
    """
    here = ~np.isnan(x)
    x, y = x[here], y[here]
    if len(x) < _LEAST_ROWS or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return False
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    if classes:
        # Equal numbers must have one class, and every class one stretch.
        tied = (np.diff(x) == 0) & (np.diff(y) != 0)
        return not tied.any() and int((np.diff(y) != 0).sum()) == len(np.unique(y)) - 1
    if len(np.unique(x)) < 5:
        return False
    r = np.corrcoef(x, y)[0, 1]
    return bool(abs(r) > 0.99999)


def tells(name: str, column: pd.Series[Any], y: NDArray[Any], missing: tuple[str, ...]) -> bool:
    """Whether each category has one answer alone, with fewer categories than a third of the rows."""
    codes, labels = texts(name, column, missing)
    here = codes >= 0
    codes, y = codes[here], y[here]
    if len(y) < _LEAST_ROWS or not 1 < len(labels) <= len(y) / 3 or len(np.unique(y)) < 2:
        return False
    order = np.lexsort((y, codes))
    codes, y = codes[order], y[order]
    return not ((np.diff(codes) == 0) & (np.diff(y) != 0)).any()


def is_sorted(y: NDArray[Any], *, classes: bool) -> bool:
    """Whether the rows stand in the order of their answers: class after class, or rising or falling."""
    if len(y) < _LEAST_ROWS or len(np.unique(y)) < 2:
        return False
    if classes:
        return int((np.diff(y) != 0).sum()) == len(np.unique(y)) - 1
    return bool((np.diff(y) >= 0).all() or (np.diff(y) <= 0).all())


def _rises(frame: pd.DataFrame, found: Mapping[str, Kind], encoder: TableEncoder) -> bool:
    """Whether a table has a column that numbers its rows, or uses a date."""
    if any(isinstance(column, Moment) for column in encoder.columns):
        return True
    whole = [name for name in frame.columns if found[name].what == "number" and found[name].values == "whole"]
    numbered = (numbers(name, frame[name], found[name].notation, found[name].missing) for name in whole)
    return any((np.diff(x) > 0).all() for x in numbered if len(x) >= _LEAST_ROWS)


def cautions(
    frame: pd.DataFrame,
    found: Mapping[str, Kind],
    encoder: TableEncoder,
    y: NDArray[Any] | None = None,
    task: str = "",
    target: str = "",
) -> tuple[str, ...]:
    """What a user should look at before believing the results, each a sentence.

    Args:
        frame: The rows that have an answer.
        found: What the columns are.
        encoder: Of the inputs.
        y: (s,) class indices, or (s, outputs) numbers; None where the answers are not known.
        task: "classification" or "regression".
        target: The name of the target column.
    """
    classes = task == "classification"
    y = y if y is None or classes else y[:, 0]
    ids: dict[str, list[str]] = {}
    alone, marked = [], []
    for column in encoder.columns:
        cells = frame[column.name]
        if isinstance(column, Categorical):
            alone += [column.name] if y is not None and tells(column.name, cells, y, column.missing) else []
            continue
        x = column.values(cells)
        alone += [column.name] if y is not None and gives_away(x, y, classes=classes) else []
        if isinstance(column, Numeric):
            if found[column.name].values == "whole" and (reason := id_like(x, column.name)):
                ids.setdefault(reason, []).append(column.name)
            marked += [(column.name, *mark)] if (mark := sentinel(x)) else []
    doubts: dict[str, list[str]] = {}
    for name, kind in found.items():
        if kind.caution:
            doubts.setdefault(kind.caution, []).append(name)
    said = [f"{few(names)}: {caution}." for caution, names in doubts.items()]
    said += [
        f"{few(names)}: {reason}, like an id. If so, leave {'it' if len(names) == 1 else 'them'} out with `without`."
        for reason, names in ids.items()
    ]
    if alone:
        said.append(
            f"{few(alone)}: {'gives' if len(alone) == 1 else 'each gives'} the answer alone. If it is not known before "
            f"{target!r} is, leave it out with `without`."
        )
    if y is not None and is_sorted(y, classes=classes) and _rises(frame.drop(columns=target), found, encoder):
        said.append(
            f"The rows are sorted by {target!r}, so a column that numbers them, or a date, gives the answer away."
        )
    said += [
        f"{name}: {label_of(mark)} in {count(times, 'row')} is far from all other values. If it stands for a missing "
        f"value, give `missing='{label_of(mark)}'`."
        for name, mark, times in marked[:5]
    ]
    return tuple(said[:_MOST_SAID]) + (
        (f"{len(said) - _MOST_SAID} more such remarks.",) if len(said) > _MOST_SAID else ()
    )
