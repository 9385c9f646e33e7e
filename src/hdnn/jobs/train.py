"""The main job: from a data set to a run folder with a trained network and a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from hdnn.checkpoints import Saver, largest_checkpoint, read_checkpoint, require_interval
from hdnn.data import Dataset
from hdnn.jobs.beginnings import Start, beginning, changed, fingerprint, where
from hdnn.jobs.choices import Choices, chosen_recipe, given, network_config, seeded_network
from hdnn.jobs.repeats import Repeats
from hdnn.jobs.scores import tensors
from hdnn.jobs.setups import Setup
from hdnn.jobs.sources import DataSource, loaded, reloaded
from hdnn.jobs.task import Outcome, Parts, Task, rehearse
from hdnn.jobs.weights import row_weights
from hdnn.jobs.worth import Worth
from hdnn.names import count
from hdnn.networks import Network, NetworkConfig
from hdnn.options import RunChoices, names
from hdnn.runs import Run, RunConfig, claimed, require_free, versions
from hdnn.shelf import require_other
from hdnn.training import Callback, Recipe, StartCallback, training_backend
from hdnn.training.backends import Chosen
from hdnn.training.circumstances import circumstances
from hdnn.training.devices import require_device, require_threads, using_threads, worthwhile_threads

CHECKPOINT_EVERY = 30.0


def train(
    source: DataSource,
    choices: Choices,
    output: Path,
    *,
    setup: Setup | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    command: str = "",
    checkpoint_every: float = CHECKPOINT_EVERY,
    callbacks: tuple[Callback, ...] = (),
    start_callbacks: tuple[StartCallback, ...] = (),
    announce: Callable[[str], None] = lambda text: None,
    download_progress: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Train a network and write its run folder.

    An interrupt (Ctrl-C) while training ends it after the step; what has been learned so far is written and can be
    loaded. After that, or after the process was killed, `resume` goes on.

    Args:
        source: the data; `Source` for built-in ones and tables, or a `DataSource` of your own.
        choices: the network and the recipe, where they are not those of the set-up.
        output: the run folder.
        setup: network and recipe where nothing is chosen; None takes those that suit the data.
        seed: of the initial weights and of the batches.
        device: "cpu", "cuda" or another that PyTorch knows.
        threads: that PyTorch uses while training on the CPU; None takes one where the tensors of a step are too small
            to be worth sharing, else PyTorch's own number. The same seed and threads give the same bits.
        overwrite: replace the run in `output`.
        command: what repeats the run, for the record.
        checkpoint_every: seconds from one checkpoint to the next, from which `resume` goes on; longer where writing
            takes more than a fiftieth of the time. 0 writes one after every step.
        callbacks: called after every step, see `fit`.
        start_callbacks: called after every step of the starts, see `fit`.
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
    choices = cast(Choices, given(choices))
    dataset = loaded(source, download_progress)
    announced(dataset, announce)
    setup = setup or source.setup(dataset)
    config = network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, seed)
    init_std = choices.get("init_std", setup.init_std)
    network = seeded_network(config, init_std, seed).to(place)
    worth = _worth(dataset, recipe, config, init_std, place, choices)
    parts = Parts(*tensors(dataset.x_train, dataset.y_train), worth.weight)
    announce(describe(network, config, recipe))
    chosen = training_backend(network, *parts[:2], recipe)
    announce(steps_by(chosen))
    used = threads or threads_for(dataset, config, recipe)
    with using_threads(used):
        around = circumstances(place) | {"training backend": chosen.backend}
    start = Start(init_std, device, used, fingerprint(dataset), circumstances=around, **_kept(choices))
    described = RunConfig(
        data=source.described(),
        network=config,
        recipe={**dataclasses.asdict(recipe), "augment": list(recipe.augment)},  # as JSON has it
        encoder=dataset.encoder.to_dict(),
        target=dataset.target.to_dict(),
        seed=seed,
        command=command,
        versions=versions(),
        start=dataclasses.asdict(start),
    )
    with claimed(output):
        rehearse(network, parts, recipe, used)
        network = seeded_network(config, init_std, seed).to(place)
        run = Run.create(output, described, overwrite=overwrite)
        task = Task(run, dataset, network, recipe, parts, used, Saver(run, checkpoint_every), announce, chosen, worth)
        return task.carry_out(None, callbacks, start_callbacks)


def resume(
    folder: Path,
    *,
    source: DataSource | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    callbacks: tuple[Callback, ...] = (),
    start_callbacks: tuple[StartCallback, ...] = (),
    announce: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Go on with a run whose process was killed or interrupted, from its last checkpoint or else from the beginning.

    On the same machine, with the same versions, the weights, the results and the history (but for its times) get the
    same bits as without the pause; what is known to differ is announced. Of a run that is finished, nothing is left to
    do but to remove its checkpoint, where the process was killed just before.

    Args:
        folder: the run.
        source: its data, where they are none of the built-in ones.
        checkpoint_every: as for `train`, as are the following.
        callbacks: called after every step that is left.
        start_callbacks: called after every step of the starts that is left.
        announce: told in words what was decided.

    Returns:
        As `train`.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if the run cannot be resumed, or its data have changed.
        OSError: if another process works on it, or it cannot be written.
        FloatingPointError: if training diverged.
    """
    require_interval(checkpoint_every)
    Run.open(folder)
    require_other(folder, resumed=True)
    with claimed(folder):
        run = Run.open(folder)
        if run.is_finished:
            run.checkpoint.unlink(missing_ok=True)
            announce(
                f"The run {folder} is finished, so nothing is left to do. To train anew, use --output or --overwrite."
            )
            return Outcome(run, run.read_metrics(), False)
        source, recipe, init_std, device, threads = beginning(run, source)
        place = require_device(device)
        dataset, began = source.load(), run.config.start["fingerprint"]
        if fingerprint(dataset) != began:
            dataset = reloaded(run, source)
        announced(dataset, announce)
        if fingerprint(dataset) != began:
            raise ValueError(
                f"The data of this run, {source.name}, have changed since it began, so it cannot go on as it would "
                f"have. Bring the old data back, or train anew with --output or --overwrite."
            )
        network = seeded_network(run.config.network, init_std, run.config.seed).to(place)
        kept = _kept(run.config.start)
        worth = _worth(dataset, recipe, run.config.network, init_std, place, kept)
        parts = Parts(*tensors(dataset.x_train, dataset.y_train), worth.weight)
        state = read_checkpoint(run, largest_checkpoint(network, recipe, len(dataset.x_train)))
        chosen = training_backend(network, *parts[:2], recipe)
        if state is not None and state.backend == "torch" != chosen.backend:
            chosen = Chosen("torch", "those before the pause were, too")
        with using_threads(threads):
            other = changed(run, state, circumstances(place) | {"training backend": chosen.backend})
        announce(steps_by(chosen))
        announce(where(recipe, state) + (f" It began with {other}: bits may differ." if other else ""))
        task = Task(
            run, dataset, network, recipe, parts, threads, Saver(run, checkpoint_every), announce, chosen, worth, other
        )
        # What differs has been said.
        state = None if state is None else dataclasses.replace(state, circumstances=None, backend=chosen.backend)
        return task.carry_out(state, callbacks, start_callbacks)


