"""The fused backend: all layers, forward or backward, in one compiled call.

Legend: y states, (B, n) or (B, n, H, W); weight, bias the parameters of all N layers; W = K Jᵀ (N or 1, m, n) where J
is a matrix; g the gradient of the output. Every array may carry a leading axis of F flows (F = 0: it does not), which
is how `torch.func.vmap` over parameters becomes one call.

Two autograd functions stand over two operators of `torch.library`: the backward of the first is the second, so that a
second derivative meets our own message instead of a silent zero. The operators make compile and fake tensors work.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hdnn.kernels.plan import Plan


def _load() -> tuple[Any, str]:
    """The extension, or None and why not. Torch stands above: the first to load decides which OpenMP both share."""
    try:
        return importlib.import_module("hdnn.kernels._native"), ""
    except ImportError as error:
        return None, str(error)


_native, _why_not = _load()

_METHODS = {"euler": 0, "partitioned": 1}
_STRUCTURES = {"dense": 0, "skew": 0, "masked": 0, "block_diagonal": 1, "off_diagonal": 2, "block_skew": 3}
_DRIVES = {"identity": 0, "canonical": 1, "matrix": 2}
_ACTIVATIONS = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "softplus": 5}

Spec = tuple[list[int], float, float, bool]


def available() -> bool:
    """Whether the compiled extension is part of this installation."""
    return _native is not None


def describe() -> str:
    """One line for `hdnn info`."""
    if _native is None:
        return f"not available: {_why_not}"
    return f"available ({_native.instruction_set()}, {'OpenMP' if _native.has_openmp() else 'one thread'})"


def serves(y: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can run these tensors here and now.

    They take CPU tensors, both float32 or both float64, and know reverse mode alone. Under `torch.export` the eager
    path runs, so that exported programs need no hdnn.
    """
    return (
        y.device.type == "cpu"
        and weight.device.type == "cpu"
        and y.dtype is weight.dtype
        and y.dtype in (torch.float32, torch.float64)
        and getattr(forward_ad, "_current_level", -1) < 0
        and not _exporting()
    )


def wants_full_weights(plan: Plan) -> bool:
    """Whether the kernels want K in full (S, m, n) instead of the free numbers of its structure."""
    return _STRUCTURES[plan.structure] == 0 or plan.method == "euler" or plan.drive == "matrix"


def run(plan: Plan, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None) -> Tensor:
    """The states after the last layer.

    Args:
        plan: what to run.
        y: (..., n), or (B, n, H, W).
        weight: free numbers (S, ...), or K (S, m, n) where `wants_full_weights`.
        bias: (S, m).
        W: K Jᵀ, (N or 1, m, n), for plans whose drive is "matrix".

    Returns:
        The shape of y.
    """
    full = wants_full_weights(plan)
    ints = [
        _METHODS[plan.method],
        int(plan.first == "q"),
        0 if full else _STRUCTURES[plan.structure],
        _DRIVES[plan.drive],
        _ACTIVATIONS[plan.activation],
        plan.features,
        plan.hidden,
        plan.layers,
        int(plan.shared),
        int(W is not None and W.shape[0] == 1),
        *plan.p_units,
        *plan.q_units,
    ]
    states = y if plan.images else y.reshape(-1, plan.features)
    if plan.images and y.dim() == 3:
        states = y.unsqueeze(0)
    spec = (ints, plan.step, plan.negative_slope, plan.images)
    out: Tensor = _apply(_Run, states, weight, bias, W, 0, spec)
    return out.reshape(y.shape)


