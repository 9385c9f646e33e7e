"""What a flow is given: states of the right shape and kind of number, as tensors, also of many lengths at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from hdnn.arguments import shown
from hdnn.flow.parameters import refresh
from hdnn.kernels.transforms import autocasting

if TYPE_CHECKING:
    from hdnn.flow.module import Flow

M = TypeVar("M", bound=Callable[..., Tensor])


def check_numbers(y: Tensor, weight: Tensor) -> None:
    """Refuse a state of other numbers than the weights, or on another device."""
    if y.dtype is not weight.dtype:
        have, want = (str(x.dtype).removeprefix("torch.") for x in (y, weight))
        other = f", or the flow with flow.to(torch.{have})" if y.is_floating_point() else ""
        raise TypeError(
            f"The state holds {have} numbers and the weights of the flow {want}. Convert the state with "
            f"y.to(torch.{want}){other}."
        )
    if y.device != weight.device:
        raise ValueError(
            f"The state is on {y.device} and the flow on {weight.device}. Move one of them: "
            f'y.to("{weight.device}"), or flow.to("{y.device}").'
        )


def is_jagged(y: object) -> bool:
    """Whether a state is one tensor of many lengths.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it is nested, but not in the layout that keeps its rows one after the other.
    """
    if not isinstance(y, Tensor):
        raise TypeError(f"A flow maps tensors to tensors; got {shown(y)}. Convert it with torch.as_tensor(y).")
    if not y.is_nested:
        return False
    if y.layout is not torch.jagged:
        raise ValueError("Of nested tensors a flow takes those of jagged layout: give layout=torch.jagged.")
    return True


def over_rows(flow: Flow, y: Tensor, brought: Mapping[str, Any]) -> Tensor:
    """The flow of every row of a jagged tensor (B, lengths, n), whose rows it never couples."""
    if flow.space.rank > 1:
        raise ValueError(
            f"A flow on `{flow.space!r}` takes states of one size; got a nested tensor. Give one state at a time."
        )
    values: Tensor = flow(y.values(), **brought)
    return torch.nested.nested_tensor_from_jagged(values, y.offsets())  # type: ignore[attr-defined]


def in_full(weight: Tensor, **brought: Any) -> dict[str, Any]:
    """What a call brings in the numbers of the weights, where autocast has halved some of it."""
    return {
        name: value.to(weight.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in brought.items()
    }


def read(method: M) -> M:
    """A method of a flow that follows states: refused or cast like those of `forward`."""

    @functools.wraps(method)
    def run(flow: Flow, y: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        refresh(flow)
        if (type(y) is not Tensor or y.is_nested) and is_jagged(y):
            raise ValueError(f"`{method.__name__}` takes no nested tensors; give it their rows, y.values().")
        device = y.device.type
        if autocasting(device):
            with torch.autocast(device, enabled=False):
                return run(flow, y.to(flow.weight.dtype), *args, **in_full(flow.weight, **kwargs))
        flow.space.check(y, flow.features)
        if flow.recurrent or flow.layers:
            check_numbers(y, flow.weight)
        return method(flow, y, *args, **kwargs)

    return cast("M", run)
