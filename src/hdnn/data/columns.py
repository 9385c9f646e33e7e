"""One column of a table: what it holds, and how the network gets to see it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.absent import read_otherwise_before
from hdnn.data.cells import PLAIN, FloatArray, IntArray, center, numbers, ordered, row_number, standing, texts
from hdnn.data.notation import Notation
from hdnn.data.pieces import edges_of, pieces

if TYPE_CHECKING:
    import pandas as pd

MOST_BINS = 256
"""Pieces of a number: beyond it a slip of the pen would ask for more inputs than a memory holds."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers x, which enters the network as (x - mean) / scale, and with `edges` in pieces as well.

    Args:
        name: The column's name.
        mean: Mean of the training part.
        scale: Standard deviation of the training part, above 0.
        fill: What stands in for a missing x: the median of the training part.
        notation: How its numbers are written in texts.
        missing: Marks that stand for a missing value in this column, beside those that do so everywhere.
        range: Smallest and largest number of the training part; empty in runs of before it was kept.
        bins: How many bins of the training part were asked for; 0 asks for the number alone.
        edges: Of these bins, see `pieces`; none where they would say no more than the number.
        indicator: Whether one more input is 1 where x is missing.
        apart: Those of `missing` that are a value of their own, as `T` for a trace: one more input each, 1 there.
        exact_marks: False in runs of before, where `TRUE` in `missing` meant 1 and `1.000` meant 1 in any notation.

    Raises:
        ValueError: If a number is not finite, the scale is not above 0, or edges are out of order.
    """

    kind: ClassVar[str] = "numeric"
    name: str
    mean: float
    scale: float
    fill: float
    notation: Notation = PLAIN
    missing: tuple[str, ...] = ()
    range: tuple[float, ...] = ()
    bins: int = 0
    edges: tuple[float, ...] = ()
    indicator: bool = False
    apart: tuple[str, ...] = ()
    exact_marks: bool = True

    def __setstate__(self, state: list[Any]) -> None:
        documents.restore(self, state, exact_marks=lambda: exact(None, self.missing, self.notation))

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
        if type(self.bins) is not int or not 0 <= self.bins <= MOST_BINS:
            raise ValueError(f"Column {self.name!r} can be cut into 0 to {MOST_BINS} bins; got {self.bins!r}.")
        for value in self.edges:
            documents.number(value, f"An edge of column {self.name!r}")
        if self.edges and (len(self.edges) < 3 or any(a >= b for a, b in itertools.pairwise(self.edges))):
            raise ValueError(f"The edges of column {self.name!r} must be three or more numbers, each above the last.")
        if len(self.edges) > self.bins + 1:
            raise ValueError(f"Column {self.name!r} has {len(self.edges)} edges, too many for {self.bins} bins.")
        if type(self.indicator) is not bool:
            raise ValueError(f"The indicator of column {self.name!r} is true or false; got {self.indicator!r}.")
        if odd := set(marks(self.apart, self.name)) - set(self.missing):
            raise ValueError(f"{sorted(odd)[0]!r} stands apart in column {self.name!r}, but not for a missing value.")

    @property
    def width(self) -> int:
        """The number of inputs."""
        return 1 + max(0, len(self.edges) - 1) + self.indicator + len(self.apart)

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call the inputs: the number, its pieces counted from 1, and what stands in its place."""
        behind = [*map(str, range(1, len(self.edges))), *(["missing"] if self.indicator else []), *self.apart]
        return (self.name, *(f"{self.name}_{each}" for each in behind))

    @classmethod
    def fit(
        cls,
        name: str,
        column: pd.Series[Any],
        notation: Notation = PLAIN,
        missing: tuple[str, ...] = (),
        bins: int = 0,
        apart: tuple[str, ...] = (),
        *,
        exact_marks: bool = True,
    ) -> Numeric:
        """Take mean, standard deviation (1 for a constant column), median, range and edges from the training part.

        With bins, a column that lacks values gets an indicator of them, too.
        """
        every = numbers(name, column, notation, missing, exact_marks=exact_marks)
        x = every[~np.isnan(every)]
        if not len(x):
            raise ValueError(
                f"Column {name!r} has no value at all in the training part, so there is nothing to scale by "
                f"or to fill gaps with. Leave the column out."
            )
        mean, scale = center(x)
        size = float(np.abs(x).max()) or 1.0
        fill = float(np.median(x / size)) * size
        ends, lacking = (float(x.min()), float(x.max())), np.isnan(every) & ~standing(name, column, apart).any(axis=1)
        lacks = bool(bins) and bool(lacking.any())
        edges = edges_of(x, bins)
        return cls(name, mean, scale, fill, notation, missing, ends, bins, edges, lacks, apart, exact_marks)

    def again(self, column: pd.Series[Any]) -> Numeric:
        """The same column fitted to other rows, its cells read in the same way."""
        read = (self.notation, self.missing, self.bins, self.apart)
        fitted = self.fit(self.name, column, *read, exact_marks=self.exact_marks)
        return fitted if self.range else replace(fitted, range=())

    def values(self, column: pd.Series[Any]) -> FloatArray:
        """The numbers of a column, NaN where one is missing."""
        return numbers(self.name, column, self.notation, self.missing, exact_marks=self.exact_marks)

    def beyond(self, x: FloatArray) -> NDArray[np.bool_]:
        """Which numbers lie farther outside of the training range than it is wide."""
        low, high = self.range or (0.0, 0.0)
        if low == high:
            return np.zeros(len(x), dtype=bool)
        with np.errstate(over="ignore"):
            return (x < low - (high - low)) | (x > high + (high - low))

    def encode(self, column: pd.Series[Any]) -> tuple[NDArray[np.float32], IntArray]:
        """Return the inputs float32 (s, width) and the number of unseen values, which is 0 for numbers."""
        x = self.values(column)
        absent = np.isnan(x)
        x = np.where(absent, self.fill, x)
        with np.errstate(over="ignore"):
            scaled = ((x - self.mean) / self.scale).astype(np.float32)
        if not np.isfinite(scaled).all():
            row = int(np.flatnonzero(~np.isfinite(scaled))[0])
            raise ValueError(
                f"Column {self.name!r}, data row {row_number(column, row)}: {float(x[row])!r} is too far from the "
                f"training values (mean {self.mean:.6g}, scale {self.scale:.6g}) for 32-bit numbers. Correct that "
                f"value."
            )
        parts: list[NDArray[Any]] = [scaled[:, None], pieces(x, self.edges)]
        words = standing(self.name, column, self.apart)
        parts += [(absent & ~words.any(axis=1))[:, None]] if self.indicator else []
        parts += [words]
        inputs = np.concatenate([part.astype(np.float32) for part in parts], axis=1)
        return inputs, np.zeros(0, dtype=np.int64)

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
            **({"bins": self.bins, "edges": list(self.edges), "indicator": self.indicator} if self.bins else {}),
            **({"apart": list(self.apart)} if self.apart else {}),
            **exactness(self.exact_marks, self.missing, self.notation),
        }

    @classmethod
    def from_dict(cls, document: object) -> Numeric:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        later = {"notation": PLAIN.to_dict(), "missing": [], "range": [], "bins": 0, "edges": [], "indicator": False}
        later |= {"apart": [], "exact_marks": None}
        keys = ("kind", "name", "mean", "scale", "fill", *later)
        read = documents.mapping(grown(document, later), "a numeric column", keys)
        read["notation"] = Notation.from_dict(read["notation"])
        read |= {
            key: documents.items(read[key], f"The {key} of a column") for key in ("missing", "range", "edges", "apart")
        }
        read["exact_marks"] = exact(read["exact_marks"], read["missing"], read["notation"])
        return cls(*(read[key] for key in keys[1:]))


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

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call the inputs: one for each category."""
        return tuple(f"{self.name}_{category}" for category in self.categories)

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


def exactness(exact_marks: bool, missing: tuple[str, ...], notation: Notation) -> dict[str, bool]:
    """What a file says of how marks are read, where runs of before read them otherwise."""
    return {"exact_marks": True} if exact_marks and read_otherwise_before(missing, notation) else {}


def exact(said: object, missing: tuple[str, ...], notation: Notation) -> bool:
    """Whether marks are read as cells are, by what a file says of it; runs of before say nothing."""
    if said not in (None, True):
        raise ValueError(f"`exact_marks` is true where it is said; got {documents.shown(said)}.")
    return bool(said) or not read_otherwise_before(missing, notation)


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
