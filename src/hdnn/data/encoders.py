"""From raw rows to what a network reads, and back: plain values, fitted on the training part only.

Each encoder is written to and read from a plain mapping (`to_dict`, `from_dict`), so a saved model is
JSON plus weights, and a changed file is refused in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.cells import label_of, standing, texts
from hdnn.data.columns import Categorical, Numeric, as_named
from hdnn.data.dialect import Dialect
from hdnn.data.image_encoder import ImageEncoder as ImageEncoder
from hdnn.data.kinds import kinds
from hdnn.data.moments import Moment
from hdnn.data.suspicions import SENTINELS
from hdnn.names import different, few, hint

if TYPE_CHECKING:
    import pandas as pd

Column = Numeric | Moment | Categorical
Inputs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Report:
    """What encoding a table had to make up for.

    Args:
        rows: Number of rows.
        missing: Missing values in each column that has any.
        unseen: Values that the training part did not have, in each categorical column that has any.
        ignored: Columns of the table that the encoder does not use.
        outside: Numbers that lie farther outside of the training range than it is wide, in each column that has any.
        marks: Of these, numbers that often stand for a missing value, as "-999 in age".
        rare: Texts that are new, or were too rare in the training part, in each column that kept its frequent ones.
    """

    rows: int
    missing: Mapping[str, int]
    unseen: Mapping[str, int]
    ignored: tuple[str, ...]
    outside: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    rare: Mapping[str, int] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """One line for people; empty if there is nothing to say."""
        parts = []
        if self.missing:
            parts.append(f"{_total(self.missing)} filled in")
        if self.unseen:
            parts.append(f"{_total(self.unseen, 'value', 'not in the training part')} encoded as zeros")
        if self.rare:
            parts.append(f"{_total(self.rare, 'rare or new value')} encoded as zeros")
        if self.outside:
            parts.append(f"{_total(self.outside, 'value', 'far outside the range of the training part')}")
        if self.marks:
            parts.append(
                f"{_total(self.marks, 'of these', plural=False)} often stand for a missing value; if they do, give "
                f"them as `missing`"
            )
        if self.ignored:
            parts.append(f"columns not used: {few(self.ignored)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class TableEncoder:
    """The columns of a table, in order, as network inputs.

    A number becomes (x - mean) / scale, and its pieces where it has bins, a date the first and what comes again, a
    category one input for each training category. Missing numbers and dates are filled with the training median;
    missing and unseen categories are all zeros. `report` counts both.

    Args:
        columns: `Numeric`, `Moment` and `Categorical` columns with different names.

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
            if not isinstance(column, Numeric | Moment | Categorical):
                raise ValueError(f"Each column must be `Numeric`, `Moment` or `Categorical`; got {column!r}.")
        documents.names(self.names, "The columns of a table")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call the inputs, one after the other; all differ."""
        return tuple(different([label for column in self.columns for label in column.labels]))

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return tuple(column.name for column in self.columns if isinstance(column, Numeric))

    @property
    def plain_columns(self) -> tuple[str, ...]:
        """The columns of numbers that are written as programs write them."""
        numeric = (column for column in self.columns if isinstance(column, Numeric))
        return tuple(column.name for column in numeric if column.notation.is_plain and not column.missing)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The categorical columns; give them to `table_parts(text=...)` so that "007" stays "007"."""
        return tuple(column.name for column in self.columns if isinstance(column, Categorical))

    @property
    def shape(self) -> tuple[int]:
        """The shape of one encoded row: (d,)."""
        return (sum(column.width for column in self.columns),)

    @classmethod
    def fit(cls, frame: pd.DataFrame, bins: int = 0) -> TableEncoder:
        """Fit one column after the other on the training part.

        Args:
            frame: The training rows; every column of it is used.
            bins: Of each number, see `table`.

        Raises:
            ValueError: If a column is empty, or holds neither numbers nor text.
        """
        columns: list[Column] = []
        for name, kind in kinds(frame, Dialect()).items():
            if kind.what == "other" or kind.doubt:
                raise ValueError(f"Column {name!r}: {kind.doubt or kind.note}. Leave it out, or turn it into numbers.")
            if kind.what == "number":
                columns.append(Numeric.fit(name, frame[name], kind.notation, kind.missing, bins, kind.apart))
            elif kind.what == "date":
                columns.append(Moment.fit(name, frame[name], kind.format, kind.missing))
            else:
                columns.append(Categorical.fit(name, frame[name], kind.missing))
        return cls(tuple(columns))

    def again(self, frame: pd.DataFrame) -> TableEncoder:
        """The same columns fitted to other rows, their cells read in the same way."""
        frame = self._required(frame)
        return TableEncoder(tuple(column.again(frame[column.name]) for column in self.columns))

    def encode(self, frame: pd.DataFrame) -> Inputs:
        """Return the network inputs of the rows of a table.

        Args:
            frame: s rows with at least this encoder's columns, in any order; others are ignored.

        Returns:
            float32 (s, d), finite.

        Raises:
            ValueError: If a column is absent, or holds text for numbers, infinite or far too large values.
        """
        frame = self._required(frame)
        return np.concatenate([column.encode(frame[column.name])[0] for column in self.columns], axis=1)

    def report(self, frame: pd.DataFrame) -> Report:
        """Count what `encode(frame)` makes up for: missing values, unseen categories, unused columns."""
        frame = self._required(frame)
        missing, unseen, outside, marks, rare = (Counter[str]() for _ in range(5))
        for column in self.columns:
            cells = frame[column.name]
            if isinstance(column, Categorical):
                missing[column.name] = int((texts(column.name, cells, column.missing)[0] < 0).sum())
                (unseen if column.most is None else rare)[column.name] = len(column.encode(cells)[1])
                continue
            x = column.values(cells)
            missing[column.name] = int(np.isnan(x).sum())
            if isinstance(column, Numeric):
                missing[column.name] -= int(standing(column.name, cells, column.apart).sum())
                beyond = x[column.beyond(x)]
                outside[column.name] = len(beyond)
                found, counts = np.unique(beyond[np.isin(beyond, SENTINELS)], return_counts=True)
                for mark, count in zip(found, counts.tolist(), strict=True):
                    marks[f"{label_of(mark)} in {column.name}"] += count
        return Report(
            rows=len(frame),
            missing=self._in_order(missing),
            unseen=self._in_order(unseen),
            ignored=tuple(str(name) for name in frame.columns if name not in self.names),
            outside=self._in_order(outside),
            marks=MappingProxyType(dict(marks)),
            rare=self._in_order(rare),
        )

    def combined(self, reports: Iterable[Report]) -> Report:
        """Return the report of a table from those of its parts."""
        counts = {name: Counter[str]() for name in ("missing", "unseen", "outside", "marks", "rare")}
        rows = 0
        ignored: tuple[str, ...] = ()
        for report in reports:
            rows, ignored = rows + report.rows, report.ignored
            for name, total in counts.items():
                total.update(getattr(report, name))
        marks = MappingProxyType(dict(counts.pop("marks")))
        return Report(
            rows, ignored=ignored, marks=marks, **{name: self._in_order(total) for name, total in counts.items()}
        )

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
            reader = next((each for each in (Moment, Categorical) if each.kind == kind), Numeric)
            if reader is Numeric and isinstance(item, dict):
                _expect(kind, Numeric.kind)
            columns.append(reader.from_dict(item))
        return cls(tuple(columns))

    def _required(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table, if it has all columns."""
        frame = as_named(frame, self.names)
        found = Counter(frame.columns)
        for name in self.names:
            if found[name] > 1:
                raise ValueError(f"The table has {found[name]} columns {name!r}. Rename all but one.")
        absent = [name for name in self.names if name not in found]
        if absent:
            hints = " ".join(f"{name!r} is missing: {hint(name, found)}" for name in absent[:3])
            raise ValueError(f"The table lacks {len(absent)} of {len(self.names)} columns. {hints}")
        return frame


def _expect(found: object, kind: str) -> None:
    if found != kind:
        raise ValueError(f"Expected the description of kind {kind!r}; got {documents.shown(found)}.")


def _total(counts: Mapping[str, int], noun: str = "missing value", tail: str = "", *, plural: bool = True) -> str:
    total = sum(counts.values())
    most: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda item: -item[1])
    listed = few([f"{name} {count}" for name, count in most], 5)
    return " ".join(filter(None, [f"{total} {noun}{'' if total == 1 or not plural else 's'}", tail, f"({listed})"]))
