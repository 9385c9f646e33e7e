"""The plain arguments of an estimator: checked, and completed from the size of the table where they were left open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdnn.arguments import truth
from hdnn.names import unknown

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LARGEST_EXACT_STATE, _FEW_ROWS = 64, 100


def floating_point(dtype: object) -> torch.dtype:
    """The kind of numbers of that name.

    Raises:
        ValueError: if it is neither "float32" nor "float64".
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(unknown("dtype", str(dtype), DTYPES))
    return DTYPES[dtype]


def dtype_of(features: int, rows: int, table: np.dtype[Any]) -> str:
    """The kind of numbers of the table, but single precision where double precision would take twice a long time."""
    return "float32" if features > _LARGEST_EXACT_STATE and rows >= _FEW_ROWS else table.name


def checked_weight(sample_weight: object, rows: int) -> NDArray[np.float64]:
    """Weights of rows as decimal numbers.

    Raises:
        ValueError: if they are not one finite number a row, none of them negative and one positive.
    """
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"`sample_weight` must be of shape {(rows,)}, one number a row; got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"`sample_weight` must be finite and not negative; got {weight.min():g} to {weight.max():g}.")
    if not weight.any():
        raise ValueError("`sample_weight` is zero for all rows, so there is nothing to learn from.")
    return weight


def check_truths(estimator: object, *names: str) -> None:
    """See that arguments are true or false.

    Raises:
        TypeError: if not: every text that is not empty would count as True.
    """
    for name in names:
        truth(name, getattr(estimator, name))


@contextlib.contextmanager
def in_own_words() -> Iterator[None]:
    """Refuse what a recipe refuses by the names that estimators have for it."""
    try:
        yield
    except ValueError as error:
        told = str(error)
        for name, own in _WORDS.items():
            told = told.replace(name, own)
        raise ValueError(told) from None


_WORDS = {"`patience`": "`n_iter_no_change`", "`refit`": "`early_stopping`"}


@contextlib.contextmanager
def unchanged_by_failure(estimator: object) -> Iterator[None]:
    """Let a fit that fails leave what the last one has found, and the names and number of its columns."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@contextlib.contextmanager
def naming_what_helps(estimator: object) -> Iterator[None]:
    """Refuse texts and missing values of X in words that name what turns them into numbers.

    Raises:
        ValueError: as scikit-learn raises it, with these words behind.
    """
    try:
        yield
    except ValueError as error:
        told = str(error).splitlines()[0].rstrip(".")
        for sign, what in (("Input X contains NaN", "missing values"), ("could not convert string to float", "texts")):
            if sign in told:
                raise ValueError(
                    f"{told}. {type(estimator).__name__} reads numbers alone, no {what}. Put before it in a Pipeline: "
                    f"`hdnn.DataFrameEncoder()`, and give it `encode=False`; or skrub's `TableVectorizer()` for texts "
                    f"and dates, and `SimpleImputer(add_indicator=True)` for missing values."
                ) from error
        raise
