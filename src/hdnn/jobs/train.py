"""The main job: from a data set to a run folder with a trained network and a report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdnn.data import Dataset
from hdnn.jobs.scores import measure
from hdnn.jobs.setups import SETUPS, Setup, table_setup
from hdnn.jobs.sources import Source, load
from hdnn.jobs.summary import write_summary
from hdnn.names import unknown
from hdnn.networks import INTERCONNECTIONS, PRESETS, Lift, Network, NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, require_free, versions
from hdnn.training import Callback, Progress, Recipe, Record, fit, split

_WORTH_SHARING = 2**17  # numbers in the state of a batch from which a second thread pays


@dataclass(frozen=True)
class Choices:
    """What the user chose; None leaves it to the set-up of the data set.

    Args:
        model: "ms1", "ms2", "ms3", "h1" or "h2".
        layers: N.
        step: h; give at most one of `step` and `horizon`.
        horizon: T = N h.
        features: n.
        width: hidden units a layer, for h1 and h2.
        activation: name of σ.
        interconnection: J of h1 and h2, "canonical" or "upper_ones".
        lift: "zeros" or "linear", for vectors.
        shared: one K and b for all layers.
        init_std: of the initial weights.
        epochs: see `Recipe`, as are the following.
        batch_size: see `Recipe`.
        optimizer: see `Recipe`.
        learning_rate: see `Recipe`.
        alpha: see `Recipe`.
        alpha_c: see `Recipe`.
        weight_decay: see `Recipe`.
        label_smoothing: see `Recipe`.
        clip: see `Recipe`.
        method: see `Recipe`.
        validation: see `Recipe`.
        patience: see `Recipe`.
    """

    model: str | None = None
    layers: int | None = None
    step: float | None = None
    horizon: float | None = None
    features: int | None = None
    width: int | None = None
    activation: str | None = None
    interconnection: str | None = None
    lift: Lift | None = None
    shared: bool = False
    init_std: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    alpha: float | None = None
    alpha_c: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    clip: float | None = None
    method: str | None = None
    validation: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model not in PRESETS:
            raise ValueError(unknown("model", self.model, PRESETS))
        if self.step is not None and self.horizon is not None:
            raise ValueError(
                f"Give `step` (h) or `horizon` (T = layers · h), not both; got step={self.step:g} and "
                f"horizon={self.horizon:g}."
            )
        if self.layers is not None and self.layers < 0:
            raise ValueError(f"`layers` must be 0 (the identity) or more; got {self.layers}.")


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
    callbacks: tuple[Callback, ...] = (),
    announce: Callable[[str], None] = lambda text: None,
    download_progress: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Train a network and write its run folder.

    An interrupt (Ctrl-C) while training ends it; what has been learned so far is written and can be loaded.

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
        callbacks: called after every step, see `fit`.
        announce: told in words what was decided.
        download_progress: told of downloads: file name, bytes so far, bytes in all.

    Returns:
        The run, its results, and whether it was interrupted.

    Raises:
        ValueError: for choices or data that make no sense.
        OSError: if the folder or a file cannot be used.
        FloatingPointError: if training diverged; the run then holds its configuration only.
    """
    require_free(output, overwrite=overwrite)
    place = require_device(device)
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be at least 1; got {threads}. Leave it out to let hdnn choose.")
    dataset = load(source, download_progress)
    announce(dataset.description)
    setup = SETUPS.get(source.data) or table_setup(dataset.inputs[0], len(dataset.x_train))
    config = network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, seed)
    init_std = setup.init_std if choices.init_std is None else choices.init_std
    network = seeded_network(config, init_std, seed).to(place)
    x, y, validation = _parts(dataset, recipe)
    announce(describe(network, config, recipe))
    run = Run.create(
        output,
        RunConfig(
            data=dataclasses.asdict(source.located()),
            network=config,
            recipe=dataclasses.asdict(recipe),
            encoder=dataset.encoder.to_dict(),
            target=dataset.target.to_dict(),
            seed=seed,
            command=command,
            versions=versions(),
        ),
        overwrite=overwrite,
    )
    history: list[Record] = []
    start = time.perf_counter()
    used = threads or _threads(dataset, config, recipe)
    with _using_threads(used):
        try:
            fit(network, x, y, recipe, validation=validation, callbacks=(_remember(history), *callbacks))
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
        seconds = time.perf_counter() - start
        run.save_network(network)
        run.write_history(history)
        try:
            metrics = {**_metrics(network, dataset, history, interrupted), "seconds": seconds, "threads": used}
            run.write_metrics(metrics)
            write_summary(run, network, dataset, history, metrics)
        except KeyboardInterrupt:
            announce(f"Interrupted before the report was complete. The weights are in {output}; it can be loaded.")
            raise
    return Outcome(run, metrics, interrupted)


