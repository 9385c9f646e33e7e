"""Weights that the page has saved, as a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from hdnn.flow import Flow
from hdnn.interconnections import Fixed, Interconnection
from hdnn.networks import Network, vector_classifier
from hdnn.presets import h1, h2, ms1, ms2, ms3

_PRESETS: dict[str, Callable[..., Flow]] = {"h1": h1, "h2": h2, "ms1": ms1, "ms2": ms2, "ms3": ms3}
_LARGEST = 2**24


def read_network(path: str | Path) -> Network:
    """The network that “Save weights” of the playground has written.

    Args:
        path: of the file, playground.safetensors.

    Returns:
        A classifier of points (B, 2), in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no network of the playground, or a damaged one.
    """
    path = Path(path)
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} is larger than any network of the playground ({_LARGEST:,} bytes).")
    content = path.read_bytes()
    try:
        state = load(content)
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        network = _network(json.loads(head["__metadata__"]["playground"]))
        _check(state, {name: tuple(p.shape) for name, p in network.named_parameters()})
        network.load_state_dict({**network.state_dict(), **state})
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} holds no network of the playground: {error}. Save it there again.") from error
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ValueError(f"{path} holds weights that are infinite or not a number.")
    return network.eval()


def _check(state: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """See that a file has all the weights of its network: those it lacks would be drawn anew."""
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{name} is missing")
        if state[name].dtype is not torch.float32 or tuple(state[name].shape) != shape:
            kind = str(state[name].dtype).removeprefix("torch.")
            raise ValueError(f"{name} is {kind} {tuple(state[name].shape)}, and the network has float32 {shape}")


def _network(settings: dict[str, Any]) -> Network:
    """With fresh weights, as the page has described it."""
    features, layers = int(settings["features"]), int(settings["layers"])
    if not (1 <= layers <= 1024 and 2 <= features <= 16):
        raise ValueError(f"{layers} layers of {features} features are more than the playground has")
    driven: dict[str, Interconnection | str | float] = {}
    if settings["model"] == "h1" and settings["J"] == "J2":
        driven["interconnection"] = "upper_ones"
    if settings["model"] == "h1" and settings["J"] == "own":
        upper = torch.zeros(4, 4)
        upper[*torch.triu_indices(4, 4, 1)] = torch.tensor([float(entry) for entry in settings["ownJ"]])
        driven["interconnection"] = Fixed(upper - upper.T)
    damping = float(settings.get("damping", 0))
    if damping:
        driven["damping"] = damping
    flow = _PRESETS[settings["model"]](
        features,
        layers,
        horizon=float(settings["horizon"]),
        activation=str(settings["activation"]),
        shared=bool(settings["shared"]),
        dtype=torch.float32,
        **driven,  # what not all models take
    )
    return vector_classifier(2, 2, flow)
