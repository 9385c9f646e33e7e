"""The fused run as a differentiable function, in plain eager mode and under every transform.

Two autograd functions stand over two operators of `torch.library`: the backward of the first is the second, and the
backward of the second differentiates `again`, the same run layer by layer; without it a second derivative meets our own
message instead of a silent zero. The operators make compilation, fake tensors and tracing work. A third function is the
short way of plain eager mode, which costs a third of the others.

Legend: as in `calls`; `again(y, weight, bias, W)` gives the states after the last layer by operations of PyTorch alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hdnn.kernels import calls
from hdnn.kernels.plan import SCHEMA, Plan, plan_of
from hdnn.kernels.refusals import check
from hdnn.kernels.transforms import batched, pulled_back, raw_apply, transformed, watched, wrapped

Again = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def apply(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, plan: Plan, again: Again | None) -> Tensor:
    """The states after the last layer, differentiable once, or as often as `again` where there is one."""
    if _is_plain(y, weight, bias, W) and not wrapped(y):
        result: Tensor = _DIRECT(y, weight, bias, W, plan, again)
    else:
        result = _run_apply(y, weight, bias, W, 0, plan, again)
    return result


class Direct(torch.autograd.Function):
    """States after the last layer, in plain eager mode."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, plan: Plan, again: Again | None
    ) -> Tensor:
        """One fused run; a short trajectory is kept for the run back."""
        out, ctx.kept = calls.forward(y, weight, bias, W, 0, plan, keep=any(ctx.needs_input_grad))
        ctx.save_for_backward(y, weight, bias, W)
        ctx.plan, ctx.again = plan, again
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """One fused run back, or the function that knows transforms and second derivatives."""
        y, weight, bias, W = ctx.saved_tensors
        weights_too = any(ctx.needs_input_grad[1:])
        if torch.is_grad_enabled() or batched(g) or not _is_plain(g, y, weight, bias, W):
            return (*_pull_apply(g, y, weight, bias, W, 0, ctx.plan, ctx.again, weights_too), None, None)
        return (*calls.backward(g, y, weight, bias, W, 0, ctx.plan, weights_too, ctx.kept), None, None)


class Run(torch.autograd.Function):
    """States after the last layer, under any transform."""

    @staticmethod
    def forward(
        y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, plan: Plan, again: Again | None
    ) -> Tensor:
        """One fused run."""
        if _is_plain(y, weight, bias, W):
            return calls.forward(y, weight, bias, W, flows, plan)[0]
        result: Tensor = torch.ops.hdnn.flow_run(y, weight, bias, W, flows, *plan.values())
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs alone: nothing per layer is stored."""
        *tensors, ctx.flows, ctx.plan, ctx.again = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        """Gradients of states, weights, biases and W."""
        weights_too = any(ctx.needs_input_grad[1:4])
        return (*_pull_apply(g, *ctx.saved_tensors, ctx.flows, ctx.plan, ctx.again, weights_too), None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Samples of the mapped axis are rows like any other; mapped parameters make it an axis of flows."""
        y, *parameters, flows, plan, again = inputs
        size, mapped = info.batch_size, in_dims[1:4] != (None, None, None)
        if not mapped:
            rows = _as_rows(y, in_dims[0], size, flows)
            return _from_rows(_run_apply(rows, *parameters, flows, plan, again), size, flows), 0
        merged = [_merged(x, d, size, flows) for x, d in zip((y, *parameters), in_dims, strict=False)]
        return _split(_run_apply(*merged, size * max(1, flows), plan, again), size, flows), 0


class Pull(torch.autograd.Function):
    """Gradients of states, weights, biases and W; None where there is none or none is wanted."""

    @staticmethod
    def forward(
        g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, plan: Plan,
        again: Again | None, weights_too: bool,
    ) -> calls.Gradients:  # fmt: skip
        """One fused run back."""
        if _is_plain(g, y, weight, bias, W) and not batched(g):
            return calls.backward(g, y, weight, bias, W, flows, plan, weights_too)
        to_y, *others = torch.ops.hdnn.flow_pull(g, y, weight, bias, W, weights_too, flows, *plan.values())
        if not weights_too:
            return to_y, None, None, None
        return to_y, others[0], others[1], None if W is None else others[2]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the inputs."""
        *tensors, ctx.flows, _, ctx.again, ctx.weights_too = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *directions: Tensor | None) -> Any:
        """Gradients of the gradients, layer by layer; refused where `again` is not given."""
        if ctx.again is None:
            raise RuntimeError(
                "The native backend has no second derivatives, and a backend that is named never falls back. Use "
                'backend="auto" or "eager" to differentiate the gradient of a flow.'
            )
        inputs = [x for x in ctx.saved_tensors if x is not None]
        wanted = [i for i, want in enumerate(ctx.needs_input_grad[: len(inputs)]) if want]

        def pull(*values: Tensor) -> tuple[Tensor, ...]:
            now = dict(enumerate(inputs)) | dict(zip(wanted, values, strict=True))
            return _pull_again(ctx.again, ctx.flows, ctx.weights_too, *now.values())

        given = [x for x in directions if x is not None]
        found = dict(zip(wanted, pulled_back(pull, [inputs[i] for i in wanted], given), strict=True))
        return (*map(found.get, range(5)), None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        """As in `Run`; gradients of parameters are one for each mapped index, so they make it an axis of flows."""
        g, y, *parameters, flows, plan, again, weights_too = inputs
        size, mapped = info.batch_size, in_dims[2:5] != (None, None, None)
        if not (mapped or weights_too):
            rows = [_as_rows(x, d, size, flows) for x, d in zip((g, y), in_dims, strict=False)]
            to_y, *_ = _pull_apply(*rows, *parameters, flows, plan, again, False)
            return (_from_rows(to_y, size, flows), None, None, None), (0, None, None, None)
        merged = [_merged(x, d, size, flows) for x, d in zip((g, y, *parameters), in_dims, strict=False)]
        results = _pull_apply(*merged, size * max(1, flows), plan, again, weights_too)
        dims = tuple(None if x is None else 0 for x in results)
        return tuple(None if x is None else _split(x, size, flows) for x in results), dims


def _pull_again(again: Again, flows: int, weights_too: bool, g: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the states, and of weights, biases and W where they are wanted, from `again`."""

    def run(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None = None) -> Tensor:
        return again(y, weight, bias, W)

    each = torch.func.vmap(run) if flows else run
    count = len(tensors) if weights_too else 1
    return pulled_back(lambda *x: (each(*x, *tensors[count:]),), tensors[:count], [g])


