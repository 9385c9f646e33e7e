"""IDX files of bytes, the format of http://yann.lecun.com/exdb/mnist, as they are or compressed by gzip.

Two zero bytes, the type 8 (uint8), the number of dimensions, each dimension as a big-endian 32-bit number, then the
values. The header bounds what is read and unpacked; the file bounds what memory is taken.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_LARGEST, _LARGEST_ITEM = 2**30, 2**24
_CHUNK = 2**20


def read_idx(path: str | os.PathLike[str]) -> Bytes:
    """Read an IDX file of bytes, as it is or compressed by gzip.

    Args:
        path: The file.

    Returns:
        uint8, of the shape in the header (one to four dimensions).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a file, of another type, damaged, too short, too long or too large.
    """
    with _opened(path) as (place, stream, _):
        shape = _shape(stream, place)
        size = math.prod(shape)
        if not 1 <= size <= _LARGEST:
            raise ValueError(f"{place} announces {shape} = {size} values; 1 to {_LARGEST} can be read.")
        values = bytearray()
        for piece in _values(stream, place, shape, _CHUNK):
            values += piece
        return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def idx_parts(
    path: str | os.PathLike[str], *, part: int = 2**22, progress: Callable[[int], None] | None = None
) -> Iterator[Bytes]:
    """Read an IDX file part by part, for files larger than memory.

    Args:
        path: The file.
        part: Bytes of a part, about; at least one item goes into each.
        progress: Told how many bytes of the file have been read.

    Yields:
        uint8 of the shape in the header, but with fewer items.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `read_idx`, but files of any length can be read; what was good before a defect was yielded.
    """
    with _opened(path) as (place, stream, raw):
        shape = _shape(stream, place)
        item = math.prod(shape[1:])
        if not (shape[0] and 1 <= item <= _LARGEST_ITEM):
            raise ValueError(f"{place} announces {shape} values; items of 1 to {_LARGEST_ITEM} bytes can be read.")
        for piece in _values(stream, place, shape, item * max(1, part // item)):
            yield np.frombuffer(piece, dtype=np.uint8).reshape(-1, *shape[1:])
            if progress is not None:
                progress(raw.tell())


def is_idx(path: Path) -> bool:
    """Whether a file begins as an IDX file does, as it is or compressed by gzip."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"\0\0", b"\x1f\x8b")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Path, BinaryIO, BinaryIO]]:
    """The path, the stream of unpacked bytes, and the file below it."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"There is no file {place}. An IDX file was expected there.")
    if not place.is_file():
        raise ValueError(f"{place} is not a file. An IDX file was expected there.")
    with place.open("rb") as raw:
        start = raw.read(2)
        raw.seek(0)
        if not start:
            raise ValueError(f"{place} is empty (0 bytes). Fetch the file again.")
        if start != b"\x1f\x8b":
            yield place, raw, raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield place, unpacked, raw  # type: ignore[misc]
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{place} is damaged gzip ({error}). Fetch the file again.") from None


def _shape(stream: BinaryIO, place: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{place} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}, but an IDX file of bytes "
            f"begins with 00 00 08."
        )
    if magic[2] != 8:
        raise ValueError(f"{place} holds IDX values of type 0x{magic[2]:02x}; only bytes (0x08) are read.")
    if not 1 <= magic[3] <= 4:
        raise ValueError(f"{place} announces {magic[3]} dimensions; 1 to 4 can be read.")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{place} ends inside its header of {4 + 4 * magic[3]} bytes. Fetch the file again.")
    return tuple(int(n) for n in np.frombuffer(header, dtype=">u4"))


def _values(stream: BinaryIO, place: Path, shape: tuple[int, ...], step: int) -> Iterator[bytearray]:
    """The values in pieces of `step` bytes, the last one shorter, and nothing after them."""
    size, done = math.prod(shape), 0
    while done < size:
        piece = bytearray()
        wanted = min(step, size - done)
        # Little by little, so that a header that promises much costs no memory unless the file keeps it.
        while len(piece) < wanted and (read := stream.read(min(_CHUNK, wanted - len(piece)))):
            piece += read
        done += len(piece)
        if len(piece) < wanted:
            raise ValueError(f"{place} announces {shape} = {size} values but holds {done}. Fetch the file again.")
        yield piece
    # Asking for one byte more also makes gzip compare its checksum.
    if stream.read(1):
        raise ValueError(f"{place} goes on after the {size} values of {shape} that it announces.")
