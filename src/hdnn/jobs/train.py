"""The main job: from a data set to a run folder with a trained network and a report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdnn.checkpoints import Saver, largest_checkpoint, read_checkpoint, require_interval
from hdnn.data import Dataset
from hdnn.jobs.beginnings import DEFAULT_WEIGHTS, beginning, fingerprint
from hdnn.jobs.choices import Choices, chosen_recipe, network_config
from hdnn.jobs.scores import measure
from hdnn.jobs.setups import SETUPS, table_setup
from hdnn.jobs.sources import Source, load
from hdnn.jobs.summary import write_summary
from hdnn.names import count
from hdnn.networks import Network, NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, claimed, require_free, versions
from hdnn.training import Callback, Progress, Recipe, Record, TrainingState, fit, split
from hdnn.training.devices import require_device, require_threads, using_threads, worthwhile_threads

CHECKPOINT_EVERY = 30.0

Parts = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]


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


def train(
    source: Source,
    choices: Choices,
    output: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    command: str = "",
    checkpoint_every: float = CHECKPOINT_EVERY,
    callbacks: tuple[Callback, ...] = (),
    announce: Callable[[str], None] = lambda text: None,
    download_progress: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Train a network and write its run folder.

    An interrupt (Ctrl-C) while training ends it; what has been learned so far is written and can be loaded. After that,
    or after the process was killed, `resume` goes on.

    Args:
        source: the data.
        choices: the network and the recipe, where they are not those of the set-up.
        output: the run folder.
        seed: of the initial weights and of the batches.
        device: "cpu", "cuda" or another that PyTorch knows.
        threads: that PyTorch uses while training on the CPU; None takes one where the tensors of a step are too small
            to be worth sharing, else PyTorch's own number. The same seed and threads give the same bits.
        overwrite: replace the run in `output`.
        command: what repeats the run, for the record.
        checkpoint_every: seconds from one checkpoint to the next, from which `resume` goes on; longer where writing
            takes more than a fiftieth of the time. 0 writes one after every step.
        callbacks: called after every step, see `fit`.
        announce: told in words what was decided.
        download_progress: told of downloads: file name, bytes so far, bytes in all.

    Returns:
        The run, its results, and whether it was interrupted.

    Raises:
        ValueError: for choices or data that make no sense.
        OSError: if the folder or a file cannot be used.
        FloatingPointError: if training diverged; the run then holds its configuration and the last good checkpoint.
    """
    require_interval(checkpoint_every)
    require_free(output, overwrite=overwrite)
    if output.is_dir():
        with claimed(output):
            pass  # a run in it that is being trained shows before the data are read
    place = require_device(device)
    if threads is not None:
        require_threads(threads)
    dataset = load(source, download_progress)
    announce(dataset.description)
    setup = SETUPS.get(source.data) or table_setup(dataset.inputs[0], len(dataset.x_train))
    config = network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, seed)
    init_std = setup.init_std if choices.init_std is None else choices.init_std
    network = seeded_network(config, init_std, seed).to(place)
    parts = _parts(dataset, recipe)
    announce(describe(network, config, recipe))
    used = threads or _threads(dataset, config, recipe)
    described = RunConfig(
        data=dataclasses.asdict(source.located()),
        network=config,
        recipe=dataclasses.asdict(recipe),
        encoder=dataset.encoder.to_dict(),
        target=dataset.target.to_dict(),
        seed=seed,
        command=command,
        versions=versions(),
        start={
            "init_std": init_std,
            "default_weights": DEFAULT_WEIGHTS,
            "device": device,
            "threads": used,
            "fingerprint": fingerprint(dataset),
        },
    )
    with claimed(output):
        run = Run.create(output, described, overwrite=overwrite)
        task = _Task(run, dataset, network, recipe, parts, used, Saver(run, checkpoint_every), callbacks, announce)
        return task.carry_out(None)


