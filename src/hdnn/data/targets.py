"""What a network is asked for, as numbers, and its answers back in the user's words and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.cells import PLAIN, center, label_of, numbers, ordered, row_number, texts
from hdnn.data.columns import as_named, exact, exactness, grown, marks, places_of, same_labels
from hdnn.data.notation import TRUTH, Notation
from hdnn.names import hint

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class TargetEncoder:
    """The target columns: one of classes, or one or more of numbers.

    Classes are indices into the sorted labels; numbers t become (t - mean) / scale.

    Args:
        columns: The names of the target columns.
        classes: The labels in order (classification), else empty.
        mean: Mean of each column in the training part (regression), else empty.
        scale: Standard deviation of each column there (regression), else empty.
        notation: How numbers are written in texts; for classes, that they are numbers at all: 1.0 is the class 1.
        missing: Marks that stand for a missing value, beside those that do so everywhere.
        exact_marks: False in runs of before, as of `Numeric`.

    Raises:
        ValueError: If it describes neither, or only one class.

    Example:
        >>> import pandas as pd
        >>> target = TargetEncoder.fit_classes(pd.Series([10, 9, 10], name="grade"))
        >>> target.classes, target.encode(pd.DataFrame({"grade": [9, 10]})).tolist()
        (('9', '10'), [0, 1])
        >>> target.decode([1, 1, 0]).tolist()
        ['10', '10', '9']
    """

    kind: ClassVar[str] = "target"
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    notation: Notation | None = None
    missing: tuple[str, ...] = ()
    exact_marks: bool = True

    def __setstate__(self, state: list[Any]) -> None:
        documents.restore(self, state, exact_marks=lambda: exact(None, self.missing, self.notation or PLAIN))

    def __post_init__(self) -> None:
        documents.names(self.columns, "The target columns")
        if self.classes:
            if len(self.columns) != 1 or self.mean or self.scale:
                raise ValueError("A target of classes has one column, and neither mean nor scale.")
            documents.names(self.classes, "The classes")
            if len(self.classes) < 2:
                raise ValueError(
                    f"Column {self.columns[0]!r} has only one class, {self.classes[0]!r}: there is nothing to "
                    f"tell apart. Add rows of another class, or choose another target."
                )
        elif not len(self.mean) == len(self.scale) == len(self.columns):
            raise ValueError(
                f"A target of numbers needs one mean and one scale for each of its {len(self.columns)} "
                f"columns; got {len(self.mean)} and {len(self.scale)}."
            )
        for value in self.mean:
            documents.number(value, "The mean of a target")
        for value in self.scale:
            documents.number(value, "The scale of a target", positive=True)
        marks(self.missing, self.columns[0])

    @property
    def task(self) -> Task:
        """Either "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @property
    def outputs(self) -> int:
        """The number of network outputs: one for each class, or one for each column of numbers."""
        return len(self.classes) or len(self.columns)

    @classmethod
    def fit_classes(
        cls,
        column: pd.Series[Any],
        notation: Notation | None = None,
        missing: tuple[str, ...] = (),
        *,
        exact_marks: bool = True,
    ) -> TargetEncoder:
        """Take the labels that occur, in order: by value if all are numbers, else by letters."""
        name = str(column.name)
        codes, labels = labels_of(name, column, notation, missing, exact_marks=exact_marks)
        complete(name, np.where(codes < 0, np.nan, 0.0))
        read: dict[str, Any] = {"notation": notation, "missing": missing, "exact_marks": exact_marks}
        return cls((name,), classes=ordered(labels), **read)

    @classmethod
    def fit_numbers(
        cls,
        frame: pd.DataFrame,
        notation: Notation | None = None,
        missing: tuple[str, ...] = (),
        *,
        exact_marks: bool = True,
    ) -> TargetEncoder:
        """Take mean and standard deviation (1 for a constant column) of each column."""
        names = tuple(map(str, frame.columns))
        every = (numbers(name, frame[name], notation or PLAIN, missing, exact_marks=exact_marks) for name in names)
        centers = [center(complete(name, x)) for name, x in zip(names, every, strict=True)]
        mean, scale = (tuple(pair[i] for pair in centers) for i in range(2))
        return cls(names, mean=mean, scale=scale, notation=notation, missing=missing, exact_marks=exact_marks)

    def again(self, frame: pd.DataFrame) -> TargetEncoder:
        """The same target fitted to other rows, its cells read in the same way."""
        frame = self._required(frame)
        if self.classes:
            column = frame[self.columns[0]]
            fitted = self.fit_classes(column, self.notation, self.missing, exact_marks=self.exact_marks)
            return self if same_labels(self.classes, fitted.classes) else fitted
        asked = frame[list(self.columns)]
        return self.fit_numbers(asked, self.notation, self.missing, exact_marks=self.exact_marks)

    def answered(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows have an answer: a number in every column, or a label that is one of the classes.

        Raises:
            ValueError: If a column is missing, or a cell is no number.
        """
        frame = self._required(frame)
        if not self.classes:
            return ~self.gaps(frame)
        codes, labels = self.labels(frame)
        position = places_of(self.classes)
        return np.array([label in position for label in labels] + [False])[codes]

    def gaps(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows lack an answer."""
        frame = self._required(frame)
        if not self.classes:
            x = np.stack([self._numbers(frame, name) for name in self.columns])
            gaps: NDArray[np.bool_] = np.asarray(np.isnan(x).any(axis=0))
            return gaps
        return self.labels(frame)[0] < 0

    def labels(self, frame: pd.DataFrame) -> tuple[NDArray[np.int64], list[str]]:
        """What the first column says in each row, as codes, -1 where nothing, and the labels they point to."""
        name = self.columns[0]
        notation = self.notation if self.classes else self.notation or PLAIN
        return labels_of(name, frame[name], notation, self.missing, exact_marks=self.exact_marks)

    def _numbers(self, frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
        return numbers(name, frame[name], self.notation or PLAIN, self.missing, exact_marks=self.exact_marks)

    def _required(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table, if it has all columns."""
        frame = as_named(frame, self.columns)
        for name in self.columns:
            if name not in frame.columns:
                raise ValueError(f"The table has no target column {name!r}. {hint(name, frame.columns)}")
        return frame

    def encode(
        self, frame: pd.DataFrame, rows: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return the targets of the rows of a table.

        Args:
            frame: s rows with at least the target columns.
            rows: Which of them, if not all; see `answered`.

        Returns:
            Class indices int64 (s,), or standardised numbers float32 (s, columns).

        Raises:
            ValueError: If a column or a value is missing, a class unknown, or a number is none.
        """
        frame = self._required(frame)
        chosen = np.ones(len(frame), dtype=bool) if rows is None else rows
        if not self.classes:
            x = np.stack([complete(name, self._numbers(frame, name), chosen) for name in self.columns], axis=1)
            with np.errstate(over="ignore"):
                scaled: NDArray[np.float32] = ((x - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)
            if not np.isfinite(scaled[chosen]).all():
                row, column = map(int, np.argwhere(~np.isfinite(scaled) & chosen[:, None])[0])
                raise ValueError(
                    f"Target column {self.columns[column]!r}, data row {row_number(frame[self.columns[column]], row)}: "
                    f"{float(x[row, column])!r} is too far from the training values for 32-bit numbers. Correct that "
                    f"value."
                )
            return scaled[chosen]
        name = self.columns[0]
        codes, labels = self.labels(frame)
        complete(name, np.where(codes < 0, np.nan, 0.0), chosen)
        position = places_of(self.classes)
        unknown = np.array([label not in position for label in labels] + [False])[codes] & chosen
        if unknown.any():
            place = int(np.flatnonzero(unknown)[0])
            raise ValueError(
                f"Target column {name!r}, data row {row_number(frame[name], place)}: {labels[codes[place]]!r} is none "
                f"of the {len(self.classes)} classes of the training part. {hint(labels[codes[place]], self.classes)}"
            )
        return np.array([position.get(label, -1) for label in labels] + [-1], dtype=np.int64)[codes][chosen]

    def decode(self, outputs: object) -> NDArray[Any]:
        """Return labels, or numbers in the units of the table.

        Args:
            outputs: Class indices of any shape, or standardised numbers (..., columns).

        Returns:
            Labels (text) of the same shape, or float64 numbers of the same shape.

        Raises:
            ValueError: If they are not such indices or numbers.
        """
        values = np.asarray(outputs)
        if not self.classes:
            if values.ndim < 1 or values.shape[-1] != len(self.columns):
                raise ValueError(f"Expected outputs of shape (..., {len(self.columns)}); got {values.shape}.")
            restored: NDArray[np.float64] = values.astype(np.float64) * np.array(self.scale) + np.array(self.mean)
            return restored
        if values.dtype.kind not in "iu":
            raise ValueError(
                f"Expected class indices as whole numbers; got {values.dtype}. Take the argmax of the scores first."
            )
        if values.size and (values.min() < 0 or values.max() >= len(self.classes)):
            raise ValueError(
                f"Class indices run from 0 to {len(self.classes) - 1}; got {values.min()} to {values.max()}."
            )
        labels: NDArray[Any] = np.array(self.classes)[values]
        return labels

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "classes": list(self.classes),
            "mean": [float(value) for value in self.mean],
            "scale": [float(value) for value in self.scale],
            **({} if self.notation is None else {"notation": self.notation.to_dict()}),
            **({"missing": list(self.missing)} if self.missing else {}),
            **exactness(self.exact_marks, self.missing, self.notation or PLAIN),
        }

    @classmethod
    def from_dict(cls, document: object) -> TargetEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("columns", "classes", "mean", "scale")
        document = grown(document, {"notation": None, "missing": [], "exact_marks": None})
        values = documents.mapping(document, "a target", ("kind", *keys, "notation", "missing", "exact_marks"))
        if values["kind"] != cls.kind:
            raise ValueError(f"Expected the description of kind {cls.kind!r}; got {documents.shown(values['kind'])}.")
        notation = None if values["notation"] is None else Notation.from_dict(values["notation"])
        read = {key: documents.items(values[key], f"The {key} of a target") for key in (*keys, "missing")}
        exactly = exact(values["exact_marks"], read["missing"], notation or PLAIN)
        return cls(**read, notation=notation, exact_marks=exactly)


def labels_of(
    name: str,
    column: pd.Series[Any],
    notation: Notation | None,
    missing: tuple[str, ...],
    *,
    exact_marks: bool = True,
) -> tuple[NDArray[np.int64], list[str]]:
    """Codes of classes, -1 where one is missing, and the labels they point to."""
    import pandas as pd

    if notation is None:
        codes, labels = texts(name, column, missing)
        # Programs write them in several ways.
        same = [str(TRUTH[label] == 1.0) for label in labels] if set(labels) <= TRUTH.keys() else labels
        if len(set(same)) < len(same):
            places = {label: i for i, label in enumerate(dict.fromkeys(same))}
            codes = np.array([*(places[label] for label in same), -1], dtype=np.int64)[codes]
        return codes, list(dict.fromkeys(same))
    codes, found = pd.factorize(numbers(name, column, notation, missing, exact_marks=exact_marks))
    return codes.astype(np.int64), [label_of(value) for value in found]


def complete(name: str, x: NDArray[np.float64], rows: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the values of a target column if none of the rows is NaN, else raise ValueError."""
    gaps = np.flatnonzero(np.isnan(x) if rows is None else np.isnan(x) & rows)
    if len(gaps):
        raise ValueError(
            f"Target column {name!r} is missing in {len(gaps)} of {len(x)} rows (first: data row {gaps[0] + 1}; "
            f"empty, NA, NaN, None and null count as missing). Fill in those rows or delete them."
        )
    return x
