"""Marks of missing values, as a user says them: which cells they mean, by what the cells are.

A text is one if it is written like the mark, a number or a date if the mark stands for the same, true or false if it is
that word. So `TRUE` is no 1, and `1.000` no 1 where points stand between thousands.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.arguments import shown
from hdnn.data import dates
from hdnn.data.notation import TRUTH, USUAL_MARKS, Notation

if TYPE_CHECKING:
    import pandas as pd


def listed(missing: Iterable[str] | None) -> tuple[str, ...] | None:
    """What a user says stands for a missing value, as a list of texts; None leaves it to the file.

    Raises:
        ValueError: if it is one text, whose letters would be marks each.
        TypeError: if something else than texts is among them.

    Example:
        >>> listed(["-999", "none"])
        ('-999', 'none')
    """
    if missing is None:
        return None
    if isinstance(missing, str):
        raise ValueError(f"`missing` is a list of texts; got the text {missing!r}. Write `missing=[{missing!r}]`.")
    marks = tuple(missing)
    for mark in marks:
        if not isinstance(mark, str):
            raise TypeError(
                f"`missing` names what stands in cells as texts; got {shown(mark)}. Write `missing=[{str(mark)!r}]`."
            )
    return marks


def own(said: Sequence[str] | None) -> tuple[str, ...]:
    """What a user says stands for a missing value, beside what does so everywhere."""
    return tuple(mark for mark in said or () if mark not in ("", *USUAL_MARKS))


def among(texts: Iterable[str], said: Sequence[str] | None) -> tuple[str, ...]:
    """The marks of a column of texts: all that a user says, which other rows may hold, else the usual ones in it.

    A file that is text itself has none of the usual ones left but for `?`.
    """
    if said is not None:
        return tuple(dict.fromkeys(mark for mark in said if mark))
    found = set(texts)
    return tuple(mark for mark in (*USUAL_MARKS, "?") if mark in found)


def numbers_meant(marks: Sequence[str], notation: Notation) -> tuple[float, ...]:
    """The numbers that marks stand for among numbers of a notation; a mark needs neither currency nor unit.

    Example:
        >>> numbers_meant(["-999", "1.000", "TRUE", "?"], Notation(",", "."))
        (-999.0, 1000.0)
    """
    if notation.is_plain:
        found = [plainly(mark) for mark in marks if mark not in TRUTH]
    else:
        bare = notation if notation.form else replace(notation, prefix="", suffix="")
        found = bare.read(list(marks)).tolist() if marks else []
    return tuple(value for value in found if value is not None and not math.isnan(value))


def plainly(mark: str) -> float | None:
    """The number that a text is to a program, true being 1; None if it is none."""
    if mark in TRUTH:
        return TRUTH[mark]
    try:
        return None if "_" in mark else float(mark)
    except ValueError:
        return None


def read_otherwise_before(marks: Sequence[str], notation: Notation) -> bool:
    """Whether runs of before may have other gaps by these marks: they took each for the number that it is to Python."""
    before = {value for value in map(plainly, marks) if value is not None and not math.isnan(value)}
    return bool(before & {0.0, 1.0}) or before != set(numbers_meant(marks, notation))


def gaps(
    column: pd.Series[Any], x: NDArray[np.float64], marks: Sequence[str], notation: Notation, *, exactly: bool = True
) -> NDArray[np.bool_]:
    """Where numbers are missing because of a mark.

    Args:
        column: (s,) cells.
        x: The numbers of the cells, NaN where they are missing already.
        marks: What stands for a missing value.
        notation: How numbers are written in texts.
        exactly: False for runs of before, see `read_otherwise_before`.
    """
    if not exactly:
        return np.isin(x, [value for value in map(plainly, marks) if value is not None])
    meant = numbers_meant(marks, notation)
    found: NDArray[np.bool_] = np.isin(x, meant)
    words = set(marks) & TRUTH.keys()
    if (found & ((x == 0) | (x == 1))).any() or words:
        said = [_truth(cell) for cell in column] if column.dtype.kind not in "iuf" else [""] * len(column)
        found &= np.array([not each for each in said], dtype=bool)
        found |= np.array([each in words for each in said], dtype=bool)
    return found


def _truth(cell: object) -> str:
    """True or false as it stands in a cell; empty for anything else."""
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell))
    return cell.strip() if isinstance(cell, str) and cell.strip() in TRUTH else ""


def without(frame: pd.DataFrame, marks: Collection[str]) -> pd.DataFrame:
    """The same table with gaps in place of the cells that marks mean.

    Args:
        frame: Cells of any type.
        marks: What stands for a missing value.

    Example:
        >>> import pandas as pd
        >>> without(pd.DataFrame({"age": [3.0, -999.0], "town": ["?", "Bern"]}), ["-999", "?"]).isna().values.tolist()
        [[False, True], [True, False]]
    """
    if not marks:
        return frame
    listed = list(marks)
    return frame.assign(**{str(name): _without(frame[name], listed) for name in frame.columns})


def _without(column: pd.Series[Any], marks: list[str]) -> pd.Series[Any]:
    from pandas.api import types

    meant = numbers_meant(marks, Notation())
    if dates.are_typed(column):
        return column.mask(dates.gaps(column, marks))
    if types.is_bool_dtype(column.dtype):
        return column.mask(column.map(lambda cell: str(cell) in marks, na_action="ignore").eq(True))
    if types.is_numeric_dtype(column.dtype):
        hit = column.isin(meant)
        if column.dtype.kind in "iu" and hit.any():  # floats would round large ones
            column = column.astype("UInt64" if column.dtype.kind == "u" else "Int64")
        return column.mask(hit)

    def is_mark(cell: object) -> bool:
        if isinstance(cell, str | bool | np.bool_):
            return str(cell).strip() in marks
        return isinstance(cell, int | float | np.number) and cell in meant

    return column.mask(column.astype(object).map(is_mark).astype(bool))