def resume(
    folder: Path,
    *,
    checkpoint_every: float = CHECKPOINT_EVERY,
    callbacks: tuple[Callback, ...] = (),
    announce: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Go on with a run whose process was killed or interrupted, from its last checkpoint or else from the beginning.

    On the same machine, with the same versions, the weights, the results and the history (but for its times) get the
    same bits as without the pause.

    Args:
        folder: the run.
        checkpoint_every: as for `train`, as are the following.
        callbacks: called after every step that is left.
        announce: told in words what was decided.

    Returns:
        As `train`.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if the run is finished, cannot be resumed, or its data have changed.
        OSError: if another process works on it, or it cannot be written.
        FloatingPointError: if training diverged.
    """
    require_interval(checkpoint_every)
    Run.open(folder)
    with claimed(folder):
        run = Run.open(folder)
        source, recipe, init_std, device, threads = beginning(run)
        if run.is_finished:
            run.checkpoint.unlink(missing_ok=True)
            raise ValueError(
                f"The run {folder} is finished, so there is nothing to resume. Look at {run.report}, or train anew "
                f"with --output or --overwrite."
            )
        place = require_device(device)
        dataset = load(source)
        announce(dataset.description)
        if fingerprint(dataset) != run.config.start["fingerprint"]:
            raise ValueError(
                f"The data of this run, {source.data}, have changed since it began, so it cannot go on as it would "
                f"have. Bring the old data back, or train anew with --output or --overwrite."
            )
        network = seeded_network(run.config.network, init_std, run.config.seed).to(place)
        parts = _parts(dataset, recipe)
        state = read_checkpoint(run, largest_checkpoint(network, recipe, len(dataset.x_train)))
        announce(_where(run, recipe, state))
        task = _Task(run, dataset, network, recipe, parts, threads, Saver(run, checkpoint_every), callbacks, announce)
        return task.carry_out(state)


@dataclass(frozen=True)
class _Task:
    """A training that is ready to begin or to go on."""

    run: Run
    dataset: Dataset
    network: Network
    recipe: Recipe
    parts: Parts
    threads: int
    saver: Saver
    callbacks: tuple[Callback, ...]
    announce: Callable[[str], None]

    def carry_out(self, state: TrainingState | None) -> Outcome:
        """Train to the end and write all that belongs to a run."""
        run, network = self.run, self.network
        history: list[Record] = [] if state is None else [dict(record) for record in state.history]
        callbacks: list[Callback] = [_remember(history), self.saver, *self.callbacks]
        start = time.perf_counter()
        x, y, validation = self.parts
        with using_threads(self.threads):
            try:
                fit(network, x, y, self.recipe, validation=validation, callbacks=callbacks, resume=state)
                interrupted = False
            except KeyboardInterrupt:
                interrupted = True
            except FloatingPointError as error:
                raise FloatingPointError(f"{error}{self._last_good()}") from error
            seconds = time.perf_counter() - start
            if state is not None:
                seconds += state.seconds + sum(record["seconds"] for record in state.history)
            run.save_network(network)
            run.write_history(history)
            try:
                scores = _metrics(network, self.dataset, history, interrupted)
                metrics = {**scores, "seconds": seconds, "threads": self.threads}
                run.report.unlink(missing_ok=True)  # of an earlier interrupt: killed from here on, it is not finished
                run.write_metrics(metrics)
                write_summary(run, network, self.dataset, history, metrics)
            except KeyboardInterrupt:
                self.announce(
                    f"Interrupted before the report was complete. The weights are in {run.folder}; it can be loaded."
                )
                raise
        if not interrupted:
            run.checkpoint.unlink(missing_ok=True)
        return Outcome(run, metrics, interrupted)

    def _last_good(self) -> str:
        """What a run that diverged leaves."""
        state = read_checkpoint(self.run, self.largest)
        if state is None:
            return ""
        return (
            f" The last good checkpoint, after {count(state.epochs, 'epoch')} and {count(state.batches, 'step')}, "
            f"stays in {self.run.folder}; the same settings would go wrong again, so train anew with others."
        )

    @property
    def largest(self) -> int:
        """Bytes that a checkpoint of it can have."""
        return largest_checkpoint(self.network, self.recipe, len(self.dataset.x_train))


def _where(run: Run, recipe: Recipe, state: TrainingState | None) -> str:
    """One line on where a run goes on, and on what may make a difference to its bits."""
    since = {name: text for name, text in versions().items() if run.config.versions.get(name) != text}
    changed = f" It began with other versions than {', '.join(map(' '.join, since.items()))}: bits may differ."
    where = f"{count(state.epochs, 'epoch')} of {recipe.epochs} and {count(state.batches, 'step')}" if state else ""
    start = f"Going on after {where}." if state else "There is no checkpoint yet: starting from the beginning."
    return start + (changed if since else "")


def seeded_network(config: NetworkConfig, init_std: float | None, seed: int) -> Network:
    """A network whose initial weights depend on the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(config, init_std=init_std)


def describe(network: Network, config: NetworkConfig, recipe: Recipe) -> str:
    """One line on the network and how it will be trained."""
    parameters = sum(p.numel() for p in network.parameters())
    J = f", J {config.interconnection}" if config.interconnection else ""
    batches = "full batches" if recipe.optimizer == "lbfgs" else f"batches of {recipe.batch_size}"
    alternating = " (alternating)" if recipe.method == "alternating" else ""
    starts = f"the best of {recipe.restarts} starts of {count(recipe.restart_epochs, 'epoch')}, then "
    return (
        f"{config.model}: {count(config.layers, 'layer')}, {config.features} features, step {config.step:.4g}{J}, "
        f"{config.activation}, {parameters:,} parameters; {starts if recipe.restarts > 1 else ''}"
        f"{count(recipe.epochs, 'epoch')} of {recipe.optimizer}"
        f"{alternating}, learning rate {recipe.learning_rate:g}, {batches}"
    )


def _parts(dataset: Dataset, recipe: Recipe) -> Parts:
    """Inputs and targets to train on, and those held back; split here so that too few rows show before any file."""
    x, y = tensors(dataset.x_train, dataset.y_train)
    if not recipe.validation:
        return x, y, None
    train, held = split(y, recipe.validation, recipe.seed, stratify=dataset.task == "classification")
    return x[train], y[train], (x[held], y[held])


def _remember(history: list[Record]) -> Callback:
    """A callback that adds every finished epoch to a history."""

    def remember(progress: Progress) -> None:
        if progress.record is not None:
            history.append(progress.record)

    return remember


def _threads(dataset: Dataset, config: NetworkConfig, recipe: Recipe) -> int:
    """As many threads as pay."""
    pixels = math.prod(config.inputs[1:])
    batch = len(dataset.x_train) if recipe.optimizer == "lbfgs" else recipe.batch_size
    return worthwhile_threads(batch * config.features * pixels)


def _metrics(network: Network, dataset: Dataset, history: list[Record], interrupted: bool) -> dict[str, Any]:
    test = measure(network, dataset.target, *tensors(dataset.x_test, dataset.y_test))
    train = measure(network, dataset.target, *tensors(dataset.x_train, dataset.y_train))
    return {
        **{f"test_{name}": value for name, value in test.items()},
        **{f"train_{name}": value for name, value in train.items()},
        "epochs": len(history),
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_rows": len(dataset.x_train),
        "test_rows": len(dataset.x_test),
        "interrupted": interrupted,
    }


def tensors(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Arrays as tensors that share their memory."""
    return torch.from_numpy(x), torch.from_numpy(y)
