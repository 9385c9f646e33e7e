"""Ranks: the processes that train one model together, each on its own piece of every batch.

What a rank computes of a batch is summed over all of them, so that any number of ranks gives what one process gives, up
to rounding, and the same number of ranks the same bits.

Legend: R ranks, r this one; B rows of a batch, of all ranks together; c channels; μ, s² means and variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")


class Ranks:
    """The processes of a process group of PyTorch.

    Args:
        rank: r, the number of this process, from 0.
        count: R.

    Attributes:
        rounds: how often all ranks have exchanged numbers.
        bytes: of what this rank has brought to them.

    Example:
        >>> [Ranks(rank, 3).piece(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.rounds = self.bytes = 0

    def piece(self, rows: int) -> slice:
        """Which rows are this rank's: pieces follow each other, differ by one row at most, and may be empty."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def add(self, x: Tensor) -> Tensor:
        """Σ over the ranks, in place."""
        self.rounds, self.bytes = self.rounds + 1, self.bytes + x.nbytes
        _together(torch.distributed.all_reduce, x)
        return x

    def hand_out(self, tensors: Sequence[Tensor], giver: int = 0) -> None:
        """Give all ranks the numbers of one of them, in place."""
        for x in tensors:
            _together(torch.distributed.broadcast, x, giver)

    def told(self, word: Any, *, patient: bool = False) -> list[Any]:
        """What each rank has to say, of small plain values.

        Args:
            word: of this one.
            patient: whether others may need longer than PyTorch waits, half an hour where nobody says otherwise.
        """
        words: list[Any] = [None] * self.count
        group = torch.distributed.new_group(timeout=timedelta(days=30)) if patient else None
        _together(torch.distributed.all_gather_object, words, word, group)
        return words

    def agree(self, error: Exception | None) -> None:
        """Raise on all ranks what one has met, so that none waits for it.

        Args:
            error: that this rank has met.

        Raises:
            Exception: that error; where only others have met one, an OSError, TypeError or ValueError with the words of
                the first of these.
        """
        kinds = (OSError, TypeError, ValueError)
        kind = next((kind for kind in kinds if isinstance(error, kind)), ValueError)
        said = self.told(None if error is None else (kind.__name__, str(error) or type(error).__name__))
        if error is not None:
            raise error
        for rank, word in enumerate(said):
            if word is not None:
                kind = next(kind for kind in kinds if kind.__name__ == word[0])
                raise kind(f"{word[1]} (Process {rank} of {self.count} has met this.)")

    def total(self, x: Tensor) -> Tensor:
        """Σ over the ranks, to be differentiated: what a rank gets back is summed over all as well."""
        found: Tensor = _Total.apply(x, self)  # type: ignore[no-untyped-call]
        return found

    def joined(self, x: Tensor, rows: int, piece: slice) -> Tensor:
        """The pieces of all ranks as one, (B, ...).

        A rank that computes something of the whole differentiates its own piece, R times: the mean of the gradients
        over the ranks is then that of the whole, and what each finds alike, as a regulariser, counts once.

        Args:
            x: the piece of this rank.
            rows: B.
            piece: where it stands.
        """
        found: Tensor = _Joined.apply(x, rows, piece, self)  # type: ignore[no-untyped-call]
        return found


class _Total(torch.autograd.Function):
    """Σ_r x_r on every rank; each has got it, so each gradient is a sum, too."""

    @staticmethod
    def forward(x: Tensor, ranks: Ranks) -> Tensor:
        return ranks.add(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.ranks = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.ranks.total(g), None


class _Joined(torch.autograd.Function):
    """All pieces; backward is a cut, without a word to the others."""

    @staticmethod
    def forward(x: Tensor, rows: int, piece: slice, ranks: Ranks) -> Tensor:
        whole = x.new_zeros(rows, *x.shape[1:])
        whole[piece] = x
        return ranks.add(whole)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, ctx.piece, ctx.ranks = inputs

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g[ctx.piece] * ctx.ranks.count, None, None, None


_SHARING: list[Ranks] = []  # of the process, for autograd may run a network again in a thread of its own


@contextmanager
def sharing(ranks: Ranks) -> Iterator[None]:
    """Let means and variances of batches be those of the batches of all ranks, which all must take for a while."""
    _SHARING.append(ranks)
    try:
        yield
    finally:
        _SHARING.pop()


def share() -> Ranks | None:
    """The ranks whose batches are one now."""
    return _SHARING[-1] if _SHARING else None


_ALONE: list[None] = []


@contextmanager
def alone() -> Iterator[None]:
    """Let this process do something that the others of its process group do not."""
    _ALONE.append(None)
    try:
        yield
    finally:
        _ALONE.pop()


def present() -> Ranks | None:
    """This process among those of PyTorch's process group, if there is one and it has several."""
    group = torch.distributed
    if _ALONE or not (group.is_available() and group.is_initialized()) or group.get_world_size() < 2:
        return None
    return Ranks(group.get_rank(), group.get_world_size())


def first_alone(action: Callable[[], Found]) -> Found:
    """Do what leaves files behind: the first process before the others, which then find them.

    Args:
        action: of all processes.

    Raises:
        Exception: what the first has met, on all, with the same words.
    """
    ranks = present()
    if ranks is None:
        return action()
    found, error = None, None
    if ranks.rank == 0:
        try:
            found = [action()]
        except Exception as met:  # the others wait
            error = met
    ranks.agree(error)
    return action() if found is None else found[0]


def var_mean(x: Tensor) -> tuple[Tensor, Tensor, Tensor | int]:
    """s² of a population and μ of every channel, (c,), and of how many numbers: of all ranks where they share batches.

    Args:
        x: (B, c, ...), the rows of this rank; it may have none where others have.
    """
    others = [i for i in range(x.dim()) if i != 1]
    count = x.numel() // x.shape[1]
    ranks = share()
    if ranks is None:
        return *torch.var_mean(x, dim=others, correction=0), count
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(x, dim=others, correction=0) if count else (x.sum(others), x.sum(others))
    own = torch.cat((mean, variance, mean.new_full((1,), float(count))))
    # All rows at once, each written by one rank: a single round, and no difference of large squares.
    none = torch.zeros_like(own)
    every = ranks.total(torch.stack([own if rank == ranks.rank else none for rank in range(ranks.count)]))
    means, variances, counts = torch.split_with_sizes(every, [len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return (counts * (variances + (means - mean).square())).sum(0) / total, mean, total.detach()


def _together(function: Callable[..., Any], *given: Any) -> None:
    """Something that all ranks do at once.

    Raises:
        ConnectionError: if one of them is not there any more.
    """
    try:
        function(*given)
    except RuntimeError as error:
        raise ConnectionError(
            f"The processes that train together lost each other: another has ended, or cannot be reached. Begin all of "
            f"them again from the last state. PyTorch says: {str(error).splitlines()[0]}"
        ) from error
