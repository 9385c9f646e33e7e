"""Whether the rows of inputs are positions of one state, such as the nodes of one graph, and not samples.

Samples can be drawn in any order. Nodes cannot: their edges name them by their number.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.modes import evaluating
from hdnn.training.batches import Call, Inputs, called, each, tensors_of
from hdnn.training.models import first_parameter, flows_of


class _Reached(Exception):
    """A flow was reached; nothing after it is asked for."""


@dataclass
class _Seen:
    """What reached the first flow with positions, in which axes it may have the rows, and what left the flow."""

    state: Tensor | None = None
    places: tuple[int, ...] = ()
    output: Tensor | None = None


def check_rows(model: nn.Module, x: Inputs, call: Call, size: int) -> None:
    """See that batches of rows may be drawn.

    Raises:
        ValueError: if they are positions of one state.
    """
    if are_positions(model, x, call, size):
        raise ValueError(
            "The rows of these inputs are not samples but the nodes of one graph (the positions of one state): drawn "
            "in another order, they would no longer fit its edges. Give all of them as one batch of a loader, "
            "fit(model, [(x, y)], recipe=recipe, loss=loss), or a first axis of samples, x[None] and y[None]."
        )


def are_positions(model: nn.Module, x: Inputs, call: Call, size: int) -> bool:
    """Whether the rows of inputs become positions of one state, and their order matters there.

    A model that makes a graph of the rows themselves, or reads its own nodes by their number, may get them in any.

    Args:
        model: it is run on some rows, up to the end of its first flow with positions.
        x: (s, ...) each.
        call: what every call of the model gets.
        size: rows of a batch.
    """
    count, place = min((len(part) for part in tensors_of(x)), default=0), first_parameter(model).device
    if count < 2 or all(flow.space.rank < 2 for flow in flows_of(model).values()):
        return False
    rows = max(2, min(size, count))
    some = each(lambda part: part[:rows].to(place), x)
    seen = _look(model, some, call, rows)
    if not seen.places or seen.output is None:
        return bool(seen.places) and rows < count  # the edges name nodes of other batches
    order = torch.arange(rows, device=place)
    # A turn and a swap make every order.
    orders = order.roll(1), torch.cat((order[:2].flip(0), order[2:]))
    return any(_matters(seen, _look(model, each(lambda part: part[new], some), call, rows), new) for new in orders)  # noqa: B023


def _matters(seen: _Seen, other: _Seen, order: Tensor) -> bool:
    """Whether rows in another order give more than the same in that order."""
    if seen.state is None or seen.output is None or other.output is None:
        return False
    moved = any(_alike(other.output, seen.output.index_select(axis, order)) for axis in seen.places)
    alike = all(_alike(seen.state, seen.state.index_select(axis, order)) for axis in seen.places)
    return not moved and (alike or not _alike(other.output, seen.output))


def _look(model: nn.Module, x: Inputs, call: Call, rows: int) -> _Seen:
    """What is seen at the first flow with positions."""
    seen = _Seen()

    def before(flow: Any, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        y, space = given[0] if given else options.get("y"), flow.space
        if isinstance(y, Tensor) and y.dim() == space.rank:
            seen.state = y
            seen.places = tuple(axis for axis in space.axes if axis != space.axis and y.shape[axis] == rows)
        if not seen.places:
            raise _Reached

    def after(flow: Any, given: tuple[Any, ...], output: Any) -> None:
        seen.output = output
        raise _Reached

    flows = [flow for flow in flows_of(model).values() if flow.space.rank > 1]
    handles = [flow.register_forward_pre_hook(before, with_kwargs=True) for flow in flows]
    handles += [flow.register_forward_hook(after) for flow in flows]
    stance = getattr(torch.compiler, "set_stance", None)  # since PyTorch 2.6; a compiled model would keep the hooks
    try:
        eager = nullcontext() if stance is None else stance("force_eager")
        with eager, torch.no_grad(), evaluating(model), torch.random.fork_rng(devices=[]):
            called(model, x, call)
    except Exception:  # what is wrong with the data is told by the training, in the words of the model
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _alike(a: Tensor, b: Tensor) -> bool:
    # The same numbers in another row may be rounded otherwise.
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()) if a.numel() else 0)
