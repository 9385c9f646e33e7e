"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part.

    The content goes to a new file beside it, reaches the disk, and then takes the name. After a failure the old file
    is untouched and nothing is left behind.

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
    place = Path(path)
    if not place.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(place.parent)!r} to write {place.name} to. Create it.")
    if place.is_dir():
        raise IsADirectoryError(f"{place} is a folder, so no file can take its name. Name a file in it.")
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("xb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(place)
    except OSError as error:
        if error.strerror is None:
            raise
        # The system speaks of the file beside it, which nobody asked for.
        raise OSError(error.errno, error.strerror, str(place)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return place
