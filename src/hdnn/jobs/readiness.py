"""What can be refused before the processes of a training are started, in one process and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hdnn.checkpoints import require_interval
from hdnn.jobs.beginnings import beginning
from hdnn.jobs.choices import Choices, chosen_recipe, given, network_config
from hdnn.jobs.repeats import Repeats
from hdnn.jobs.setups import SETUPS, Setup
from hdnn.jobs.sources import Source
from hdnn.jobs.train import CHECKPOINT_EVERY
from hdnn.jobs.weights import row_weights
from hdnn.runs import Run, claimed, require_free
from hdnn.shelf import require_other
from hdnn.training.devices import require_device, require_threads

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
