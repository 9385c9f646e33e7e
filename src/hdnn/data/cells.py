"""The cells of a column, as numbers or as text.

Data rows are counted from 1 in every message, also those of a part of a table. A cell is missing if it is NaN, None
or blank.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hdnn.data import absent
from hdnn.data.notation import TRUTH, USUAL_MARKS, Notation, alike, plain, tidy

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PLAIN = Notation()


def kind_of(column: pd.Series[Any]) -> Literal["numeric", "text", "other"]:
    """Say whether a column holds numbers (or true and false), text, or something else such as dates."""
    from pandas.api import types

    if isinstance(column.dtype, _categorical_dtype()):
        return "text"
    if types.is_numeric_dtype(column.dtype):
        return "other" if column.dtype.kind == "c" else "numeric"
    if not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return "other"
    found = types.infer_dtype(column, skipna=True)
    if found in ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return "numeric"
    if found == "string" or all(isinstance(cell, str | bool | int | float) for cell in column.dropna()):
        return "text"
    return "other"


def numbers(
    name: str,
    column: pd.Series[Any],
    notation: Notation = PLAIN,
    missing: tuple[str, ...] = (),
    *,
    exact_marks: bool = True,
) -> FloatArray:
    """Read a column as numbers, true as 1 and false as 0, a missing cell as NaN.

    Args:
        name: The column's name, for messages.
        column: (s,) cells.
        notation: How numbers are written in texts.
        missing: What stands for a missing value beside the usual marks.
        exact_marks: False for runs of before, see `absent.read_otherwise_before`.

    Returns:
        float64 (s,), each finite or NaN.

    Raises:
        ValueError: If a cell is text that is no number, or infinite; the message names the first.
    """
    from pandas.api import types

    if isinstance(column.dtype, _categorical_dtype()):
        column = column.astype(object)
    if types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        x = column.to_numpy(dtype=np.float64, na_value=np.nan)
    elif is_text(column):
        x = _written(name, column, notation, missing)
    else:
        x = _mixed(name, column, notation, missing)
    if missing and (gaps := absent.gaps(column, x, missing, notation, exactly=exact_marks)).any():
        x = np.where(gaps, np.nan, x)
    infinite = np.flatnonzero(np.isinf(x))
    if len(infinite):
        raise _infinite(name, column, int(infinite[0]))
    return x


def is_text(column: pd.Series[Any]) -> bool:
    """Whether every cell that is not missing is a text."""
    from pandas.api import types

    if types.is_object_dtype(column.dtype):
        return types.infer_dtype(column.dropna()) == "string"  # of what is missing, `skipna` leaves NaT
    return types.is_string_dtype(column.dtype)


def _written(name: str, column: pd.Series[Any], notation: Notation, missing: tuple[str, ...]) -> FloatArray:
    """The numbers of a column of texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = plain(column) if notation.is_plain else None
    if found is not None:
        return found
    texts = tidy(column)
    x = notation.read(texts)
    strange = pc.and_(pa.array(np.isnan(x)), pc.is_valid(texts)).to_numpy(zero_copy_only=False).astype(bool)
    if not strange.any():
        return x
    places = np.flatnonzero(strange)
    known = {**TRUTH, **dict.fromkeys(["", *USUAL_MARKS, *missing], math.nan)}
    for place, text in zip(places.tolist(), texts.take(pa.array(places)).to_pylist(), strict=True):
        value = known.get(text)
        if value is None and text.lower().lstrip("+-") == "nan":
            value = math.nan
        if value is None:
            infinite = np.flatnonzero(np.isinf(x[:place]))
            raise (
                _infinite(name, column, int(infinite[0]))
                if len(infinite)
                else _no_number(name, column, place, notation)
            )
        x[place] = value
    return x


def _mixed(name: str, column: pd.Series[Any], notation: Notation, missing: tuple[str, ...]) -> FloatArray:
    """The numbers of a column of cells of several types."""
    empty = column.isna().to_numpy(dtype=bool)
    x = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        if empty[row] or (isinstance(cell, str) and cell.strip() in ("", *USUAL_MARKS, *missing)):
            continue
        value = _number(cell)
        if value is None and isinstance(cell, str) and not notation.is_plain:
            read = float(notation.read([cell.strip()])[0])
            value = None if math.isnan(read) else read
        if value is None:
            raise _no_number(name, column, row, notation)
        x[row] = value
    return x


