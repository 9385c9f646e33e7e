"""The eager backend: the loop over the layers, by operations of PyTorch, which serves every flow and every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from hdnn.kernels.backend import Backend, Gradients, Layers, Wants
from hdnn.kernels.plan import Plan
from hdnn.kernels.transforms import pulled_back


class Eager(Backend):
    """Layer by layer; PyTorch differentiates it."""

    name: ClassVar[str] = "eager"
    fused: ClassVar[bool] = False
    many: ClassVar[bool] = True
    drives: ClassVar[bool] = True

    def describe(self) -> str:
        """It is always there."""
        return "available"

    def why_not(self, plan: Plan | None, y: Tensor | None, weight: Tensor | None, wants: Wants) -> str:
        """Nothing stands in its way."""
        return ""

    def forward(self, plan: Plan, y: Tensor, layers: Layers, keep: bool) -> tuple[Tensor, None]:
        """The loop that comes with the layers."""
        tensors = [x for x in (y, layers.weight, layers.bias, layers.W) if x is not None]
        return _run(layers)(*tensors), None

    def backward(self, plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: None, weights_too: bool) -> Gradients:
        """The gradients of the loop."""
        tensors = [x for x in (y, layers.weight, layers.bias, layers.W) if x is not None]
        run, count = _run(layers), len(tensors) if weights_too else 1
        to_y, *others = pulled_back(lambda *x: (run(*x, *tensors[count:]),), tensors[:count], [g])
        to_weight, to_bias, to_W = [*others, None, None, None][:3]
        return to_y, to_weight, to_bias, to_W


def _run(layers: Layers) -> Callable[..., Tensor]:
    if (loop := layers.loop) is None:
        raise ValueError("The eager backend runs the loop of a flow; call the flow.")

    def run(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None = None) -> Tensor:
        return loop(y, weight, bias, W)

    return torch.func.vmap(run) if layers.flows else run
