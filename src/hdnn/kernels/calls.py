"""Calls into the compiled extension: tensors become pointers, sizes and strides, checked before anything is read.

Legend: y states, (B, n) or (B, n, H, W); weight, bias the parameters of all N layers; W = K Jᵀ (N or 1, m, n) where J
is a matrix; g the gradient of the output. Every array may carry a leading axis of F flows (F = 0: it does not).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from hdnn.kernels import threads
from hdnn.kernels.backend import Gradients, Layers
from hdnn.kernels.plan import Plan

_INTERFACE = 8  # what is passed to the extension, and expected of it; csrc/module.cpp has the same number


def _load() -> tuple[Any, str]:
    """The extension, told whose threads share its work, or None and why not."""
    try:
        found = importlib.import_module("hdnn.kernels._native")
    except ImportError as error:
        return None, str(error)
    if getattr(found, "interface", 0) != _INTERFACE:
        return None, "it was compiled from other sources than these; install hdnn again"
    found.share_threads(threads.entry())
    return found, ""


extension, why_not = _load()

# Words of a plan as the extension numbers them.
_METHODS = {"euler": 0, "partitioned": 1, "perceptron": 2, "runge_kutta": 3}
_STRUCTURES = {"dense": 0, "skew": 0, "masked": 0, "block_diagonal": 1, "off_diagonal": 2, "block_skew": 3}
_DRIVES = {"identity": 0, "canonical": 1, "matrix": 2}
_ACTIVATIONS = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "softplus": 5}

MOST_MOVES = 16  # of a layer, as many as the extension has room for

_NO_MEMORY = (
    "No memory was left for the fused kernels, of which every thread needs room for a block of samples through some "
    'layers. Use fewer threads (torch.set_num_threads), or backend="eager" with memory="recompute".'
)


class Bound(NamedTuple):
    """A plan as the extension reads it, and how many numbers one flow has in weights, biases and W."""

    spec: Any
    weights: int
    biases: int
    drives: int


class Kept(NamedTuple):
    """What a forward run left for the backward run: a short trajectory, and the instruction set that laid it out."""

    numbers: Tensor | None
    layout: int


def full_weights(plan: Plan) -> bool:
    """Whether the kernels want K in full (S, m, n) instead of the free numbers of its structure."""
    return _STRUCTURES[plan.structure] == 0 or plan.method != "partitioned" or plan.drive == "matrix"


def knows(plan: Plan) -> bool:
    """Whether every word of a plan is one of the kernels', and its layers have no more moves than they know."""
    return (
        (plan.method in _METHODS and plan.first in ("", "p", "q") and plan.structure in _STRUCTURES)
        and (plan.drive in _DRIVES and plan.activation in _ACTIVATIONS)
        and len(plan.fractions) <= MOST_MOVES
    )  # fmt: skip


def sizes(plan: Plan) -> tuple[int, int, int]:
    """How many numbers one flow has in weights, in biases (of one sample where inputs drive it), and in one W."""
    stored, half = 1 if plan.shared else plan.layers, plan.features // 2
    whole = plan.hidden * plan.features
    free = whole if full_weights(plan) else half * half if plan.structure == "block_skew" else plan.hidden * half
    biases = plan.hidden * (plan.layers if plan.driven else stored) + plan.learn_damping
    return stored * free, biases, whole if plan.drive == "matrix" else 0


@lru_cache(maxsize=256)
def bound(plan: Plan, one_W: bool) -> Bound:
    """A plan as the extension reads it, made once; `one_W` says whether all layers share one W."""
    weights, biases, drive = sizes(plan)
    (p_units, p_count), (q_units, q_count) = plan.p_units, plan.q_units
    spec = extension.Spec(
        method=_METHODS[plan.method],
        first_is_q=plan.first == "q",
        structure=0 if full_weights(plan) else _STRUCTURES[plan.structure],
        drive=_DRIVES[plan.drive],
        activation=_ACTIVATIONS[plan.activation],
        features=plan.features,
        hidden=plan.hidden,
        layers=plan.layers,
        shared=plan.shared,
        shared_drive=one_W,
        p_units=p_units,
        p_count=p_count,
        q_units=q_units,
        q_count=q_count,
        step=plan.step,
        negative_slope=plan.negative_slope,
        moves=len(plan.fractions),
        fractions=plan.fractions + (0.0,) * (MOST_MOVES - len(plan.fractions)),
        damping=0.0 if plan.learn_damping else plan.damping * plan.step,
        learned=plan.learn_damping,
        driven=plan.driven,
        states=plan.states,
    )
    return Bound(spec, weights, biases, drive if one_W else plan.layers * drive)


