"""One column of a table: what it holds, as numbers or as text, and how the network gets to see it.

Data rows are counted from 1 in every message, also those of a part of a table. A cell is missing if it is NaN, None
or blank.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents

if TYPE_CHECKING:
    import pandas as pd

# As files write true and false: a column of nothing else is read as booleans.
_TRUTH = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers x, which enters the network as (x - mean) / scale.

    Args:
        name: The column's name.
        mean: Mean of the training part.
        scale: Standard deviation of the training part, above 0.
        fill: What stands in for a missing x: the median of the training part.

    Raises:
        ValueError: If a number is not finite, or the scale is not above 0.
    """

    kind: ClassVar[str] = "numeric"
    width: ClassVar[int] = 1
    name: str
    mean: float
    scale: float
    fill: float

    def __post_init__(self) -> None:
        documents.text(self.name, "The name of a column")
        documents.number(self.mean, f"The mean of column {self.name!r}")
        documents.number(self.scale, f"The scale of column {self.name!r}", positive=True)
        documents.number(self.fill, f"The fill value of column {self.name!r}")

    @classmethod
    def fit(cls, name: str, column: pd.Series[Any]) -> Numeric:
        """Take mean, standard deviation (1 for a constant column) and median from the training part."""
        x = numbers(name, column)
        x = x[~np.isnan(x)]
        if not len(x):
            raise ValueError(
                f"Column {name!r} has no value at all in the training part, so there is nothing to scale by "
                f"or to fill gaps with. Leave the column out."
            )
        mean, scale = center(x)
        size = float(np.abs(x).max()) or 1.0
        return cls(name, mean, scale, float(np.median(x / size)) * size)

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, 1) and the number of unseen values, which is 0 for numbers."""
        x = numbers(self.name, column)
        x = np.where(np.isnan(x), self.fill, x)
        with np.errstate(over="ignore"):
            scaled = ((x - self.mean) / self.scale).astype(np.float32)
        if not np.isfinite(scaled).all():
            row = int(np.flatnonzero(~np.isfinite(scaled))[0])
            raise ValueError(
                f"Column {self.name!r}, data row {row_number(column, row)}: {x[row]!r} is too far from the training "
                f"values (mean {self.mean:.6g}, scale {self.scale:.6g}) for 32-bit numbers. Correct that value."
            )
        return scaled[:, None], np.zeros(0, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "mean": float(self.mean),
            "scale": float(self.scale),
            "fill": float(self.fill),
        }


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of names, which enters the network as one input for each training category (one-hot).

    A missing value and a category that was not seen in training are both all zeros.

    Args:
        name: The column's name.
        categories: The categories of the training part, in the order of the inputs.

    Raises:
        ValueError: If a category is empty or listed twice, or if there is none.
    """

    kind: ClassVar[str] = "categorical"
    name: str
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        documents.text(self.name, "The name of a column")
        documents.names(self.categories, f"The categories of column {self.name!r}")

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.categories)

    @classmethod
    def fit(cls, name: str, column: pd.Series[Any]) -> Categorical:
        """Take the categories from the training part, in sorted order."""
        labels = texts(name, column)[1]
        if not labels:
            raise ValueError(f"Column {name!r} has no value at all in the training part. Leave the column out.")
        return cls(name, ordered(labels))

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, categories) and the row numbers of the unseen values."""
        codes, labels = texts(self.name, column)
        position = {category: i for i, category in enumerate(self.categories)}
        # The last entry serves code -1, which numpy reads as "last": a missing value.
        known = np.array([position.get(label, -2) for label in labels] + [-1], dtype=np.int64)[codes]
        one_hot = np.zeros((len(codes), self.width), dtype=np.float32)
        rows = np.flatnonzero(known >= 0)
        one_hot[rows, known[rows]] = 1.0
        return one_hot, np.flatnonzero(known == -2)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "name": self.name, "categories": list(self.categories)}


Column = Numeric | Categorical


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


def numbers(name: str, column: pd.Series[Any]) -> FloatArray:
    """Read a column as numbers, true as 1 and false as 0, a missing cell as NaN.

    Args:
        name: The column's name, for messages.
        column: (s,) cells.

    Returns:
        float64 (s,), each finite or NaN.

    Raises:
        ValueError: If a cell is text that is no number, or infinite; the message names the first.
    """
    from pandas.api import types

    if types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        x = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        absent = column.isna().to_numpy(dtype=bool)
        x = np.full(len(column), np.nan)
        for row, cell in enumerate(column):
            if absent[row] or (isinstance(cell, str) and not cell.strip()):
                continue
            value = _number(cell)
            if value is None:
                raise ValueError(
                    f"Column {name!r} must hold numbers, but data row {row_number(column, row)} holds "
                    f"{_shown(cell)}. "
                    f"Correct that value, or leave it empty to have it filled in."
                )
            if math.isinf(value):
                raise _infinite(name, column, row)
            x[row] = value
    infinite = np.flatnonzero(np.isinf(x))
    if len(infinite):
        raise _infinite(name, column, int(infinite[0]))
    return x


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


def texts(name: str, column: pd.Series[Any]) -> tuple[IntArray, list[str]]:
    """Read a column as text.

    A whole number reads the same however it is stored (1 and 1.0 are both "1"), because a column of
    whole numbers turns into floats as soon as one cell is missing.

    Args:
        name: The column's name, for messages.
        column: (s,) cells.

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
        code.append(places.setdefault(label, len(places)) if label.strip() else -1)
    # The last entry serves code -1, which numpy reads as "last".
    return np.array([*code, -1], dtype=np.int64)[raw], list(places)


def label_of(cell: object) -> str:
    """Write one cell as text, whole numbers without a decimal point."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


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


def _number(cell: object) -> float | None:
    if not isinstance(cell, str | bool | int | float | Decimal | np.generic):
        return None
    # float() would read the digit separator of Python source, "1_000", which no table means.
    if isinstance(cell, str) and "_" in cell:
        return None
    if isinstance(cell, str) and cell in _TRUTH:
        return _TRUTH[cell]
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
