"""Runs side by side: in which choices they differ, and how they came out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdnn import files, plots
from hdnn.data import documents
from hdnn.jobs.sources import Source
from hdnn.names import count
from hdnn.runs import Run, files_of
from hdnn.training import Recipe

# Where a file is, and how it came there, is not what a network learned from.
_PLACES = ("data", "folder", "download", "seed", "task", "own")
_OF_STARTS = ("restart_epochs", "restart_learning_rate")
_HIGHER, _LOWER = ("accuracy", "r2", "auc"), ("loss", "error")


@dataclass(frozen=True)
class Comparison:
    """What was found of runs, in their order; what a run does not say, or does not have, is None.

    Args:
        runs: their folders.
        choices: those in which they differ, by name.
        results: all numbers in their results, by name.
        best: by the name of a score on test rows, the places of the runs that have the best; empty where data differ.
        remarks: what else is to be known, a sentence each.
        histories: of the runs that have one, by their folders.
    """

    runs: tuple[str, ...]
    choices: Mapping[str, tuple[Any, ...]]
    results: Mapping[str, tuple[float | None, ...]]
    best: Mapping[str, tuple[int, ...]]
    remarks: tuple[str, ...]
    histories: Mapping[str, Sequence[Mapping[str, float]]]

    def draw(self, path: Path, *, overwrite: bool = False) -> Path:
        """Write a figure of all curves of training, one over the other.

        Args:
            path: ending in `.png` or `.svg`.
            overwrite: replace it.

        Raises:
            ValueError: if no run has a history, or for another ending.
            OSError: if the file is there, is one of a run that is compared, or cannot be written.
        """
        files.require_apart(path, [file for run in self.runs for file in files_of(Path(run))])
        files.require_new(path, overwrite=overwrite)
        if not self.histories:
            raise ValueError("No run of these has a history yet, so there are no curves to draw. Leave out `figure`.")
        return plots.save(plots.compared_curves(self.histories), path)


def compare(folders: Sequence[Path]) -> Comparison:
    """Lay runs side by side.

    Args:
        folders: of two runs at least; runs that are not finished have no results.

    Returns:
        What differs, and the results.

    Raises:
        FileNotFoundError: if a folder holds no run.
        ValueError: if there are fewer than two, one is given twice, or one is damaged.
    """
    if len(folders) < 2:
        raise ValueError(f"A comparison needs two runs at least; got {len(folders)}. Give the folders of others too.")
    places = [folder.resolve() for folder in folders]
    for i, folder in enumerate(folders):
        if places[i] in places[:i]:
            raise ValueError(f"The run {folder} is given twice. Give each once.")
    runs = [Run.open(folder) for folder in folders]
    metrics = [_metrics(run) for run in runs]
    choices = _rows([_choices(run) for run in runs])
    results = _rows([_numbers(found) for found in metrics])
    names = tuple(str(folder) for folder in folders)
    histories = {name: history for name, run in zip(names, runs, strict=True) if (history := _history(run))}
    other = _of_data(runs, names)
    return Comparison(
        names,
        {name: row for name, row in choices.items() if any(value != row[0] for value in row)},
        results,
        {} if other else {name: best for name, row in results.items() if (best := _best(name, row))},
        (*other, *_of_ends(metrics, names)),
        histories,
    )


def _choices(run: Run) -> dict[str, Any]:
    """What was chosen for a run, by name; what its hdnn did not know has the value that it meant."""
    config = run.config
    recipe = documents.record(Recipe, dict(config.recipe), f"the recipe of {run.folder}")
    network = dataclasses.asdict(config.network)
    known = {field.name: field.default for field in dataclasses.fields(Source)}
    named = {**known, **config.data} if "data" in config.data else config.data
    idle = ("seed", *(_OF_STARTS if recipe.restarts == 1 else ()))
    return {
        "data": config.data.get("data"),
        **{name: value for name, value in named.items() if name not in _PLACES},
        **network,
        "horizon": config.network.horizon,
        **{name: value for name, value in dataclasses.asdict(recipe).items() if name not in idle},
        "seed": config.seed,
        **{name: config.start.get(name) for name in ("init_std", "device", "threads", "class_weight")},
        **{f"{name} version": version for name, version in config.versions.items()},
    }


def _metrics(run: Run) -> dict[str, Any] | None:
    try:
        return run.read_metrics()
    except FileNotFoundError:
        return None


def _numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: value for name, value in (metrics or {}).items() if type(value) in (int, float)}


def _history(run: Run) -> list[dict[str, float]]:
    try:
        history = run.read_history()
        for place, record in enumerate(history):
            if not math.isfinite(record.get("epoch", math.nan)):
                raise ValueError(f"line {place + 2} names no epoch")
        return history
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ValueError(f"history.csv of {run.folder} is no history of a training: {error}. Train again.") from error


def _rows(columns: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """By name, a value of each column; names in the order in which they come up."""
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: tuple(column.get(name) for column in columns) for name in names}


def _best(name: str, row: Sequence[float | None]) -> tuple[int, ...]:
    """Where the best of a score on test rows stands, if not everywhere."""
    known = [value for value in row if value is not None and math.isfinite(value)]
    if not name.startswith("test_") or not name.endswith((*_HIGHER, *_LOWER)) or len({*known}) < 2:
        return ()
    best = max(known) if name.endswith(_HIGHER) else min(known)
    return tuple(i for i, value in enumerate(row) if value == best)


def _of_data(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Runs of other data than the first one's: their scores say nothing about each other."""
    other = [name for run, name in zip(runs, names, strict=True) if _differ(runs[0], run)]
    if not other:
        return []
    verb = "was" if len(other) == 1 else "were"
    return [f"{', '.join(other)} {verb} trained on other data than {names[0]}: do not compare their scores."]


def _differ(one: Run, other: Run) -> bool:
    """Whether the data differ, by their digests, or by what is said of them where early runs have none."""
    digests = [run.config.start.get("fingerprint") for run in (one, other)]
    if all(digests):
        return digests[0] != digests[1]
    unset = {field.name: field.default for field in dataclasses.fields(Source)}
    described = [{**unset, **run.config.data} for run in (one, other)]
    telling = (described[0].keys() | described[1].keys()) - {"folder", "download"}
    return any(described[0].get(name) != described[1].get(name) for name in telling)


def _of_ends(metrics: Sequence[Mapping[str, Any] | None], names: Sequence[str]) -> list[str]:
    ends = zip(metrics, names, strict=True)
    said = []
    for found, name in ends:
        if found is None:
            said.append(f"{name} is not finished, so it has no results.")
        elif found["interrupted"]:
            epochs = found.get("epochs")
            after = f" after {count(epochs, 'epoch')}" if type(epochs) is int else ""
            said.append(f"{name} was interrupted{after}.")
    return said
