"""A problem to learn: training and test part, ready for a network, and what was decided on the way.

Legend: s rows, d inputs of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.cells import is_number
from hdnn.data.columns import Numeric
from hdnn.data.encoders import ImageEncoder, TableEncoder
from hdnn.data.overview import Described
from hdnn.data.pixels import Pixels
from hdnn.data.planar import Labels, Points, double_circles, double_moons, swiss_roll
from hdnn.data.sequence_encoder import SequenceEncoder
from hdnn.data.shares import drawn
from hdnn.data.targets import TargetEncoder, Task
from hdnn.doors import shelled
from hdnn.names import count, unknown

Targets = NDArray[np.int64] | NDArray[np.float32]
Encoder = TableEncoder | ImageEncoder | SequenceEncoder

_ROWS = 4096

_PLANAR: dict[str, Callable[[int, int], tuple[Points, Labels]]] = {
    "swiss_roll": swiss_roll,
    "double_moons": double_moons,
    "double_circles": double_circles,
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test part of one problem.

    Args:
        name: What to call it.
        task: "classification" or "regression".
        x_train: Inputs float32 (s, d), (s, C, H, W), or (s, T, d) of sequences, finite; images may be `Pixels`, which
            become inputs where they are read.
        y_train: Class indices int64 (s,), or standardised targets float32 (s, outputs).
        x_test: Inputs of the test part, at least one row.
        y_test: Targets of the test part.
        encoder: Made the inputs from raw rows.
        target: Made the targets, and turns answers back.
        notes: What was decided, in the order of deciding, each a few words.
        cautions: What to look at before believing the results, each a sentence.
        columns: Of a table, what each was taken for.
        held_out: What the test part is, where it is not the one that everybody tests on.

    Raises:
        ValueError: If the parts do not fit each other, or there is nothing to learn.

    Example:
        >>> data = planar("double_moons", size=200)
        >>> data.x_train.shape, data.inputs, data.classes
        ((100, 2), (2,), ('0', '1'))
        >>> data.description
        'double_moons: 200 rows, 100 for training and 100 for testing; classification (2 classes); \
standardised by the training part: the mean of each axis, one scale (1) for both; seed 0, stratified'
    """

    name: str
    task: Task
    x_train: NDArray[np.float32] | Pixels
    y_train: Targets
    x_test: NDArray[np.float32] | Pixels
    y_test: Targets
    encoder: Encoder
    target: TargetEncoder
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    columns: tuple[Described, ...] = ()
    held_out: str = ""

    def __post_init__(self) -> None:
        if self.task != self.target.task:
            raise ValueError(f"`task` is {self.task!r}, but the target is one of {self.target.task}.")
        self._check("training", self.x_train, self.y_train)
        self._check("test", self.x_test, self.y_test)
        if self.task == "classification":
            present = np.unique(self.y_train)
            if len(present) < 2:
                raise ValueError(
                    f"The training part of {self.name!r} has only one class, "
                    f"{self.classes[int(present[0])]!r}: there is nothing to tell apart. Add rows of another "
                    f"class, or choose another target."
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the class indices; empty for regression."""
        return self.target.classes

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one input: (d,), (C, H, W), or (T, d) of the longest sequence of the training part."""
        return self.encoder.shape

    @property
    def noun(self) -> str:
        """What its samples are called."""
        return "sequences" if len(self.inputs) == 2 else "rows"

    @property
    def outputs(self) -> int:
        """The number of network outputs: one for each class, or one for each target column."""
        return self.target.outputs

    @property
    def description(self) -> str:
        """One line that says what was decided."""
        train, test = len(self.x_train), len(self.x_test)
        task = f"{self.task} ({len(self.classes)} classes)" if self.classes else self.task
        rows = f"{train + test} {self.noun}, {train} for training and {test} for testing"
        return f"{self.name}: " + "; ".join([rows, task, *self.notes])

    def _check(self, part: str, x: NDArray[Any] | Pixels, y: NDArray[Any]) -> None:
        where = f"The {part} part of {self.name!r}"
        inputs = (*x.shape[1:2], *self.inputs[1:]) if len(self.inputs) == 2 else self.inputs  # of any length
        if x.dtype != np.float32 or x.shape[1:] != inputs:
            expected = ", ".join(map(str, self.inputs))
            raise ValueError(f"{where} needs float32 inputs (s, {expected}); got {x.dtype} {x.shape}.")
        classified = self.task == "classification"
        shape, dtype = ((), np.int64) if classified else ((self.outputs,), np.float32)
        if y.dtype != dtype or y.shape != (len(x), *shape):
            raise ValueError(
                f"{where} needs {np.dtype(dtype)} targets {(len(x), *shape)}, one for each input; "
                f"got {y.dtype} {y.shape}."
            )
        if not len(x):
            raise ValueError(f"{where} is empty. It needs at least one row.")
        if not (isinstance(x, Pixels) or _finite(x)) or not _finite(y):
            raise ValueError(f"{where} holds values that are infinite or not a number.")
        if classified and (y.min() < 0 or y.max() >= self.outputs):
            raise ValueError(f"{where} has class indices beyond 0 to {self.outputs - 1}.")


def encoder_from_dict(document: object) -> Encoder:
    """Read an input encoder of any kind; anything that `to_dict` did not write raises ValueError.

    Example:
        >>> encoder_from_dict(ImageEncoder(0.5, 0.5).to_dict()).shape
        (1, 28, 28)
    """
    if isinstance(document, dict):
        for kind in (ImageEncoder, SequenceEncoder):
            if document.get("kind") == kind.kind:
                return kind.from_dict(document)
    return TableEncoder.from_dict(document)


def split(
    rows: int, *, test_fraction: float = 0.2, seed: int = 0, labels: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Share rows between a training and a test part.

    Args:
        rows: Number of rows s.
        test_fraction: Share of the test part, above 0 and below 1.
        seed: Seed of the choice.
        labels: The class (s,) of each row, to give both parts the same mix; None for numbers.

    Returns:
        The row indices of the training and of the test part, int64, shuffled.

    Raises:
        ValueError: If there are too few rows, of a class or in all, for such a split.

    Example:
        >>> train, test = split(10, labels=np.array([0, 1] * 5))
        >>> len(train), sorted(test % 2)
        (8, [np.int64(0), np.int64(1)])
    """
    if not (isinstance(test_fraction, int | float) and 0 < test_fraction < 1):
        raise ValueError(f"`test_fraction` must lie between 0 and 1; got {test_fraction!r}. Use 0.2, say.")
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number from 0 to 4294967295; got {seed!r}. Use 0, say.")
    if rows < 2:
        raise ValueError(f"A training and a test part need at least 2 rows; got {rows}. Add rows.")
    testing = min(math.ceil(rows * test_fraction), rows - 1)
    if labels is not None:
        _require_classes(labels, rows - testing, testing)
    train, test = drawn(rows - testing, testing, int(seed), labels)
    if labels is not None:
        lost = np.setdiff1d(labels, labels[train])
        if len(lost):
            rare = f"Class {str(lost[0])!r} is so rare that no row of it is left for training"
            raise shelled(
                ValueError(f"{rare} with `test_fraction={test_fraction}`. Lower it, or add rows of that class."),
                f"{rare}. Add rows of that class.",
            )
    return train, test


def planar(name: str, size: int = 8000, seed: int = 0, *, standardize: bool = True) -> Dataset:
    """Make one of the plane's problems into a data set, half for training and half for testing.

    The inputs are (x - mean) / scale with the mean of each axis and one common scale, so that the shape
    keeps its proportions.

    Args:
        name: "swiss_roll", "double_moons" or "double_circles".
        size: Number of points, at least 4.
        seed: Seed of the points and of the split.
        standardize: False leaves the coordinates as they are.

    Raises:
        ValueError: If there is no such problem, or `size` is too small.

    Example:
        >>> planar("swiss_roll", size=100, standardize=False).encoder.names
        ('x1', 'x2')
    """
    if name not in _PLANAR:
        raise ValueError(unknown("planar data set", name, _PLANAR))
    if isinstance(size, Integral) and 2 <= size < 4:
        raise ValueError(f"Two classes in a training and a test part need at least 4 points; got `size={size}`.")
    x, y = _PLANAR[name](size, seed)
    train, test = split(len(x), test_fraction=0.5, seed=seed, labels=y)
    mean, scale = x[train].mean(axis=0), math.sqrt(x[train].var(axis=0).mean())
    fill = np.median(x[train], axis=0)
    if not standardize:
        mean, scale = np.zeros(2), 1.0
    columns = [Numeric(f"x{i + 1}", float(mean[i]), scale, float(fill[i])) for i in range(2)]
    encoder, target = TableEncoder(tuple(columns)), TargetEncoder(("class",), classes=("0", "1"))
    inputs = standardized(x, columns)
    how = f"standardised by the training part: the mean of each axis, one scale ({scale:.3g}) for both"
    notes = (how if standardize else "coordinates left as they are", f"seed {seed}, stratified")
    task = target.task
    return Dataset(name, task, inputs[train], y[train], inputs[test], y[test], encoder, target, notes)


def _finite(x: NDArray[Any]) -> bool:
    """Whether all numbers are; some rows at a time, for images fill much of the memory."""
    return all(np.isfinite(x[start : start + _ROWS]).all() for start in range(0, len(x), _ROWS))


def standardized(x: NDArray[np.float64], columns: Sequence[Numeric]) -> NDArray[np.float32]:
    """What a table encoder of these columns makes of finite numbers (s, d), without a table: pandas stays out of it."""
    mean, scale = (np.array([getattr(column, name) for column in columns]) for name in ("mean", "scale"))
    inputs: NDArray[np.float32] = ((x - mean) / scale).astype(np.float32)
    return inputs


def _require_classes(labels: NDArray[Any], training: int, testing: int) -> None:
    found, counts = np.unique(labels, return_counts=True)
    if len(found) < 2:
        raise ValueError(
            f"Every row has the class {str(found[0])!r}: there is nothing to tell apart. Add rows of another "
            f"class, or choose another target."
        )
    single = found[counts == 1]
    if len(single):
        others = f" (and {count(len(single) - 1, 'other class')})" if len(single) > 1 else ""
        # A number is no number where the classes are texts.
        other = " If these are numbers, choose `task='regression'`." if all(map(is_number, found.tolist())) else ""
        raise ValueError(
            f"Class {str(single[0])!r}{others} has a single row, but it takes one to learn from and one to test "
            f"with. Add rows of it, leave its row out of the table, or merge it with another class.{other}"
        )
    if min(training, testing) < len(found):
        few = f"{training} rows for training and {testing} for testing cannot both hold all {len(found)} classes."
        raise shelled(ValueError(f"{few} Add rows, or move `test_fraction` towards 0.5."), f"{few} Add rows.")
