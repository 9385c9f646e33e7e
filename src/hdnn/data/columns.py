"""One column of a table: what it holds, and how the network gets to see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.cells import PLAIN, FloatArray, IntArray, center, numbers, ordered, row_number, texts
from hdnn.data.notation import Notation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers x, which enters the network as (x - mean) / scale.

    Args:
        name: The column's name.
        mean: Mean of the training part.
        scale: Standard deviation of the training part, above 0.
        fill: What stands in for a missing x: the median of the training part.
        notation: How its numbers are written in texts.
        missing: Marks that stand for a missing value in this column, beside those that do so everywhere.
        range: Smallest and largest number of the training part; empty in runs of before it was kept.

    Raises:
        ValueError: If a number is not finite, or the scale is not above 0.
    """

    kind: ClassVar[str] = "numeric"
    width: ClassVar[int] = 1
    name: str
    mean: float
    scale: float
    fill: float
    notation: Notation = PLAIN
    missing: tuple[str, ...] = ()
    range: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        documents.text(self.name, "The name of a column")
        documents.number(self.mean, f"The mean of column {self.name!r}")
        documents.number(self.scale, f"The scale of column {self.name!r}", positive=True)
        documents.number(self.fill, f"The fill value of column {self.name!r}")
        for value in self.range:
            documents.number(value, f"The range of column {self.name!r}")
        if len(self.range) not in (0, 2):
            raise ValueError(f"The range of column {self.name!r} has two numbers; got {len(self.range)}.")
        marks(self.missing, self.name)

    @classmethod
    def fit(
        cls, name: str, column: pd.Series[Any], notation: Notation = PLAIN, missing: tuple[str, ...] = ()
    ) -> Numeric:
        """Take mean, standard deviation (1 for a constant column), median and range from the training part."""
        x = numbers(name, column, notation, missing)
        x = x[~np.isnan(x)]
        if not len(x):
            raise ValueError(
                f"Column {name!r} has no value at all in the training part, so there is nothing to scale by "
                f"or to fill gaps with. Leave the column out."
            )
        mean, scale = center(x)
        size = float(np.abs(x).max()) or 1.0
        fill = float(np.median(x / size)) * size
        return cls(name, mean, scale, fill, notation, missing, (float(x.min()), float(x.max())))

    def again(self, column: pd.Series[Any]) -> Numeric:
        """The same column fitted to other rows, its cells read in the same way."""
        fitted = self.fit(self.name, column, self.notation, self.missing)
        return fitted if self.range else replace(fitted, range=())

    def values(self, column: pd.Series[Any]) -> FloatArray:
        """The numbers of a column, NaN where one is missing."""
        return numbers(self.name, column, self.notation, self.missing)

    def beyond(self, x: FloatArray) -> NDArray[np.bool_]:
        """Which numbers lie farther outside of the training range than it is wide."""
        low, high = self.range or (0.0, 0.0)
        if low == high:
            return np.zeros(len(x), dtype=bool)
        with np.errstate(over="ignore"):
            return (x < low - (high - low)) | (x > high + (high - low))

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, 1) and the number of unseen values, which is 0 for numbers."""
        x = self.values(column)
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
            **({} if self.notation.is_plain else {"notation": self.notation.to_dict()}),
            **({"missing": list(self.missing)} if self.missing else {}),
            **({"range": list(self.range)} if self.range else {}),
        }

    @classmethod
    def from_dict(cls, document: object) -> Numeric:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        values = grown(document, {"notation": PLAIN.to_dict(), "missing": [], "range": []})
        keys = ("kind", "name", "mean", "scale", "fill", "notation", "missing", "range")
        read = documents.mapping(values, "a numeric column", keys)
        notation = Notation.from_dict(read["notation"])
        missing, seen = (documents.items(read[key], f"The {key} of a column") for key in ("missing", "range"))
        return cls(read["name"], read["mean"], read["scale"], read["fill"], notation, missing, seen)


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of names, which enters the network as one input for each training category (one-hot).

    A missing value and a category that was not seen in training, or is too rare there, are all zeros.

    Args:
        name: The column's name.
        categories: The categories of the training part, in the order of the inputs.
        missing: Marks that stand for a missing value in this column, beside those that do so everywhere.
        most: The number of categories that were kept, where there were more.

    Raises:
        ValueError: If a category is empty or listed twice, or if there is none.
    """

    kind: ClassVar[str] = "categorical"
    name: str
    categories: tuple[str, ...]
    missing: tuple[str, ...] = ()
    most: int | None = None

    def __post_init__(self) -> None:
        documents.text(self.name, "The name of a column")
        documents.names(self.categories, f"The categories of column {self.name!r}")
        marks(self.missing, self.name)
        if self.most is not None and (type(self.most) is not int or self.most < len(self.categories)):
            raise ValueError(f"Column {self.name!r} cannot keep {self.most!r} of {len(self.categories)} categories.")

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.categories)

    @classmethod
    def fit(
        cls, name: str, column: pd.Series[Any], missing: tuple[str, ...] = (), most: int | None = None
    ) -> Categorical:
        """Take the categories from the training part, in sorted order; with `most`, no more than the most frequent."""
        codes, labels = texts(name, column, missing)
        if not labels:
            raise ValueError(f"Column {name!r} has no value at all in the training part. Leave the column out.")
        if most is not None:
            counts = np.bincount(codes[codes >= 0], minlength=len(labels))
            labels = [labels[i] for i in sorted(range(len(labels)), key=lambda i: (-counts[i], labels[i]))[:most]]
        return cls(name, ordered(labels), missing, most)

    def again(self, column: pd.Series[Any]) -> Categorical:
        """The same column fitted to other rows, its cells read in the same way."""
        fitted = self.fit(self.name, column, self.missing, self.most)
        return self if same_labels(self.categories, fitted.categories) else fitted

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, categories) and the row numbers of the unseen values."""
        codes, labels = texts(self.name, column, self.missing)
        position = places_of(self.categories)
        # The last entry serves code -1, which numpy reads as "last": a missing value.
        known = np.array([position.get(label, -2) for label in labels] + [-1], dtype=np.int64)[codes]
        one_hot = np.zeros((len(codes), self.width), dtype=np.float32)
        rows = np.flatnonzero(known >= 0)
        one_hot[rows, known[rows]] = 1.0
        return one_hot, np.flatnonzero(known == -2)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "categories": list(self.categories),
            **({"missing": list(self.missing)} if self.missing else {}),
            **({} if self.most is None else {"most": self.most}),
        }

    @classmethod
    def from_dict(cls, document: object) -> Categorical:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        values = grown(document, {"missing": [], "most": None})
        read = documents.mapping(values, "a categorical column", ("kind", "name", "categories", "missing", "most"))
        categories, missing = (
            documents.items(read[key], f"The {key} of a column") for key in ("categories", "missing")
        )
        return cls(read["name"], categories, missing, read["most"])


def grown(document: object, defaults: dict[str, Any]) -> object:
    """A mapping with what is absent in files of before it existed."""
    return {**defaults, **document} if isinstance(document, dict) else document


def as_named(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """A table whose columns are called as in early runs, where blanks around a name were part of it."""
    renamed = {name.strip(): name for name in names if name != name.strip() and name not in frame.columns}
    return frame.rename(columns=renamed) if renamed else frame


def same_labels(known: Iterable[str], found: Iterable[str]) -> bool:
    """Whether labels are the same but for blanks around them, which were part of them in early runs."""
    return {label.strip() for label in known} == set(found)


def places_of(labels: Iterable[str]) -> dict[str, int]:
    """Where each label stands; labels of early runs may have blanks around them, which cells have no more."""
    listed = list(labels)
    return {label.strip(): i for i, label in enumerate(listed)} | {label: i for i, label in enumerate(listed)}


def marks(missing: object, name: str) -> tuple[str, ...]:
    """Return what stands for a missing value in a column if these are texts, else raise ValueError."""
    return documents.names(missing, f"What is missing in column {name!r}", least=0)