def _run_apply(*inputs: Any) -> Tensor:
    result: Tensor = Run.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


def _pull_apply(*inputs: Any) -> calls.Gradients:
    result: calls.Gradients = Pull.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


# Looked up once: this is the way of plain eager mode.
_DIRECT = raw_apply(Direct)

_PLAIN = {Tensor, torch.nn.Parameter, type(None)}


def _is_plain(*tensors: Tensor | None) -> bool:
    """Whether all tensors have memory to point to, and nobody watches.

    Fake tensors, transforms, compilation and dispatch modes (tracing by `make_fx` is one, blind to what no operator
    does) go through the operators instead.
    """
    if torch.compiler.is_compiling() or transformed() or watched():
        return False
    return _PLAIN.issuperset(map(type, tensors))


def _as_rows(x: Tensor, dim: int | None, size: int, flows: int) -> Tensor:
    """States with the mapped axis merged into the rows."""
    x = x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    x = x.transpose(0, 1) if flows else x
    return x.flatten(1, 2) if flows else x.flatten(0, 1)


def _from_rows(x: Tensor, size: int, flows: int) -> Tensor:
    """`_as_rows` undone, the mapped axis first."""
    if flows:
        return x.reshape(flows, size, -1, *x.shape[2:]).transpose(0, 1)
    return x.reshape(size, -1, *x.shape[1:])


def _merged(x: Tensor | None, dim: int | None, size: int, flows: int) -> Tensor | None:
    """One tensor with the mapped axis merged into the leading axis of flows."""
    if x is None:
        return None
    x = x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
    x = x.expand(size, *x.shape[1:])
    return x if flows == 0 else x.reshape(size * flows, *x.shape[2:])


def _split(x: Tensor, size: int, flows: int) -> Tensor:
    return x if flows == 0 else x.reshape(size, flows, *x.shape[1:])


# The operators ------------------------------------------------------------------------------------------------------

_Empties = tuple[Tensor, Tensor, Tensor, Tensor]


def _run(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, *values: Any) -> Tensor:
    plan = plan_of(*values)
    check(y, weight, bias, W, y, flows, plan, "flow_run")
    return calls.forward(y, weight, bias, W, flows, plan)[0]


def _pull(
    g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, weights_too: bool, flows: int, *values: Any
) -> _Empties:
    plan = plan_of(*values)
    check(y, weight, bias, W, g, flows, plan, "flow_pull")
    to_y, *others = calls.backward(g, y, weight, bias, W, flows, plan, weights_too)
    first, second, third = (y.new_empty(0) if x is None else x for x in others)
    return to_y, first, second, third


def _fake_run(y: Tensor, *others: Any) -> Tensor:
    return torch.empty(y.shape, dtype=y.dtype, device=y.device)


def _fake_pull(
    g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, weights_too: bool, *others: Any
) -> _Empties:
    shapes = [x.shape if weights_too and x is not None else (0,) for x in (weight, bias, W)]
    first, second, third = (torch.empty(shape, dtype=y.dtype, device=y.device) for shape in shapes)
    return _fake_run(y), first, second, third


def _declare() -> Any:
    """Declare the two operators; they live as long as the library that is returned."""
    inputs = "Tensor y, Tensor weight, Tensor bias, Tensor? W"
    plan = f"int flows, {SCHEMA}"
    library: Any = torch.library.Library("hdnn", "DEF")  # type: ignore[no-untyped-call]
    library.define(f"flow_run({inputs}, {plan}) -> Tensor")
    library.define(f"flow_pull(Tensor g, {inputs}, bool weights_too, {plan}) -> (Tensor, Tensor, Tensor, Tensor)")
    library.impl("flow_run", _run, "CPU")
    library.impl("flow_pull", _pull, "CPU")
    torch.library.register_fake("hdnn::flow_run", _fake_run, lib=library)
    torch.library.register_fake("hdnn::flow_pull", _fake_pull, lib=library)
    return library


_LIBRARY = _declare()


def _flops(y: tuple[int, ...], plan: Plan) -> int:
    """Two for each multiplication of the matrix products of a run, as PyTorch counts those of the eager path."""
    return 2 * math.prod(y) * plan.layers * calls.multiplications(plan) // plan.features


@register_flop_formula(torch.ops.hdnn.flow_run)
def _run_flops(y: Any, weight: Any, bias: Any, W: Any, flows: int, *values: Any, **__: Any) -> int:
    return _flops(y, plan_of(*values))


@register_flop_formula(torch.ops.hdnn.flow_pull)
def _pull_flops(
    g: Any, y: Any, weight: Any, bias: Any, W: Any, weights_too: bool, flows: int, *values: Any, **__: Any
) -> int:
    return _flops(y, plan_of(*values)) * (2 if weights_too else 1)
