"""The user's own table, from CSV, TSV or Parquet, as a data set; nothing is decided in silence.

Data rows are counted from 1 in every message.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.columns import kind_of, label_of, numbers, require_different, texts
from hdnn.data.dataset import Dataset, split
from hdnn.data.encoders import TableEncoder
from hdnn.data.reading import read_table
from hdnn.data.targets import TargetEncoder, Task, complete
from hdnn.names import few, unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 100
"""A text column with more categories than this is refused: one input each would swamp the others."""

MOST_INTEGER_CLASSES = 20
"""A target of whole numbers with more different values than this is a quantity, not a class."""


def table(
    path: str | os.PathLike[str] | pd.DataFrame,
    target: str | Sequence[str],
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    task: Task | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """Make a table into a data set; `description` says everything that was decided.

    Text, booleans and whole numbers of few different values are classes, other numbers are quantities.
    Without `columns`, those that cannot help are left out by name: constant ones, row counters, dates, and
    texts that differ in nearly every row.

    Args:
        path: A table for `read_table`, or the table itself.
        target: The column to predict, or several columns of numbers.
        test_fraction: Share of the test part; classes keep their mix.
        seed: Seed of the split.
        task: "classification" or "regression", to decide what the target is.
        columns: The input columns, in this order; all but the target if not given.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is absent, unusable or holds bad values, or there is nothing to learn.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"size": [1.0, 2.5, 3.0, 4.5] * 5, "kind": ["cat", "cat", "dog", "dog"] * 5})
        >>> table(frame, target="kind").description
        "table: 20 rows, 16 for training and 4 for testing; classification (2 classes); target 'kind': text, \
so classes (unless a task is given); split by seed 0, stratified; columns: size"
    """
    import pandas as pd

    frame = path.rename(columns=str) if isinstance(path, pd.DataFrame) else read_table(path)
    name = "table" if isinstance(path, pd.DataFrame) else Path(path).stem
    require_different(name, list(frame.columns))
    targets = _target_columns(frame, target)
    decided, reason = _decide(frame, targets, task)
    labels = None
    if decided == "classification":
        column = frame[targets[0]]
        # Encoding all rows with all labels finds missing values before anything is fitted.
        everything = TargetEncoder.fit_classes(column)
        labels = everything.decode(everything.encode(frame))
    train, test = split(len(frame), test_fraction=test_fraction, seed=seed, labels=labels)
    notes = [reason, f"split by seed {seed}{', stratified' if labels is not None else ''}"]
    chosen = _given(frame, columns, targets)
    if chosen is None:
        chosen, dropped = _useful(frame, targets, train)
        notes += [f"left out: {dropped}"] if dropped else []
    for column_name in chosen:
        _require_usable(frame, column_name)
    encoder = TableEncoder.fit(frame[chosen].iloc[train])
    fitted = (
        TargetEncoder.fit_classes(frame[targets[0]].iloc[train])
        if decided == "classification"
        else TargetEncoder.fit_numbers(_numbers_to_learn(frame[targets], train))
    )
    # The whole table at once, so that a row named in a message is a row of the file.
    x, y = encoder.encode(frame), fitted.encode(frame)
    notes.append(f"columns: {few(chosen)}")
    found = encoder.report(frame[chosen]).description
    notes += [found] if found else []
    return Dataset(name, decided, x[train], y[train], x[test], y[test], encoder, fitted, tuple(notes))


def _target_columns(frame: pd.DataFrame, target: str | Sequence[str]) -> list[str]:
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise ValueError("`target` names no column. Name the column to predict.")
    for name in targets:
        if name not in frame.columns:
            raise ValueError(unknown("target column", name, frame.columns))
    if len(set(targets)) < len(targets):
        raise ValueError(f"`target` names a column twice: {', '.join(targets)}.")
    return targets


def _decide(frame: pd.DataFrame, targets: list[str], task: Task | None) -> tuple[Task, str]:
    """Decide between classes and numbers, and say why."""
    if task not in (None, "classification", "regression"):
        raise ValueError(f"`task` must be 'classification' or 'regression'; got {task!r}.")
    named = f"target {', '.join(map(repr, targets))}"
    if len(targets) > 1:
        if task == "classification":
            raise ValueError(f"Classes come from one column; got {len(targets)} target columns. Name one.")
        return "regression", f"{named}: several columns, so numbers"
    if task is not None:
        return task, f"{named}: {task} as asked"
    column = frame[targets[0]].infer_objects()
    kind = kind_of(column)
    override = "(unless a task is given)"
    if kind == "other":
        raise ValueError(f"Target {targets[0]!r} holds {column.dtype} values, neither numbers nor text.")
    if kind == "text":
        _require_clean(frame, targets[0], "give `task='classification'` if these are labels")
        return "classification", f"{named}: text, so classes {override}"
    distinct = column.dropna().unique()
    if column.dtype.kind == "b" or all(isinstance(value, bool | np.bool_) for value in distinct):
        return "classification", f"{named}: true or false, so classes {override}"
    if column.dtype.kind not in "iu":
        return "regression", f"{named}: decimal numbers, so regression {override}"
    few = len(distinct) <= min(MOST_INTEGER_CLASSES, len(column) / 2)
    values = f"{len(distinct)} different whole numbers"
    if few:
        return "classification", f"{named}: {values}, so classes {override}"
    return "regression", f"{named}: {values}, so regression {override}"


def _given(frame: pd.DataFrame, columns: Sequence[str] | None, targets: list[str]) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str):
        raise ValueError(f"`columns` is a list of names; got the text {columns!r}. Write `columns=[{columns!r}]`.")
    chosen = list(columns)
    if not chosen:
        raise ValueError("`columns` is empty. Name the input columns, or leave it out to use all.")
    for name in chosen:
        if name not in frame.columns:
            raise ValueError(unknown("column", name, frame.columns))
        if name in targets:
            raise ValueError(f"Column {name!r} is the target; as an input it would give the answer away.")
        if chosen.count(name) > 1:
            raise ValueError(f"`columns` names {name!r} twice.")
    return chosen


def _useful(frame: pd.DataFrame, targets: list[str], train: NDArray[np.int64]) -> tuple[list[str], str]:
    """Return the columns that can help, and a few of the others for every reason, in words."""
    chosen: list[str] = []
    useless: dict[str, list[str]] = {}
    for name in (name for name in frame.columns if name not in targets):
        reason = _useless(name, frame[name], train)
        if reason:
            useless.setdefault(reason, []).append(name)
        else:
            chosen.append(name)
    dropped = ", ".join(f"{few(names)} ({reason})" for reason, names in useless.items())
    if not chosen:
        raise ValueError(
            f"No column is left to learn from; left out: {dropped or 'none'}. Name the input "
            f"columns with `columns` if some of these should be used."
        )
    return chosen, dropped


def _useless(name: str, column: pd.Series[Any], train: NDArray[np.int64]) -> str:
    kind = kind_of(column)
    if kind == "other":
        return f"{column.dtype}, neither numbers nor text"
    learned = column.iloc[train]
    if kind == "numeric":
        x = numbers(name, column)
        if len(x) >= 10 and column.dtype.kind in "iu" and (np.diff(x) == 1).all():
            return "counts the rows"
        x = x[train]
        return "" if len(np.unique(x[~np.isnan(x)])) > 1 else "constant in the training part"
    codes, labels = texts(name, column)
    if len(np.unique(texts(name, learned)[0])) < 2:
        return "constant in the training part"
    differ = len(labels) >= 10 and len(labels) > 0.9 * (codes >= 0).sum()
    return "differs in nearly every row, like an id" if differ and _typing_error(labels) is None else ""


def _require_usable(frame: pd.DataFrame, name: str) -> None:
    kind = kind_of(frame[name])
    if kind == "numeric":
        numbers(name, frame[name])
    if kind != "text":
        return
    _require_clean(frame, name, "leave the column out, or write codes with a letter in front")
    labels = texts(name, frame[name])[1]
    if len(labels) > MOST_CATEGORIES:
        raise ValueError(
            f"Column {name!r} has {len(labels)} different texts; up to {MOST_CATEGORIES} can be used as "
            f"categories. Leave it out by naming the others with `columns`, or put rare ones together in the file."
        )


def _require_clean(frame: pd.DataFrame, name: str, otherwise: str) -> None:
    """Refuse a column of numbers that a few typing errors have turned into text."""
    codes, labels = texts(name, frame[name])
    bad = _typing_error(labels)
    if bad is not None and frame[name].dtype.name != "category":
        row = int(np.flatnonzero(codes == bad)[0]) + 1
        raise ValueError(
            f"Column {name!r} holds numbers, except for {labels[bad]!r} in data row {row}. Correct that value "
            f"or leave it empty; or {otherwise}."
        )


def _typing_error(labels: list[str]) -> int | None:
    """Return the place of the first text that is no number among many that are; None if these are names."""
    strange = [i for i, label in enumerate(labels) if not _is_number(label)]
    return strange[0] if strange and len(labels) >= 10 and len(strange) <= 0.2 * len(labels) else None


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _numbers_to_learn(frame: pd.DataFrame, train: NDArray[np.int64]) -> pd.DataFrame:
    for name in frame.columns:
        x = complete(name, numbers(name, frame[name]))
        if len(np.unique(x[train])) < 2:
            raise ValueError(
                f"Target column {name!r} is {label_of(x[train][0])} in every training row: there is nothing to "
                f"learn. Choose another target."
            )
    return frame.iloc[train]
