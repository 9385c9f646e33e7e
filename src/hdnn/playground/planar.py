"""A run on points of the plane, as the page takes it.

Legend: N layers, n features, h step, T = N h, γ damping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from hdnn.jobs.prediction import opened
from hdnn.jobs.sources import PLANAR, DataSource, reloaded, source_of
from hdnn.networks import NetworkConfig

_LAYERS, _FEATURES = 1024, 16
_HORIZON, _DAMPING = (0.1, 64.0), 2.0
_SHOWN = 4000  # points of each part


def brought(folder: str | Path, source: DataSource | None = None) -> dict[str, Any]:
    """The network and the data of a run on points of the plane, for `page`.

    Points are those that the network gets: scaled as the run has scaled them.

    Args:
        folder: that `hdnn train` wrote.
        source: the data of the run, where they are none of the built-in ones.

    Returns:
        Plain values: "settings" of the page, "parameters" of the network, "data" and a "title".

    Raises:
        OSError: if there is no run, or its data have moved.
        ValueError: if the page cannot show its network; the message says why.
    """
    run, _, _, network = opened(Path(folder))
    config = run.config.network
    if reason := _why_not(config, network.head.weight):
        raise ValueError(
            f"The playground cannot show the run {folder}: {reason}. It shows networks of two inputs and two classes "
            f"with zeros appended, up to {_LAYERS} layers, an even number of at most {_FEATURES} features with as many "
            f"hidden units, a J and an integrator of the page, horizons of {_HORIZON[0]:g} to {_HORIZON[1]:g}, damping "
            f"up to {_DAMPING:g}, in float32, such as `hdnn train swiss-roll` makes."
        )
    dataset = reloaded(run, source_of(run, None, source))
    parts = {
        name: {"x": [round(v, 6) for v in x[:_SHOWN].ravel().tolist()], "y": y[:_SHOWN].tolist()}
        for name, x, y in (
            ("train", dataset.x_train, dataset.y_train),
            ("test", dataset.x_test, dataset.y_test),
        )
    }
    state = network.state_dict()
    numbers = [state[name].flatten().tolist() for name in ("flow.weight", "flow.bias", "head.weight", "head.bias")]
    return {
        "settings": _settings(config, run.config.recipe, run.config.seed, run.config.data.get("data")),
        "parameters": [value for part in numbers for value in part],
        "data": parts,
        "title": f"{config.model} of {Path(folder).resolve().name}",
    }


def _why_not(config: NetworkConfig, weight: Tensor) -> str:
    """Why the page cannot show a network, in words; empty if it can."""
    low, high = _HORIZON
    facts = {
        f"it is for {config.task}": config.task != "classification",
        f"its inputs are {config.inputs}": config.inputs != (2,),
        f"it tells {config.outputs} classes apart": config.outputs != 2,
        f"its lift is {config.lift}": config.lift != "zeros",
        f"its width is {config.width}": config.width not in (None, config.features),
        f"its integrator is {config.integrator}": config.integrator is not None,
        f"its J is {config.interconnection}": config.interconnection not in _INTERCONNECTIONS.get(config.model, ()),
        f"its horizon is {config.layers * config.step:g}": not low <= config.layers * config.step <= high,
        f"its damping is {config.damping}": (config.damping or 0) > _DAMPING,
        f"it has {config.layers} layers": not 1 <= config.layers <= _LAYERS,
        f"it has {config.features} features": config.features % 2 != 0 or config.features > _FEATURES,
        f"its numbers are {weight.dtype}": weight.element_size() != 4,
    }
    return next((words for words, holds in facts.items() if holds), "")


_INTERCONNECTIONS: dict[str, tuple[str | None, ...]] = {
    "h1": (None, "canonical", "upper_ones"),
    "h2": (None, "canonical"),
    "ms1": (None,),
    "ms2": (None,),
    "ms3": (None,),
}


def _settings(config: NetworkConfig, recipe: Any, seed: int, name: object) -> dict[str, Any]:
    """In the words of the page, which makes what it does not know the nearest thing that it does."""
    said = {"learning_rate": "rate", "batch_size": "batch", "smoothness": "smoothness", "head_decay": "headDecay"}
    return {
        "problem": name if name in PLANAR else "own",
        "model": config.model,
        "J": "J2" if config.interconnection == "upper_ones" else "J1",
        "layers": config.layers,
        "horizon": config.layers * config.step,
        "features": config.features,
        "activation": config.activation,
        "damping": config.damping or 0,
        "shared": config.shared,
        "seed": seed,
        **{word: recipe[key] for key, word in said.items() if key in recipe},
    }
