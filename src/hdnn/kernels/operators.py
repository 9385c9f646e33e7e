"""The run of a fused backend as a differentiable function, in plain eager mode and under every transform.

Two autograd functions stand over two operators of `torch.library`: the backward of the first is the second, and the
backward of the second differentiates `loop`, the same run layer by layer; without it a second derivative meets our own
message instead of a silent zero. The operators make compilation, fake tensors and tracing work: they carry the name of
the backend and the values of the plan. A third function is the short way of plain eager mode, which costs a third of
the others.

Legend: as in `backend`.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hdnn.kernels import calls
from hdnn.kernels.backend import Backend, Gradients, Layers, Loop, Wants
from hdnn.kernels.eager import Eager
from hdnn.kernels.plan import SCHEMA, Plan, plan_of
from hdnn.kernels.refusals import check
from hdnn.kernels.transforms import batched, pulled_back, raw_apply, transformed, watched, wrapped


def run(backend: Backend, plan: Plan | None, y: Tensor, layers: Layers) -> Tensor:
    """The states after the last layer, differentiable once, or as often as `layers.loop` where there is one.

    Args:
        backend: that serves the call.
        plan: what to run.
        y: (..., n), or what the space says.
        layers: those of one flow.

    Returns:
        The shape of y, after an axis of N + 1 states where `plan.states`.
    """
    fused = cast("Plan", plan)
    if not backend.fused:
        return backend.forward(fused, y, layers, keep=False)[0]
    rows = y
    if y.dim() != (4 if fused.images else 2):
        rows = y.unsqueeze(0) if fused.images else y.reshape(-1, fused.features)
    weight, bias, W, loop, _ = layers
    if _is_plain(rows, weight, bias, W) and not wrapped(rows):
        result: Tensor = _DIRECT(rows, weight, bias, W, backend, plan, layers)
    else:
        result = _run_apply(rows, weight, bias, W, 0, backend, plan, loop)
    if rows is y:
        return result
    return result.reshape(len(result), *y.shape) if fused.states else result.reshape(y.shape)


class Direct(torch.autograd.Function):
    """States after the last layer, in plain eager mode."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, backend: Backend, plan: Plan,
        layers: Layers,
    ) -> Tensor:  # fmt: skip
        """One fused run; what the backend kept of it serves the run back; `layers` are the tensors once more."""
        out, ctx.kept = backend.forward(plan, y, layers, any(ctx.needs_input_grad))
        ctx.save_for_backward(y, weight, bias, W, *((out,) if plan.states else ()))
        ctx.backend, ctx.plan, ctx.loop = backend, plan, layers.loop
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """One fused run back, or the function that knows transforms and second derivatives."""
        y, weight, bias, W, *states = ctx.saved_tensors
        weights_too = any(ctx.needs_input_grad[1:])
        if torch.is_grad_enabled() or batched(g) or not _is_plain(g, y, weight, bias, W):
            found = _pull_apply(g, y, weight, bias, W, 0, ctx.backend, ctx.plan, ctx.loop, weights_too)
        else:
            kept = states[0] if states else ctx.kept
            found = ctx.backend.backward(ctx.plan, g, y, Layers(weight, bias, W), kept, weights_too)
        return (*found, None, None, None)


class Run(torch.autograd.Function):
    """States after the last layer, under any transform."""

    @staticmethod
    def forward(
        y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, backend: Backend, plan: Plan,
        loop: Loop | None,
    ) -> Tensor:  # fmt: skip
        """One fused run."""
        if _is_plain(y, weight, bias, W):
            return _forward(backend, plan, y, Layers(weight, bias, W, None, flows))
        result: Tensor = torch.ops.hdnn.flow_run(y, weight, bias, W, flows, backend.name, *plan.values())
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs alone: nothing per layer is stored."""
        *tensors, ctx.flows, ctx.backend, ctx.plan, ctx.loop = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        """Gradients of states, weights, biases and W."""
        weights_too = any(ctx.needs_input_grad[1:4])
        found = _pull_apply(g, *ctx.saved_tensors, ctx.flows, ctx.backend, ctx.plan, ctx.loop, weights_too)
        return (*found, None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Samples of the mapped axis are rows like any other; mapped parameters make it an axis of flows."""
        y, *parameters, flows, backend, plan, loop = inputs
        size, mapped = info.batch_size, plan.driven or in_dims[1:4] != (None, None, None)
        if not mapped:
            rows = _as_rows(y, in_dims[0], size, flows)
            return _from_rows(_run_apply(rows, *parameters, flows, backend, plan, loop), size, flows), 0
        merged = [_merged(x, d, size, flows) for x, d in zip((y, *parameters), in_dims, strict=False)]
        return _split(_run_apply(*merged, size * max(1, flows), backend, plan, loop), size, flows), 0


