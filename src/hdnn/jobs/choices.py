"""What the user chose, and the network and recipe that it makes of a set-up."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import torch

from hdnn import options
from hdnn.arguments import whole
from hdnn.data import Dataset
from hdnn.flow.settings import step_size
from hdnn.jobs.setups import Setup
from hdnn.jobs.weights import written
from hdnn.names import unknown
from hdnn.networks import STAGES, Network, NetworkConfig, build_network, check_names
from hdnn.recurrent import OSCILLATORS
from hdnn.renames import RECIPE, told
from hdnn.training import Recipe
from hdnn.training.augmentation import check_changes

_COPIES = 3  # of the weights: themselves, their gradients, and a momentum at least


class Choices(options.NetworkChoices, options.TrainingChoices, options.RunChoices, total=False):
    """What the user chose by name; what is left out, or None, is left to the set-up of the data set.

    An infinite `clip` is for no clipping where the set-up clips.
    """


def given(choices: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, checked as far as can be without data.

    Raises:
        ValueError: for an unknown name, a value out of bounds, or step and horizon at once.
    """
    chosen = {name: value for name, value in told(choices, RECIPE).items() if value is not None}
    known = [entry.name for entry in options.entries(Choices)]
    for name in chosen.keys() - set(known):
        raise ValueError(unknown("choice", name, known))
    check_names(chosen)
    chosen |= {name: _numbers(name, chosen[name]) for name in ("units", "channels") if name in chosen}
    options.check(Choices, chosen)
    chosen |= options.truths(Choices, chosen)
    if "class_weight" in chosen:
        chosen["class_weight"] = written(chosen["class_weight"])
    if "augment" in chosen:
        chosen["augment"] = check_changes(() if chosen["augment"] == ("none",) else chosen["augment"])
    if {"step", "horizon"} <= chosen.keys():
        step, horizon = chosen["step"], chosen["horizon"]
        raise ValueError(f"Give `step` (h) or `horizon` (T = layers · h), not both; got {step:g} and {horizon:g}.")
    return chosen


def network_config(dataset: Dataset, setup: Setup, choices: Choices) -> NetworkConfig:
    """The network of a set-up with the user's choices in place of its own."""
    chosen = given(choices)
    if len(dataset.inputs) == 2:
        return _of_sequences(dataset, setup, chosen)
    setup = setup.of(chosen)
    if setup.units is not None:
        return _in_stages(dataset, setup, chosen)
    if "lift" in chosen and setup.kernel_size is not None:
        raise ValueError(f"`lift` is for vectors; a convolution lifts images. Leave out `lift={chosen['lift']!r}`.")
    if (len(dataset.inputs) > 1) != (setup.kernel_size is not None):
        kinds = ("vectors", "images")
        raise ValueError(
            f"That set-up is for {kinds[setup.kernel_size is not None]}, and these data are "
            f"{kinds[len(dataset.inputs) > 1]}. Take one that is for them."
        )
    both = {"horizon": setup.horizon, **chosen} if "step" not in chosen else chosen
    layers = chosen.get("layers", setup.layers)
    own = {name: getattr(setup, name) for name in ("model", "features", "lift", "interconnection")}
    if chosen.get("model", setup.model) != setup.model:
        del own["interconnection"]
    fields = {field.name for field in dataclasses.fields(NetworkConfig)}
    config = NetworkConfig(
        task=dataset.task,
        inputs=dataset.inputs,
        outputs=dataset.outputs,
        kernel_size=setup.kernel_size,
        **{
            **own,
            **{name: value for name, value in chosen.items() if name in fields},
            "layers": layers,
            "step": step_size(layers, both.get("step"), both.get("horizon")),
        },
    )
    _require_memory(config)
    return config