class _Run(torch.autograd.Function):
    """States after the last layer."""

    @staticmethod
    def forward(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, spec: Spec) -> Tensor:
        """One fused run."""
        if _is_plain(y, weight, bias, W):
            return _run_cpu(y, weight, bias, W, flows, *spec)
        result: Tensor = torch.ops.hdnn.flow_run(y, weight, bias, W, flows, *spec)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs alone: nothing per layer is stored."""
        *tensors, flows, spec = inputs
        ctx.save_for_backward(*tensors)
        ctx.flows, ctx.spec = flows, spec

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        """Gradients of states, weights, biases and W."""
        return (*_apply(_Pull, g, *ctx.saved_tensors, ctx.flows, ctx.spec), None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """The mapped axis joins the axis of flows."""
        *tensors, flows, spec = inputs
        merged = [_merged(x, d, info.batch_size, flows) for x, d in zip(tensors, in_dims, strict=False)]
        total = info.batch_size * max(1, flows)
        return _split(_apply(_Run, *merged, total, spec), info.batch_size, flows), 0


class _Pull(torch.autograd.Function):
    """Gradients of states, weights, biases and W (empty where there is none)."""

    @staticmethod
    def forward(
        g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, spec: Spec
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One fused run back."""
        function = _pull_cpu if _is_plain(g, y, weight, bias, W) else torch.ops.hdnn.flow_pull
        gradients = function(g, y, weight, bias, W, flows, *spec)
        return (*gradients[:3], gradients[3] if W is not None else None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing: there is no second derivative."""

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Any:
        """Refused."""
        raise RuntimeError(
            'The native backend has no second derivatives. Make the flow with backend="eager" to differentiate its '
            "gradient."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        """The mapped axis joins the axis of flows."""
        *tensors, flows, spec = inputs
        merged = [_merged(x, d, info.batch_size, flows) for x, d in zip(tensors, in_dims, strict=False)]
        total = info.batch_size * max(1, flows)
        results = _apply(_Pull, *merged, total, spec)
        dims = tuple(None if x is None else 0 for x in results)
        return tuple(None if x is None else _split(x, info.batch_size, flows) for x in results), dims


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """The raw apply in plain eager mode, which saves a third of a small call; the public one under transforms."""
    chosen: Any = function
    if not (torch.compiler.is_compiling() or _transformed()):
        chosen = super(torch.autograd.Function, function)
    return chosen.apply(*inputs)


def _exporting() -> bool:
    """Whether `torch.export` is tracing; versions of PyTorch before 2.7 do not tell it from compilation."""
    ask = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(ask())


def _is_plain(*tensors: Tensor | None) -> bool:
    """Whether all tensors have memory to point to, and nobody watches.

    Fake tensors, compilation and dispatch modes (tracing by `make_fx` is one, blind to what no operator does) go
    through the operators instead.
    """
    known = all(x is None or type(x) in (Tensor, torch.nn.Parameter) for x in tensors)
    return known and not torch.compiler.is_compiling() and not _watched()


def _watched() -> bool:
    """Whether a dispatch mode is active; the check is private to PyTorch, so doubt means yes."""
    try:
        return bool(torch._C._len_torch_dispatch_stack())
    except AttributeError:  # pragma: no cover - other versions of PyTorch
        return True


def _transformed() -> bool:
    """Whether a transform of torch.func is active; the check is private to PyTorch, so doubt means yes."""
    try:
        return bool(torch._C._are_functorch_transforms_active())
    except AttributeError:  # pragma: no cover - other versions of PyTorch
        return True


def _merged(x: Tensor | None, dim: int | None, size: int, flows: int) -> Tensor | None:
    """One tensor with the mapped axis merged into the leading axis of flows."""
    if x is None:
        return None
    x = x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
    x = x.expand(size, *x.shape[1:])
    return x if flows == 0 else x.reshape(size * flows, *x.shape[2:])


def _split(x: Tensor, size: int, flows: int) -> Tensor:
    return x if flows == 0 else x.reshape(size, flows, *x.shape[1:])


def _run_cpu(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, ints: list[int], step: float, slope: float,
    images: bool,
) -> Tensor:  # fmt: skip
    _check(y, weight, bias, W, y, flows, ints)
    y, (weight, bias, W) = _ready(y, images), (_packed(x, flows) for x in (weight, bias, W))
    out = torch.empty(y.shape, dtype=y.dtype)
    call = _call(y, weight, bias, W, None, flows, images, (out, None, None, None))
    _native.forward(y.dtype is torch.float64, ints, step, slope, call, torch.get_num_threads())
    return out


def _pull_cpu(
    g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, flows: int, ints: list[int], step: float,
    slope: float, images: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    _check(y, weight, bias, W, g, flows, ints)
    y, g = _ready(y, images), _ready(g, images)
    weight, bias, W = (_packed(x, flows) for x in (weight, bias, W))
    out, to_weight, to_bias = (torch.empty(x.shape, dtype=y.dtype) for x in (y, weight, bias))
    to_W = torch.empty(0, dtype=y.dtype) if W is None else torch.empty(W.shape, dtype=y.dtype)
    call = _call(y, weight, bias, W, g, flows, images, (out, to_weight, to_bias, None if W is None else to_W))
    _native.backward(y.dtype is torch.float64, ints, step, slope, call, torch.get_num_threads())
    return out, to_weight, to_bias, to_W


def _check(y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, ints: list[int]) -> None:
    """Refuse what the pointers would misread: parameters may be swapped for others after a flow was made."""
    structure, features, hidden, layers, shared, shared_drive = ints[2], *ints[5:10]
    stored, half, each = (1 if shared else layers), features // 2, flows or 1
    free = (hidden * features, hidden * half, hidden * half, half * half)[structure]
    drive = 0 if W is None else hidden * features * (1 if shared_drive else layers)
    if (
        weight.numel() != each * stored * free
        or bias.numel() != each * stored * hidden
        or (0 if W is None else W.numel()) != each * drive
        or y.shape[2 if flows else 1] != features
        or g.shape != y.shape
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (y, weight, bias, W) if x is not None)
        raise ValueError(
            f"States, weights and biases do not fit a flow of {features} features and {stored} stored layers; got "
            f"{shapes}. Give tensors of the shapes that the flow was made with."
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


def _packed(x: Any, flows: int) -> Any:
    """Parameters are read as one block for each flow; flows that share them need no copies."""
    if x is None:
        return None
    x = x.resolve_neg() if x.is_neg() else x
    if flows and x.stride(0) == 0:
        return x[0].contiguous().expand(x.shape)
    return x.contiguous()


def _call(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor | None, flows: int, images: bool,
    outputs: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
) -> list[int]:  # fmt: skip
    """Pointers, sizes and strides, in the order that the extension reads them."""
    axis = 1 if flows else 0
    rows, feature = axis, axis + 1
    out = outputs[0]

    def strides(x: Tensor | None) -> list[int]:
        if x is None:
            return [0, 0, 0]
        return [x.stride(0) if flows else 0, x.stride(rows), x.stride(feature)]

    def flow_size(x: Tensor | None) -> int:
        return 0 if x is None or not flows else x.stride(0)

    return [
        flows or 1,
        y.shape[rows],
        y.shape[-1] * y.shape[-2] if images else 1,
        *(0 if x is None else x.data_ptr() for x in (y, weight, bias, W, g)),
        *strides(y),
        *strides(g),
        *(flow_size(x) for x in (weight, bias, W)),
        *(0 if x is None else x.data_ptr() for x in outputs),
        *strides(out),
    ]


def _fake_run(y: Tensor, weight: Tensor, bias: Tensor, drive: Tensor | None, *tail: Any) -> Tensor:
    return torch.empty(y.shape, dtype=y.dtype, device=y.device)


def _fake_pull(g: Tensor, y: Tensor, weight: Tensor, bias: Tensor, drive: Tensor | None, *tail: Any) -> Any:
    empty = [torch.empty(x.shape, dtype=y.dtype, device=y.device) for x in (y, weight, bias)]
    shape = (0,) if drive is None else drive.shape
    return (*empty, torch.empty(shape, dtype=y.dtype, device=y.device))


def _declare() -> Any:
    """Declare the two operators; they live as long as the library that is returned."""
    tail = "int flows, int[] plan, float step, float slope, bool images"
    inputs = f"Tensor y, Tensor weight, Tensor bias, Tensor? drive, {tail}"
    library: Any = torch.library.Library("hdnn", "DEF")  # type: ignore[no-untyped-call]
    library.define(f"flow_run({inputs}) -> Tensor")
    library.define(f"flow_pull(Tensor g, {inputs}) -> (Tensor, Tensor, Tensor, Tensor)")
    library.impl("flow_run", _run_cpu, "CPU")
    library.impl("flow_pull", _pull_cpu, "CPU")
    torch.library.register_fake("hdnn::flow_run", _fake_run, lib=library)
    torch.library.register_fake("hdnn::flow_pull", _fake_pull, lib=library)
    return library


_LIBRARY = _declare()
