"""One training on many processes: `--processes` starts them by torchrun, and each finds out which one it is.

torchrun tells its processes by environment variables which of them they are; what it starts has a store that outlives
them, where the first to have an error says so, and the others are silent.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdnn.cli.messages import say

_OURS = "hdnn-"  # begins the names of what `--processes` starts
_store: list[Any] = []


def is_one() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def follows() -> bool:
    """Whether another process of this training speaks and writes."""
    return is_one() and os.environ["RANK"] != "0"


def is_restarted() -> bool:
    """Whether torchrun has started all again, as one of them had ended before its time."""
    return is_one() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def may_restart() -> bool:
    """Whether torchrun would."""
    return is_one() and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"


def may_say(error: BaseException) -> bool:
    """Whether to say what went wrong: it is said once, by the first process of a training that knows."""
    if not is_one():
        return True
    if isinstance(error, ConnectionError) and os.environ["TORCHELASTIC_RUN_ID"].startswith(_OURS):
        return False  # who started all of them knows which one was lost, and how
    if not _store:
        return not follows()
    try:
        return bool(_store[0].add("hdnn: said", 1) == 1)
    except (RuntimeError, ValueError):  # it is gone with torchrun
        return not follows()


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Train with the other processes that torchrun has started, if it has.

    Args:
        device: where to train.

    Raises:
        ValueError: if the device cannot be that of all.
        ConnectionError: if they do not find each other.
    """
    if not is_one() or os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    import torch

    local, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.startswith("cuda"):
        there = torch.cuda.device_count()
        if device != "cuda" or there < count:
            raise ValueError(
                f"`device` {device!r} cannot be that of {count} processes, which take a CUDA device each; there are "
                f"{there}. Use cuda with at most {there} processes, or cpu."
            )
        torch.cuda.set_device(local)
    if follows():
        # An interrupt is for the first, which saves; the others end when it has.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(iter(rendezvous("env://")))
    # What processes said that have ended since must not be taken for a word of those that begin again.
    store = PrefixStore(f"hdnn {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    _store.append(store)
    # Gloo for tensors on the CPU, NCCL for those of CUDA.
    try:
        torch.distributed.init_process_group(store=store, rank=rank, world_size=world)
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise ConnectionError(f"The {world} processes of this training did not find each other: {said}") from error
    yield
    torch.distributed.destroy_process_group()  # not after an error, when nobody may be left to agree to it


def launch(count: int, restarts: int, folder: Path, arguments: Sequence[str]) -> int:
    """Train on so many processes of this machine.

    Args:
        count: of them.
        restarts: how often all begin again from the last checkpoint, when one has ended before its time.
        folder: of the run.
        arguments: of `hdnn`, for each.

    Returns:
        The exit code.

    Raises:
        ValueError: if there cannot be so many.
    """
    if count < 1 or restarts < 0:
        raise ValueError(f"`processes` must be at least 1 and `max_restarts` 0; got {count} and {restarts}.")
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    logging.disable(logging.CRITICAL)  # torchrun's own words; the processes have theirs
    how = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", f"{_OURS}{uuid.uuid4()}"]
    how += ["--nnodes", "1", "--nproc-per-node", str(count), "--max-restarts", str(restarts), "-m", "hdnn"]
    try:
        torchrun.run(torchrun.parse_args([*how, *arguments]))  # type: ignore[no-untyped-call]
    except SignalException:
        return 130
    except ChildFailedError as error:
        ended = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = {rank: -code for rank, code in ended.items() if code < 0 and code != -signal.SIGTERM}
        if not killed:
            return ended.get(0, error.get_first_failure()[1].exitcode)  # its words have been said
        rank, number = next(iter(killed.items()))
        name = signal.Signals(number).name if number in [*signal.Signals] else f"signal {number}"
        say(
            f"Error: Process {rank} of {count} was ended by {name}, and the others with it. What was learned until the "
            f"last checkpoint stays in {folder}; go on, with as many processes as you like: "
            f"hdnn train --resume {folder} --processes {count}"
        )
        return 2
    return 0


def arguments(folder: Path | None) -> list[str]:
    """Those of this process, for others; with a run folder where none was named.

    Args:
        folder: to be named, or None.
    """
    return [*sys.argv[1:], *(() if folder is None else ("--output", str(folder)))]
