"""From raw rows to what a network reads, and back: plain values, fitted on the training part only.

Each encoder is written to and read from a plain mapping (`to_dict`, `from_dict`), so a saved model is
JSON plus weights, and a changed file is refused in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.columns import Categorical, Column, Numeric, kind_of, numbers, texts
from hdnn.names import few, hint

if TYPE_CHECKING:
    import pandas as pd

Inputs = NDArray[np.float32]

_LARGEST_IMAGE = 2**24


@dataclass(frozen=True, slots=True)
class Report:
    """What encoding a table had to make up for.

    Args:
        rows: Number of rows.
        missing: Missing values in each column that has any.
        unseen: Values that the training part did not have, in each categorical column that has any.
        ignored: Columns of the table that the encoder does not use.
    """

    rows: int
    missing: Mapping[str, int]
    unseen: Mapping[str, int]
    ignored: tuple[str, ...]

    @property
    def description(self) -> str:
        """One line for people; empty if there is nothing to say."""
        parts = []
        if self.missing:
            parts.append(f"{_total(self.missing)} filled in")
        if self.unseen:
            parts.append(f"{_total(self.unseen, 'value', 'not in the training part')} encoded as zeros")
        if self.ignored:
            parts.append(f"columns not used: {few(self.ignored)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class TableEncoder:
    """The columns of a table, in order, as network inputs.

    A number becomes (x - mean) / scale, a category one input for each training category. Missing numbers
    are filled with the training median; missing and unseen categories are all zeros. `report` counts both.

    Args:
        columns: `Numeric` and `Categorical` columns with different names.

    Raises:
        ValueError: If there is no column, or a name twice.

    Example:
        >>> import pandas as pd
        >>> train = pd.DataFrame({"age": [20, 40, None], "town": ["Bern", "Lund", "Bern"]})
        >>> encoder = TableEncoder.fit(train)
        >>> encoder.encode(pd.DataFrame({"town": ["Lund", "Oslo"], "age": [40, None]})).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        >>> encoder.report(pd.DataFrame({"town": ["Lund", "Oslo"], "age": [40, None]})).description
        '1 missing value (age 1) filled in; 1 value not in the training part (town 1) encoded as zeros'
    """

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        for column in self.columns:
            if not isinstance(column, Numeric | Categorical):
                raise ValueError(f"Each column must be `Numeric` or `Categorical`; got {column!r}.")
        documents.names(self.names, "The columns of a table")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return tuple(column.name for column in self.columns if isinstance(column, Numeric))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The categorical columns; give them to `table_parts(text=...)` so that "007" stays "007"."""
        return tuple(column.name for column in self.columns if isinstance(column, Categorical))

    @property
    def shape(self) -> tuple[int]:
        """The shape of one encoded row: (d,)."""
        return (sum(column.width for column in self.columns),)

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> TableEncoder:
        """Fit one column after the other on the training part.

        Args:
            frame: The training rows; every column of it is used.

        Raises:
            ValueError: If a column is empty, or holds neither numbers nor text.
        """
        columns: list[Column] = []
        for name in frame.columns:
            kind = kind_of(frame[name])
            if kind == "other":
                raise ValueError(
                    f"Column {name!r} holds {frame[name].dtype} values, neither numbers nor text. Leave it "
                    f"out, or turn it into numbers (a date into year, month and day, say)."
                )
            columns.append((Numeric if kind == "numeric" else Categorical).fit(name, frame[name]))
        return cls(tuple(columns))

    def encode(self, frame: pd.DataFrame) -> Inputs:
        """Return the network inputs of the rows of a table.

        Args:
            frame: s rows with at least this encoder's columns, in any order; others are ignored.

        Returns:
            float32 (s, d), finite.

        Raises:
            ValueError: If a column is absent, or holds text for numbers, infinite or far too large values.
        """
        self._require(frame)
        return np.concatenate([column.encode(frame[column.name])[0] for column in self.columns], axis=1)

    def report(self, frame: pd.DataFrame) -> Report:
        """Count what `encode(frame)` makes up for: missing values, unseen categories, unused columns."""
        self._require(frame)
        missing, unseen = {}, {}
        for column in self.columns:
            cells = frame[column.name]
            if isinstance(column, Numeric):
                missing[column.name] = int(np.isnan(numbers(column.name, cells)).sum())
            else:
                missing[column.name] = int((texts(column.name, cells)[0] < 0).sum())
                unseen[column.name] = len(column.encode(cells)[1])
        return Report(
            rows=len(frame),
            missing=self._in_order(missing),
            unseen=self._in_order(unseen),
            ignored=tuple(str(name) for name in frame.columns if name not in self.names),
        )

    def combined(self, reports: Iterable[Report]) -> Report:
        """Return the report of a table from those of its parts."""
        rows, missing, unseen = 0, Counter[str](), Counter[str]()
        ignored: tuple[str, ...] = ()
        for report in reports:
            rows, ignored = rows + report.rows, report.ignored
            missing.update(report.missing)
            unseen.update(report.unseen)
        return Report(rows, self._in_order(missing), self._in_order(unseen), ignored)

    def _in_order(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        return MappingProxyType({name: counts[name] for name in self.names if counts.get(name)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, document: object) -> TableEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        values = documents.mapping(document, "a table encoder", ("kind", "columns"))
        _expect(values["kind"], cls.kind)
        columns: list[Column] = []
        for item in documents.items(values["columns"], "The columns of a table"):
            kind = item.get("kind") if isinstance(item, dict) else None
            if kind == Categorical.kind:
                read = documents.mapping(item, "a categorical column", ("kind", "name", "categories"))
                categories = documents.items(read["categories"], "The categories of a column")
                columns.append(Categorical(read["name"], categories))
            else:
                read = documents.mapping(item, "a numeric column", ("kind", "name", "mean", "scale", "fill"))
                _expect(read["kind"], Numeric.kind)
                columns.append(Numeric(read["name"], read["mean"], read["scale"], read["fill"]))
        return cls(tuple(columns))

    def _require(self, frame: pd.DataFrame) -> None:
        found = Counter(frame.columns)
        for name in self.names:
            if found[name] > 1:
                raise ValueError(f"The table has {found[name]} columns {name!r}. Rename all but one.")
        absent = [name for name in self.names if name not in found]
        if absent:
            hints = " ".join(f"{name!r} is missing: {hint(name, found)}" for name in absent[:3])
            raise ValueError(f"The table lacks {len(absent)} of {len(self.names)} columns. {hints}")


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """Images of bytes as network inputs: (x / 255 - mean) / std.

    Args:
        mean: Mean brightness of the training part, of white = 1.
        std: Its standard deviation, above 0.
        channels: C, 1 for grey.
        height: H in pixels.
        width: W in pixels.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> encoder = ImageEncoder(mean=0.5, std=0.5, height=1, width=2)
        >>> encoder.encode(np.array([[[0, 255]]], dtype=np.uint8)).tolist()
        [[[[-1.0, 1.0]]]]
    """

    kind: ClassVar[str] = "image"
    mean: float
    std: float
    channels: int = 1
    height: int = 28
    width: int = 28

    def __post_init__(self) -> None:
        documents.number(self.mean, "The mean of an image encoder")
        documents.number(self.std, "The std of an image encoder", positive=True)
        size = 1
        for name, value in zip(("channels", "height", "width"), self.shape, strict=True):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_IMAGE:
                raise ValueError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
            size *= value
        if size > _LARGEST_IMAGE:
            raise ValueError(f"An image of {self.shape} values exceeds the limit of {_LARGEST_IMAGE} values.")
        if not np.isfinite(self._levels()).all():
            raise ValueError(f"mean={self.mean!r} and std={self.std!r} take brightness beyond 32-bit numbers.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one encoded image: (C, H, W)."""
        return (self.channels, self.height, self.width)

    def encode(self, images: NDArray[Any]) -> Inputs:
        """Return the network inputs of images.

        Args:
            images: uint8 (s, C, H, W), or (s, H, W) for one channel.

        Returns:
            float32 (s, C, H, W).

        Raises:
            ValueError: If the images are not bytes or not of that shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise ValueError(
                f"Images must be bytes (uint8, 0 to 255); got {images.dtype}. For values from 0 to 1: "
                f"(x * 255).round().astype('uint8')."
            )
        if images.ndim == 3 and self.channels == 1:
            images = images[:, None]
        if images.ndim != 4 or images.shape[1:] != self.shape:
            expected, found = ", ".join(map(str, self.shape)), ", ".join(map(str, images.shape[1:]))
            raise ValueError(f"Expected images of shape (samples, {expected}); got (samples, {found}).")
        inputs: Inputs = self._levels()[images]
        return inputs

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "mean": float(self.mean),
            "std": float(self.std),
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
        }

    @classmethod
    def from_dict(cls, document: object) -> ImageEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("kind", "mean", "std", "channels", "height", "width")
        values = documents.mapping(document, "an image encoder", keys)
        _expect(values["kind"], cls.kind)
        return cls(*(values[key] for key in keys[1:]))

    def _levels(self) -> Inputs:
        # A byte has 256 values: looking them up is exact, and one pass over the images.
        with np.errstate(over="ignore"):
            levels: Inputs = ((np.arange(256) / 255 - self.mean) / self.std).astype(np.float32)
        return levels


def encoder_from_dict(document: object) -> TableEncoder | ImageEncoder:
    """Read an input encoder of either kind; anything that `to_dict` did not write raises ValueError.

    Example:
        >>> encoder_from_dict(ImageEncoder(0.5, 0.5).to_dict()).shape
        (1, 28, 28)
    """
    if isinstance(document, dict) and document.get("kind") == ImageEncoder.kind:
        return ImageEncoder.from_dict(document)
    return TableEncoder.from_dict(document)


def _expect(found: object, kind: str) -> None:
    if found != kind:
        raise ValueError(f"Expected the description of kind {kind!r}; got {documents.shown(found)}.")


def _total(counts: Mapping[str, int], noun: str = "missing value", tail: str = "") -> str:
    total = sum(counts.values())
    most: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda item: -item[1])
    listed = few([f"{name} {count}" for name, count in most], 5)
    return " ".join(filter(None, [f"{total} {noun}{'' if total == 1 else 's'}", tail, f"({listed})"]))
