"""What the user chose, and the network and recipe that it makes of a set-up."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass

from hdnn.data import Dataset
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.jobs.setups import Setup
from hdnn.names import unknown
from hdnn.networks import PRESETS, Lift, NetworkConfig, build_network
from hdnn.renames import RECIPE, renamed
from hdnn.training import Recipe

_COPIES = 3  # of the weights: themselves, their gradients, and a momentum at least


@renamed(RECIPE)
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
        smoothness: see `Recipe`.
        head_decay: see `Recipe`.
        weight_decay: see `Recipe`.
        label_smoothing: see `Recipe`.
        clip: see `Recipe`; infinite for no clipping where the set-up clips.
        method: see `Recipe`.
        validation_fraction: see `Recipe`.
        patience: see `Recipe`.
        restarts: see `Recipe`.
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
    smoothness: float | None = None
    head_decay: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    clip: float | None = None
    method: str | None = None
    validation_fraction: float | None = None
    patience: int | None = None
    restarts: int | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model not in PRESETS:
            raise ValueError(unknown("model", self.model, PRESETS))
        if self.step is not None and self.horizon is not None:
            raise ValueError(
                f"Give `step` (h) or `horizon` (T = layers · h), not both; got {self.step:g} and {self.horizon:g}."
            )
        if self.layers is not None and self.layers < 0:
            raise ValueError(f"`layers` must be 0 (the identity) or more; got {self.layers}.")


def network_config(dataset: Dataset, setup: Setup, choices: Choices) -> NetworkConfig:
    """The network of a set-up with the user's choices in place of its own."""
    model = choices.model or setup.model
    layers = setup.layers if choices.layers is None else choices.layers
    horizon = setup.horizon if choices.horizon is None else choices.horizon
    if choices.lift is not None and setup.kernel_size is not None:
        raise ValueError(f"`lift` is for vectors; a convolution lifts images. Leave out `lift={choices.lift!r}`.")
    interconnection = choices.interconnection
    if interconnection is None and model == setup.model:
        interconnection = setup.interconnection
    elif interconnection is not None and interconnection not in INTERCONNECTIONS:
        raise ValueError(unknown("interconnection", interconnection, INTERCONNECTIONS))
    config = NetworkConfig(
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
    _require_memory(config)
    return config


def _require_memory(config: NetworkConfig) -> None:
    """Refuse what the memory of the machine cannot train: the system would end the process without a word."""
    if not hasattr(os, "sysconf"):  # Windows refuses by itself
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    weights = sum(value.nbytes for value in build_network(config, device="meta").parameters())
    if _COPIES * weights > memory:
        raise MemoryError(
            f"The weights, their gradients and what the optimizer keeps take {_COPIES * weights / 2**30:.0f} GiB; this "
            f"machine has {memory / 2**30:.0f} GiB. Use fewer features or layers."
        )


def chosen_recipe(setup: Setup, choices: Choices, seed: int) -> Recipe:
    """The recipe of a set-up with the user's choices in place of its own.

    Weight decay means something else to every optimizer, and L-BFGS searches along a line from rate 1, unclipped: with
    another optimizer the set-up's values go. A rate of the user's holds for the restarts too, and no restart takes
    longer than the training itself. The alternating method is the paper's, which begins once, and a flow without layers
    has no weights to begin with.
    """
    recipe = setup.recipe
    if choices.optimizer not in (None, recipe.optimizer):
        recipe = dataclasses.replace(recipe, weight_decay=0.0, restart_learning_rate=None)
        if choices.optimizer == "lbfgs":
            recipe = dataclasses.replace(recipe, learning_rate=1.0, clip=None, restarts=1)
    if choices.learning_rate is not None:
        recipe = dataclasses.replace(recipe, restart_learning_rate=None)
    if choices.method == "alternating" or choices.layers == 0:
        recipe = dataclasses.replace(recipe, restarts=1)
    if choices.epochs is not None:
        recipe = dataclasses.replace(recipe, restart_epochs=max(1, min(recipe.restart_epochs, choices.epochs)))
    names = {field.name for field in dataclasses.fields(Recipe)} & {field.name for field in dataclasses.fields(Choices)}
    chosen = {name: getattr(choices, name) for name in names if getattr(choices, name) is not None}
    if choices.clip == math.inf:
        chosen["clip"] = None
    return dataclasses.replace(recipe, seed=seed, **chosen)
