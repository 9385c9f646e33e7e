"""What the other processes of a training do, while the first writes its run: the same steps, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hdnn.checkpoints import largest_checkpoint, read_checkpoint
from hdnn.data import Dataset
from hdnn.jobs.beginnings import beginning, fingerprint
from hdnn.jobs.choices import Choices, chosen_recipe, given, network_config, seeded_network
from hdnn.jobs.repeats import Make, Repeats
from hdnn.jobs.scores import tensors
from hdnn.jobs.setups import Setup
from hdnn.jobs.sources import DataSource, loaded, reloaded
from hdnn.jobs.task import Parts, rehearse
from hdnn.jobs.train import threads_for
from hdnn.jobs.weights import row_weights
from hdnn.networks import Network
from hdnn.runs import Run
from hdnn.training import Recipe, TrainingState, fit
from hdnn.training.devices import require_device, using_threads


def follow(
    source: DataSource,
    choices: Choices,
    *,
    setup: Setup | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Take part in the training that the first process of the process group begins by `train`.

    Args:
        source: as for `train`, as are all others.
        choices: the network and the recipe.
        setup: where nothing is chosen.
        seed: of weights and batches.
        device: of this process.
        threads: of it.
    """
    place = require_device(device)
    choices = cast(Choices, given(choices))
    dataset = loaded(source)
    setup = setup or source.setup(dataset)
    config = network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, seed)
    init_std = choices.get("init_std", setup.init_std)
    parts = _parts(dataset, choices.get("class_weight"))
    used = threads or threads_for(dataset, config, recipe)

    def make(seed: int) -> Network:
        return seeded_network(config, init_std, seed).to(place)

    rehearse(make(seed), parts, recipe, used)
    repeats = Repeats(choices.get("folds"), choices.get("seeds"))
    _take_part(make, dataset, parts, recipe, used, repeats, seed)


def follow_resumed(folder: Path) -> None:
    """Take part in the training that the first process goes on with by `resume`.

    Args:
        folder: the run.
    """
    run = Run.open(folder)
    if run.is_finished:
        return
    source, recipe, init_std, device, threads = beginning(run)
    dataset = source.load()
    if fingerprint(dataset) != run.config.start["fingerprint"]:
        dataset = reloaded(run, source)
    start, place = run.config.start, require_device(device)

    def make(seed: int) -> Network:
        return seeded_network(run.config.network, init_std, seed).to(place)

    state = read_checkpoint(run, largest_checkpoint(make(run.config.seed), recipe, len(dataset.x_train)))
    parts = _parts(dataset, start.get("class_weight"))
    repeats = Repeats(start.get("folds"), start.get("seeds"))
    _take_part(make, dataset, parts, recipe, threads, repeats, run.config.seed, state)


def _parts(dataset: Dataset, class_weight: tuple[str, ...] | None) -> Parts:
    return Parts(*tensors(dataset.x_train, dataset.y_train), row_weights(dataset, class_weight))


def _take_part(
    make: Make,
    dataset: Dataset,
    parts: Parts,
    recipe: Recipe,
    threads: int,
    repeats: Repeats,
    seed: int,
    state: TrainingState | None = None,
) -> None:
    """Train with the others, then some of the repeats alone."""
    with using_threads(threads):
        fit(make(seed), *parts[:2], recipe, sample_weight=parts.weight, resume=state)
        repeats.carry_out(make, dataset, recipe, parts.weight, {}, lambda text: None)
