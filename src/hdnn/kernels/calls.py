"""Calls into the compiled extension: tensors become pointers, sizes and strides, checked before anything is read.

Legend: y states, (B, n) or (B, n, H, W); weight, bias the parameters of all N layers; W = K Jᵀ (N or 1, m, n) where J
is a matrix; g the gradient of the output. Every array may carry a leading axis of F flows (F = 0: it does not).
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from hdnn.kernels.plan import Plan


def _load() -> tuple[Any, str]:
    """The extension, or None and why not. Torch stands above: the first to load decides which OpenMP both share."""
    try:
        return importlib.import_module("hdnn.kernels._native"), ""
    except ImportError as error:
        return None, str(error)


extension, why_not = _load()

_METHODS = {"euler": 0, "partitioned": 1, "perceptron": 2}
_STRUCTURES = {"dense": 0, "skew": 0, "masked": 0, "block_diagonal": 1, "off_diagonal": 2, "block_skew": 3}
_DRIVES = {"identity": 0, "canonical": 1, "matrix": 2}
_ACTIVATIONS = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "softplus": 5}

# Places in the integers of a code.
FEATURES, LAYERS, _SHARED, _WEIGHT, _BIAS, _DRIVE = 5, 7, 8, 14, 15, 16

_NO_MEMORY = (
    "No memory was left for the fused kernels, of which every thread needs room for a block of samples through some "
    'layers. Use fewer threads (torch.set_num_threads), or backend="eager" with memory="recompute".'
)


class Code(NamedTuple):
    """A plan as the extension reads it; the order is that of the operators' last arguments."""

    ints: list[int]
    step: float
    slope: float
    images: bool


class Kept(NamedTuple):
    """The trajectory that a forward run left for the backward run, and the instruction set that laid it out."""

    numbers: Tensor
    layout: int


Gradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


def full_weights(plan: Plan) -> bool:
    """Whether the kernels want K in full (S, m, n) instead of the free numbers of its structure."""
    return _STRUCTURES[plan.structure] == 0 or plan.method != "partitioned" or plan.drive == "matrix"


def encoded(plan: Plan, drives: int) -> Code:
    """The code of a plan.

    Args:
        plan: what to run.
        drives: how many matrices W there are: 0, 1 or N.
    """
    structure = 0 if full_weights(plan) else _STRUCTURES[plan.structure]
    stored, half = 1 if plan.shared else plan.layers, plan.features // 2
    whole = plan.hidden * plan.features
    free = (whole, plan.hidden * half, plan.hidden * half, half * half)[structure]
    ints = [
        _METHODS[plan.method],
        int(plan.first == "q"),
        structure,
        _DRIVES[plan.drive],
        _ACTIVATIONS[plan.activation],
        plan.features,
        plan.hidden,
        plan.layers,
        int(plan.shared),
        int(drives == 1),
        *plan.p_units,
        *plan.q_units,
        stored * free,
        stored * plan.hidden,
        drives * whole,
    ]
    return Code(ints, plan.step, plan.negative_slope, plan.images)


def multiplications(ints: list[int]) -> int:
    """How many of numbers of weights one sample takes in one layer, by the integers of a code."""
    method, _, structure, drive, _, n, m, *_ = ints
    units = m // 2 if structure else (ints[11] + ints[13]) // 2  # of one half
    of_K = units * n if method == _METHODS["partitioned"] else m * n
    return of_K if drive == 0 else 2 * of_K


code_of = lru_cache(maxsize=256)(encoded)


def forward(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, code: Code, keep: bool = False
) -> tuple[Tensor, Kept | None]:
    """The states after the last layer.

    Args:
        y: states.
        weight: free numbers, or K where `full_weights`.
        bias: biases.
        W: K Jᵀ, for plans whose drive is "matrix".
        flows: F.
        code: what to run.
        keep: leave the trajectory for `backward`, where it is small enough to be worth its memory.
    """
    ints, step, slope, images = code
    _check(y, weight, bias, W, y, flows, ints)
    y, weight, bias, W = _ready(y, images), _packed(weight, flows), _packed(bias, flows), _packed(W, flows)
    out = _empty(y)
    doubles, (rows, pixels) = y.dtype is torch.float64, _samples(y, flows, images)
    numbers = extension.kept(doubles, ints, flows or 1, rows, pixels) if keep else 0
    kept = y.new_empty(numbers) if numbers else None
    call = _call(y, weight, bias, W, y, flows, rows, pixels, out, None, None, None)
    try:
        layout = extension.forward(doubles, ints, step, slope, call, _place(kept), torch.get_num_threads())
    except MemoryError as error:
        raise MemoryError(_NO_MEMORY) from error
    return out, None if kept is None else Kept(kept, layout)


