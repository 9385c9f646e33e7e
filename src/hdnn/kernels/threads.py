"""Whose threads share a run of the extension: those of the OpenMP runtime that PyTorch has loaded, where it has one.

The extension links none. Two runtimes in one process would each keep a team of threads awake, at the other's cost.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch

_LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib")


@lru_cache(maxsize=1)
def entry() -> int:
    """The address of `GOMP_parallel` as PyTorch sees it, 0 where it has none: threads are then made for each run.

    A look-up in a library that is loaded goes through what that library itself needs, and loads nothing.
    """
    for name in _LIBRARIES:
        path = Path(torch.__file__).with_name("lib") / name
        try:
            loaded = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD)
            return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            continue  # not loaded, no such function, or Windows, which has neither flag
    return 0
