"""Where the free numbers of a structured matrix stand.

Legend: a structured matrix is linear in its free numbers w_1 … w_F. Its *index* is an integer tensor of the
matrix's shape: 0 marks a structural zero, +f the entry w_f, −f the entry −w_f. (Counting from 1 leaves the sign
free to speak.) Shapes are (m, n, *taps), see `hdnn.spaces`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdnn.arguments import whole
from hdnn.doors import shelled


class Slot(NamedTuple):
    """Numbers that a factor of the equation keeps in a flow.

    Attributes:
        shape: of all of them.
        start: their values, or the standard deviation of the normal numbers that are drawn for them.
        trained: whether they are parameters; buffers otherwise.
    """

    shape: tuple[int, ...]
    start: Tensor | float
    trained: bool = True


class Factor:
    """A factor of the equation. Its constants stay on the CPU, on whatever device a pickle of its flow is loaded."""

    def __setstate__(self, state: Any) -> None:
        # Copies and pickles of a class with slots give (attributes or None, slots).
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        self.__dict__.update(on_cpu(attributes or {}))
        for name, value in on_cpu(slots or {}).items():
            object.__setattr__(self, name, value)  # frozen ones too


def on_cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with their constant tensors on the CPU, but for those on the meta device, which have no values."""
    return {
        name: value.to("cpu") if isinstance(value, Tensor) and not (value.is_meta or value.requires_grad) else value
        for name, value in state.items()
    }


def per_layer(stacked: Tensor | None, layers: int) -> Sequence[Any]:
    """What each layer has of numbers (N or 1, ...): its own, those that all share, or None."""
    if stacked is None:
        return [None] * layers
    parts = stacked.unbind(0)
    return parts if len(parts) == layers else parts * layers


def half(features: int) -> int:
    """n/2, the size of p and of q.

    Raises:
        ValueError: if `features` is odd or not positive.
    """
    if whole("features", features) < 1:
        raise ValueError(f"`features` is the size of the state, so it must be at least 1; got {features}.")
    if features % 2:
        odd = f"`features` must be even to split the state into (p, q); got {features}."
        raise shelled(
            ValueError(
                f"{odd} Lift the input to {features + 1}, or use `h1` with an odd-sized J such as "
                f"`Fixed(upper_ones({features}))`."
            ),
            f"{odd} Use {features + 1}, or `model=h1` with `interconnection=upper_ones`.",
        )
    return features // 2


def counted(*size: int, start: int = 1) -> Tensor:
    """The index of a full matrix: every entry its own free number, counted from `start`.

    It is built on the CPU whatever the default device is, since constructors read its values.
    """
    count = 1
    for length in size:
        count *= length
    return torch.arange(start, start + count, device="cpu").reshape(size)


def skew(partner: Tensor) -> Tensor:
    """The index of a skew matrix: entries are the negatives of their partners, and those that are their own are zero.

    Args:
        partner: where the partner of every entry stands: the `counted` index of its shape, transposed as the weights
            are (see `Space.transposed`).

    Returns:
        The shape of `partner`. A matrix (n, n) has n (n − 1) / 2 free numbers.
    """
    place_of = counted(*partner.shape)
    number = (place_of < partner).flatten().cumsum(0)
    upper = torch.where(place_of < partner, number.view_as(place_of), 0)
    return upper - torch.where(place_of > partner, number[partner - 1], 0)


def masked(index: Tensor, mask: Tensor) -> Tensor:
    """The index with the entries outside the mask dropped and the free numbers that are left recounted.

    Args:
        index: an index as described above.
        mask: boolean, of the same shape.

    Returns:
        An index of the same shape.

    Raises:
        ValueError: if the mask keeps one entry of a free number and drops another of the same number.
    """
    count = int(index.abs().max()) + 1 if index.numel() else 1
    kept = torch.zeros(count, dtype=torch.bool, device="cpu")
    dropped = torch.zeros(count, dtype=torch.bool, device="cpu")
    kept[index[mask].abs()] = True
    dropped[index[~mask].abs()] = True
    torn = kept & dropped
    torn[0] = kept[0] = False
    if torn.any():
        where = torch.nonzero(index.abs() == int(torn.nonzero()[0])).tolist()
        raise ValueError(
            f"The mask must fit the symmetry of the structure: the entries {where} are one free number (up to "
            f"sign), but the mask keeps one and drops the other. Keep or drop both."
        )
    recount = kept.cumsum(0) * kept
    return recount[index.abs()] * index.sign()


def place(free: Tensor, index: Tensor | None) -> Tensor:
    """The matrices with the given free numbers.

    Args:
        free: (..., F).
        index: (m, n, *taps), numbering 1 … F.

    Returns:
        (..., m, n, *taps).

    Raises:
        ValueError: if the index is None.
    """
    if index is None:
        raise ValueError("These free numbers need their index, which says where they stand; got None.")
    flat = index.flatten()
    # A leading zero serves the structural zeros, so that one gather fills the whole matrix.
    values = functional.pad(free, (1, 0)).index_select(-1, flat.abs())
    return (values * flat.sign().to(free.dtype)).reshape(free.shape[:-1] + index.shape)


def taken(matrix: Tensor, index: Tensor) -> Tensor | None:
    """The free numbers that `place` makes a matrix of, exactly; None where there are none.

    Args:
        matrix: (m, n, *taps), or many.
        index: (m, n, *taps), numbering 1 … F.

    Returns:
        (..., F).
    """
    if tuple(matrix.shape[-index.dim() :]) != tuple(index.shape):
        return None
    index = index.to(matrix.device)
    _, first = np.unique(index[index != 0].abs().cpu(), return_index=True)
    free = (matrix * index.sign())[..., index != 0][..., torch.from_numpy(first).to(matrix.device)]
    return free if torch.equal(matrix, place(free, index).expand_as(matrix)) else None


def shifted(free: Tensor, shift: float) -> Tensor:
    """The skew matrices with the given numbers above their diagonals, plus a multiple of I.

    Args:
        free: (..., n (n − 1) / 2).
        shift: what stands on the diagonals.

    Returns:
        (..., n, n).
    """
    n = (1 + math.isqrt(1 + 8 * free.shape[-1])) // 2
    A = place(free, skew(counted(n, n).mT).to(free.device))
    return A + shift * torch.eye(n, dtype=free.dtype, device=free.device)


def two_by_two(
    upper_left: Tensor | None,
    upper_right: Tensor | None,
    lower_left: Tensor | None,
    lower_right: Tensor | None,
    axes: tuple[int, int],
) -> Tensor:
    """The block matrix [[upper_left, upper_right], [lower_left, lower_right]]; None stands for zeros.

    Args:
        upper_left: first block, or None.
        upper_right: second block, or None.
        lower_left: third block, or None.
        lower_right: fourth block, or None. All blocks have one shape.
        axes: the row axis and the column axis.
    """
    given = [block for block in (upper_left, upper_right, lower_left, lower_right) if block is not None]
    zeros = torch.zeros_like(given[0])
    upper = torch.cat([zeros if x is None else x for x in (upper_left, upper_right)], dim=axes[1])
    lower = torch.cat([zeros if x is None else x for x in (lower_left, lower_right)], dim=axes[1])
    return torch.cat([upper, lower], dim=axes[0])
