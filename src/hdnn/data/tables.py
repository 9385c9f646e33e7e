"""Tables as data sets: what to predict, which columns help, and how rows are split; decided in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.data import absent, reading, suspicions
from hdnn.data.cells import PLAIN, label_of, numbers, require_different
from hdnn.data.dataset import Dataset, split
from hdnn.data.dialect import Dialect
from hdnn.data.encoders import TableEncoder
from hdnn.data.frames import spoken
from hdnn.data.inputs import inputs, without_columns
from hdnn.data.kinds import Kind, kinds
from hdnn.data.overview import described
from hdnn.data.targets import TargetEncoder, Task, complete, labels_of
from hdnn.names import count, few, unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_INTEGER_CLASSES = 10
"""A target of whole numbers with more different values than this is a quantity, not a class."""

_EXACT = 2.0**53

RARE = 0.05
"""Share of the rows that may be left out because their class has no other row."""


def table(
    path: str | os.PathLike[str] | pd.DataFrame,
    target: str | Sequence[str],
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    task: Task | None = None,
    columns: Sequence[str] | None = None,
    without: Sequence[str] = (),
    separator: str | None = None,
    decimal: str | None = None,
    no_header: bool = False,
    skip_lines: int = 0,
    encoding: str | None = None,
    missing: Sequence[str] | None = None,
    date_format: str | None = None,
    bins: int = 0,
) -> Dataset:
    """Make a table into a data set; `description` says everything that was decided, `cautions` what to look at.

    Text, booleans and whole numbers of few different values are classes, other numbers are quantities. Rows without a
    target are left out. Without `columns`, those that cannot help are left out by name: constant ones, row counters,
    and texts that differ in nearly every row.

    Args:
        path: A table for `read_table`, or the table itself.
        target: The column to predict, or several columns of numbers.
        test_fraction: Share of the test part; classes keep their mix.
        seed: Seed of the split.
        task: "classification" or "regression", to decide what the target is.
        columns: The input columns, in this order; all but the target if not given.
        without: Columns to leave out.
        separator: As for `read_table`, as are the following.
        decimal: "." or ",".
        no_header: The first row is data.
        skip_lines: Lines before the header.
        encoding: Of the letters.
        missing: What stands for a missing value.
        date_format: Of dates that may be read in several ways, as in "%d/%m/%Y".
        bins: Of each number, whose pieces stand beside it, and a sign of what is missing; 0 takes the number alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is absent, unusable or holds bad values, or there is nothing to learn.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"size": [1.0, 2.5, 3.0, 4.5] * 5, "kind": ["cat", "cat", "dog", "dog"] * 5})
        >>> table(frame, target="kind").description
        "table: 20 rows, 16 for training and 4 for testing; classification (2 classes); target 'kind': text, \
so classes; split by seed 0, stratified; columns: size"
    """
    marks = absent.listed(missing)
    given = Dialect(separator, decimal, no_header, skip_lines, encoding, marks, date_format)
    title, read = opened(path, given)
    frame = read.frame
    targets = target_columns(frame, target)
    frame = frame.drop(columns=without_columns(frame, without, [*targets, *(columns or ())]))
    found = kinds(frame, given, read.separator)
    aim = aim_of(frame, targets, task, found)
    rows, answers, left_out = answered(frame, aim)
    train, test = split(int(rows.sum()), test_fraction=test_fraction, seed=seed, labels=answers)
    places = np.flatnonzero(rows)
    train, test = places[train], places[test]
    notes = [aim.reason, f"split by seed {seed}{', stratified' if answers is not None else ''}", *left_out, *read.notes]
    used = inputs(frame, found, train, columns=columns, targets=targets, bins=bins)
    encoder, chosen = used.encoder, used.encoder.names
    notes += [f"left out: {used.dropped}"] if used.dropped else []
    if aim.task == "regression":
        require_spread(frame, aim, train)
    fitted = aim.fitted(frame.iloc[train])
    # The whole table at once, so that a row named in a message is a row of the file.
    x, y = encoder.encode(frame), np.zeros(len(frame), dtype=np.int64)
    y[rows] = np.arange(rows.sum())
    encoded = fitted.encode(frame, rows)
    said = {name: found[name].note or ("dates" if found[name].what == "date" else "") for name in chosen}
    how = [f"{name} ({note})" for name, note in said.items() if note]
    notes += [f"columns: {few(chosen)}", *([f"read in a way of their own: {few(how)}"] if how else [])]
    made_up = encoder.report(frame[list(chosen)])
    notes += filter(None, [made_up.description])
    cautions = suspicions.cautions(frame.iloc[places], found, encoder, encoded[y[places]], aim.task, aim.columns[0])
    parts = (x[train], encoded[y[train]], x[test], encoded[y[test]])
    seen = described(frame, found, chosen, aim.columns, made_up.missing)
    return Dataset(title, aim.task, *parts, encoder, fitted, tuple(notes), cautions, seen)


def table_again(
    path: str | os.PathLike[str],
    encoder: TableEncoder,
    target: TargetEncoder,
    *,
    seed: int = 0,
    dialect: Dialect | None = None,
) -> Dataset:
    """Read the table of an earlier data set by the decisions that were made then, and fit to its training part again.

    Args:
        path: The table.
        encoder: Of its inputs.
        target: Of its answers.
        seed: As it was.
        dialect: What was said of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks a column, or holds what cannot be read as it was.
    """
    name, read = opened(path, dialect or Dialect())
    rows = target.answered(read.frame)
    if not rows.any():
        raise ValueError(f"No row of {path} has an answer that is known: {few(target.columns)}.")
    answers = target.decode(target.encode(read.frame, rows)) if target.classes else None
    train, test = (np.flatnonzero(rows)[part] for part in split(int(rows.sum()), seed=seed, labels=answers))
    fitted, aim = encoder.again(read.frame.iloc[train]), target.again(read.frame.iloc[train])
    x, y = fitted.encode(read.frame), np.zeros(len(read.frame), dtype=np.int64)
    y[rows] = np.arange(rows.sum())
    encoded = aim.encode(read.frame, rows)
    notes = ("read as it was decided before",)
    return Dataset(name, aim.task, x[train], encoded[y[train]], x[test], encoded[y[test]], fitted, aim, notes)


class _Aim(NamedTuple):
    """What is to be predicted, why so, and how its cells are read."""

    columns: list[str]
    task: Task
    reason: str
    notation: Any
    missing: tuple[str, ...]

    def fitted(self, frame: pd.DataFrame) -> TargetEncoder:
        """The encoder of the answers of some rows."""
        if self.task == "classification":
            return TargetEncoder.fit_classes(frame[self.columns[0]], self.notation, self.missing)
        return TargetEncoder.fit_numbers(frame[self.columns], self.notation, self.missing)


def opened(path: str | os.PathLike[str] | pd.DataFrame, given: Dialect) -> tuple[str, reading.Cells]:
    """The cells of a table, and what to call it."""
    import pandas as pd

    if not isinstance(path, pd.DataFrame):
        return Path(path).stem, reading.cells(path, given)
    require_different("table", list(path.columns.map(str)))
    return "table", reading.Cells(spoken(path.rename(columns=str).reset_index(drop=True)), (), None)


def target_columns(frame: pd.DataFrame, target: str | Sequence[str]) -> list[str]:
    """The columns to predict, if they are there."""
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise ValueError("`target` names no column. Name the column to predict.")
    for name in targets:
        if name not in frame.columns:
            raise ValueError(unknown("target column", name, [each for each in frame.columns if each not in targets]))
    if len(set(targets)) < len(targets):
        raise ValueError(f"`target` names a column twice: {', '.join(targets)}.")
    return targets


def aim_of(frame: pd.DataFrame, targets: list[str], task: Task | None, found: dict[str, Kind]) -> _Aim:
    """Decide between classes and numbers, and say why."""
    if task not in (None, "classification", "regression"):
        raise ValueError(f"`task` must be 'classification' or 'regression'; got {task!r}.")
    first = found[targets[0]].as_answer()
    notation = None if first.notation.is_plain else first.notation
    if len(targets) > 1:
        if task == "classification":
            raise ValueError(f"Classes come from one column; got {len(targets)} target columns. Name one.")
        if len({found[name].notation for name in targets}) > 1:
            raise ValueError("The numbers of the target columns are not all written in the same way. Name one column.")
        missing = tuple(dict.fromkeys(mark for name in targets for mark in found[name].missing))
        named = f"target {', '.join(map(repr, targets))}"
        return _Aim(targets, "regression", f"{named}: several columns, so numbers", notation, missing)
    decided, reason = _decide(frame, targets[0], task, first)
    if decided == "classification":
        notation = first.notation if first.what == "number" and first.values != "truth" else None
        if notation is not None and first.values == "decimal" and not _exact(targets[0], frame, first):
            notation = None
    return _Aim(targets, decided, f"target {targets[0]!r}: {reason}", notation, first.missing)


def _decide(frame: pd.DataFrame, target: str, task: Task | None, kind: Kind) -> tuple[Task, str]:
    """The task and its reason."""
    if kind.doubt and task != "classification":
        raise ValueError(f"Target {target!r} {kind.doubt}; or give `task='classification'` if these are labels.")
    read = f" ({kind.note})" if kind.note else ""
    if task is not None:
        if task == "regression" and kind.what != "number":
            numbers(target, frame[target])
        return task, f"{task} as asked{read}"
    if kind.what in ("date", "other"):
        words = "dates" if kind.what == "date" else kind.note
        raise ValueError(f"Target {target!r} holds {words}, neither numbers nor text. Choose another target.")
    override = f"(another task can be chosen){read}"
    if kind.what == "text":
        if kind.caution:
            raise ValueError(f"Target {target!r} {kind.caution}; or give `task='classification'` if these are labels.")
        return "classification", f"text, so classes{read}"
    if kind.values == "truth":
        return "classification", f"true or false, so classes {override}"
    if kind.values == "decimal":
        large = not _exact(target, frame, kind)
        return "regression", f"{'numbers beyond 2^53' if large else 'decimal numbers'}, so regression {override}"
    x = numbers(target, frame[target], kind.notation, kind.missing)
    distinct = len(np.unique(x[~np.isnan(x)]))
    classes = distinct <= min(MOST_INTEGER_CLASSES, len(x) / 2)
    task = "classification" if classes else "regression"
    return task, f"{distinct} different whole numbers, so {'classes' if classes else task} {override}"


def said_of(name: str, frame: pd.DataFrame, kind: Kind) -> tuple[NDArray[np.int64], list[str]]:
    """What a target column says in each row, as codes, -1 where nothing, and labels; 0.0 says the same as 0."""
    kind = kind.as_answer()
    numeric = kind.what == "number" and kind.values != "truth" and not kind.doubt and _exact(name, frame, kind)
    return labels_of(name, frame[name], kind.notation if numeric else None, kind.missing)


def _exact(name: str, frame: pd.DataFrame, kind: Kind) -> bool:
    """Whether numbers of 64 bits tell the labels apart."""
    x = numbers(name, frame[name], kind.notation, kind.missing)
    return not (np.abs(x[~np.isnan(x)]) >= _EXACT).any()


def answered(frame: pd.DataFrame, aim: _Aim) -> tuple[NDArray[np.bool_], NDArray[Any] | None, list[str]]:
    """The rows to learn from and test on, their classes if they have any, and what was left out."""
    name = aim.columns[0]
    if aim.task == "regression":
        x = [numbers(each, frame[each], aim.notation or PLAIN, aim.missing) for each in aim.columns]
        rows: NDArray[np.bool_] = np.logical_not(np.isnan(np.stack(x)).any(axis=0))
        if not rows.any():
            complete(name, x[0])
        return rows, None, _left_out(rows, aim)
    codes, labels = labels_of(name, frame[name], aim.notation, aim.missing)
    if not labels:
        complete(name, np.full(len(frame), np.nan))
    rows = codes >= 0
    notes = _left_out(rows, aim)
    counts = np.bincount(codes[rows], minlength=len(labels))
    single = [label for label, times in zip(labels, counts, strict=True) if times == 1]
    if single and len(single) <= max(1, RARE * rows.sum()) and len(single) < len(labels) - 1:
        rows &= ~(counts == 1)[codes]
        notes.append(
            f"left out: {count(len(single), 'row')} of {'a class' if len(single) == 1 else 'classes'} that "
            f"no other row has ({few(single)})"
        )
    return rows, np.array(labels)[codes[rows]], notes


def _left_out(rows: NDArray[np.bool_], aim: _Aim) -> list[str]:
    gaps = int((~rows).sum())
    return [f"left out: {count(gaps, 'row')} without {few(aim.columns)}"] if gaps else []


def require_spread(frame: pd.DataFrame, aim: _Aim, train: NDArray[np.int64]) -> None:
    """See that numbers to predict differ among training rows."""
    for name in aim.columns:
        require_spread_of(name, numbers(name, frame[name], aim.notation or PLAIN, aim.missing)[train])


def require_spread_of(name: str, x: NDArray[np.float64]) -> None:
    """See that the numbers of training rows differ."""
    if len(np.unique(x)) > 1:
        return
    if abs(x[0]) >= _EXACT:
        raise ValueError(
            f"Target column {name!r} is near {x[0]:.6g} in every training row: numbers of 64 bits tell no two of them "
            f"apart. Subtract {label_of(x[0])} from it first, or choose another target."
        )
    raise ValueError(
        f"Target column {name!r} is {label_of(x[0])} in every training row: there is nothing to learn. Choose another "
        f"target."
    )
