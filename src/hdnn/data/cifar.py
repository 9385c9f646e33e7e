"""CIFAR-10 from its binary batches, as they are or packed by gzip or xz, or from the official archive.

A record is one byte for the class and 3072 for the image, 1024 for each of red, green and blue, row by row.

Legend: s images, 3 channels, 32 x 32 pixels.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.dataset import Dataset
from hdnn.data.downloads import Progress, fetch
from hdnn.data.images import of_pixels
from hdnn.data.targets import TargetEncoder
from hdnn.doors import shelled

Bytes = NDArray[np.uint8]

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HELD_OUT = "batch 5 of the training images, held out, for the official test images are not there"
"""What the test part is where the test batch is missing."""

_INSIDE = "cifar-10-batches-bin"
_RECORD, _RECORDS = 1 + 3072, 10_000
_SIZE = _RECORD * _RECORDS
_LARGEST_ARCHIVE = 2**28


def cifar10(folder: str | os.PathLike[str], download: bool = False, progress: Progress | None = None) -> Dataset:
    """Read CIFAR-10: 32 x 32 pixels of ten classes.

    Each batch must have the published MD5 once it is unpacked. Where the five training batches are there but
    neither the test batch nor the archive, batch 5 takes its place and is not trained on; `held_out` says so.

    Args:
        folder: Where the files are or go: data_batch_1.bin to data_batch_5.bin and test_batch.bin, each as it is, with
            .gz or with .xz, there or in cifar-10-batches-bin below; or the archive cifar-10-binary.tar.gz.
        download: Fetch the archive (162 MiB) if there are no batches, checked by its SHA-256.
        progress: Called while it is fetched with its name, the bytes so far and in all.

    Returns:
        `Pixels` (s, 3, 32, 32): 50000 for training and 10000 for testing, or 40000 and 10000.

    Raises:
        FileNotFoundError: If files are not there and `download` is off.
        OSError: If no mirror has the archive as it should be.
        ValueError: If a file is damaged, or is not as published.

    References:
        Krizhevsky, Learning multiple layers of features from tiny images, 2009,
        https://www.cs.toronto.edu/~kriz/cifar.html
    """
    place = Path(folder)
    *training, test = MD5
    if any(_file(place, name) is None for name in training) and not (place / ARCHIVE).is_file():
        absent = [name for name in training if _file(place, name) is None]
        if not download:
            lacks = (
                f"{place} lacks {len(absent)} of the 5 training batches of CIFAR-10: {', '.join(absent)}. Put them "
                f"there (as they are, with .gz or with .xz) or the archive {ARCHIVE},"
            )
            raise shelled(
                FileNotFoundError(f"{lacks} or give `download=True` to fetch it."),
                f"{lacks} name another folder by --data-folder, or give --download to hdnn train, which fetches it.",
            )
        fetch(ARCHIVE, place, MIRRORS, SHA256, largest=_LARGEST_ARCHIVE, progress=progress)
    return _dataset(_batches(place, training, test))


def without_archive(folder: str | os.PathLike[str]) -> Dataset | None:
    """What earlier versions read where training batches lie beside the archive, in which they did not look for a test.

    Returns:
        Batches 1 to 4, and batch 5 held out; None where one is not there, or the test batch is.
    """
    place = Path(folder)
    *training, test = MD5
    if any(_file(place, name) is None for name in training) or _file(place, test) is not None:
        return None
    return _dataset([_of_file(place, name) for name in training])


def _dataset(batches: list[Bytes]) -> Dataset:
    x = np.empty((_RECORDS * (len(batches) - 1), 3, 32, 32), dtype=np.uint8)
    y = np.empty(len(x), dtype=np.int64)
    for k, batch in enumerate(batches[:-1]):
        rows = slice(k * _RECORDS, (k + 1) * _RECORDS)
        x[rows], y[rows] = _parted(batch)
    test, target = _parted(batches[-1]), TargetEncoder(("class",), classes=CLASSES)
    if len(batches) > 5:
        return of_pixels("cifar10", (x, y), test, target, "split as the files are")
    caution = f"The test part is {HELD_OUT}. Put the test batch beside the others for the published split."
    return of_pixels("cifar10", (x, y), test, target, "batches 1 to 4 for training", (caution,), HELD_OUT)


def is_batch(path: Path) -> bool:
    """Whether a file is called as a batch is: its name ends in .bin, .bin.gz or .bin.xz."""
    return path.name.removesuffix(".gz").removesuffix(".xz").endswith(".bin")


def batch(path: Path) -> tuple[Bytes, NDArray[np.int64]]:
    """The images of a batch, or of a part of one, and what they show.

    Args:
        path: A file of records, as it is, with .gz or with .xz; any MD5 will do.

    Returns:
        Images (s, 3, 32, 32) and classes (s,), the places in `CLASSES`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged or holds something else.
    """
    content = _unpacked(path)
    if not content or len(content) % _RECORD or len(content) > _SIZE:
        size = f"{len(content):,}" if len(content) <= _SIZE else f"more than {_SIZE:,}"
        raise ValueError(
            f"{path} has {size} bytes unpacked; a batch of CIFAR-10 has a multiple of {_RECORD}, one record an image, "
            f"and {_RECORDS:,} records at most. Is it the binary version?"
        )
    x, y = _parted(np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD))
    if y.max() >= len(CLASSES):
        row = int((y >= len(CLASSES)).argmax())
        raise ValueError(
            f"{path}: record {row + 1} is of class {y[row]}, and there are {len(CLASSES)}, from 0. Is it CIFAR-10?"
        )
    return x, y


def _batches(place: Path, training: list[str], test: str) -> list[Bytes]:
    """Those for training, and last the one for testing, from the archive where one is not beside it."""
    lacking = [name for name in (*training, test) if _file(place, name) is None]
    if lacking and (place / ARCHIVE).is_file():
        try:
            return _of_archive(place / ARCHIVE)
        except ValueError as error:
            if lacking != [test]:
                raise
            instead = "Or move it away: the five batches beside it serve without, and batch 5 is held out for testing."
            raise ValueError(f"{error} {instead}") from None
    names = [*training, test] if _file(place, test) is not None else training
    return [_of_file(place, name) for name in names]


def _file(place: Path, name: str) -> Path | None:
    """A batch, in whatever form it is there."""
    candidates = (folder / f"{name}{end}" for folder in (place, place / _INSIDE) for end in ("", ".gz", ".xz"))
    return next((path for path in candidates if path.is_file()), None)


def _of_file(place: Path, name: str) -> Bytes:
    path = _file(place, name) or place / name
    return _checked(path, name, _unpacked(path))


def _unpacked(path: Path) -> bytes:
    """What a file holds, up to a byte more than a batch has: it may unpack without an end."""
    opened: Any = open
    damage: tuple[type[Exception], ...] = (gzip.BadGzipFile, EOFError, zlib.error)
    if path.suffix == ".gz":
        opened = gzip.open
    elif path.suffix == ".xz":
        try:
            import lzma  # which not every Python was built with
        except ImportError as error:
            raise OSError(
                f"{path} is packed by xz, which this Python was built without. Unpack it by `xz -d {path.name}`."
            ) from error
        opened, damage = lzma.open, (lzma.LZMAError, EOFError)
    try:
        with opened(path, "rb") as stream:
            content: bytes = stream.read(_SIZE + 1)
    except damage as error:
        raise ValueError(f"{path} is damaged ({error}). Fetch the file again.") from None
    return content


def _of_archive(path: Path) -> list[Bytes]:
    """The batches in the official archive, which are read from where they lie in it."""
    found: dict[str, Bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in MD5 or not member.isfile():
                    continue
                stream = archive.extractfile(member)
                if stream is not None:
                    found[name] = _checked(path, name, stream.read(_SIZE + 1))
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}). Fetch the file again.") from None
    if lacking := [name for name in MD5 if name not in found]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}. Is it the binary version of CIFAR-10? Fetch it again.")
    return [found[name] for name in MD5]


def _checked(path: Path, name: str, content: bytes) -> Bytes:
    """Records (10000, 3073) that are those which were published."""
    if len(content) != _SIZE:
        size = f"{len(content):,}" if len(content) < _SIZE else f"more than {_SIZE:,}"
        raise ValueError(
            f"{path}: {name} has {size} bytes unpacked; a batch of CIFAR-10 has {_SIZE:,}, {_RECORDS:,} records of "
            f"{_RECORD}. Fetch the file again."
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise ValueError(
            f"{path}: {name} has the MD5 {found}, but the published one is {MD5[name]}. Fetch the file again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(_RECORDS, _RECORD)


def _parted(records: Bytes) -> tuple[Bytes, NDArray[np.int64]]:
    """Images (s, 3, 32, 32) and classes (s,)."""
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
