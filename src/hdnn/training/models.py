"""What training finds in a model: its flows, its output layer, whether it knows its loss, where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.flow import Flow


def has_objective(model: object) -> bool:
    """Whether a model says what it is to learn, as a `Network` does by its task."""
    return all(hasattr(model, part) for part in ("lift", "flow", "head", "task"))


def smooth_parts(model: nn.Module) -> list[Any]:
    """The flows in a model, each once: modules that know their `smoothness`."""
    return list({id(part): part for part in _smooth_parts(model)}.values())


def _smooth_parts(module: nn.Module) -> Iterator[nn.Module]:
    if callable(getattr(module, "smoothness", None)):
        yield module
        return
    for child in module.children():
        yield from _smooth_parts(child)


def flows_of(model: nn.Module) -> dict[str, Flow]:
    """The flows in a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Flow)}


def head_of(model: nn.Module) -> nn.Module | None:
    """The output layer, if it is called `head` and has parameters."""
    head = getattr(model, "head", None)
    return head if isinstance(head, nn.Module) and any(True for _ in head.parameters()) else None


def first_parameter(model: nn.Module) -> Tensor:
    """One that says on which device the model is, and of what kind its numbers are; of a model without, a zero."""
    parameters = (getattr(head_of(model), "weight", None), *model.parameters())
    return next((p for p in parameters if isinstance(p, Tensor) and p.is_floating_point()), torch.zeros(()))
