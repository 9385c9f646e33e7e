"""A file that one process holds at a time."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file while something is done that another process must not do as well.

    The system lets go of the file when a process ends, however it ends, so nobody waits for a process that was killed.
    The file is removed at the end.

    Args:
        path: made if it is not there; its folder must exist.

    Raises:
        BlockingIOError: if another process holds it, or another part of this one.
        OSError: if it cannot be made, is no plain file, or its file system knows no locks.
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        # Removed while it is held: who opened it before and gets the lock next sees that it has lost its name.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(handle)
        if os.name == "nt":  # which removes no file that is open
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold a file as `held` does, once nobody else does: for what takes moments.

    Raises:
        OSError: if it cannot be made, is no plain file, or its file system knows no locks.
    """
    pause = 0.001
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(path))
            except BlockingIOError:
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
                continue
            yield
            return


def _acquire(path: Path) -> int:
    while True:
        # No link is followed: the folder may come from elsewhere.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{path} is no plain file, so it cannot be locked. Move it away.")
            lock(handle)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def lock(handle: int) -> None:
    """Lock an open file or raise BlockingIOError, by what the system has."""
    if os.name == "nt":
        msvcrt = importlib.import_module("msvcrt")
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
