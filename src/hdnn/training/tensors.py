"""States of trainings as named tensors, which files hold without pickling, and back; with checks of what is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Memory = dict[str, Tensor | int | float]


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """Copies that later steps do not move."""
    return {name: value.detach().clone() for name, value in weights.items()}


def under(part: str, tensors: Mapping[str, Tensor]) -> Weights:
    """Tensors under the name of a part, as in "part.name"."""
    return {f"{part}.{name}": value for name, value in tensors.items()}


def parted(tensors: Mapping[str, Tensor], names: Iterable[str]) -> tuple[dict[str, Weights], Weights]:
    """The parts that `under` put together, and what stands alone."""
    parts: dict[str, Weights] = {name: {} for name in names}
    single: Weights = {}
    for name, value in tensors.items():
        part, dot, rest = name.partition(".")
        if dot and part in parts:
            parts[part][rest] = value
        else:
            single[name] = value
    return parts, single


def columns(records: Sequence[Mapping[str, float]]) -> Weights:
    """Records of one kind by column; files do not keep the order of names, so each begins with its place."""
    names = list(records[0]) if records else []
    return {f"{k}.{name}": doubles(record[name] for record in records) for k, name in enumerate(names)}


def records(tensors: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """The records that `columns` took apart.

    Raises:
        ValueError: if the columns are no columns of one length.
    """
    rows = max((value.numel() for value in tensors.values()), default=0)
    for name, value in tensors.items():
        require(name, value, torch.float64, (rows,))
    ordered = sorted(tensors.items(), key=lambda item: place(item[0]))
    found = {name.partition(".")[2]: value.tolist() for name, value in ordered}
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def place(text: str) -> int:
    """The number with which a name begins, to sort by; 0 for one that has none."""
    first = text.partition(".")[0]
    return int(first) if first.isdecimal() and len(first) < 9 else 0


def number(value: int | float) -> Tensor:
    """A whole number as int64, another as float64."""
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def doubles(values: Iterable[float]) -> Tensor:
    """Numbers as float64."""
    return torch.tensor(list(values), dtype=torch.float64)


def text(document: Mapping[str, str]) -> Tensor:
    """Words by name as the bytes of their JSON."""
    return torch.tensor(list(json.dumps(document).encode()), dtype=torch.uint8)


def words(value: Tensor) -> dict[str, str]:
    """The words that `text` wrote.

    Raises:
        ValueError: if they are none.
    """
    require("text", value, torch.uint8, (value.numel(),))
    try:
        found: Any = json.loads(bytes(value.tolist()))
    except RecursionError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(word, str) for word in found.values()):
        raise ValueError("The circumstances of a training state are words by name; these are not.")
    return found


def backend_of(tensors: Weights) -> str:
    """What took the steps of a training, taken out of its tensors; earlier versions had one backend, and wrote none.

    Raises:
        ValueError: if it is none.
    """
    native = tensors.pop("native", None)
    if native is None:
        return "torch"
    require("native", native, torch.int64, ())
    if int(native) not in (0, 1):
        raise ValueError(f"'native' of the training state must be 0 or 1; got {int(native)}.")
    return "native" if int(native) else "torch"


def require(name: str, value: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """See that a tensor of a state has this kind and shape."""
    if value.dtype != dtype or tuple(value.shape) != shape:
        raise ValueError(
            f"{name!r} of the training state must be {dtype} of shape {shape}; got {value.dtype} of shape "
            f"{tuple(value.shape)}. Does it belong to this network, recipe and data?"
        )


def require_history(history: Iterable[Mapping[str, float]], scores: Iterable[str]) -> None:
    """See that records say what those of a training with these scores say.

    Raises:
        ValueError: if not.
    """
    told = {"epoch", "loss", "learning_rate", "seconds", *(f"train_{score}" for score in scores)}
    if missing := sorted({name for record in history for name in told - record.keys()}):
        raise ValueError(f"The history of the training state lacks {missing[0]!r}: it belongs to another training.")


def set_order(generator: torch.Generator, order: Tensor) -> None:
    """Put a generator into a state.

    Raises:
        ValueError: if it is none.
    """
    try:
        generator.set_state(order.clone())  # PyTorch reads a row of a larger tensor from the wrong place
    except RuntimeError as error:
        raise ValueError(f"The order of the batches is none that PyTorch knows: {error}.") from error


def require_alike(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """See that tensors have the names, shapes and kinds of others.

    Raises:
        ValueError: if not.
    """
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())[0]
        raise ValueError(f"The training state belongs to another network: {odd!r} is in one of them only.")
    for name, value in found.items():
        require(f"{what} {name}", value, expected[name].dtype, tuple(expected[name].shape))
