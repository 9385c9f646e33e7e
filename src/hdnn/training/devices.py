"""Where training runs: a device that is there, and as many threads as pay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MOST_THREADS = 256
_WORTH_SHARING = 2**17  # numbers in the state of a batch from which a second thread pays


def require_device(device: str) -> torch.device:
    """The device of that name, if it is there.

    Raises:
        ValueError: if PyTorch does not know it or the machine does not have it.
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"There is no device {device!r}. Use cpu, cuda, cuda:1 and so on.") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"Device {device!r} was asked for, but this PyTorch ({torch.__version__}) finds no CUDA device. "
            f"Use cpu, or install a CUDA build of PyTorch and its driver."
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"Device {device!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices.")
    try:
        # Whether the others are there shows when they are used; "meta" computes nothing.
        float(torch.ones((), device=place))
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ValueError(
            f"Device {device!r} does not work with this PyTorch ({torch.__version__}). Use cpu."
        ) from error
    return place


def require_threads(count: int) -> int:
    """The number, if a process can have so many threads.

    Raises:
        ValueError: if it is less than 1, or more than `most_threads`.
    """
    if count < 1:
        raise ValueError(f"`threads` must be at least 1; got {count}. Leave it out to let hdnn choose.")
    if count > most_threads():
        raise ValueError(f"`threads` may be at most {most_threads()}; got {count}. Leave it out to let hdnn choose.")
    return count


def most_threads() -> int:
    """More than any machine needs: each takes room for its stack, and OpenMP ends a process that cannot have one."""
    return max(_MOST_THREADS, os.cpu_count() or 1)


def worthwhile_threads(numbers: int) -> int:
    """One thread for small steps: sharing them gains little, and loses much when the processors are busy.

    Args:
        numbers: in the state of a batch, B n.
    """
    return 1 if numbers < _WORTH_SHARING else torch.get_num_threads()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let PyTorch use that many threads, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; PyTorch has no class of its own for the CPU's."""
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in words))
