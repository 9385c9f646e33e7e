"""From what a run began: read back out of its configuration, and checked, so that it can go on."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hdnn.data import Dataset
from hdnn.jobs.sources import Source
from hdnn.names import count
from hdnn.runs import Run, versions
from hdnn.training import Recipe, TogetherState, TrainingState
from hdnn.training.circumstances import differing
from hdnn.training.devices import most_threads

# What `init_std: null` means in a run: the rule by which `Flow` drew its weights then.
DEFAULT_WEIGHTS, _OLD_WEIGHTS = "1/sqrt(n taps), wide scaled", "1/sqrt(n)"


def fingerprint(dataset: Dataset) -> str:
    """A digest of the arrays that a network is trained and tested on; other data have another."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def beginning(run: Run) -> tuple[Source, Recipe, float | None, str, int]:
    """Data, recipe, deviation of the initial weights (None: the default of `Flow`), device and threads of a run.

    Raises:
        ValueError: if the configuration lacks them or they make no sense.
    """
    start = dict(run.config.start)
    if not start:
        raise ValueError(
            f"The run {run.folder} was begun by an earlier hdnn, which wrote no checkpoints. Train anew with --output "
            f"or --overwrite; its command was: {run.config.command}"
        )
    kinds: dict[str, tuple[type, ...]] = {
        "init_std": (int, float, type(None)),
        "device": (str,),
        "threads": (int,),
        "fingerprint": (str,),
        "default_weights": (str,),
    }
    start.setdefault("default_weights", _OLD_WEIGHTS)  # earlier versions wrote none
    start.pop("circumstances", None)  # words, which decide nothing
    if start.keys() != kinds.keys() or not all(type(start[name]) in kind for name, kind in kinds.items()):
        raise ValueError(f"{run.folder}: `start` of the configuration must hold {', '.join(kinds)}. Was it edited?")
    if not 1 <= start["threads"] <= most_threads():
        raise ValueError(
            f"{run.folder}: a run cannot use {start['threads']} threads here. Was it begun on a larger machine, or its "
            f"configuration edited?"
        )
    source = _made(run, Source, {**run.config.data, "download": False})
    recipe = _made(run, Recipe, dict(run.config.recipe))
    if run.config.seed != recipe.seed:
        raise ValueError(f"{run.folder}: the seeds of run and recipe differ. Was the configuration edited?")
    init_std = start["init_std"]
    if start["default_weights"] == _OLD_WEIGHTS and init_std is None:
        init_std = 1 / math.sqrt(run.config.network.features)
    elif start["default_weights"] not in (_OLD_WEIGHTS, DEFAULT_WEIGHTS):
        raise ValueError(f"{run.folder}: the weights of this run were drawn by a rule of a newer hdnn. Update hdnn.")
    return source, recipe, init_std, start["device"], start["threads"]


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


def _made(run: Run, kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass of a configuration's values; what an older hdnn did not know of keeps its default."""
    fields = dataclasses.fields(kind)
    needed = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    odd = sorted((values.keys() - {field.name for field in fields}) | (needed - values.keys()))
    if odd:
        raise ValueError(f"{run.folder}: {odd[0]!r} of the configuration is missing, or unknown to this hdnn.")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**plain)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{run.folder}: a value of the configuration is of the wrong kind: {error}.") from error
