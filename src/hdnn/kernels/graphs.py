"""Calls into the compiled extension for flows on graphs: all layers, forward or backward, in one.

Legend: V nodes, y states (..., V, n); K and W = K Jᵀ (N or 1, m, n, 2), the second tap for the sums over neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.plan import Plan

Way = tuple[Tensor, Tensor, Tensor | None]


class Edges(Protocol):
    """The edges of a graph: V, how many there are, and both ways as `spaces.rows` sorts them."""

    nodes: int
    count: int

    @property
    def sorted(self) -> tuple[Way, Way]:
        """Where those of every node begin (V + 1,), their other ends, and their weights, there and back."""


# Numbers of one kind in a layer of one graph. PyTorch's operations share larger ones among threads, which the kernel
# does not: its threads share samples.
_LARGEST = 1 << 16

# Bytes of the widest vector of numbers, at multiples of which the kernel reads what it has kept.
_VECTOR = 64

# An extension that was compiled before there were graphs goes without.
_serves = hasattr(calls.extension, "GraphRun")


def why_not(plan: Plan | None, edges: Edges, tensors: Sequence[Tensor]) -> str:
    """Why the kernel cannot run these layers; "" if it can.

    Args:
        plan: what to run, with K and W in full.
        edges: of the graph.
        tensors: y, K, b, and W where J Kᵀ is not I; numbers in memory, that no transform stands for.
    """
    if not _serves:
        return f"the compiled extension does not know graphs: {calls.why_not or 'install hdnn again'}"
    if plan is None or plan.method not in ("euler", "partitioned") or plan.learn_damping or not calls.knows(plan):
        return "it knows ForwardEuler and splittings of a few moves, built-in activations, and halves of units in a row"
    run = calls.bound(plan, len(tensors) == 4 and len(tensors[3]) == 1)
    if [x.numel() for x in tensors[1:]] != [2 * run.weights, run.biases, 2 * run.drives][: len(tensors) - 1]:
        return "weights and biases do not fit the flow"
    y = tensors[0]
    if not all(x.is_cpu and x.dtype is y.dtype for x in tensors):
        return "states and weights are all of one kind, on the CPU"
    if edges.nodes * max(plan.features, plan.hidden) > _LARGEST:
        return "one large graph is left to PyTorch's operations, which share its nodes among threads"
    if max(edges.nodes, edges.count) >= 1 << 31:
        return "numbers of nodes and edges have at most 31 bits"
    return ""


def forward(plan: Plan, edges: Edges, tensors: Sequence[Tensor], keep: bool) -> tuple[Tensor, Tensor | None]:
    """The states after the last layer, and what a way back needs where that is wanted."""
    y, *others = (calls._packed(x, 0) for x in tensors)
    out, kept = torch.empty_like(y), None
    run = _run(plan, edges, y, others, out=out)
    if keep:
        kept = y.new_empty(calls.extension.graph_kept(y.dtype is torch.float64, run))
        run = _run(plan, edges, y, others, out=out, kept=kept)
    _call(calls.extension.graph_forward, y, run)
    return out, kept


def backward(
    plan: Plan, edges: Edges, g: Tensor, tensors: Sequence[Tensor], kept: Tensor, weights_too: bool
) -> list[Tensor | None]:
    """The gradients of the tensors from that of the result, and from what `forward` has kept."""
    y, *others = (calls._packed(x, 0) for x in tensors)
    kept = _aligned(kept)
    g, out = calls._packed(g, 0), torch.empty_like(y)
    found = [torch.empty_like(x) if weights_too else None for x in others]
    gradients = dict(zip(("weight_gradient", "bias_gradient", "drive_gradient"), found, strict=False))
    _call(calls.extension.graph_backward, y, _run(plan, edges, y, others, out=out, g=g, kept=kept, **gradients))
    return [out, *found]


def _aligned(kept: Tensor) -> Tensor:
    """What was kept, where vectors of numbers may be read: hooks of autograd give it back from anywhere in memory."""
    if kept.is_contiguous() and kept.data_ptr() % _VECTOR == 0:
        return kept
    size = kept.element_size()
    room = kept.new_empty(kept.numel() + _VECTOR // size)
    start = -room.data_ptr() % _VECTOR // size
    return room[start : start + kept.numel()].copy_(kept)


def _call(function: Any, y: Tensor, run: Any) -> None:
    try:
        function(y.dtype is torch.float64, run, torch.get_num_threads())
    except MemoryError as error:
        raise MemoryError(calls._NO_MEMORY) from error


def _run(plan: Plan, edges: Edges, y: Tensor, others: Sequence[Tensor], **more: Tensor | None) -> Any:
    """Pointers and sizes of a call."""
    K, b, W = (*others, None)[:3]
    (first, start, weight), (back_first, back_start, back_weight) = edges.sorted
    places = {"g": None, "kept": None, "weight_gradient": None, "bias_gradient": None, "drive_gradient": None} | more
    return calls.extension.GraphRun(
        flow=calls.bound(plan, W is not None and len(W) == 1).spec,
        nodes=edges.nodes,
        samples=y.shape[:-2].numel(),
        there_first=first.data_ptr(),
        there_start=start.data_ptr(),
        there_weight=calls._place(weight),
        back_first=back_first.data_ptr(),
        back_start=back_start.data_ptr(),
        back_weight=calls._place(back_weight),
        y=y.data_ptr(),
        weight=calls._place(K),
        bias=calls._place(b),
        drive=calls._place(W),
        **{name: calls._place(x) for name, x in places.items()},
    )
