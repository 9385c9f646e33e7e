"""Launches of the programs of the Triton backend: tensors are checked, and become pointers, sizes and strides.

Legend: F features, U units and S samples of a tile; m, n rows and columns of K. Every array may carry a leading axis of
flows (flows = 0: it does not).
"""

from __future__ import annotations

import importlib
import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.backend import Gradients, Layers
from hdnn.kernels.plan import Plan

PROGRAMS = 1024  # of a backward launch at the most, all flows together: each has partial sums and scratch of its own
SCRATCH = 1 << 28  # bytes of scratch at the most, unless one program for each flow takes more
SEGMENT = 64  # layers that are computed again at a time, at the least
FEW, MANY = 8192, 32768  # samples, all flows together: up to, and from
_ROWS, _SUMS = 32, 64  # tile of the programs that add partial sums up

Given = dict[str, Any]


class Shape(NamedTuple):
    """How the programs of a plan take their samples.

    Attributes:
        F: features of a tile, of one half where halves move in turn.
        U: units of a tile.
        S: samples of a tile.
        warps: of a program.
    """

    F: int
    U: int
    S: int
    warps: int


class Run(NamedTuple):
    """One run, checked.

    Attributes:
        plan: what to run.
        y: states, read through their strides.
        weight: one block for each flow, as are the others.
        bias: as `Layers` says.
        W: the numbers of `weight` where it is of K.
        flows: F; 0 where arrays lead with no axis of flows.
        matrices: how many W are stored for one flow; 0 where none is given.
        rows: of states.
        pixels: of a row.
        shape: of the tiles.
    """

    plan: Plan
    y: Tensor
    weight: Tensor
    bias: Tensor
    W: Tensor
    flows: int
    matrices: int
    rows: int
    pixels: int
    shape: Shape

    @property
    def many(self) -> int:
        """Flows."""
        return max(1, self.flows)

    @property
    def axis(self) -> int:
        """The axis of rows of states, or of layers of parameters."""
        return 1 if self.flows else 0

    @property
    def stored(self) -> int:
        """Layers that are stored."""
        return 1 if self.plan.shared else self.plan.layers

    @property
    def blocks(self) -> int:
        """Blocks of samples."""
        return -(-self.rows * self.pixels // self.shape.S)


def shape_of(plan: Plan, samples: int, double: bool = False) -> Shape:
    """Tiles of a plan: a thread has a sample or more where n is small; warps share the features where it is not.

    In float32 by trials on an H200: few samples want many programs, many samples few that load weights once for more.
    """
    halves = plan.method == "partitioned"
    F = _power(plan.features // 2 if halves else plan.features)
    units = max(plan.p_units[1], plan.q_units[1]) if halves else plan.hidden
    wide = 2 * F if double else F  # registers of a tile of one sample
    U = max(1, min(_power(units), 4 if wide <= 4 else 2 if wide <= 32 else 1))
    warps = 1 if wide <= 8 else 2 if wide <= 16 else 4 if wide <= 64 else wide // 16
    if double or samples > FEW:
        if samples >= MANY and F <= 16 and not double:
            return Shape(F, U if F <= 8 else 1, 128 if F <= 4 else 64, 1)
        return Shape(F, U, 32, warps)
    if F == 16:
        return Shape(F, min(4, _power(units)), 16, 4)
    return Shape(F, min(2, _power(units)), 16, 8) if F == 64 else Shape(F, U, 32 if F == 4 else 16, warps)


def forward(plan: Plan, y: Tensor, layers: Layers) -> Tensor:
    """The states after the last layer, or all where `plan.states`, in one launch."""
    run = _checked(plan, y, layers, y)
    axis, size = run.axis, y.shape
    out = y.new_empty((*size[:axis], *((plan.layers + 1,) if plan.states else ()), *size[axis:]))
    given = {"y": run.y, "out": out, **_strides("y", run.y, axis), **_strides("out", out, axis, plan.states)}
    given = {"out_layer": 0, **given, **_parameters(run), **_method(run)}
    _launch(_name(plan), run.blocks * run.many, given, programs=run.blocks)
    return out


def backward(plan: Plan, g: Tensor, y: Tensor, layers: Layers, weights_too: bool) -> Gradients:
    """The gradients of states, weights, biases and W, in one launch and one that adds the sums of its programs up."""
    run = _checked(plan, y, layers, g)
    out, g = torch.empty_like(y, memory_format=torch.contiguous_format), calls._ready(g, plan.images)
    segment = min(plan.layers, max(SEGMENT, math.isqrt(plan.layers)))
    segments = -(-plan.layers // segment) if segment else 0
    slots = segments + segment
    if plan.method == "partitioned":
        slots += segments + segment * (len(plan.fractions) + plan.learn_damping - 1)
    tiles = slots * run.shape.F * run.shape.S
    most = min(PROGRAMS // run.many, SCRATCH // max(1, tiles * y.element_size() * run.many))
    programs = min(run.blocks, max(1, most))
    sums = _Sums(run, programs, weights_too)
    again = len(plan.fractions) > 2 or (plan.layers > 1 and (plan.shared or run.matrices == 1))
    given = {
        "y": run.y, "g": g, "out": out, "scratch": y.new_empty(programs * run.many * tiles), "g_layer": 0,
        **_strides("y", run.y, run.axis), **_strides("g", g, run.axis, plan.states), **_strides("out", out, run.axis),
        **_parameters(run), **_method(run), **sums.places(), "WEIGHTS": weights_too,
        "ADD": again or programs < run.blocks,
    }  # fmt: skip
    _launch(f"{_name(plan)}_back", programs * run.many, given, programs=programs, segment=segment, segments=segments)
    return out, *sums.total(layers)


class _Sums:
    """Gradients of weights, biases and W: those of every program, then those of every flow.

    Biases that inputs drive are of samples: their gradients are no sums.
    """

    def __init__(self, run: Run, programs: int, wanted: bool) -> None:
        plan = run.plan
        of_K = plan.hidden * plan.features
        self.run, self.programs, self.wanted = run, programs, wanted
        self.weights, self.matrices = run.stored * of_K, run.matrices * of_K
        self.biases = 0 if plan.driven else run.stored * plan.hidden + plan.learn_damping
        self.fold = plan.method == "euler" and plan.drive == "canonical"
        self.size = self.weights + self.biases + (self.weights if self.fold else self.matrices)
        y = run.y
        self.parts = y.new_zeros(run.many * programs * self.size) if wanted else y.new_empty(0)
        self.driven = torch.zeros_like(run.bias, memory_format=torch.contiguous_format) if plan.driven else None

    def places(self) -> Given:
        """Where a backward launch writes them."""
        plan, biases = self.run.plan, self.weights + self.biases
        layer = 0 if plan.shared else plan.hidden
        matrix = plan.hidden * plan.features
        to_W_layer = 0 if (plan.shared if self.run.matrices == 0 else self.run.matrices == 1) else matrix
        found = {
            "to_weight": self.parts, "to_W": self.parts[biases:], "to_flow": self.programs * self.size,
            "to_program": self.size, "to_weight_layer": layer * plan.features, "to_W_layer": to_W_layer,
        }  # fmt: skip
        if self.driven is None:
            found |= {"to_bias": self.parts[self.weights :], "to_b_flow": self.programs * self.size}
            found |= {"to_b_program": self.size, "to_b_layer": layer, "to_b_row": 0, "to_b_unit": 1}
        else:
            *flow, to_b_layer, to_b_row, to_b_unit = self.driven.stride()
            found |= {"to_bias": self.driven, "to_b_flow": [*flow, 0][0], "to_b_program": 0}
            found |= {"to_b_layer": to_b_layer, "to_b_row": to_b_row, "to_b_unit": to_b_unit}
        if plan.method == "partitioned":
            found["to_rate"] = self.parts[biases - 1 :]
        return found

    def total(self, layers: Layers) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of every flow."""
        if not self.wanted:
            return None, None, None
        like = (layers.weight, layers.bias, layers.W)
        to_weight, to_bias, to_W = (
            None if x is None else torch.empty_like(x, memory_format=torch.contiguous_format) for x in like
        )
        if self.driven is not None:
            to_bias = self.driven
        sizes = {"size": self.size, "weights": self.weights, "biases": self.biases, "matrices": self.matrices}
        given = {
            "parts": self.parts, "to_weight": to_weight, "to_bias": to_bias, "n": self.run.plan.features,
            "to_W": self.parts if to_W is None else to_W, **sizes, "FOLD": self.fold, "R": _ROWS, "E": _SUMS,
            "num_warps": 4,
        }  # fmt: skip
        blocks = -(-(self.weights + self.biases + self.matrices) // _SUMS)
        _launch("total", blocks * self.run.many, given, programs=self.programs)
        return to_weight, to_bias, to_W


def _name(plan: Plan) -> str:
    return "halves" if plan.method == "partitioned" else "whole"


def _launch(name: str, count: int, given: Given, **sizes: int) -> None:
    """So many programs, on the device of the tensors."""
    if not count:
        return
    place = next(x for x in given.values() if isinstance(x, Tensor))
    program = getattr(importlib.import_module("hdnn.kernels.programs"), name)
    with torch.cuda.device(place.device) if place.is_cuda else nullcontext():
        program[(count,)](**given, **sizes, enable_fp_fusion=True)


def _strides(name: str, x: Tensor, axis: int, states: bool = False) -> dict[str, int]:
    """To the next flow, layer (where the states after all are there), row and feature."""
    found, strides = {f"{name}_flow": x.stride(0) if axis else 0}, list(x.stride()[axis:])
    if states:
        found[f"{name}_layer"], *strides = strides
    return {**found, f"{name}_row": strides[0], f"{name}_feature": strides[1]}


def _parameters(run: Run) -> Given:
    """Weights, biases and W, and where the next ones are."""
    plan, m, n = run.plan, run.plan.hidden, run.plan.features
    layer = 0 if plan.shared else m
    b_layer, b_row, b_unit = run.bias.stride()[-3:] if plan.driven else (layer, 0, 1)
    W_layer = m * n if run.matrices > 1 else 0 if run.matrices else layer * n
    found: Given = {"weight": run.weight, "bias": run.bias, "W": run.W, "n": n}
    found |= {"weight_layer": layer * n, "b_layer": b_layer, "b_row": b_row, "b_unit": b_unit, "W_layer": W_layer}
    for name, x in (("weight", run.weight), ("b", run.bias), ("W", run.W)):
        found[f"{name}_flow"] = x.stride(0) if run.flows else 0
    return found


def _method(run: Run) -> Given:
    """The numbers and the words of a plan; what every compiled program is made for is in capitals."""
    plan, (F, U, S, warps) = run.plan, run.shape
    halves = plan.method == "partitioned"
    drive = {"canonical": "same" if halves else "turned"}.get(plan.drive, plan.drive)
    found: Given = {
        **_parts("h", plan.step), **_parts("s", plan.negative_slope), "rows": run.rows, "pixels": run.pixels,
        "layers": plan.layers, "DRIVE": drive, "ACTIVATION": plan.activation, "DRIVEN": plan.driven,
        "STATES": plan.states, "IMAGES": plan.images, "F": F, "U": U, "S": S, "num_warps": warps,
    }  # fmt: skip
    if not halves:
        return found | {"m": plan.hidden}
    rate = run.bias
    if plan.learn_damping:
        rate = rate.as_strided((1,), (1,), rate.storage_offset() + run.stored * plan.hidden)
    units = {"p_first": plan.p_units[0], "p_count": plan.p_units[1]}
    units |= {"q_first": plan.q_units[0], "q_count": plan.q_units[1]}
    damped = plan.learn_damping or plan.damping != 0
    return {
        **found, **_parts("d", math.exp(-plan.damping * plan.step)), **units, "rate": rate, "DAMPED": damped,
        "LEARNED": plan.learn_damping, "FIRST_P": plan.first == "p", "FRACTIONS": plan.fractions,
        "MOVES": len(plan.fractions),
    }  # fmt: skip


def _parts(name: str, x: float) -> dict[str, float]:
    """A number as the sum of three of float32, for launches pass no others."""
    first = float(np.float32(x))
    second = float(np.float32(x - first))
    return {f"{name}0": first, f"{name}1": second, f"{name}2": float(np.float32(x - first - second))}


def _power(x: int) -> int:
    """The power of two that is not below x."""
    return 1 << max(0, x - 1).bit_length()


def _checked(plan: Plan, y: Tensor, layers: Layers, g: Tensor) -> Run:
    """Refuse what the pointers would misread: parameters may be swapped for others after a flow was made."""
    weight, bias, W, _, flows = layers
    axis, count = (1, flows) if flows else (0, 1)
    m, n, stored = plan.hidden, plan.features, 1 if plan.shared else plan.layers
    rows, pixels = calls._samples(y, flows, plan.images)
    biases = plan.layers * rows * m if plan.driven else stored * m + plan.learn_damping
    matrices = 0 if W is None else W.shape[axis]
    of_states = (*y.shape[:axis], plan.layers + 1, *y.shape[axis:]) if plan.states else y.shape
    if (
        weight.numel() != count * stored * m * n
        or bias.numel() != count * biases
        or (plan.driven and tuple(bias.shape[axis:]) != (plan.layers, rows, m))
        or (W is None) is (plan.drive == "matrix")
        or (W is not None and (matrices not in (1, plan.layers) or W.numel() != count * matrices * m * n))
        or y.shape[axis + 1] != n
        or (g is not y and g.shape != of_states)
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (y, weight, bias, W) if x is not None)
        raise ValueError(
            f"States, weights and biases do not fit a flow of {n} features and {stored} stored layers; got {shapes}. "
            "Give tensors of the shapes that the flow was made with."
        )
    tensors = [x for x in (y, weight, bias, W, g) if x is not None]
    if any(x.dtype is not y.dtype or x.device != y.device for x in tensors):
        got = ", ".join(f"{x.dtype} on {x.device}" for x in tensors)
        raise ValueError(f"States, weights and biases must all be of one kind, on one device; got {got}.")
    packed = calls._packed(weight, flows)
    return Run(
        plan, calls._ready(y, plan.images), packed,
        calls._ready(bias, False) if plan.driven else calls._packed(bias, flows),
        packed if W is None else calls._packed(W, flows), flows, matrices, rows, pixels,
        shape_of(plan, count * rows * pixels, y.dtype is torch.float64),
    )  # fmt: skip
