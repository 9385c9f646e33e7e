"""The inputs of a table: which of its columns can help a network, and the encoder of those; decided in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.data import suspicions
from hdnn.data.cells import numbers, places, texts
from hdnn.data.columns import Categorical, Numeric
from hdnn.data.encoders import Column, TableEncoder
from hdnn.data.kinds import FREQUENT, Kind
from hdnn.data.moments import Moment, days
from hdnn.names import few, unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES, MOST_KEPT = 100, 256
"""A text column with more categories than the first is of use if frequent ones make up half of its rows; of more than
the second, the most frequent are kept."""


class Inputs(NamedTuple):
    """The columns that are used.

    Args:
        encoder: Of them, in their order.
        left_out: Those that cannot help, by the reason why.
    """

    encoder: TableEncoder
    left_out: Mapping[str, list[str]]

    @property
    def dropped(self) -> str:
        """A few of the columns that cannot help for every reason, in words; empty if there are none."""
        return in_words(self.left_out)


def inputs(
    frame: pd.DataFrame,
    found: Mapping[str, Kind],
    train: NDArray[np.int64],
    *,
    columns: Sequence[str] | None = None,
    targets: Sequence[str] = (),
    bins: int = 0,
) -> Inputs:
    """Choose the columns of a table, and fit their encoder to its training part.

    Args:
        frame: All rows, by which columns are judged.
        found: What its columns are, by `kinds`.
        train: The rows of the training part.
        columns: The ones to use, in this order; None takes all but those that cannot help.
        targets: What is to be predicted, which is no input.
        bins: Of each number, see `table`.

    Raises:
        ValueError: If a column is absent, unusable or holds bad values, or there is nothing to learn from.
    """
    chosen = named(frame, columns, targets)
    left_out: Mapping[str, list[str]] = {}
    if chosen is None:
        chosen, left_out = _useful(frame, targets, train, found)
    _require_usable(chosen, found)
    encoder = TableEncoder(tuple(_column(name, frame[name].iloc[train], found[name], bins) for name in chosen))
    return Inputs(encoder, left_out)


def without_columns(frame: pd.DataFrame, without: Sequence[str], wanted: Collection[str]) -> list[str]:
    """The columns to leave out, if they are there and none of them is wanted."""
    if isinstance(without, str):
        raise ValueError(f"`without` is a list of names; got the text {without!r}. Write `without=[{without!r}]`.")
    for name in without:
        if name not in frame.columns:
            free = [each for each in frame.columns if each not in {*without, *wanted}]
            raise ValueError(unknown("column", name, free))
        if name in wanted:
            raise ValueError(f"Column {name!r} is asked for and left out at once. Name it once.")
    return list(without)


def in_words(left_out: Mapping[str, list[str]]) -> str:
    """A few columns for every reason."""
    return ", ".join(f"{few(names)} ({reason})" for reason, names in left_out.items())


def named(frame: pd.DataFrame, columns: Sequence[str] | None, targets: Sequence[str]) -> list[str] | None:
    """The columns that a user names; None if none are named."""
    if columns is None:
        return None
    if isinstance(columns, str):
        raise ValueError(f"`columns` is a list of names; got the text {columns!r}. Write `columns=[{columns!r}]`.")
    chosen = list(columns)
    if not chosen:
        raise ValueError("`columns` is empty. Name the input columns, or leave it out to use all.")
    for name in chosen:
        if name not in frame.columns:
            free = [each for each in frame.columns if each not in {*chosen, *targets}]
            raise ValueError(unknown("column", name, free))
        if name in targets:
            raise ValueError(f"Column {name!r} is the target; as an input it would give the answer away.")
        if chosen.count(name) > 1:
            raise ValueError(f"`columns` names {name!r} twice.")
    return chosen


def _useful(
    frame: pd.DataFrame, targets: Sequence[str], train: NDArray[np.int64], found: Mapping[str, Kind]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the columns that can help, and the others by the reason why they cannot."""
    chosen: list[str] = []
    useless: dict[str, list[str]] = {}
    for name in (name for name in frame.columns if name not in targets):
        reason = "" if found[name].doubt else _useless(name, frame[name], train, found[name])
        if reason:
            useless.setdefault(reason, []).append(name)
        else:
            chosen.append(name)
    if not chosen:
        if not useless:
            raise ValueError(
                "No column is left to learn from beside what is predicted. Leave out fewer by name, or add columns."
            )
        raise ValueError(
            f"No column is left to learn from; left out: {in_words(useless)}. Name the input columns with `columns` "
            f"if some of these should be used."
        )
    return chosen, useless


def _useless(name: str, column: pd.Series[Any], train: NDArray[np.int64], kind: Kind) -> str:
    if kind.what == "other" or kind.note == "empty":
        return kind.note
    constant = "constant in the training part"
    if kind.what == "date":
        t = days(name, column.iloc[train], kind.format, kind.missing)
        return "" if len(np.unique(t[~np.isnan(t)])) > 1 else constant
    if kind.what == "number":
        x = numbers(name, column, kind.notation, kind.missing)
        if kind.values == "whole" and suspicions.counts_rows(x, name, places(column)):
            return "counts the rows"
        if kind.values == "whole" and suspicions.is_id_name(name) and (reason := suspicions.id_like(x, name)):
            return f"{reason}, like an id"
        x = x[train]
        return "" if len(np.unique(x[~np.isnan(x)])) > 1 else constant
    codes, labels = texts(name, column, kind.missing)
    there = codes[train][codes[train] >= 0]
    times = np.bincount(there, minlength=len(labels))
    if (times > 0).sum() < 2:
        return constant
    if len(labels) >= 10 and len(labels) > 0.9 * (codes >= 0).sum():
        return "differs in nearly every row, like an id" + (f"; {kind.caution}" if kind.caution else "")
    if len(labels) > MOST_CATEGORIES and times[times >= FREQUENT].sum() < len(there) / 2:
        return f"many different texts, most of them in fewer than {FREQUENT} rows"
    return ""


def _require_usable(chosen: list[str], found: Mapping[str, Kind]) -> None:
    """Refuse the columns whose cells cannot be read, all of them at once."""
    bad = [f"Column {name!r} {found[name].doubt or 'holds ' + found[name].note}." for name in chosen
           if found[name].doubt or found[name].what == "other"]  # fmt: skip
    if bad:
        more = f" So it is with {len(bad) - 5} more columns." if len(bad) > 5 else ""
        raise ValueError(" ".join(bad[:5]) + more)


def _column(name: str, column: pd.Series[Any], kind: Kind, bins: int) -> Column:
    """The encoder of a column, fitted to its training part."""
    if kind.what == "number":
        return Numeric.fit(name, column, kind.notation, kind.missing, bins, kind.apart)
    if kind.what == "date":
        return Moment.fit(name, column, kind.format, kind.missing)
    many = len(texts(name, column, kind.missing)[1]) > MOST_KEPT
    return Categorical.fit(name, column, kind.missing, MOST_KEPT if many else None)