def backward(
    g: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    W: Tensor | None,
    flows: int,
    code: Code,
    weights_too: bool = True,
    kept: Kept | None = None,
) -> Gradients:
    """The gradients of states, weights, biases and W, the last None where there is no W.

    Args:
        g: gradient of the output; the rest as in `forward`.
        y: states.
        weight: free numbers, or K.
        bias: biases.
        W: K Jᵀ.
        flows: F.
        code: what to run.
        weights_too: whether more than the gradient of the states is wanted; None takes the place of the others.
        kept: what `forward` left.
    """
    ints, step, slope, images = code
    _check(y, weight, bias, W, g, flows, ints)
    y, weight, bias, W = _ready(y, images), _packed(weight, flows), _packed(bias, flows), _packed(W, flows)
    g = _ready(g, images)
    out, to_weight, to_bias, to_W = _empty(y), None, None, None
    if weights_too:
        to_weight, to_bias, to_W = _empty(weight), _empty(bias), None if W is None else _empty(W)
    rows, pixels = _samples(y, flows, images)
    call = _call(y, weight, bias, W, g, flows, rows, pixels, out, to_weight, to_bias, to_W)
    numbers, layout = (None, 0) if kept is None else kept
    doubles = y.dtype is torch.float64
    try:
        extension.backward(doubles, ints, step, slope, call, _place(numbers), layout, torch.get_num_threads())
    except MemoryError as error:
        raise MemoryError(_NO_MEMORY) from error
    return out, to_weight, to_bias, to_W


def _check(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, ints: list[int]) -> None:
    """Refuse what the pointers would misread: parameters may be swapped for others after a flow was made."""
    each = flows or 1
    if (
        weight.numel() != each * ints[_WEIGHT]
        or bias.numel() != each * ints[_BIAS]
        or (0 if W is None else W.numel()) != each * ints[_DRIVE]
        or y.shape[2 if flows else 1] != ints[FEATURES]
        or (g is not y and g.shape != y.shape)
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (y, weight, bias, W) if x is not None)
        stored = 1 if ints[_SHARED] else ints[LAYERS]
        raise ValueError(
            f"States, weights and biases do not fit a flow of {ints[FEATURES]} features and {stored} stored layers; "
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


def _call(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, rows: int, pixels: int,
    out: Tensor, to_weight: Tensor | None, to_bias: Tensor | None, to_W: Tensor | None,
) -> list[int]:  # fmt: skip
    """Pointers, sizes and strides, in the order of the extension; strides lead to the next flow, row and feature."""
    y_strides, g_strides, out_strides = y.stride(), g.stride(), out.stride()
    if flows:
        y_flow, y_row, y_feature, *_ = y_strides
        g_flow, g_row, g_feature, *_ = g_strides
        out_flow, out_row, out_feature, *_ = out_strides
        apart = (weight.stride(0), bias.stride(0), 0 if W is None else W.stride(0))
    else:
        y_flow, y_row, y_feature = 0, y_strides[0], y_strides[1]
        g_flow, g_row, g_feature = 0, g_strides[0], g_strides[1]
        out_flow, out_row, out_feature = 0, out_strides[0], out_strides[1]
        apart = (0, 0, 0)
    return [
        flows or 1, rows, pixels,
        y.data_ptr(), weight.data_ptr(), bias.data_ptr(), _place(W), g.data_ptr(),
        y_flow, y_row, y_feature, g_flow, g_row, g_feature, *apart,
        out.data_ptr(), _place(to_weight), _place(to_bias), _place(to_W), out_flow, out_row, out_feature,
    ]  # fmt: skip
