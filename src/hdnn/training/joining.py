"""Batches of loaders on many ranks: one for each rank, joined to one before a step, if they fit each other.

Ranks say what they have before they exchange it, so that a batch that is missing, or unlike those of others, is an
error on all of them, and none waits for another.

Legend: R ranks, r this one.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from hdnn.ranks import Ranks

if TYPE_CHECKING:
    from hdnn.training.batches import Batch

_HAS, _ENDED, _FAILED = range(3)


def joined(own: Iterator[Batch], batches: int, ranks: Ranks, device: torch.device, *, look: bool) -> Iterator[Batch]:
    """The batches of all ranks, from those that each has.

    Args:
        own: of this rank.
        batches: that all loaders say they have.
        ranks: of which this is one.
        device: where batches are exchanged.
        look: whether to warn of ranks that have the same.

    Raises:
        ValueError: on all ranks, if one of them has a batch too few or too many, or of another kind; or an error of
            its own, which that rank raises.
    """
    for number in range(1, batches + 2):
        batch, error = None, None
        try:
            batch = next(own, None)
        except Exception as found:  # of the loader, or of what it gave: the others wait for this rank
            error = found
        state = _FAILED if error is not None else _ENDED if batch is None else _HAS
        said = torch.zeros(ranks.count, 4, dtype=torch.int64, device=device)
        said[ranks.rank, 0] = state
        if batch is not None:
            said[ranks.rank, 1] = len(batch.y)
            said[ranks.rank, 2] = zlib.crc32(_kind(batch).encode())
            said[ranks.rank, 3] = _content(batch) if look and number == 1 else 0
        states, rows, kinds, contents = ranks.add(said).T.tolist()
        wanted = _HAS if number <= batches else _ENDED
        if {*states} != {wanted} or len({*kinds}) > 1:
            _refuse(ranks, batches, number, batch, error)
        if batch is None:
            return
        if look and number == 1 and len({*contents}) < ranks.count:
            _warn(contents)
        yield _one(batch, rows, ranks)


def _one(own: Batch, rows: list[int], ranks: Ranks) -> Batch:
    """The batch of all ranks, from the rows that this one has."""
    start = sum(rows[: ranks.rank])
    piece, count = slice(start, start + len(own.y)), sum(rows)
    y = ranks.joined(own.y.byte() if own.y.dtype is torch.bool else own.y, count, piece).to(own.y.dtype)
    weight = None if own.weight is None else ranks.joined(own.weight, count, piece)
    return own._replace(y=y, weight=weight, piece=piece)


def _kind(batch: Batch) -> str:
    """What batches must have in common to become one."""
    weight = "no weights" if batch.weight is None else f"weights of {batch.weight.dtype} {[*batch.weight.shape[1:]]}"
    return f"targets of {batch.y.dtype} {[*batch.y.shape[1:]]} and {weight}"


def _content(batch: Batch) -> int:
    """Tells batches apart."""
    from hdnn.training.batches import tensors_of

    found = 1
    for part in (*tensors_of(batch.x), batch.y):
        found = zlib.crc32(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data, found)
    return found


def _refuse(ranks: Ranks, batches: int, number: int, batch: Batch | None, error: Exception | None) -> None:
    """Raise the same on all ranks, but for an error of one's own."""
    ranks.agree(error)
    said = ranks.told("" if batch is None else _kind(batch))
    ended = [rank for rank, kind in enumerate(said) if not kind]
    if number > batches:
        rank = next(rank for rank, kind in enumerate(said) if kind)
        what = f"has {batches} batches by its len(), but gave more. Correct its len()."
    elif ended:
        rank = ended[0]
        what = f"has {batches} batches by its len(), but gave {number - 1}. Correct its len()."
    else:
        rank = next(rank for rank, kind in enumerate(said) if kind != said[0])
        what = f"gave {said[rank]} where that of process 0 gave {said[0]}. Let all give the same kind."
    raise ValueError(
        f"{ranks.count} processes train one model together, each with a loader of its own, whose batches are one; the "
        f"loader of process {rank} {what}"
    )


def _warn(contents: list[int]) -> None:
    """Of ranks that have the same rows."""
    first, second = next(
        (first, second) for second, found in enumerate(contents) for first in range(second) if contents[first] == found
    )
    warnings.warn(
        f"The loaders of processes {first} and {second} gave the same first batch, of which every row then counts as "
        f"often as there are processes that have it. Each process has rows of its own: use "
        f"torch.utils.data.DistributedSampler, or tensors, which `fit` divides by itself.",
        stacklevel=2,
    )
