"""Pages of memory that nothing uses any more, handed back to the system.

The C library keeps what large tensors leave as long as a small one that stays lies between: training on images, that is
nearly a megabyte a step, half a gigabyte in an epoch of MNIST.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

EVERY = 64
"""Steps after which it pays."""

LARGE = 2**18
"""Numbers in the states of a batch from which it matters, 1 MiB."""


def hand_back() -> None:
    """Hand unused pages back, in less than a millisecond; where the C library has no such call, do nothing."""
    _call()(0)


@functools.cache
def _call() -> Callable[[int], object]:
    try:
        call: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not the C library of GNU
        return bool
    return call
