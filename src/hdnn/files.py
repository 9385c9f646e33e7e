"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part.

    The content goes to a new file beside it, reaches the disk, and then takes the name. After a failure the old file
    is untouched and nothing is left behind; only a process that is killed in between leaves the new file, which
    `leftovers` finds.

    Args:
        path: the file; its folder must exist.
        content: bytes, or text to be written as UTF-8.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if the folder is missing.
        IsADirectoryError: if the path is a folder.
        OSError: if it is not writable, or the disk is full.
    """
    with writing_whole(path) as write:
        write(content)
    return Path(path)


@contextmanager
def writing_whole(path: str | os.PathLike[str]) -> Iterator[Callable[[bytes | str], None]]:
    """Write a file piece by piece as `write_whole` does: it takes its name at the end, unless there was an error.

    Args:
        path: the file; its folder must exist.

    Yields:
        A function that writes the next piece.

    Raises:
        OSError: as `write_whole`.
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(place.parent)!r} to write {place.name} to. Create it.")
    if place.is_dir():
        raise IsADirectoryError(f"{place} is a folder, so no file can take its name. Name a file in it.")
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    with _named(place):
        stream = aside.open("xb")

    def write(content: bytes | str) -> None:
        with _named(place):
            stream.write(content.encode() if isinstance(content, str) else content)

    try:
        yield write
        with _named(place):
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            aside.replace(place)
            _sync_folder(place.parent)
    finally:
        with contextlib.suppress(OSError):
            stream.close()
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def leftovers(folder: Path, names: Collection[str]) -> list[Path]:
    """Files that `write_whole` left in a folder where its process was killed.

    Args:
        folder: where to look.
        names: of the files that were to be written; of others nothing is found.
    """
    found = []
    for path in folder.glob(".*"):
        name, _, suffix = path.name[1:].rpartition(".")
        if name in names and len(suffix) == 32 and set(suffix) <= set("0123456789abcdef"):
            found.append(path)
    return found


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Errors of the system speak of the file beside it, which nobody asked for: name the file itself."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk as well, where the system can be asked to."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
