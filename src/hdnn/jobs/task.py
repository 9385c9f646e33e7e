"""A training that is ready to begin or to go on: carried out, it leaves all that belongs to a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdnn.checkpoints import Saver, largest_checkpoint, read_checkpoint
from hdnn.data import Dataset, Pixels
from hdnn.jobs import pages
from hdnn.jobs.beginnings import steps
from hdnn.jobs.interrupts import Interrupts
from hdnn.jobs.scores import measure, tensors
from hdnn.jobs.summary import write_summary
from hdnn.jobs.worth import Worth
from hdnn.modes import training
from hdnn.networks import Network
from hdnn.runs import Run
from hdnn.training import Callback, Progress, Recipe, Record, StartCallback, TogetherProgress, TrainingState, every, fit
from hdnn.training.backends import Chosen
from hdnn.training.devices import using_threads


class Parts(NamedTuple):
    """What a network is trained on.

    Args:
        x: inputs.
        y: targets.
        weight: of the rows of x, or None.
    """

    x: Tensor | Pixels
    y: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """What a training run left.

    Args:
        run: its folder.
        metrics: as in metrics.json.
        interrupted: whether it was stopped early by the user.
    """

    run: Run
    metrics: dict[str, Any]
    interrupted: bool


@dataclass(frozen=True)
class Task:
    """A training that is ready to begin or to go on."""

    run: Run
    dataset: Dataset
    network: Network
    recipe: Recipe
    parts: Parts
    threads: int
    saver: Saver
    announce: Callable[[str], None]
    chosen: Chosen
    worth: Worth
    changed: str = ""

    def carry_out(
        self,
        state: TrainingState | None,
        callbacks: tuple[Callback, ...],
        start_callbacks: tuple[StartCallback, ...],
    ) -> Outcome:
        """Train to the end and write all that belongs to a run."""
        run, network = self.run, self.network
        told = _Told(state, large=self._numbers >= pages.LARGE)
        start = time.perf_counter()
        with using_threads(self.threads):
            try:
                with Interrupts(self.saver.save) as interrupts:
                    fit(
                        network,
                        *self.parts[:2],
                        self.recipe,
                        sample_weight=self.parts.weight,
                        callbacks=[every(epochs=1)(told.step), self.saver, *callbacks, interrupts],
                        start_callbacks=[every(epochs=1)(told.start), self.saver, *start_callbacks, interrupts],
                        resume=state,
                    )
                interrupted = False
            except KeyboardInterrupt:
                interrupted = True
            except ConnectionError as error:
                left = "there is no checkpoint yet"
                if run.checkpoint.is_file():
                    left = "what was learned until the last checkpoint stays"
                raise ConnectionError(
                    f"Another process of this training ended before its time, so training stopped; {left}. Go on, with "
                    f"as many processes as you like: hdnn train --resume {run.folder}"
                ) from error
            except FloatingPointError as error:
                raise FloatingPointError(f"{error}{self._last_good()}") from error
            seconds = told.seconds_before + time.perf_counter() - start
            run.save_network(network)
            run.write_history(told.history)
            try:
                metrics = {**_metrics(network, self.dataset, told, interrupted), "seconds": seconds}
                metrics |= {
                    "training_backend": self.chosen.backend,
                    "threads": self.threads,
                    **({"resumed_with_other": self.changed} if self.changed else {}),
                }
                run.report.unlink(missing_ok=True)  # of an earlier interrupt: killed from here on, it is not finished
                run.write_metrics(metrics)
                if not interrupted:
                    metrics |= self.worth.carry_out(network, self.dataset, self.recipe, metrics, self.announce)
                    run.write_metrics(metrics)
                write_summary(run, network, self.dataset, told.history, metrics, told.starts, told.search)
            except KeyboardInterrupt:
                self.announce(
                    f"Interrupted before the report was complete. The weights are in {run.folder}; it can be loaded, "
                    f"and the run be resumed."
                )
                raise
        if not interrupted:
            run.checkpoint.unlink(missing_ok=True)
        return Outcome(run, metrics, interrupted)

    @property
    def _numbers(self) -> int:
        """In the states of a batch."""
        rows = min(self.recipe.batch_size, len(self.dataset.x_train))
        return rows * self.network.state_size(self.dataset.inputs)

    def _last_good(self) -> str:
        """What a run that diverged leaves."""
        state = read_checkpoint(self.run, self.largest)
        if state is None:
            return ""
        return (
            f" The last good checkpoint, after {steps(state)}, "
            f"stays in {self.run.folder}; the same settings would go wrong again, so train anew with others."
        )

    @property
    def largest(self) -> int:
        """Bytes that a checkpoint of it can have."""
        return largest_checkpoint(self.network, self.recipe, len(self.dataset.x_train))


class _Told:
    """What the callbacks of a training were told: the records of its epochs, and those of its starts."""

    def __init__(self, state: TrainingState | None, *, large: bool) -> None:
        self.large = large
        self.history: list[Record] = [] if state is None else [dict(record) for record in state.history]
        self.search: list[Record] = []
        self.starts: Sequence[Sequence[Record]] = ()
        self.seconds_before = 0.0
        if state is not None:
            self.search = [dict(record) for record in state.search]
            self.seconds_before = state.seconds + sum(record["seconds"] for record in (*state.search, *state.history))
            if state.starts is not None:
                self.starts = state.starts.history
                self.seconds_before += state.starts.seconds + sum(record["seconds"] for record in self.starts[0])

    def step(self, progress: Progress) -> None:
        """A training callback."""
        if progress.search and not self.search:
            self.search, self.history = self.history, []
        if progress.record is not None:
            self.history.append(progress.record)
        if self.large and progress.batch % pages.EVERY == 0:
            pages.hand_back()

    def start(self, progress: TogetherProgress[TrainingState]) -> None:
        """A callback of the starts."""
        self.starts = progress.histories


class _Enough(Exception):
    """Ends the rehearsal."""


def rehearse(network: Network, parts: Parts, recipe: Recipe, threads: int) -> None:
    """Take one step with a network, so that what is refused, or exceeds the memory, shows before a run is replaced."""

    def enough(progress: object) -> None:
        raise _Enough

    _require_variance(network, parts, recipe)
    weight = parts.weight
    with using_threads(threads), contextlib.suppress(_Enough):
        fit(network, *parts[:2], recipe, sample_weight=weight, callbacks=[enough], start_callbacks=[enough])


def _require_variance(network: Network, parts: Parts, recipe: Recipe) -> None:
    """See that a last batch of one row, if there is one, gives batch normalization more than one number a channel."""
    if recipe.optimizer == "lbfgs" or (len(parts.x) % recipe.batch_size or recipe.batch_size) != 1:
        return
    place = next(network.parameters()).device
    with training(network), torch.no_grad():
        try:
            network(torch.as_tensor(parts.x[:1]).to(place))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            seen = "one row alone, of which batch normalization sees one pixel: that has no variance"
            raise ValueError(
                f"With `batch_size=1` every batch has {seen}. Take a larger `batch_size`, or fewer stages."
                if recipe.batch_size == 1
                else f"The last batch of {len(parts.x)} rows has {seen}. Take another `batch_size` than "
                f"{recipe.batch_size}, or fewer stages."
            ) from error


def _metrics(network: Network, dataset: Dataset, told: _Told, interrupted: bool) -> dict[str, Any]:
    test = measure(network, dataset.target, *tensors(dataset.x_test, dataset.y_test))
    train = measure(network, dataset.target, *tensors(dataset.x_train, dataset.y_train))
    return {
        **{f"test_{name}": value for name, value in test.items()},
        **{f"train_{name}": value for name, value in train.items()},
        "epochs": len(told.history),
        **({"search_epochs": len(told.search)} if told.search else {}),
        **({"start_epochs": len(told.starts[0])} if told.starts else {}),
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_rows": len(dataset.x_train),
        "test_rows": len(dataset.x_test),
        "interrupted": interrupted,
        **({"test_part": dataset.held_out} if dataset.held_out else {}),
    }