def require_device(device: str) -> torch.device:
    """The device of that name, if it is there.

    Raises:
        ValueError: if PyTorch does not know it or the machine does not have it.
    """
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"There is no device {device!r}. Use cpu, cuda, cuda:1 and so on.") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"Device {device!r} was asked for, but this PyTorch ({torch.__version__}) finds no CUDA device. "
            f"Use --device cpu, or install a CUDA build of PyTorch and its driver."
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"Device {device!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices.")
    try:
        # Whether the others are there shows when they are used; "meta" computes nothing.
        float(torch.ones((), device=place))
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ValueError(
            f"Device {device!r} does not work with this PyTorch ({torch.__version__}). Use cpu."
        ) from error
    return place


def network_config(dataset: Dataset, setup: Setup, choices: Choices) -> NetworkConfig:
    """The network of a set-up with the user's choices in place of its own."""
    model = choices.model or setup.model
    layers = setup.layers if choices.layers is None else choices.layers
    horizon = setup.horizon if choices.horizon is None else choices.horizon
    if choices.lift is not None and setup.kernel_size is not None:
        raise ValueError(f"`lift` is for vectors; images are lifted by a convolution. Leave out lift={choices.lift!r}.")
    interconnection = choices.interconnection
    if interconnection is None and model == setup.model:
        interconnection = setup.interconnection
    elif interconnection is not None and interconnection not in INTERCONNECTIONS:
        raise ValueError(unknown("interconnection", interconnection, INTERCONNECTIONS))
    return NetworkConfig(
        task=dataset.task,
        inputs=dataset.inputs,
        outputs=dataset.outputs,
        model=model,
        features=setup.features if choices.features is None else choices.features,
        layers=layers,
        step=horizon / (layers or 1) if choices.step is None else choices.step,
        lift=choices.lift or setup.lift,
        interconnection=interconnection,
        activation="tanh" if choices.activation is None else choices.activation,
        width=choices.width,
        kernel_size=setup.kernel_size,
        shared=choices.shared,
    )


def chosen_recipe(setup: Setup, choices: Choices, seed: int) -> Recipe:
    """The recipe of a set-up with the user's choices in place of its own.

    Weight decay means something else to every optimizer, and L-BFGS searches along a line from rate 1, unclipped: with
    another optimizer the set-up's values go.
    """
    recipe = setup.recipe
    if choices.optimizer not in (None, recipe.optimizer):
        recipe = dataclasses.replace(recipe, weight_decay=0.0)
        if choices.optimizer == "lbfgs":
            recipe = dataclasses.replace(recipe, learning_rate=1.0, clip=None)
    names = {field.name for field in dataclasses.fields(Recipe)} & {field.name for field in dataclasses.fields(Choices)}
    chosen = {name: getattr(choices, name) for name in names if getattr(choices, name) is not None}
    return dataclasses.replace(recipe, seed=seed, **chosen)


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
    return (
        f"{config.model}: {count(config.layers, 'layer')}, {config.features} features, step {config.step:.4g}{J}, "
        f"{config.activation}, {parameters:,} parameters; {count(recipe.epochs, 'epoch')} of {recipe.optimizer}"
        f"{alternating}, learning rate {recipe.learning_rate:g}, {batches}"
    )


def count(number: int, noun: str) -> str:
    """A number of things in words, as in "1 epoch" and "2 epochs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _parts(dataset: Dataset, recipe: Recipe) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
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
    """One thread for small steps: sharing them gains little, and loses much when the processors are busy."""
    pixels = math.prod(config.inputs[1:])
    batch = len(dataset.x_train) if recipe.optimizer == "lbfgs" else recipe.batch_size
    small = batch * config.features * pixels < _WORTH_SHARING
    return 1 if small else torch.get_num_threads()


@contextmanager
def _using_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