class Pull(torch.autograd.Function):
    """Gradients of states, weights, biases and W; None where there is none or none is wanted."""

    @staticmethod
    def forward(
        g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, backend: Backend, plan: Plan,
        loop: Loop | None, weights_too: bool,
    ) -> Gradients:  # fmt: skip
        """One fused run back."""
        if _is_plain(g, y, weight, bias, W) and not batched(g):
            return _backward(backend, plan, g, y, Layers(weight, bias, W, None, flows), weights_too)
        to_y, *others = torch.ops.hdnn.flow_pull(
            g, y, weight, bias, W, weights_too, flows, backend.name, *plan.values()
        )
        if not weights_too:
            return to_y, None, None, None
        return to_y, others[0], others[1], None if W is None else others[2]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the inputs."""
        *tensors, ctx.flows, ctx.backend, ctx.plan, ctx.loop, ctx.weights_too = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *directions: Tensor | None) -> Any:
        """Gradients of the gradients, layer by layer; refused where no `loop` is given."""
        if ctx.loop is None:
            raise RuntimeError(
                f"The {ctx.backend.name} backend has no second derivatives, and a backend that is named never falls "
                'back. Use backend="auto" or "eager" to differentiate the gradient of a flow.'
            )
        inputs = [x for x in ctx.saved_tensors if x is not None]
        wanted = [i for i, want in enumerate(ctx.needs_input_grad[: len(inputs)]) if want]

        def pull(*values: Tensor) -> tuple[Tensor, ...]:
            now = [*(dict(enumerate(inputs)) | dict(zip(wanted, values, strict=True))).values(), None]
            g, y, weight, bias, W, *_ = now
            layers = Layers(cast("Tensor", weight), cast("Tensor", bias), W, ctx.loop, ctx.flows)
            found = Eager().backward(ctx.plan, cast("Tensor", g), cast("Tensor", y), layers, None, ctx.weights_too)
            return tuple(x for x in found if x is not None)

        given = [x for x in directions if x is not None]
        found = dict(zip(wanted, pulled_back(pull, [inputs[i] for i in wanted], given), strict=True))
        return (*map(found.get, range(5)), None, None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        """As in `Run`; gradients of parameters are one for each mapped index, so they make it an axis of flows."""
        g, y, *parameters, flows, backend, plan, loop, weights_too = inputs
        size, mapped = info.batch_size, plan.driven or in_dims[2:5] != (None, None, None)
        if not (mapped or weights_too):
            rows = [_as_rows(x, d, size, flows) for x, d in zip((g, y), in_dims, strict=False)]
            to_y, *_ = _pull_apply(*rows, *parameters, flows, backend, plan, loop, False)
            return (_from_rows(to_y, size, flows), None, None, None), (0, None, None, None)
        merged = [_merged(x, d, size, flows) for x, d in zip((g, y, *parameters), in_dims, strict=False)]
        results = _pull_apply(*merged, size * max(1, flows), backend, plan, loop, weights_too)
        dims = tuple(None if x is None else 0 for x in results)
        return tuple(None if x is None else _split(x, size, flows) for x in results), dims


def _forward(backend: Backend, plan: Plan, y: Tensor, layers: Layers) -> Tensor:
    """A run of one flow or of many, one after the other where the backend takes no more at a time."""
    if not layers.flows or backend.many:
        return backend.forward(plan, y, layers, keep=False)[0]
    return torch.stack([backend.forward(plan, y[f], layers.one(f), keep=False)[0] for f in range(layers.flows)])


def _backward(backend: Backend, plan: Plan, g: Tensor, y: Tensor, layers: Layers, weights_too: bool) -> Gradients:
    """A run back, as in `_forward`."""
    if not layers.flows or backend.many:
        return backend.backward(plan, g, y, layers, None, weights_too)
    each = [backend.backward(plan, g[f], y[f], layers.one(f), None, weights_too) for f in range(layers.flows)]
    to_y, *others = ([x for x in column if x is not None] for column in zip(*each, strict=True))
    weight, bias, W = (torch.stack(found) if found else None for found in others)
    return torch.stack(to_y), weight, bias, W


def _run_apply(*inputs: Any) -> Tensor:
    result: Tensor = Run.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


def _pull_apply(*inputs: Any) -> Gradients:
    result: Gradients = Pull.apply(*inputs)  # type: ignore[no-untyped-call]
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

# Whom the operators ask, by name: a compiler knows plain values alone.
_SERVING: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Let the operators know a backend; of several with one name, the latest."""
    _SERVING[backend.name] = backend


