"""Files of data sets from the network, each kept only if it has the published SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hdnn.files import make_folder, write_whole
from hdnn.locks import waited_for

Progress = Callable[[str, int, int], None]
"""Called with the name of the file, the bytes so far and the bytes in all (0 while unknown)."""


def fetch(
    name: str, place: Path, mirrors: Sequence[str], sha256: str, *, largest: int, progress: Progress | None
) -> Path:
    """Download one file from the first mirror that has it as it should be.

    Where several processes want it, one fetches it, and the others wait and have it then.

    Args:
        name: Of the file, there and here.
        place: The folder it goes into.
        mirrors: What stands before the name in its addresses.
        sha256: Of the file.
        largest: Bytes that it may have.
        progress: Told how far it is.

    Raises:
        OSError: If no mirror has it; nothing is written then.
    """
    make_folder(place)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where files cannot be locked, each fetches its own
            stack.enter_context(waited_for(place / ".fetching"))
        if (place / name).is_file():
            return place / name
        return _fetched(name, place, mirrors, sha256, largest, progress)


def _fetched(
    name: str, place: Path, mirrors: Sequence[str], sha256: str, largest: int, progress: Progress | None
) -> Path:
    import pooch

    failures = []
    for mirror in mirrors:
        bar = _Bar(name, progress) if progress else False
        # The downloader by itself: `pooch.retrieve` would write log lines to the terminal.
        download = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=30)
        held = _Bounded(largest)
        try:
            download(mirror + name, held, None)
        except OSError as error:
            # The words of a failed connection run over several lines and say little more than its type.
            reason = str(error) if len(str(error)) < 200 else type(error).__name__
            failures.append(f"{mirror}{name}: {reason}")
            continue
        found = hashlib.sha256(held.getbuffer()).hexdigest()
        if found == sha256:
            return write_whole(place / name, held.getvalue())
        failures.append(f"{mirror}{name}: SHA-256 is {found}, not {sha256}; the file was discarded")
    raise OSError(
        f"Could not fetch {name} ({'; '.join(failures)}). Check the connection and try again, or put the file "
        f"into {place} yourself."
    )


class _Bounded(io.BytesIO):
    """What a mirror sends, which may be anything, in memory."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > self.largest:
            raise OSError(f"it is larger than {self.largest} bytes")
        return super().write(content)


class _Bar:
    """What pooch expects of a progress bar, handed on to a plain function."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.total = self.done = 0

    def update(self, count: int) -> None:
        # pooch counts whole chunks, so its last one overshoots.
        self.done = min(self.done + count, self.total) if self.total else self.done + count
        self.progress(self.name, self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