def _no_number(name: str, column: pd.Series[Any], place: int, notation: Notation) -> ValueError:
    cell = column.iloc[place]
    written = f" written with {notation.words}" if notation.words else ""
    return ValueError(
        f"Column {name!r} must hold numbers{written}, but data row {row_number(column, place)} holds {_shown(cell)}. "
        f"Correct that value, or leave it empty to have it filled in."
    )


def _infinite(name: str, column: pd.Series[Any], place: int) -> ValueError:
    return ValueError(
        f"Column {name!r}, data row {row_number(column, place)}: the value is infinite. "
        f"Correct it, or leave it empty to have it filled in."
    )


def row_number(column: pd.Series[Any], place: int) -> int:
    """The number of the data row at a place, counted from 1; a part of a table knows where in the table it began."""
    import pandas as pd

    index = column.index
    return place + 1 + (index.start if isinstance(index, pd.RangeIndex) and index.step == 1 else 0)


def places(column: pd.Series[Any]) -> IntArray:
    """Where in their table the rows of a column stand: what its index says if that is whole numbers, else in order."""
    from pandas.api import types

    index = column.index
    told = types.is_integer_dtype(index.dtype) and index.is_unique
    return np.asarray(index if told else np.arange(len(column)), dtype=np.int64)


def texts(name: str, column: pd.Series[Any], missing: tuple[str, ...] = ()) -> tuple[IntArray, list[str]]:
    """Read a column as text, without the blanks around it.

    A whole number reads the same however it is stored (1 and 1.0 are both "1"), because a column of
    whole numbers turns into floats as soon as one cell is missing.

    Args:
        name: The column's name, for messages.
        column: (s,) cells.
        missing: What stands for a missing value.

    Returns:
        Codes int64 (s,), -1 where the cell is missing, and the different texts they point to.

    Raises:
        ValueError: If the cells are not text, numbers or booleans.
    """
    import pandas as pd

    try:
        raw, uniques = pd.factorize(column)
    except TypeError:
        raise ValueError(f"Column {name!r} holds lists or mappings, not single values. Leave it out.") from None
    places: dict[str, int] = {}
    code = []
    for cell in uniques:
        label = label_of(cell)
        code.append(places.setdefault(label, len(places)) if label and label not in missing else -1)
    # The last entry serves code -1, which numpy reads as "last".
    return np.array([*code, -1], dtype=np.int64)[raw], list(places)


def standing(name: str, column: pd.Series[Any], words: tuple[str, ...]) -> NDArray[np.bool_]:
    """Where each of some words stands in a column: (s, words)."""
    found = np.zeros((len(column), len(words)), dtype=bool)
    if words:
        codes, labels = texts(name, column)
        for k, word in enumerate(words):
            found[:, k] = np.array([*(alike(label) == word for label in labels), False])[codes]
    return found


def label_of(cell: object) -> str:
    """Write one cell as text, whole numbers without a decimal point."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels: by value if all are numbers, else by their letters."""
    found = sorted(labels)
    values = [_number(label) for label in found]
    if any(value is None or not math.isfinite(value) for value in values):
        return tuple(found)
    return tuple(label for _, label in sorted(zip(values, found, strict=True)))


def center(x: FloatArray) -> tuple[float, float]:
    """Return mean and standard deviation of finite numbers, of any magnitude; 1 where all are equal."""
    size = float(np.abs(x).max()) or 1.0
    # Dividing first keeps sums and squares of huge and of tiny numbers inside the range of float64.
    z = x / size
    scale = float(z.std()) * size if x.min() < x.max() else 1.0
    return float(z.mean()) * size, scale or 1.0


def require_different(where: object, names: Iterable[str]) -> None:
    """See that no column name occurs twice, else raise ValueError."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{where} has more than one column named {', '.join(map(repr, twice))}. Give each its own name."
        )


def is_number(cell: object) -> bool:
    """Whether a cell is a number, or a text that Python reads as one."""
    return _number(cell) is not None


def _number(cell: object) -> float | None:
    if not isinstance(cell, str | bool | int | float | Decimal | np.generic):
        return None
    # float() would read the digit separator of Python source, "1_000", which no table means.
    if isinstance(cell, str) and "_" in cell:
        return None
    if isinstance(cell, str) and cell in TRUTH:
        return TRUTH[cell]
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _shown(cell: object) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _categorical_dtype() -> type:
    import pandas as pd

    return pd.CategoricalDtype
