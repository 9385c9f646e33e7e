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
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from hdnn.cli.messages import say

_OURS = "hdnn-"  # begins the names of what `--processes` starts
_A_CORE = 4  # processes that a core may have, which is enough to try out what many do
_NO_STORE = (RuntimeError, ValueError, LookupError)  # raised where there is none, or it is gone with torchrun
_store: list[Any] = []


def check(count: int | None, restarts: int) -> None:
    """See that there can be so many processes, before anything is read or started.

    Args:
        count: of `--processes`, or None.
        restarts: of `--max-restarts`.

    Raises:
        ValueError: if not.
    """
    if count is not None and count < 1:
        raise ValueError(f"`processes` must be at least 1; got {count}.")
    if restarts < 0:
        raise ValueError(f"`max_restarts` must be at least 0; got {restarts}.")
    if is_one():
        started, is_ours = os.environ.get("WORLD_SIZE", "1"), os.environ["TORCHELASTIC_RUN_ID"].startswith(_OURS)
        if not is_ours and restarts:
            raise ValueError("torchrun has started this process, and begins it again: give `max_restarts` to torchrun.")
        if count is not None and str(count) != started:
            raise ValueError(f"torchrun has started {started} processes; got `processes={count}`. Leave that out.")
        return
    if restarts and count is None:
        raise ValueError(
            f"`max_restarts={restarts}` says how often the processes of `processes` begin again, and there are none. "
            f"Add `processes=2`, or `processes=1` for one that is begun again."
        )
    cores = os.cpu_count() or 1
    if count is not None and count > _A_CORE * cores:
        raise ValueError(
            f"`processes={count}` are too many for the {cores} cores of this machine, where at most {_A_CORE * cores} "
            f"may share a training: each takes the memory of a whole one. Take one a core; more machines are joined by "
            f"torchrun --nnodes."
        )


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
    try:
        return bool(_words().add("hdnn: said", 1) == 1)
    except _NO_STORE:
        return not follows()


def give_up(error: BaseException, code: int) -> None:
    """Let a training end with an error, for which torchrun would begin all processes again to meet it again.

    Args:
        error: which; only that another process was lost is worth another try.
        code: to exit with.
    """
    if may_restart() and not isinstance(error, ConnectionError):
        with suppress(*_NO_STORE):
            _words().underlying_store.set("hdnn: code", str(code))


def given_up() -> int | None:
    """The exit code of this training, if it has ended with an error before torchrun began all processes again."""
    with suppress(*_NO_STORE):
        if is_restarted() and (store := _words().underlying_store).check(["hdnn: code"]):
            return int(store.get("hdnn: code"))
    return None


def _words() -> Any:
    """The store where the processes of a training say what they have said.

    Raises:
        LookupError: if there is none.
    """
    if not _store:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            raise LookupError("Only torchrun's own store is there before all processes are.")
        from torch.distributed.rendezvous import rendezvous

        _keep(next(iter(rendezvous("env://", timeout=timedelta(seconds=10))))[0])
    return _store[0]


def _keep(store: Any) -> Any:
    """A part of a store for those that run now: what others said that have ended since must not be taken for theirs."""
    from torch.distributed.distributed_c10d import PrefixStore

    _store[:] = [PrefixStore(f"hdnn {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)]
    return _store[0]


def check_device(device: str, count: int) -> None:
    """See that so many processes of this machine can train there.

    Args:
        device: of `--device`.
        count: of processes here.

    Raises:
        ValueError: if not.
    """
    if not device.startswith("cuda"):
        return
    import torch

    there = torch.cuda.device_count()
    if device != "cuda" or there < count:
        remedy = f"Use cuda with at most {there} processes, or cpu" if there else "Use cpu"
        raise ValueError(
            f"`device` {device!r} cannot be that of {count} processes, which take a CUDA device each; there are "
            f"{there or 'none'}. {remedy}."
        )


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

    check_device(device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if follows():
        # An interrupt is for the first, which saves; the others end when it has.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(iter(rendezvous("env://")))
    store = _keep(store)
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
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    if not {"", os.getcwd()} & set(sys.path):  # else hdnn itself may have been found there
        # `python -m` would look for modules in the working folder first, and run a file of that name.
        os.environ.setdefault("PYTHONSAFEPATH", "1")
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
            return _code([ended[rank] for rank in sorted(ended)])  # its words have been said
        rank, number = next(iter(killed.items()))
        name = signal.Signals(number).name if number in [*signal.Signals] else f"signal {number}"
        say(
            f"Error: Process {rank} of {count} was ended by {name}, and the others with it. What was learned until the "
            f"last checkpoint stays in {folder}; go on, with as many processes as you like: "
            f"hdnn train --resume {folder} --processes {count}"
        )
        return 2
    return 0


def _code(ended: Sequence[int]) -> int:
    """The exit code of all, from those of the processes that failed: of an error, not of who was ended for it."""
    return next((code for code in ended if code > 0 and code != 130), 130 if 130 in ended else 2)


def arguments(folder: Path | None) -> list[str]:
    """Those of this process, for others; with a run folder where none was named.

    Args:
        folder: to be named, or None.
    """
    return [*sys.argv[1:], *(() if folder is None else ("--output", str(folder)))]
