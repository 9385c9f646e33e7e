"""Work in processes forked from this one, so that PyTorch is imported once for all."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable


def forked(work: Callable[[], object]) -> int:
    """Begin some work in a process of its own.

    Args:
        work: after which the process ends, without what else would be done at an end: with exit code 0, with 1 and a
            traceback after an error, or with that of a SystemExit.

    Returns:
        The number of the process.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def joined(children: Iterable[int]) -> None:
    """Wait until all have ended.

    Raises:
        SystemExit: if one of them failed.
    """
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        raise SystemExit(f"Of the processes, these failed: {statuses}")
