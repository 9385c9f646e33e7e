"""A training by several processes: what is refused before they are started, and what all but the first do."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hdnn.checkpoints import largest_checkpoint, read_checkpoint, require_interval
from hdnn.data import Dataset
from hdnn.jobs.beginnings import beginning, fingerprint
from hdnn.jobs.choices import Choices, chosen_recipe, given, network_config, seeded_network
from hdnn.jobs.repeats import Make, Repeats
from hdnn.jobs.scores import tensors
from hdnn.jobs.setups import SETUPS, Setup
from hdnn.jobs.sources import DataSource, Source, loaded, reloaded
from hdnn.jobs.task import Parts, rehearse
from hdnn.jobs.train import CHECKPOINT_EVERY, threads_for
from hdnn.jobs.weights import row_weights
from hdnn.networks import Network
from hdnn.runs import Run, claimed, require_free
from hdnn.shelf import require_other
from hdnn.training import Recipe, TrainingState, fit
from hdnn.training.devices import require_device, require_threads, using_threads

_QUICK = 10**8  # bytes of a file that is read once more for it


def require_ready(
    source: Source,
    choices: Choices,
    output: Path,
    *,
    setup: Setup | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> None:
    """Refuse what `train` would refuse before its first step.

    Data are read for it, but for downloads, pictures and files of more than 100 MB: these the processes read alone.

    Args:
        source: as for `train`, as are all others.
        choices: the network and the recipe.
        output: the run folder.
        setup: where nothing is chosen.
        seed: of weights and batches.
        device: of each process.
        threads: of each.
        overwrite: whether a run may be replaced.
        checkpoint_every: seconds from one checkpoint to the next.

    Raises:
        ValueError, OSError: as `train`.
    """
    require_interval(checkpoint_every)
    require_free(output, overwrite=overwrite)
    if output.is_dir():
        with claimed(output):
            pass
    require_device(device)
    if threads is not None:
        require_threads(threads)
    choices = cast(Choices, given(choices))
    if not _is_quick(source):
        if known := setup or SETUPS.get(source.name):
            chosen_recipe(known, choices, seed)
        return
    dataset = source.load()
    setup = setup or source.setup(dataset)
    network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, seed)
    Repeats(choices.get("folds"), choices.get("seeds")).require(dataset, recipe)
    row_weights(dataset, choices.get("class_weight"))


def require_resumable(folder: Path, *, checkpoint_every: float = CHECKPOINT_EVERY) -> str:
    """Refuse what `resume` would refuse before it reads the data.

    Args:
        folder: the run.
        checkpoint_every: as for `resume`.

    Returns:
        The device on which the run goes on.

    Raises:
        ValueError, OSError: as `resume`.
    """
    require_interval(checkpoint_every)
    run = Run.open(folder)
    require_other(folder, resumed=True)
    with claimed(folder):
        device = str(run.config.start.get("device", "cpu")) if run.is_finished else beginning(run)[3]
    require_device(device)
    return device


def _is_quick(source: Source) -> bool:
    if source.is_folder or source.download:
        return False
    return not (source.is_table or source.is_series) or Path(source.data).stat().st_size <= _QUICK


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
