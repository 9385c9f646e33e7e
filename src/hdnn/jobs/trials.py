"""One trial: a network trained on a part of the training rows and scored on the others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from hdnn.data import Dataset, Pixels
from hdnn.jobs.choices import Choices, chosen_recipe, network_config, seeded_network
from hdnn.jobs.interrupts import Interrupts
from hdnn.jobs.scores import measure, tensors
from hdnn.jobs.setups import Setup
from hdnn.jobs.train import threads_for
from hdnn.jobs.weights import row_weights
from hdnn.training import Progress, every, fit, split
from hdnn.training.batches import some
from hdnn.training.devices import require_device, using_threads

_REPORTS = 25  # of a trial, at most: each is a line that reaches the disk


@dataclass(frozen=True)
class Rows:
    """The training rows in two parts, and what a network is scored by.

    Args:
        fitted: (inputs, targets) to train on.
        held: (inputs, targets) to score on.
        score: "accuracy" or "r2".
        weight: of the rows to train on, or None.
    """

    fitted: tuple[Tensor | Pixels, Tensor]
    held: tuple[Tensor | Pixels, Tensor]
    score: str
    weight: Tensor | None = None


@dataclass(frozen=True)
class Watcher:
    """Who is told how a trial goes.

    Args:
        report: of the score so far, with the epoch.
        should_stop: asked after that.
    """

    report: Callable[[float, int], None]
    should_stop: Callable[[], bool]


class Worse(Exception):
    """Ends a trial early: others had been better by then."""


def held_back(dataset: Dataset, share: float, seed: int, class_weight: tuple[str, ...] | None = None) -> Rows:
    """Split the training rows, the same for every trial; test rows take no part.

    Args:
        dataset: the data.
        share: to be held back.
        seed: of the split.
        class_weight: as for `hdnn.jobs.train`; rows are scored without.

    Raises:
        ValueError: if no row is left to train on, or the weights make no sense.
    """
    x, y = tensors(dataset.x_train, dataset.y_train)
    classes = dataset.task == "classification"
    fitted, held = split(y, share, seed, stratify=classes)
    weight = row_weights(dataset, class_weight)
    score = "accuracy" if classes else "r2"
    return Rows(
        (some(x, fitted), y[fitted]), (some(x, held), y[held]), score, None if weight is None else weight[fitted]
    )


def scored(
    dataset: Dataset,
    rows: Rows,
    setup: Setup,
    choices: Choices,
    seed: int,
    device: str,
    threads: int | None,
    told: Watcher,
) -> float:
    """Train as `hdnn.jobs.train` would, on a part of the rows, and score on the others; larger is better.

    Raises:
        Worse: if whoever is told says so.
        FloatingPointError: if training diverged.
        ValueError: for choices that make no sense together.
    """
    config = network_config(dataset, setup, choices)
    # The rows to watch, and to stop by, are those held back, for all trials the same.
    recipe = chosen_recipe(setup, cast(Choices, {**choices, "validation_fraction": 0.0}), seed)
    recipe = dataclasses.replace(recipe, patience=choices.get("patience", setup.recipe.patience))
    network = seeded_network(config, choices.get("init_std", setup.init_std), seed).to(require_device(device))
    variance = float(rows.held[1].double().var(0, correction=0).mean()) if rows.score == "r2" else 1.0
    pace = math.ceil(recipe.epochs / _REPORTS)

    def watch(progress: Progress) -> None:
        if progress.record is None or progress.epoch == progress.epochs:
            return
        told.report(_so_far(progress.record, variance), progress.epoch)
        if told.should_stop():
            raise Worse(f"Others had been better after {progress.epoch} epochs.")

    with using_threads(threads or threads_for(dataset, config, recipe)), Interrupts(_nothing) as interrupts:
        fit(
            network,
            *rows.fitted,
            recipe,
            sample_weight=rows.weight,
            validation=rows.held,
            callbacks=[every(epochs=pace)(watch), interrupts],
            start_callbacks=[interrupts],
        )
        return measure(network, dataset.target, *rows.held)[rows.score]


def _nothing(progress: object) -> None:
    """A trial that is interrupted begins anew."""


def _so_far(record: Any, variance: float) -> float:
    """The score of an epoch; of several targets the share of their mean variance that is explained."""
    if "validation_accuracy" in record:
        return float(record["validation_accuracy"])
    return 1 - float(record["validation_error"]) ** 2 / variance if variance else 0.0