def _in_stages(dataset: Dataset, setup: Setup, chosen: dict[str, Any]) -> NetworkConfig:
    """The configuration of a network in stages: what is chosen, else what its name says, else the set-up's."""
    if dataset.task != "classification" or len(dataset.inputs) != 3:
        raise ValueError("A network in stages sorts images, and these data are none. Use h2, or leave `model` out.")
    for name, instead in (("layers", "units"), ("features", "channels"), ("horizon", "step"), ("init_std", "step")):
        if name in chosen:
            raise ValueError(f"A network in stages has no `{name}` to choose; give it `{instead}`, or leave it out.")
    known = {name: getattr(setup, name) for name in ("units", "channels", "normalization", "step", "activation")}
    own = {name: value for name, value in known.items() if value is not None}
    fields = {**own, **STAGES.get(chosen.get("model", ""), {}), **chosen, "model": "stages"}
    names = {field.name for field in dataclasses.fields(NetworkConfig)}
    config = NetworkConfig(
        task=dataset.task,
        inputs=dataset.inputs,
        outputs=dataset.outputs,
        kernel_size=setup.kernel_size,
        features=fields["channels"][0],
        layers=sum(fields["units"]),
        **{name: value for name, value in fields.items() if name in names},
    )
    _require_memory(config)
    return config


def _of_sequences(dataset: Dataset, setup: Setup, chosen: dict[str, Any]) -> NetworkConfig:
    """The network of sequences: the time of the longest is T h, whatever the layers."""
    if setup.kernel_size is not None:
        raise ValueError("That set-up is for images, and these data are sequences. Take one that is for them.")
    step = chosen.get("step")
    names = {field.name for field in dataclasses.fields(NetworkConfig)}
    own = {name: getattr(setup, name) for name in ("model", "features", "layers", "damping")}
    model = chosen.get("model", setup.model)
    if model != setup.model:
        del own["damping"]
    for name in ("activation", "init_std") if model in OSCILLATORS else ():
        if chosen.get(name, "tanh") != "tanh":
            raise ValueError(
                f"`{name}` is for models that are flows, and {model} is none; got {chosen[name]}. Leave it out."
            )
    config = NetworkConfig(
        task=dataset.task,
        inputs=dataset.inputs,
        outputs=dataset.outputs,
        **{
            **own,
            **{name: value for name, value in chosen.items() if name in names},
            "step": chosen.get("horizon", setup.horizon) / dataset.inputs[0] if step is None else step,
        },
    )
    _require_memory(config)
    return config


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    """Whole numbers, from text with commas between them as well."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        found = tuple(int(part) if isinstance(part, str) else whole(name, part) for part in parts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` are whole numbers, one for each stage, as in 2,2,2; got {value!r}.") from error
    if not found or min(found) < 1:
        raise ValueError(f"`{name}` are positive, one for each stage, as in 2,2,2; got {value!r}.")
    return found


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


def seeded_network(config: NetworkConfig, init_std: float | None, seed: int) -> Network:
    """A network whose initial weights depend on the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(config, init_std=init_std)


def chosen_recipe(setup: Setup, choices: Choices, seed: int) -> Recipe:
    """The recipe of a set-up with the user's choices in place of its own.

    Weight decay means something else to every optimizer, and L-BFGS searches along a line from rate 1, unclipped:
    with another optimizer the set-up's values go. A rate of the user's holds for the restarts too, and no restart
    takes longer than the training itself. Where nothing is held back, no number of epochs is found. The alternating
    method is the paper's, which begins once, and a flow without layers has no weights to begin with.
    """
    chosen = given(choices)
    recipe = setup.of(chosen).recipe
    if chosen.get("optimizer", recipe.optimizer) != recipe.optimizer:
        recipe = dataclasses.replace(recipe, weight_decay=0.0, restart_learning_rate=None)
        if chosen["optimizer"] == "lbfgs":
            recipe = dataclasses.replace(
                recipe, learning_rate=1.0, clip=None, restarts=1, average=0.0, precision="full"
            )
    if "learning_rate" in chosen:
        recipe = dataclasses.replace(recipe, restart_learning_rate=None)
    if chosen.get("method") == "alternating" or chosen.get("layers") == 0:
        recipe = dataclasses.replace(recipe, restarts=1)
    if "epochs" in chosen:
        recipe = dataclasses.replace(recipe, restart_epochs=max(1, min(recipe.restart_epochs, chosen["epochs"])))
    if chosen.get("validation_fraction") == 0:
        recipe = dataclasses.replace(recipe, refit=False, validation_fraction=0.0, patience=None)
    if chosen.get("clip") == math.inf:
        chosen["clip"] = None
    names = {field.name for field in dataclasses.fields(Recipe)} & chosen.keys()
    return dataclasses.replace(recipe, seed=seed, **{name: chosen[name] for name in names})
