"""In which numbers the analysis computes: those of the weights, also where a program computes in fewer digits.

A flow leaves `torch.autocast` and runs in the kind of number of its weights, for it adds many small steps up. What is
said of it must be said of what it does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from hdnn.flow import Flow
from hdnn.kernels.transforms import autocasting

P = ParamSpec("P")
R = TypeVar("R")

_HALF = (torch.float16, torch.bfloat16)


def in_full(function: Callable[P, R]) -> Callable[P, R]:
    """The function outside of autocast, with half-precision states of a flow cast to the weights' kind, as it does."""

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        given = [*args, *kwargs.values()]
        flows = [x for x in given if isinstance(x, Flow)]
        devices = {x.device.type for x in given if isinstance(x, Tensor)} | {flow.weight.device.type for flow in flows}
        active = [device for device in devices if autocasting(device)]
        if not active:
            return function(*args, **kwargs)
        dtype = flows[0].weight.dtype if flows else None
        with ExitStack() as stack:
            for device in active:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*(_cast(x, dtype) for x in args), **{name: _cast(x, dtype) for name, x in kwargs.items()})  # type: ignore[arg-type]

    return outside


def check_precision(flow: Flow) -> None:
    """Refuse weights whose norms half precision would round.

    Raises:
        ValueError: if the weights are neither float32 nor float64.
    """
    if flow.weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"Bounds need weights in float32 or float64; got {flow.weight.dtype}. Convert a copy, which has the same "
            f"values: `copy.deepcopy(flow).float()`."
        )


def _cast(x: object, dtype: torch.dtype | None) -> object:
    return x.to(dtype) if dtype is not None and isinstance(x, Tensor) and x.dtype in _HALF else x