def _checked(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, name: str, values: tuple[Any, ...]
) -> tuple[Backend, Plan, Layers]:
    """The backend, the plan and the layers of an operator, which anyone may call."""
    if (backend := _SERVING.get(name)) is None:
        raise ValueError(f'No backend "{name}" is known here. Make a flow with `backend=` first.')
    plan, layers = plan_of(*values), Layers(weight, bias, W, None, flows)
    if reason := backend.why_not(plan, y, weight, Wants()):
        raise ValueError(reason)
    check(backend, plan, y, layers, g)
    return backend, plan, layers


def _run(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, name: str, *values: Any) -> Tensor:
    backend, plan, layers = _checked(y, weight, bias, W, y, flows, name, values)
    return _forward(backend, plan, y, layers)


def _pull(
    g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, weights_too: bool, flows: int, name: str,
    *values: Any,
) -> _Empties:  # fmt: skip
    backend, plan, layers = _checked(y, weight, bias, W, g, flows, name, values)
    to_y, *others = _backward(backend, plan, g, y, layers, weights_too)
    first, second, third = (y.new_empty(0) if x is None else x for x in others)
    return to_y, first, second, third


def _fake_run(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, name: str, *values: Any) -> Tensor:
    plan, axis = plan_of(*values), 1 if flows else 0
    states = (plan.layers + 1,) if plan.states else ()
    return torch.empty((*y.shape[:axis], *states, *y.shape[axis:]), dtype=y.dtype, device=y.device)


def _fake_pull(
    g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, weights_too: bool, *others: Any
) -> _Empties:
    shapes = [x.shape if weights_too and x is not None else (0,) for x in (weight, bias, W)]
    first, second, third = (torch.empty(shape, dtype=y.dtype, device=y.device) for shape in shapes)
    return torch.empty(y.shape, dtype=y.dtype, device=y.device), first, second, third


def _declare() -> Any:
    """Declare the two operators; they live as long as the library that is returned."""
    inputs = "Tensor y, Tensor weight, Tensor bias, Tensor? W"
    run = f"int flows, str backend, {SCHEMA}"
    library: Any = torch.library.Library("hdnn", "DEF")  # type: ignore[no-untyped-call]
    library.define(f"flow_run({inputs}, {run}) -> Tensor")
    library.define(f"flow_pull(Tensor g, {inputs}, bool weights_too, {run}) -> (Tensor, Tensor, Tensor, Tensor)")
    for device in ("CPU", "CUDA", "XPU", "MPS"):
        library.impl("flow_run", _run, device)
        library.impl("flow_pull", _pull, device)
    torch.library.register_fake("hdnn::flow_run", _fake_run, lib=library)
    torch.library.register_fake("hdnn::flow_pull", _fake_pull, lib=library)
    return library


_LIBRARY = _declare()


def _flops(y: tuple[int, ...], plan: Plan) -> int:
    """Two for each multiplication of the matrix products of a run, as PyTorch counts those of the eager path."""
    return 2 * math.prod(y) * plan.layers * calls.multiplications(plan) // plan.features


@register_flop_formula(torch.ops.hdnn.flow_run)
def _run_flops(y: Any, weight: Any, bias: Any, W: Any, flows: int, name: str, *values: Any, **__: Any) -> int:
    return _flops(y, plan_of(*values))


@register_flop_formula(torch.ops.hdnn.flow_pull)
def _pull_flops(
    g: Any, y: Any, weight: Any, bias: Any, W: Any, weights_too: bool, flows: int, name: str, *values: Any, **__: Any
) -> int:
    return _flops(y, plan_of(*values)) * (2 if weights_too else 1)
