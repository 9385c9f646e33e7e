"""The journal of a study on a file: Optuna's, with a lock that the system lets go of when its holder is killed.

Optuna's own locks are files that a killed process leaves behind, and others wait half a minute for; and a line that was
cut off makes the next one unreadable, and with it the study.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hdnn import files
from hdnn.locks import waited_for

_PIECE = 2**16


class JournalLock:
    """What Optuna asks of a lock. Held while a process writes to a journal; who gets it finds the journal whole.

    Args:
        journal: the file.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held: AbstractContextManager[None] | None = None

    def acquire(self) -> bool:
        """Wait until nobody writes, and take away what a killed process wrote last, if it is no whole line."""
        held = waited_for(self._journal.with_name(f".{self._journal.name}.lock"))
        held.__enter__()
        try:
            mend(self._journal)
        except BaseException:
            held.__exit__(None, None, None)
            raise
        self._held = held
        return True

    def release(self) -> None:
        """Let others write."""
        if self._held is not None:
            held, self._held = self._held, None
            held.__exit__(None, None, None)


def mend(journal: Path) -> None:
    """Cut a file off behind its last whole line."""
    with journal.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        place = end
        while place:
            start = max(0, place - _PIECE)
            stream.seek(start)
            found = stream.read(place - start).rfind(b"\n")
            if found >= 0:
                place = start + found + 1
                break
            place = start
        if place < end:
            stream.truncate(place)
            os.fsync(stream.fileno())


def journal_storage(journal: Path) -> JournalStorage:
    """The storage of a study in a file, which is made if it is not there.

    Raises:
        OSError: if it is no plain file, or cannot be read or written.
        ValueError: if it is damaged.
    """
    files.require_own(journal.parent, [journal.name])
    lock: Any = JournalLock(journal.absolute())
    try:
        return JournalStorage(JournalFileBackend(str(journal.absolute()), lock))
    except OSError:
        raise
    except Exception as error:  # of whatever kind a line of anybody's makes Optuna raise
        raise ValueError(
            f"{journal} is no journal of a study that Optuna can read ({type(error).__name__}: {error}). Was it "
            f"edited? Choose another folder with `study`."
        ) from error
