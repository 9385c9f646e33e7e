"""The eager path, and what it keeps for the backward pass: every layer, about √N states, or the output alone.

Legend: N layers, y state, h step, g gradient of the loss by a state; weights: the tensors K, b and W = K Jᵀ of all
drives of all layers, and those of the space that a call has brought.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hdnn.damping import check_way_back
from hdnn.flow.by_hand import by_hand
from hdnn.hamiltonian import Drive, Field, More
from hdnn.integrators import Integrator
from hdnn.kernels.transforms import (
    CASTING,
    autocasting,
    batched,
    exporting,
    forward_mode,
    pulled_back,
    transformed,
    watched,
)
from hdnn.spaces import Space

if TYPE_CHECKING:
    from hdnn.flow.module import Flow

Memory = Literal["store", "recompute", "reverse"]
_Weights = Sequence[Tensor] | Mapping[int, Tensor]

# How much of the first state, or of 1 where that is more, the way back may miss: gradients are then good to about 1%.
_MISS = 1e-3


def layer_by_layer(
    integrator: Integrator, fields: Sequence[Field], y: Tensor, step: float, memory: Memory | None
) -> Tensor:
    """The state after the last layer.

    "recompute" keeps about √N states, and runs the layers between two of them again when gradients are asked for.
    "reverse" keeps the state before the last layer, and undoes one layer at a time from there; the first state, kept
    as well, shows whether that went well (not under transforms and in compiled functions, where no number can be
    read). Second derivatives are right in each, but store what the first ones need. Forward mode stores nothing and
    takes the plain loop, and so do exported programs and transforms inside a compiled function, which then store.

    Args:
        integrator: how a step is taken.
        fields: those of the layers, in order.
        y: the state before the first layer.
        step: h.
        memory: what is kept for the backward pass; None means "store".

    Returns:
        The shape of y.
    """
    if memory in (None, "store") or not fields or not torch.is_grad_enabled() or only_the_loop_serves():
        return integrator.steps(fields, y, step)
    if torch.compiler.is_compiling():
        # With dynamic=True h is a symbol, which two stretches cannot share; what is made of its digits is a number.
        step = float.fromhex(step.hex())
    if memory == "reverse" and integrator.damping:
        check_way_back(integrator.damping, integrator.learn_damping, len(fields) * step, y.dtype)
    layers, weights = _bind(integrator, fields, y, step)
    if memory == "reverse":
        return _applied(_Reverse, layers, y, weights)
    if not torch.compiler.is_compiling():
        return _applied(_Recompute, layers, y, weights)
    # A compiler merges equal work, so it would keep what `_Recompute` computes twice. This it respects.
    for start, stop in layers.stretches():
        y = checkpoint(layers.run, start, stop, y, weights, use_reentrant=False, preserve_rng_state=False)
    return y


def all_states(integrator: Integrator, fields: Sequence[Field], y: Tensor, step: float) -> Tensor:
    """The state before the first layer and after every layer, (N + 1, *shape of y)."""
    states = [y]
    for field in fields:
        states.append(integrator.step(field, states[-1], step))
    return torch.stack(states)


def loop(
    flow: Flow,
    space: Space,
    full: bool,
    more: More,
    states: bool,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    W: Tensor | None,
) -> Tensor:
    """The run of a flow from numbers that a call has read: eager runs it, second derivatives of fused runs follow it.

    Args:
        flow: whose factors to follow; its parameters are not read.
        space: as the call has bound it.
        full: whether the weights are K, not the free numbers of its structure.
        more: what the layers have beside K, b and J; where g, γ = g², is the last number of the biases, all but that.
        states: whether all states are wanted, not only the last.
        y: a state, or many.
        weight: stacked over the layers, leading size 1 where they share it.
        bias: (N, m) or (1, m); (N, ..., m) where inputs drive the layers.
        W: K Jᵀ; None where J Kᵀ = I, or where kernels need none, for J is canonical.
    """
    factors = flow.hamiltonian
    K = weight if full else factors.structure.build(weight, flow.places(weight.device).weight)
    layers = (len(bias) if more.c is None else len(more.c)) if flow.recurrent else flow.layers
    if W is None and factors.canonical:
        J = factors.interconnection.constant(flow.features, layers)
        W = factors.interconnection.drive(None if J is None else J.to(K), K, factors.space)
    if more.damping is None and flow.integrator.learn_damping:
        bias, damping = bias[:-1].reshape(-1, factors.hidden), bias[-1:].square()
        more = more._replace(damping=damping)
    with torch.autocast(y.device.type, enabled=False) if autocasting(y.device.type) else nullcontext():
        if flow.memory is None and not states:
            native = flow._backend == "auto"  # who names a backend gets no other
            found = by_hand(flow.integrator, factors, space, more, layers, flow.step, y, K, bias, W, native)
            if found is not None:
                return found
        fields = factors.driven(K, bias, W, layers, flow.integrator.separable_only, space, more)
        if states:
            return all_states(flow.integrator, fields, y, flow.step)
        return layer_by_layer(flow.integrator, fields, y, flow.step, flow.memory)


def only_the_loop_serves() -> bool:
    """Whether what runs can follow nothing else: forward mode, export, and transforms inside a compiled function."""
    return forward_mode() or exporting() or (torch.compiler.is_compiling() and transformed())


def concrete(x: Tensor) -> bool:
    """Whether a tensor is numbers that can be read and written in place, and no stand-in that something traces."""
    return not (torch.compiler.is_compiling() or batched(x) or watched(unsure=False) or x.is_meta)


@dataclass(frozen=True)
class _Layers:
    """All layers without their weights: plain values, for autograd sees only tensors that it is given.

    Weights are in one list, those that all layers share once; `places` says which of them make each layer.
    """

    integrator: Integrator
    step: float
    axis: int
    drives: tuple[Callable[[Sequence[Tensor | None], Space], Drive], ...]
    space: Space
    of_space: tuple[int, ...]  # places of its tensors
    places: tuple[tuple[tuple[int | None, ...], ...], ...]  # of every layer, of its drives, of their numbers
    autocast: torch.dtype | None

    def run(self, start: int, stop: int, y: Tensor, weights: _Weights) -> Tensor:
        """The state after the layers start … stop − 1."""
        with precision(y.device.type, self.autocast):
            return self.integrator.steps((self._field(j, weights) for j in range(start, stop)), y, self.step)

    def undo(self, j: int, y: Tensor, weights: _Weights) -> Tensor:
        """The state before layer j."""
        with precision(y.device.type, self.autocast):
            return self.integrator.inverse(self._field(j, weights), y, self.step)

    def states(self, stretches: list[tuple[int, int]], y: Tensor, weights: _Weights) -> tuple[Tensor, ...]:
        """The states after every stretch."""
        found = [y]
        for start, stop in stretches:
            found.append(self.run(start, stop, found[-1], weights))
        return tuple(found[1:])

    def all_and_last(self) -> list[tuple[int, int]]:
        """All layers in two stretches, the second of one layer."""
        last = len(self.places) - 1
        return [(0, last), (last, last + 1)] if last else [(0, 1)]

    def stretches(self) -> list[tuple[int, int]]:
        """All layers in stretches of about √N: the first layer of each, and the one after its last."""
        count = len(self.places)
        length = math.isqrt(count)
        return [(start, min(start + length, count)) for start in range(0, count, length)]

    def of(self, start: int, stop: int) -> list[int]:
        """The places of all that the layers start … stop − 1 need, each once."""
        own = (i for layer in self.places[start:stop] for drive in layer for i in drive if i is not None)
        return list(dict.fromkeys((*own, *self.of_space)))

    def _field(self, j: int, weights: _Weights) -> Field:
        space = self.space.rebound(tuple(weights[i] for i in self.of_space)) if self.of_space else self.space
        numbers = [[None if i is None else weights[i] for i in drive] for drive in self.places[j]]
        return Field(tuple(drive(of, space) for drive, of in zip(self.drives, numbers, strict=True)), self.axis)


def cast_to(device: str) -> torch.dtype | None:
    """The kind of number of autocast as it is; None where there is none."""
    return torch.get_autocast_dtype(device) if autocasting(device) else None


def precision(device: str, kind: torch.dtype | None) -> AbstractContextManager[object]:
    """Autocast as it was in the forward pass: a layer undone in another precision is another layer.

    Args:
        device: its type.
        kind: of numbers; None where there was no autocast.
    """
    if device not in CASTING:
        return nullcontext()
    return torch.autocast(device, kind, enabled=kind is not None)


def _bind(integrator: Integrator, fields: Sequence[Field], y: Tensor, step: float) -> tuple[_Layers, list[Tensor]]:
    """The layers of these fields, and their weights."""
    first = fields[0].drives[0]
    weights: list[Tensor] = []
    places: list[list[tuple[int | None, ...]]] = [[] for _ in fields]
    for drives in zip(*(field.drives for field in fields), strict=True):
        columns = [_placed(column, weights) for column in zip(*(drive.layer for drive in drives), strict=True)]
        for of_layer, numbers in zip(places, zip(*columns, strict=True), strict=True):
            of_layer.append(numbers)
    of_space = tuple(range(len(weights), len(weights) + len(first.space.numbers)))
    weights += first.space.numbers
    device = y.device.type
    layers = _Layers(
        integrator=integrator,
        step=step,
        axis=fields[0].axis,
        drives=tuple(drive.rebound for drive in fields[0].drives),
        space=first.space,
        of_space=of_space,
        places=tuple(map(tuple, places)),
        autocast=cast_to(device),
    )
    return layers, weights


def _placed(column: Sequence[Tensor | None], weights: list[Tensor]) -> Sequence[int | None]:
    """Put the numbers of all layers into the list, those that all share once; where they stand."""
    if column[0] is None:
        return [None] * len(column)
    start, shared = len(weights), column[0] is column[-1]
    weights += [x for x in (column[:1] if shared else column) if x is not None]
    return [start] * len(column) if shared else range(start, len(weights))


def _applied(function: type[torch.autograd.Function], layers: _Layers, y: Tensor, weights: list[Tensor]) -> Tensor:
    states: tuple[Tensor, ...] = function.apply(layers, y, *weights)  # type: ignore[no-untyped-call]
    return states[-1]


class _Stretches(torch.autograd.Function):
    """The states after every stretch of layers; it keeps those before them.

    All of these states are outputs, so that autograd knows what each depends on when it differentiates once more. The
    last is not kept, so that the caller may change it in place.
    """

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the states before the stretches, and the weights, which live in any case."""
        ctx.layers, y, *weights = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y, *output[:-1], *weights)


