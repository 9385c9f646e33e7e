"""Checkpoints: the state of a training on disk, so that it goes on after its process was killed.

    RUN/checkpoint.safetensors   the tensors of a `TrainingState`; in its head the digest of RUN/config.json

One file holds all, so a checkpoint is there as a whole or not at all, and nothing is unpickled to read it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hdnn.files import write_whole
from hdnn.networks import Network
from hdnn.runs import Run
from hdnn.training import Pace, Progress, Recipe, TogetherProgress, TrainingState

Stepped = Progress | TogetherProgress[TrainingState]

FORMAT = "1"
_SHARE = 50  # of the time from one checkpoint to the next at most 1/50 goes into writing them
_LBFGS_KEEPS = 205  # vectors: two for each of 100 steps, and a few
_OTHERS_KEEP = 3


class Saver:
    """A training callback that writes checkpoints now and then, during the starts and after them.

    Args:
        run: whose.
        every: seconds from one checkpoint to the next; longer where writing takes more than a fiftieth of it. 0 writes
            one after every step, whatever it costs.

    Raises:
        ValueError: if `every` is negative or not finite.
        OSError: while training, if a checkpoint cannot be written; the one before it stays.
    """

    def __init__(self, run: Run, every: float = 30.0) -> None:
        require_interval(every)
        self._run = run
        self._digest = run.digest
        self._every = every
        self._due = time.monotonic() + every
        self.pace = Pace(seconds=every) if every else Pace(steps=1)

    def __call__(self, progress: Stepped) -> None:
        """Write a checkpoint, if it is time to."""
        if time.monotonic() >= self._due:
            self.save(progress)

    def save(self, progress: Stepped) -> None:
        """Write a checkpoint."""
        start = time.monotonic()
        write_checkpoint(self._run, progress.state(), self._digest)
        end = time.monotonic()
        self._due = end + (max(self._every, _SHARE * (end - start)) if self._every else 0.0)


def require_interval(every: float) -> None:
    """See that seconds between checkpoints make sense."""
    if not (math.isfinite(every) and every >= 0):
        raise ValueError(f"Seconds from one checkpoint to the next must be 0 or more; got {every}.")


def write_checkpoint(run: Run, state: TrainingState, digest: str) -> None:
    """Replace the checkpoint of a run by a newer one."""
    try:
        write_whole(run.checkpoint, save(state.to_tensors(), {"format": FORMAT, "config": digest}))
    except OSError as error:
        earlier = "the one before it stays" if run.checkpoint.is_file() else "there is none before it"
        raise OSError(
            f"The checkpoint {run.checkpoint} could not be written: {error.strerror or error}. Training stopped; "
            f"{earlier}. Make room, then go on with: hdnn train --resume {run.folder}"
        ) from error


def read_checkpoint(run: Run, largest: int) -> TrainingState | None:
    """The state that a run was left in; None if it was stopped before its first checkpoint.

    Args:
        run: whose.
        largest: bytes that its checkpoint can have, see `largest_checkpoint`.

    Raises:
        ValueError: if the checkpoint is damaged or belongs to another run; the message says what to do.
    """
    path = run.checkpoint
    if not path.is_file():
        return None
    remedy = f"Remove {path} to train from the beginning."
    if path.stat().st_size > largest:
        raise ValueError(f"{path} is larger than any checkpoint of this run ({largest:,} bytes). {remedy}")
    content = path.read_bytes()
    try:
        tensors = load(content)
        head: Any = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}. {remedy}") from error
    said: Mapping[str, str] = head.get("__metadata__") or {}
    if said.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; it may come from a newer hdnn. Update hdnn. {remedy}")
    if said.get("config") != run.digest:
        raise ValueError(f"{path} belongs to another run, or its configuration was edited. {remedy}")
    try:
        return TrainingState.from_tensors(tensors)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error} {remedy}") from error


def largest_checkpoint(network: Network, recipe: Recipe, rows: int) -> int:
    """Bytes that a checkpoint can have at most, so that a file from elsewhere bounds the memory that it takes."""
    weights: int = sum(value.nbytes for value in network.state_dict().values())
    copies = (
        2
        + int(recipe.refit)
        + int(recipe.average > 0)
        + (_LBFGS_KEEPS if recipe.optimizer == "lbfgs" else _OTHERS_KEEP)
    )
    answers = 8 * rows * (network.head.out_features + 1)
    starts = 0
    if recipe.restarts > 1:
        each = (1 + _OTHERS_KEEP) * weights + len(torch.Generator().get_state()) + 8 * 10 * (recipe.restart_epochs + 1)
        starts = recipe.restarts * each
    return copies * weights + answers + starts + 2 * 8 * 10 * recipe.epochs + 2**20
