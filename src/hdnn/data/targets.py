"""What a network is asked for, as numbers, and its answers back in the user's words and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.columns import center, numbers, ordered, row_number, texts
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

    @property
    def task(self) -> Task:
        """Either "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @property
    def outputs(self) -> int:
        """The number of network outputs: one for each class, or one for each column of numbers."""
        return len(self.classes) or len(self.columns)

    @classmethod
    def fit_classes(cls, column: pd.Series[Any]) -> TargetEncoder:
        """Take the labels that occur, in order: by value if all are numbers, else by letters."""
        name = str(column.name)
        return cls((name,), classes=ordered(_labels(name, column)[1]))

    @classmethod
    def fit_numbers(cls, frame: pd.DataFrame) -> TargetEncoder:
        """Take mean and standard deviation (1 for a constant column) of each column."""
        centers = [center(complete(str(name), numbers(str(name), frame[name]))) for name in frame.columns]
        return cls(
            tuple(map(str, frame.columns)),
            mean=tuple(mean for mean, _ in centers),
            scale=tuple(scale for _, scale in centers),
        )

    def encode(self, frame: pd.DataFrame) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return the targets of the rows of a table.

        Args:
            frame: s rows with at least the target columns.

        Returns:
            Class indices int64 (s,), or standardised numbers float32 (s, columns).

        Raises:
            ValueError: If a column or a value is missing, a class unknown, or a number is none.
        """
        for name in self.columns:
            if name not in frame.columns:
                raise ValueError(f"The table has no target column {name!r}. {hint(name, frame.columns)}")
        if not self.classes:
            x = np.stack([complete(name, numbers(name, frame[name])) for name in self.columns], axis=1)
            with np.errstate(over="ignore"):
                scaled: NDArray[np.float32] = ((x - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)
            if not np.isfinite(scaled).all():
                row, column = map(int, np.argwhere(~np.isfinite(scaled))[0])
                raise ValueError(
                    f"Target column {self.columns[column]!r}, data row {row_number(frame[self.columns[column]], row)}: "
                    f"{x[row, column]!r} is too far from the training values for 32-bit numbers. Correct that value."
                )
            return scaled
        name = self.columns[0]
        codes, labels = _labels(name, frame[name])
        position = {label: i for i, label in enumerate(self.classes)}
        unknown = [label for label in labels if label not in position]
        if unknown:
            row = row_number(frame[name], int(np.flatnonzero(codes == labels.index(unknown[0]))[0]))
            raise ValueError(
                f"Target column {name!r}, data row {row}: {unknown[0]!r} is none of the {len(self.classes)} "
                f"classes of the training part. {hint(unknown[0], self.classes)}"
            )
        return np.array([position[label] for label in labels], dtype=np.int64)[codes]

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
        }

    @classmethod
    def from_dict(cls, document: object) -> TargetEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("columns", "classes", "mean", "scale")
        values = documents.mapping(document, "a target", ("kind", *keys))
        if values["kind"] != cls.kind:
            raise ValueError(f"Expected the description of kind {cls.kind!r}; got {documents.shown(values['kind'])}.")
        return cls(*(documents.items(values[key], f"The {key} of a target") for key in keys))


def _labels(name: str, column: pd.Series[Any]) -> tuple[NDArray[np.int64], list[str]]:
    codes, labels = texts(name, column)
    complete(name, np.where(codes < 0, np.nan, 0.0))
    return codes, labels


def complete(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of a target column if none is NaN, else raise ValueError."""
    gaps = np.flatnonzero(np.isnan(x))
    if len(gaps):
        raise ValueError(
            f"Target column {name!r} is missing in {len(gaps)} of {len(x)} rows (first: data row {gaps[0] + 1}; "
            f"empty, NA, NaN, None and null count as missing). Fill in those rows or delete them."
        )
    return x
