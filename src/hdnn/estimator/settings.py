"""The plain arguments of an estimator: checked, and completed from the size of the table where they were left open."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdnn.names import unknown

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LARGEST_EXACT_STATE = 64


def floating_point(dtype: object) -> torch.dtype:
    """The kind of numbers of that name.

    Raises:
        ValueError: if it is neither "float32" nor "float64".
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(unknown("dtype", str(dtype), DTYPES))
    return DTYPES[dtype]


def dtype_of(features: int, table: np.dtype[Any]) -> str:
    """The kind of numbers of the table, but single precision where double precision would take twice the time."""
    return "float32" if features > _LARGEST_EXACT_STATE else table.name


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
