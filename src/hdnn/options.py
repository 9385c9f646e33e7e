"""The choices that users have, each once: its name, its type, its bounds and a sentence on it.

`NetworkConfig`, `Recipe` and `Source` keep to this list, commands and estimators offer what is in it, and it types what
`hdnn.jobs` is told. What a name such as "h2" may be stands beside what it names.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args, get_origin, get_type_hints

from hdnn.arguments import is_truth, real, whole

Task = Literal["classification", "regression"]
Lift = Literal["zeros", "linear"]
Optimizer = Literal["adam", "adamw", "sgd", "lbfgs"]
Schedule = Literal["cosine", "one_cycle", "exponential", "constant"]
Precision = Literal["full", "bfloat16"]
Method = Literal["joint", "alternating"]
UnitsInRange = Literal["units", "batch", "bias", "none"]
OfPositions = Literal["signals", "graph"]
Readout = Literal["nodes", "mean", "sum"]
Neighbours = Literal["sum", "mean", "symmetric"]
Decimal = Literal[".", ","]


@dataclass(frozen=True)
class Option:
    """What is said of an option beside its name and its type.

    Args:
        text: a sentence for people; other options stand between backticks.
        must: what a value must be, behind its name.
        least: the smallest value.
        above: values are larger.
        below: values are smaller; None leaves them free.
        most: the largest value; beyond it a slip of the pen would ask for more than a memory or a counter holds.
        flag: what commands call it, where that does not follow from its name.
        typed: what it is on the command line, where it is a text in Python.
    """

    text: str
    must: str = ""
    least: float = -math.inf
    above: float = -math.inf
    below: float | None = None
    most: float = math.inf
    flag: str = ""
    typed: type | None = None


def _count(text: str) -> Option:
    return Option(text, "must be a whole number, at least 1", least=1, most=2**31)


def _positive(text: str) -> Option:
    return Option(text, "must be positive and finite", above=0, below=math.inf)


def _amount(text: str) -> Option:
    return Option(text, "must be 0 or more and finite", least=0, below=math.inf)


def _share(text: str) -> Option:
    return Option(text, "is a share, at least 0 and below 1", least=0, below=1)


class ModelChoice(TypedDict, total=False):
    """Which network of the literature."""

    model: Annotated[str, Option("ms1, ms2, ms3, h1 or h2.")]


class FlowChoices(TypedDict, total=False):
    """What a user chooses of the flow of a model."""

    layers: Annotated[int, Option("Number of layers N.", most=100_000)]
    step: Annotated[float | None, Option("Integration step h.", most=1e30)]  # numbers of 32 bits hold it
    horizon: Annotated[float | None, Option("Integration time T = N h, instead of `step`.")]
    features: Annotated[int, Option("Size n of the state.", most=2048)]
    width: Annotated[int | None, Option("Hidden units a layer (h1, h2).", most=65_536)]
    activation: Annotated[str, Option("tanh, relu, leaky_relu, sigmoid, softplus or identity.")]
    interconnection: Annotated[
        str | None, Option("J of h1 and h2: canonical or upper_ones (J1 and J2 of the L4DC paper).")
    ]
    integrator: Annotated[
        str | None,
        Option(
            "forward_euler, symplectic_euler, stormer_verlet, yoshida4, suzuki4, implicit_midpoint, runge_kutta4, "
            "gauss_legendre or discrete_gradient, where it fits the model."
        ),
    ]
    damping: Annotated[
        float | None, _amount("Rate at which the momenta are damped (h2, ms1, ms3; of sequences also ms2, cornn).")
    ]
    shared: Annotated[bool, Option("One K and b for all layers (time-invariant).")]
    init_std: Annotated[float | None, _amount("Standard deviation of the initial weights.")]


class NetworkChoices(FlowChoices, total=False):
    """What a user chooses of a network."""

    model: Annotated[
        str,
        Option(
            "ms1, ms2, ms3, h1 or h2; of images stages, hamiltonian74, hamiltonian218 or hamiltonian1202 as well, of "
            "sequences unicornn or cornn."
        ),
    ]
    lift: Annotated[Lift, Option("How vectors become states.")]
    units: Annotated[tuple[int, ...] | None, Option("Layers of every stage, as in 2,2,2 (stages).", typed=str)]
    channels: Annotated[tuple[int, ...] | None, Option("Channels of every stage, as in 16,32,56 (stages).", typed=str)]
    normalization: Annotated[UnitsInRange | None, Option("What keeps hidden units in range (stages).")]


class NetworkOptions(NetworkChoices, total=False):
    """All of a network that is bounded."""

    outputs: Annotated[int, Option("Classes, or numbers to predict.", most=2**24)]
    kernel_size: Annotated[int | None, Option("Side of the convolutions of a flow of images or signals.", most=63)]
    space: Annotated[OfPositions | None, Option("What a state is that is no vector, image or sequence.")]
    pool: Annotated[
        int | None, Option("Positions that pooling makes one (signals).", "must be at least 1", least=1, most=2**16)
    ]
    readout: Annotated[Readout | None, Option("What answers: every node, or the mean or sum over a graph's.")]
    neighbours: Annotated[Neighbours | None, Option("How the edges of a node are weighed, as `Graph` has it.")]


class TrainingChoices(TypedDict, total=False):
    """What a user chooses of a recipe."""

    epochs: Annotated[int, _count("Passes over the training data.")]
    batch_size: Annotated[int, _count("Samples a step.")]
    optimizer: Annotated[Optimizer, Option("Optimizer.")]
    learning_rate: Annotated[float, _positive("Largest learning rate of the schedule.")]
    smoothness: Annotated[float, _amount("Weight of smoothness over depth.")]
    head_decay: Annotated[float, _amount("Weight decay of the output layer, in the loss.")]
    weight_decay: Annotated[float, _amount("Weight decay of all parameters.")]
    augment: Annotated[
        tuple[str, ...] | None,
        Option("Change training images by chance: crop, flip, cutout, or none; repeat for several."),
    ]
    label_smoothing: Annotated[float, _share("Label smoothing, 0 to 1.")]
    clip: Annotated[
        float | None,
        Option(
            "Largest norm of the gradient; inf leaves it alone.", "must be positive, infinite for no clipping", above=0
        ),
    ]
    average: Annotated[
        float,
        _share("Share of the old mean in that of the weights after a step, such as 0.995; 0 keeps the last weights."),
    ]
    precision: Annotated[Precision, Option("bfloat16 trains with convolutions and products in 16 bits.")]
    method: Annotated[Method, Option("joint, or alternating as in the paper.")]
    validation_fraction: Annotated[float, _share("Share of the training data held back to watch.")]
    patience: Annotated[int | None, _count("Stop after so many epochs without a better validation score.")]
    restarts: Annotated[int, _count("Starts from fresh weights, of which the best is trained on; 1 begins once.")]


class RunChoices(TypedDict, total=False):
    """What a user chooses of a run beside its network and its recipe."""

    class_weight: Annotated[
        tuple[str, ...] | None,
        Option("balanced, for classes of the same weight in sum, or CLASS=WEIGHT; repeat for several."),
    ]
    folds: Annotated[
        int,
        Option(
            "Score on so many held-out parts of the training rows too.",
            "must be a whole number, at least 2",
            least=2,
            most=100,
        ),
    ]
    seeds: Annotated[
        int,
        Option(
            "Train with so many seeds, for the spread of the score; the first is kept.",
            "must be a whole number, at least 2",
            least=2,
            most=1000,
        ),
    ]


class RecipeOptions(TrainingChoices, total=False):
    """All of a recipe."""

    refit: Annotated[bool, Option("Train on all rows once the number of epochs is found.")]
    schedule: Annotated[Schedule, Option("How the learning rate goes.")]
    warmup: Annotated[float, _share("Share of the steps over which the rate rises, where it does.")]
    decay: Annotated[float, _positive("Factor an epoch of the exponential schedule.")]
    head_steps: Annotated[int, _count("Steps of the output layer for each batch of the alternating method.")]
    head_epochs: Annotated[int, _count("Epochs of the last output layer of the alternating method.")]
    head_learning_rate: Annotated[float, _positive("Of the output layer in the alternating method.")]
    restart_epochs: Annotated[int, _count("Epochs of each start.")]
    restart_learning_rate: Annotated[float | None, _positive("Of the starts.")]
    seed: Annotated[
        int, Option("Seed of batches and starts.", "must be a whole number from 0 to 4294967295", least=0, below=2**32)
    ]


class FileChoices(TypedDict, total=False):
    """What a user says of how a text table is written, where that cannot be found or is found wrongly."""

    separator: Annotated[str | None, Option("Sign between the fields of a table: , ; | or tab.")]
    no_header: Annotated[bool, Option("The first line of a table is data; columns are column1, column2, ...")]
    skip_lines: Annotated[
        int, Option("Lines above the header of a table.", "must be a whole number, 0 or more", least=0, most=500)
    ]
    encoding: Annotated[str | None, Option("Encoding of a table, such as cp1252.")]
    missing: Annotated[
        tuple[str, ...] | None,
        Option("What stands for a missing value, beside an empty cell and, in numbers, NA and the like; repeat."),
    ]


class SourceChoices(FileChoices, total=False):
    """What a user chooses of the data."""

    target: Annotated[str | None, Option("Column of a table to predict; a table needs it.")]
    task: Annotated[Task | None, Option("What the target of a table is.")]
    columns: Annotated[tuple[str, ...] | None, Option("Input column of a table; repeat for several.", flag="--column")]
    without: Annotated[tuple[str, ...] | None, Option("Column of a table to leave out; repeat for several.")]
    decimal: Annotated[Decimal | None, Option("Sign before the decimals of numbers.")]
    date_format: Annotated[str | None, Option("How dates are written, as in %d/%m/%Y.")]
    sequence: Annotated[
        str | None, Option("Column that names the sequences, of a table of one row a step; `time` orders the steps.")
    ]
    time: Annotated[str | None, Option("Column that orders the steps of each sequence, of numbers or dates.")]
    bins: Annotated[
        int,
        Option(
            "Pieces of each number of a table, beside the number itself; 0 for the number alone.",
            "must be a whole number, 0 or more",
            least=0,
            most=256,
        ),
    ]
    image_size: Annotated[
        int | None,
        Option(
            "Pixels along each side that pictures of a folder get.",
            "must be a whole number, at least 1",
            least=1,
            most=1024,
        ),
    ]
    size: Annotated[int | None, Option("Points of a planar set.", most=10_000_000)]
    folder: Annotated[
        str | None,
        Option(
            "Where the files of mnist, fashion-mnist or cifar10 are, or go with `download`.",
            flag="--data-folder",
            typed=Path,
        ),
    ]
    download: Annotated[bool, Option("Fetch mnist, fashion-mnist or cifar10 if it is not there.")]


class Entry(NamedTuple):
    """An option of a list.

    Args:
        name: of the argument in Python.
        kind: its type, but for None.
        optional: whether it may be None.
        option: the rest.
    """

    name: str
    kind: Any
    optional: bool
    option: Option


@functools.cache
def entries(choices: type) -> tuple[Entry, ...]:
    """The options of one of the lists above, in order."""
    return tuple(_read(choices))


def _read(choices: type) -> Iterator[Entry]:
    for name, hint in get_type_hints(choices, include_extras=True).items():
        kind, option = get_args(hint)
        inner = get_args(kind) if NoneType in get_args(kind) else (kind,)
        yield Entry(name, inner[0], NoneType in inner, option)


def names(choices: type) -> list[str]:
    """What the options of a list are called in Python, in order."""
    return [entry.name for entry in entries(choices)]


def flags(*lists: type) -> dict[str, str]:
    """What commands call the options of some lists, by their names in Python.

    Example:
        >>> flags(FileChoices)["skip_lines"]
        '--skip-lines'
    """
    every = (entry for choices in lists for entry in entries(choices))
    return {entry.name: entry.option.flag or "--" + entry.name.replace("_", "-") for entry in every}


def check(choices: type, values: Mapping[str, Any]) -> None:
    """See that values keep the bounds of their options.

    Args:
        choices: one of the lists above.
        values: by name; names that are not in the list are left alone.

    Raises:
        ValueError: for the first that does not, with its name and what was given.

    Example:
        >>> check(RecipeOptions, {"epochs": 3, "warmup": 0.5})
        >>> check(RecipeOptions, {"warmup": 20})
        Traceback (most recent call last):
        ValueError: `warmup` is a share, at least 0 and below 1; got 20.
    """
    for name, kind, optional, option in entries(choices):
        value = values.get(name)
        if name not in values or (value is None and optional):
            continue
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError(f"`{name}` must be one of {', '.join(get_args(kind))}; got {value!r}.")
        if kind is bool and value is not None and not is_truth(value):
            raise ValueError(f"`{name}` must be true or false; got {value!r}.")
        if option.must and not _is_in(value, kind, option):
            got = f"{value!r}, which is text" if isinstance(value, str) else value
            raise ValueError(f"`{name}` {option.must}; got {got}.")
        if isinstance(value, int | float) and option.most < value < math.inf:
            raise ValueError(f"`{name}` may be at most {_written(option.most)}; got {_written(value)}.")


def _is_in(given: object, kind: type, option: Option) -> bool:
    if isinstance(given, bool) or not isinstance(given, int if kind is int else Real):
        return False
    value: Any = given
    return bool(value >= option.least and value > option.above and (option.below is None or value < option.below))


def _written(size: Any) -> str:
    return f"{size:,}" if isinstance(size, int) else f"{size:g}"


def truths(choices: type, values: Mapping[str, Any]) -> dict[str, bool]:
    """Those values that are true or false, NumPy's and 1 and 0 too, as Python's own: files hold no others.

    Example:
        >>> import numpy as np
        >>> truths(SourceChoices, {"no_header": np.bool_(True), "download": 0, "skip_lines": 1})
        {'no_header': True, 'download': False}
    """
    return {
        name: bool(values[name])
        for name, kind, *_ in entries(choices)
        if kind is bool and name in values and is_truth(values[name])
    }


def plain(choices: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are options of a list, numbers of any kind as Python's own.

    Raises:
        TypeError: if a number is of the wrong kind.

    Example:
        >>> import numpy as np
        >>> plain(TrainingChoices, {"epochs": np.int64(3), "learning_rate": 1, "verbose": True})
        {'epochs': 3, 'learning_rate': 1.0}
    """
    numbers = {int: whole, float: real}
    return {
        name: numbers[kind](name, values[name]) if kind in numbers and values[name] is not None else values[name]
        for name, kind, *_ in entries(choices)
        if name in values
    }
