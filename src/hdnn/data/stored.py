"""Pictures that stay in their files until they are needed, and processes beside this one that read them.

Legend: s pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data.decoding import decode
from hdnn.data.encoders import ImageEncoder
from hdnn.data.pixels import Bytes, Pixels, Rows

T = TypeVar("T")

_FEW = 256  # pictures: fewer are read before processes for them have begun
_MOST = 4  # processes, where there are as many cores


class Stored(Pixels):
    """Pictures in files, each read anew when it is needed: sets that are larger than the memory.

    Args:
        root: The folder they are in.
        names: Of each, below it.
        encoder: Makes inputs of them, and says what is done to them first.
        marks: (s, m) bytes by which each picture was known when all were read.
    """

    def __init__(self, root: Path, names: NDArray[Any], encoder: ImageEncoder, marks: Bytes) -> None:
        super().__init__(encoder)
        self.root, self.names, self.marks = root, names, marks

    def __len__(self) -> int:
        return len(self.names)

    def read(self, chosen: Iterable[Rows]) -> Iterator[Bytes]:
        """The bytes of one choice after the other, those to come read ahead by processes beside this one."""
        return read_pictures(self.root, [self.names[rows].tolist() for rows in chosen], self.encoder.shape)

    def part(self, rows: Rows) -> Stored:
        """Some of the pictures."""
        return Stored(self.root, self.names[rows], self.encoder, self.marks[rows])

    def digest(self) -> Iterator[Any]:
        """The mark of each picture."""
        yield np.ascontiguousarray(self.marks).data


def read_pictures(root: Path, batches: Sequence[list[str]], shape: tuple[int, int, int]) -> Iterator[Bytes]:
    """Pictures (r, C, H, W) of one batch of names after the other.

    Args:
        root: The folder they are in.
        batches: Names below it.
        shape: (C, H, W), see `decode`.

    Raises:
        OSError, ValueError: If one cannot be read; the message names it.
    """
    return (np.stack(batch) for batch in mapped(_Decoding(root, shape), batches))


def mapped(function: Callable[[str], T], batches: Sequence[list[str]]) -> Iterator[list[T]]:
    """What a function says to the names of one batch after the other, asked in processes where there are many.

    Args:
        function: Of a name; it can be pickled, and raises OSError or ValueError.
        batches: Of names.
    """
    if sum(map(len, batches)) < _FEW or len(batches) < 2:
        for batch in batches:
            yield [function(name) for name in batch]
        return
    import torch
    from torch.utils.data import DataLoader

    workers = min(_MOST, len(batches), _cores())
    loader: Any = DataLoader(
        _Asked(function),  # type: ignore[arg-type]  # PyTorch asks for no more than this
        batch_size=None,
        sampler=batches,  # each item is what the function is asked about
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        generator=torch.Generator(),  # else it would draw from the one of all
    )
    for answer in loader:
        if isinstance(answer, Exception):
            raise answer
        yield answer


class _Decoding:
    """`decode` of the pictures in a folder."""

    def __init__(self, root: Path, shape: tuple[int, int, int]) -> None:
        self.root, self.shape = root, shape

    def __call__(self, name: str) -> Bytes:
        return decode(self.root / name, self.shape)


class _Asked(Generic[T]):
    """A function as the data set of a loader; its errors are answers, for a loader would add a page to their words."""

    def __init__(self, function: Callable[[str], T]) -> None:
        self.function = function

    def __getitem__(self, batch: list[str]) -> list[T] | Exception:
        try:
            return [self.function(name) for name in batch]
        except (OSError, ValueError) as error:
            return error


def _as_it_is(answer: Any) -> Any:
    return answer


def _begin(worker: int) -> None:
    """Leave Ctrl-C to the process that is asked for; end where that says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _cores() -> int:
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1
