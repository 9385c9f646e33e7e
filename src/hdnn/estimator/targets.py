"""What a network is asked for: labels as indices, or quantities in units of their spread, and the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from hdnn.arguments import real
from hdnn.networks import Task

Array = NDArray[Any]
_SHOWN = 5  # labels in a message
ClassWeight = Mapping[Any, float] | str | None


def classes_in(labels: object) -> Array:
    """The different labels, in order.

    Raises:
        TypeError: if they have no order, as texts among numbers.
    """
    try:
        return np.unique(np.asarray(labels))
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in np.ravel(np.asarray(labels, dtype=object))})
        raise TypeError(
            f"Labels must have an order: all texts, or all numbers; got {' and '.join(kinds)}. Write them alike, as by "
            f"y.astype(str), and leave out the rows where they are missing."
        ) from error


def plain_kind(y: Any) -> Any:
    """Targets in NumPy's kinds, where scikit-learn would make decimal numbers of a data frame's own whole ones.

    Raises:
        ValueError: if texts are missing.
    """
    dtypes = [y.dtype] if hasattr(y, "dtype") else [*getattr(y, "dtypes", [])]
    if isinstance(y, list | tuple):
        _check_known(y)
    if any(getattr(dtype, "kind", "") == "O" for dtype in dtypes):
        _check_known(y)
    kinds = {"" if isinstance(dtype, np.dtype) else getattr(dtype, "kind", "") for dtype in dtypes}
    if len(kinds) != 1 or not kinds < {*_KINDS} or not hasattr(y, "isna") or np.asarray(y.isna()).any():
        return y
    return y.to_numpy(dtype=_KINDS[kinds.pop()])


def _check_known(y: Any) -> None:
    """Refuse pandas' mark of a missing value, which cannot be compared, and NaN that would become the text "nan"."""
    cells = [*np.asarray(y, dtype=object).flat]
    texts = any(isinstance(cell, str) for cell in cells)
    missing = sum(
        type(cell).__name__ == "NAType" or (texts and isinstance(cell, float) and math.isnan(cell)) for cell in cells
    )
    if missing:
        raise ValueError(f"Of y {missing} of {np.size(y)} values are missing. Leave these rows out of X and y.")


_KINDS = {"i": np.int64, "u": np.uint64, "b": np.bool_}


class Labels:
    """Classes and their indices.

    Args:
        classes: sorted labels of any kind.
        class_weight: "balanced", a weight for each label, or None.

    Raises:
        ValueError: if there are fewer than two classes, or a weight belongs to none.
    """

    task: ClassVar[Task] = "classification"

    def __init__(self, classes: Array, class_weight: ClassWeight = None) -> None:
        if len(classes) < 2:
            raise ValueError(
                f"A classifier needs two classes or more to tell apart; the targets have one class only, "
                f"{classes.tolist()[0]!r}. Add rows of another class."
            )
        _check_class_weight(class_weight, classes)
        self.classes = classes
        self.class_weight = class_weight

    @property
    def outputs(self) -> int:
        """How many classes."""
        return len(self.classes)

    def update(self, y: Array, weight: Array | None) -> None:
        """Labels need no more than their classes."""

    def check_classes(self, classes: object) -> None:
        """See that the labels that will come are those of the first call; None says nothing of them.

        Raises:
            ValueError: if not.
        """
        if classes is not None and not np.array_equal(found := classes_in(classes), self.classes):
            raise ValueError(f"`classes` must stay as they were, {self.classes.tolist()}; got {found.tolist()}.")

    def encode(self, y: Array, dtype: torch.dtype) -> Tensor:
        """Indices of labels, (s,).

        Raises:
            ValueError: if a label is none of the classes.
        """
        return torch.from_numpy(self._indices(y))

    def weights(self, y: Array, weight: Array | None) -> Array | None:
        """Weights of rows, times those of their classes; balanced classes weigh the same in sum."""
        if self.class_weight is None:
            return weight
        indices = self._indices(y)
        if isinstance(self.class_weight, str):
            counts = np.bincount(indices, weight, minlength=self.outputs)
            factors = counts.sum() / np.where(counts > 0, counts, np.inf)
        else:
            factors = np.array([self.class_weight.get(label, 1.0) for label in self.classes.tolist()], dtype=np.float64)
        of_rows: Array = factors[indices] if weight is None else weight * factors[indices]
        return of_rows

    def _indices(self, y: Array) -> NDArray[np.intp]:
        y = column_or_1d(y)
        strange = np.setdiff1d(classes_in(y), self.classes).tolist()
        if strange:
            some = ", ".join(map(repr, strange[:_SHOWN])) + (", …" if len(strange) > _SHOWN else "")
            raise ValueError(
                f"The targets have labels that are none of the classes {self.classes.tolist()}: [{some}]. "
                f"Name all classes in the first call of partial_fit, or fit anew."
            )
        return np.searchsorted(self.classes, y)


def _check_class_weight(class_weight: ClassWeight, classes: Array) -> None:
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'`class_weight` must be "balanced", a dictionary or None; got {class_weight!r}.')
    elif class_weight is not None:
        if not isinstance(class_weight, Mapping):
            raise TypeError(f'`class_weight` must be "balanced", a dictionary or None; got {class_weight!r}.')
        strange = [label for label in class_weight if label not in classes]
        if strange:
            raise ValueError(f"`class_weight` names {strange}, which are none of the classes {classes.tolist()}.")
        for label, weight in class_weight.items():
            if not 0 <= real("class_weight", weight) < float("inf"):
                raise ValueError(f"`class_weight` must be finite and not negative; got {weight} for {label!r}.")


class Quantities:
    """Columns of numbers, in units of their standard deviation from their mean.

    Args:
        y: (s,) or (s, outputs).
        weight: (s,), or None.
        standardize: False leaves the numbers as they are.
    """

    task: ClassVar[Task] = "regression"

    def __init__(self, y: Array, weight: Array | None, *, standardize: bool) -> None:
        self.flat = y.ndim == 1
        self.outputs = 1 if self.flat else y.shape[1]
        self.scaler = StandardScaler() if standardize else None
        self.update(y, weight)

    def update(self, y: Array, weight: Array | None) -> None:
        """Take more rows into mean and spread."""
        columns = self._columns(y)
        if self.scaler is not None:
            self.scaler.partial_fit(columns, sample_weight=weight)

    def check_classes(self, classes: object) -> None:
        """Quantities have none."""

    def encode(self, y: Array, dtype: torch.dtype) -> Tensor:
        """Targets of a network, (s, outputs).

        Raises:
            ValueError: if there are more or fewer columns than before.
        """
        columns = self._columns(y)
        return torch.from_numpy(columns if self.scaler is None else self.scaler.transform(columns)).to(dtype)

    def weights(self, y: Array, weight: Array | None) -> Array | None:
        """The weights of rows, as they are."""
        return weight

    def decode(self, outputs: Array) -> Array:
        """Quantities from outputs of a network: (s,) if the targets were, else (s, outputs)."""
        y = outputs if self.scaler is None else self.scaler.inverse_transform(outputs)
        return y[:, 0] if self.flat else y

    def _columns(self, y: Array) -> Array:
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.outputs:
            raise ValueError(f"The network predicts {self.outputs} quantities; got targets of shape {y.shape}.")
        return columns


Targets = Labels | Quantities
