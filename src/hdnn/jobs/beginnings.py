"""From what a run began: read back out of its configuration, and checked, so that it can go on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hdnn.data import Dataset, Pixels, documents
from hdnn.jobs.sources import DataSource, source_of
from hdnn.names import count
from hdnn.runs import Run, versions
from hdnn.training import Recipe, TogetherState, TrainingState
from hdnn.training.circumstances import differing
from hdnn.training.devices import most_threads

# What `init_std: null` means in a run: the rule by which `Flow` drew its weights then.
DEFAULT_WEIGHTS, _OLD_WEIGHTS = "1/sqrt(n taps), wide scaled", "1/sqrt(n)"


@dataclass(frozen=True)
class Start:
    """What `RunConfig.start` holds: the rest of what decides the bits of a run.

    Args:
        init_std: deviation of the initial weights; None is the default of `Flow`.
        device: that was asked for.
        threads: that PyTorch used.
        fingerprint: of the data.
        default_weights: what None meant as `init_std`.
        circumstances: what else took part, in words that decide nothing.
        class_weight: of the loss, see `row_weights`.
        folds: see `repeats`, as
        seeds: .
    """

    init_std: float | None
    device: str
    threads: int
    fingerprint: str
    default_weights: str = field(default=DEFAULT_WEIGHTS, metadata={"before": _OLD_WEIGHTS})
    circumstances: Any = None
    class_weight: tuple[str, ...] | None = None
    folds: int | None = None
    seeds: int | None = None


def fingerprint(dataset: Dataset) -> str:
    """A digest of the arrays that a network is trained and tested on; other data have another."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(f"{array.dtype} {array.shape}".encode())
        for piece in array.digest() if isinstance(array, Pixels) else [np.ascontiguousarray(array).data]:
            digest.update(piece)
    return digest.hexdigest()


def beginning(run: Run, given: DataSource | None = None) -> tuple[DataSource, Recipe, float | None, str, int]:
    """Data, recipe, deviation of the initial weights (None: the default of `Flow`), device and threads of a run.

    Args:
        run: that goes on.
        given: its data, where they are none of the built-in ones.

    Raises:
        ValueError: if the configuration lacks them or they make no sense.
    """
    start = started(run)
    if start is None:
        raise ValueError(
            f"The run {run.folder} was begun by an earlier hdnn, which wrote no checkpoints. Train anew with --output "
            f"or --overwrite; its command was: {run.config.command}"
        )
    if not 1 <= start.threads <= most_threads():
        raise ValueError(
            f"{run.folder}: a run cannot use {start.threads} threads here. Was it begun on a larger machine, or its "
            f"configuration edited?"
        )
    source = source_of(run, given=given)
    recipe = documents.record(Recipe, dict(run.config.recipe), f"the recipe of {run.folder}")
    if run.config.seed != recipe.seed:
        raise ValueError(f"{run.folder}: the seeds of run and recipe differ. Was the configuration edited?")
    return source, recipe, deviation(run, start), start.device, start.threads


def started(run: Run) -> Start | None:
    """What `start` of a run says; None for those of early versions.

    Raises:
        ValueError: if it makes no sense.
    """
    return documents.record(Start, dict(run.config.start), f"`start` of {run.folder}") if run.config.start else None


def deviation(run: Run, start: Start | None) -> float | None:
    """The deviation of the initial weights of a run; None is the default of `Flow`."""
    init_std, rule = (None, _OLD_WEIGHTS) if start is None else (start.init_std, start.default_weights)
    if rule not in (_OLD_WEIGHTS, DEFAULT_WEIGHTS):
        raise ValueError(f"{run.folder}: the weights of this run were drawn by a rule of a newer hdnn. Update hdnn.")
    return 1 / math.sqrt(run.config.network.features) if init_std is None and rule == _OLD_WEIGHTS else init_std


def where(recipe: Recipe, state: TrainingState | None) -> str:
    """Where a run goes on."""
    if state is None:
        return "There is no checkpoint yet: starting from the beginning."
    epochs = recipe.restart_epochs if state.is_starting else recipe.epochs
    return f"Going on after {steps(state, f' of {epochs}')}."


def steps(state: TrainingState, of: str = "") -> str:
    """How far a training has come, as in "3 epochs of 10 and 2 steps"; `of` stands behind the epochs."""
    place = state.starts if state.starts is not None and state.is_starting else state
    among = f" of the {place.members} starts" if isinstance(place, TogetherState) else ""
    return f"{count(place.epochs, 'epoch')}{of} and {count(place.batches, 'step')}{among}"


def changed(run: Run, state: TrainingState | None, now: Mapping[str, str]) -> str:
    """What takes part now that did not when a run began, or when its checkpoint was written."""
    now = {**versions(), **now}
    began = run.config.start.get("circumstances")
    for other in (state.circumstances if state is not None else None, began):
        known = {**run.config.versions, **(other if isinstance(other, Mapping) else {})}
        if found := differing(known, now):
            return found
    return ""