def announced(dataset: Dataset, announce: Callable[[str], None]) -> None:
    """Say what data are, and what is odd about them."""
    announce(dataset.description)
    for caution in dataset.cautions:
        announce(f"Note: {caution}")


def describe(network: Network, config: NetworkConfig, recipe: Recipe) -> str:
    """One line on the network and how it will be trained."""
    parameters = sum(p.numel() for p in network.parameters())
    J = f", J {config.interconnection}" if config.interconnection else ""
    integrator = f", {config.integrator}" if config.integrator else ""
    integrator += f", damping {config.damping:g}" if config.damping else ""
    batches = "full batches" if recipe.optimizer == "lbfgs" else f"batches of {recipe.batch_size}"
    alternating = " (alternating)" if recipe.method == "alternating" else ""
    starts = f"the best of {recipe.restarts} starts of {count(recipe.restart_epochs, 'epoch')}, then "
    return (
        f"{config.model}: {config.sizes}, step {config.step:.4g}{J}"
        f"{integrator}, {config.activation}, {parameters:,} parameters; {starts if recipe.restarts > 1 else ''}"
        f"{count(recipe.epochs, 'epoch')} of {recipe.optimizer}"
        f"{alternating}, learning rate {recipe.learning_rate:g}, {batches}"
    )


def steps_by(chosen: Chosen) -> str:
    """One line on what takes the steps."""
    if chosen.backend == "native":
        return "Steps: native."
    return f"Steps: by PyTorch, as {chosen.reason}."


def _kept(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of a run that are neither its network's nor its recipe's, to be found in its start again."""
    return {name: choices.get(name) for name in names(RunChoices)}


def _worth(
    dataset: Dataset,
    recipe: Recipe,
    config: NetworkConfig,
    init_std: float | None,
    place: torch.device,
    chosen: Mapping[str, Any],
) -> Worth:
    """What is found out beside the training; refused here where it makes no sense, before any file."""
    repeats = Repeats(chosen.get("folds"), chosen.get("seeds"))
    repeats.require(dataset, recipe)
    weight = row_weights(dataset, chosen.get("class_weight"))
    return Worth(lambda seed: seeded_network(config, init_std, seed).to(place), weight, repeats)


def threads_for(dataset: Dataset, config: NetworkConfig, recipe: Recipe) -> int:
    """As many threads as pay."""
    pixels = 1 if config.of_sequences else math.prod(config.inputs[1:])  # steps are taken one after the other
    batch = len(dataset.x_train) if recipe.optimizer == "lbfgs" else recipe.batch_size
    return worthwhile_threads(batch * config.features * pixels)