def _run_of(plan: Plan, W: Tensor | None, flows: int) -> Bound:
    return bound(plan, W is not None and W.shape[1 if flows else 0] == 1)


def multiplications(plan: Plan) -> int:
    """How many of numbers of weights one sample takes in one layer."""
    n, m = plan.features, plan.hidden
    of_K = m * n
    if plan.method == "partitioned":
        p, q = (plan.p_units[1], plan.q_units[1]) if full_weights(plan) else (m // 2, m // 2)
        units = (p, q) if plan.first == "p" else (q, p)
        of_K = n // 2 * sum(units[i % 2] for i in range(len(plan.fractions)))
    if plan.method == "runge_kutta":
        of_K *= 4
    return of_K if plan.drive == "identity" else 2 * of_K


def forward(plan: Plan, y: Tensor, layers: Layers, keep: bool = False) -> tuple[Tensor, Kept]:
    """The states after the last layer; a short trajectory is kept where that is wanted and worth its memory."""
    weight, bias, W, _, flows = layers
    images, run = plan.images, _run_of(plan, W, flows)
    _check(y, weight, bias, W, y, flows, plan, run)
    y, weight, W = _ready(y, images), _packed(weight, flows), _packed(W, flows)
    bias = _ready(bias, False) if plan.driven else _packed(bias, flows)
    doubles, (rows, pixels) = y.dtype is torch.float64, _samples(y, flows, images)
    out = result = _empty(y)
    if plan.states:
        result, out = _with_states(plan, y, flows)
    numbers = extension.kept(doubles, run.spec, flows or 1, rows, pixels) if keep and not plan.states else 0
    kept = y.new_empty(numbers) if numbers else None
    arrays = _arrays(plan, y, weight, bias, W, flows, rows, pixels, out, kept)
    try:
        layout = extension.forward(doubles, run.spec, arrays, torch.get_num_threads())
    except MemoryError as error:
        raise MemoryError(_NO_MEMORY) from error
    return result, Kept(kept, layout)


def backward(
    plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: Kept | Tensor | None = None, weights_too: bool = True
) -> Gradients:
    """The gradients of states, weights, biases and W; layers are computed again, samples block by block, in cache.

    Of a plan that asks for all states, `kept` may be these: none is then computed twice.
    """
    weight, bias, W, _, flows = layers
    images = plan.images
    states, (numbers, layout) = None, (None, 0)
    if plan.states:
        states = kept if isinstance(kept, Tensor) and kept.is_contiguous() else None
    elif kept is not None:
        numbers, layout = kept
    run = _run_of(plan, W, flows)
    _check(y, weight, bias, W, g, flows, plan, run)
    y, weight, W, g = _ready(y, images), _packed(weight, flows), _packed(W, flows), _ready(g, images)
    bias = _ready(bias, False) if plan.driven else _packed(bias, flows)
    if plan.states and g.stride(1 if flows else 0) == 0:
        g = g.contiguous()  # a stride of 0 between layers says that there is one g
    out, to_weight, to_bias, to_W = _empty(y), None, None, None
    if weights_too:
        to_weight, to_bias, to_W = _empty(weight), _empty(bias), None if W is None else _empty(W)
    rows, pixels = _samples(y, flows, images)
    later = g.narrow(1 if flows else 0, 1, plan.layers) if plan.states else g
    arrays = _arrays(
        plan, y, weight, bias, W, flows, rows, pixels, out, numbers, later, to_weight, to_bias, to_W, states
    )
    try:
        extension.backward(y.dtype is torch.float64, run.spec, arrays, layout, torch.get_num_threads())
    except MemoryError as error:
        raise MemoryError(_NO_MEMORY) from error
    if plan.states:
        out += g.select(1 if flows else 0, 0)
    return out, to_weight, to_bias, to_W


def _with_states(plan: Plan, y: Tensor, flows: int) -> tuple[Tensor, Tensor]:
    """Room for all states, the first written, and the part of it that the layers write."""
    axis = 1 if flows else 0
    result = y.new_empty((*y.shape[:axis], plan.layers + 1, *y.shape[axis:]))
    result.select(axis, 0).copy_(y)
    return result, result.narrow(axis, 1, plan.layers)


def _check(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, plan: Plan, run: Bound
) -> None:
    """Refuse what the pointers would misread: parameters may be swapped for others after a flow was made."""
    each, axis = flows or 1, 1 if flows else 0
    rows = y.shape[axis] if plan.driven else 1
    of_states = (*y.shape[:axis], plan.layers + 1, *y.shape[axis:]) if plan.states else y.shape
    if (
        weight.numel() != each * run.weights
        or bias.numel() != each * run.biases * rows
        or (plan.driven and tuple(bias.shape[axis:]) != (plan.layers, rows, plan.hidden))
        or (0 if W is None else W.numel()) != each * run.drives
        or y.shape[2 if flows else 1] != plan.features
        or (g is not y and g.shape != of_states)
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (y, weight, bias, W) if x is not None)
        stored = 1 if plan.shared else plan.layers
        raise ValueError(
            f"States, weights and biases do not fit a flow of {plan.features} features and {stored} stored layers; "
            f"got {shapes}. Give tensors of the shapes that the flow was made with."
        )
    dtype = y.dtype
    if not (
        (weight.dtype is dtype and weight.is_cpu and bias.dtype is dtype and bias.is_cpu)
        and (g.dtype is dtype and g.is_cpu and (W is None or (W.dtype is dtype and W.is_cpu)))
    ):
        got = ", ".join(f"{x.dtype} on {x.device}" for x in (y, weight, bias, W, g) if x is not None)
        raise ValueError(f"States, weights and biases must all be float32 or all float64, on the CPU; got {got}.")


def _ready(y: Tensor, images: bool) -> Tensor:
    """States are read in place through their strides; only the pixels of an image must lie one after the other."""
    y = y.resolve_neg() if y.is_neg() else y  # views like z.conj().imag keep the sign apart from their memory
    if images and (y.stride(-1) != 1 or y.stride(-2) != y.shape[-1]):
        return y.contiguous()
    return y


@overload
def _packed(x: Tensor, flows: int) -> Tensor: ...
@overload
def _packed(x: None, flows: int) -> None: ...
def _packed(x: Tensor | None, flows: int) -> Tensor | None:
    """Parameters are read as one block for each flow; flows that share them need no copies."""
    if x is None:
        return None
    x = x.resolve_neg() if x.is_neg() else x
    if flows and x.stride(0) == 0:
        return x[0].contiguous().expand(x.shape)
    return x.contiguous()


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _place(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _samples(y: Tensor, flows: int, images: bool) -> tuple[int, int]:
    """Rows of a flow, and pixels of a row."""
    shape = y.shape
    return shape[1 if flows else 0], shape[-1] * shape[-2] if images else 1


def _arrays(
    plan: Plan, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, rows: int, pixels: int,
    out: Tensor, kept: Tensor | None, g: Tensor | None = None, to_weight: Tensor | None = None,
    to_bias: Tensor | None = None, to_W: Tensor | None = None, states: Tensor | None = None,
) -> Any:  # fmt: skip
    """Pointers, sizes and strides of a call; strides lead to the next flow, layer, row and feature."""
    y_strides: Sequence[int] = y.stride()
    out_strides: Sequence[int] = out.stride()
    g_strides = out_strides if g is None else g.stride()
    bias_strides: Sequence[int] = (0, 0, 0)
    out_layer = g_layer = 0
    y_flow = g_flow = out_flow = weight_flow = bias_flow = drive_flow = states_flow = 0
    if flows:
        y_flow, out_flow, g_flow = y_strides[0], out_strides[0], g_strides[0]
        y_strides, out_strides, g_strides = y_strides[1:], out_strides[1:], g_strides[1:]
        weight_flow, bias_flow, drive_flow = weight.stride(0), bias.stride(0), 0 if W is None else W.stride(0)
        states_flow = 0 if states is None else states.stride(0)
    if plan.driven:
        bias_strides = bias.stride()[-3:]
    if plan.states:
        g_layer, g_strides = g_strides[0], g_strides[1:]
        if g is None:
            out_layer, out_strides = out_strides[0], out_strides[1:]
        states = None if states is None else states.select(1 if flows else 0, 1)
    y_row, y_feature, *_ = y_strides
    g_row, g_feature, *_ = g_strides
    out_row, out_feature, *_ = out_strides
    return extension.Arrays(
        flows=flows or 1,
        rows=rows,
        pixels=pixels,
        y=y.data_ptr(),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        drive=_place(W),
        g=_place(g),
        y_flow=y_flow,
        y_row=y_row,
        y_feature=y_feature,
        g_flow=g_flow,
        g_row=g_row,
        g_feature=g_feature,
        weight_flow=weight_flow,
        bias_flow=bias_flow,
        drive_flow=drive_flow,
        bias_layer=bias_strides[0],
        bias_row=bias_strides[1],
        bias_unit=bias_strides[2],
        g_layer=g_layer,
        states=_place(states),
        states_flow=states_flow,
        out=out.data_ptr(),
        weight_gradient=_place(to_weight),
        bias_gradient=_place(to_bias),
        drive_gradient=_place(to_W),
        out_flow=out_flow,
        out_layer=out_layer,
        out_row=out_row,
        out_feature=out_feature,
        kept=_place(kept),
    )