class _Recompute(_Stretches):
    """In stretches of about √N layers, which backward runs once more."""

    @staticmethod
    def forward(layers: _Layers, y: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Stretch by stretch."""
        return layers.states(layers.stretches(), y, weights)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor | None) -> Any:
        """Gradients of the first state and of the weights; all states but the last have none in a first derivative."""
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out only once
        states, weights = saved[: len(gs)], saved[len(gs) :]
        sums = _zeros(weights, ctx.needs_input_grad[2:])
        g = None
        for (start, stop), y, own in reversed(list(zip(ctx.layers.stretches(), states, gs, strict=True))):
            g = _plus(g, own)
            if g is not None:
                g = _pull(ctx.layers, start, stop, y, weights, sums, g)
        return None, g, *map(sums.get, range(len(weights)))


class _Reverse(_Stretches):
    """In two stretches, the second of one layer: the state before it is undone, the first compared with."""

    @staticmethod
    def forward(layers: _Layers, y: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """All layers but the last, and the last."""
        return layers.states(layers.all_and_last(), y, weights)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor | None) -> Any:
        """Gradients of the first state and of the weights, along states found by going back."""
        layers = ctx.layers
        first, *saved = ctx.saved_tensors
        before_last, weights = saved[: len(gs) - 1], saved[len(gs) - 1 :]
        sums = _zeros(weights, ctx.needs_input_grad[2:])
        y, last = (*before_last, first)[0], len(layers.places) - 1
        g = None if gs[-1] is None else _pull(layers, last, last + 1, y, weights, sums, gs[-1])
        g = _plus(g, *gs[:-1])
        for j in reversed(range(last)):
            y = layers.undo(j, y, weights)
            g = None if g is None else _pull(layers, j, j + 1, y, weights, sums, g)
        if concrete(y) and not torch.allclose(y, first, rtol=_MISS, atol=_MISS, equal_nan=True):
            raise RuntimeError(
                'memory="reverse" lost its way back from the output: it misses the input by up to '
                f"{float((y - first).abs().max()):.1e}, for rounding grows with ‖M⁻¹‖, M = ∂y_N/∂y_0. "
                'Use memory="recompute", float64, or a smaller step.'
            )
        return None, g, *map(sums.get, range(len(weights)))


def _plus(g: Tensor | None, other: Tensor | None = None) -> Tensor | None:
    """The sum of two gradients, None being zero."""
    return other if g is None else g if other is None else g + other


def _zeros(weights: Sequence[Tensor], wanted: Sequence[bool]) -> dict[int, Tensor]:
    """Where the gradients of the wanted weights are summed, by position.

    All at once, before the work on states begins: small tensors made between large ones would stand in the way of the
    large ones to come, and the process would grow with the depth.
    """
    return {i: torch.zeros_like(weights[i]) for i, want in enumerate(wanted) if want}


def _pull(
    layers: _Layers, start: int, stop: int, y: Tensor, weights: _Weights, sums: dict[int, Tensor], g: Tensor
) -> Tensor:
    """The gradient of y from g, that of the state after the layers; those of their weights are added to the sums."""
    own = {i: weights[i] for i in layers.of(start, stop)}
    trained = [i for i in own if i in sums]

    def run(y: Tensor, *values: Tensor) -> tuple[Tensor]:
        return (layers.run(start, stop, y, {**own, **dict(zip(trained, values, strict=True))}),)

    g, *terms = pulled_back(run, [y, *(own[i] for i in trained)], [g])
    for i, term in zip(trained, terms, strict=True):
        # In place where it may be: a term that `torch.vmap` maps would not fit into a sum that it does not.
        sums[i] = sums[i].add_(term) if concrete(term) else sums[i] + term
    return g
