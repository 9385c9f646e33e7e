"""Eager runs in plain mode as one autograd function over all layers, whose gradients are written by hand.

Where PyTorch does anything but run and differentiate once — transforms, tracing, compilation, forward mode, second
derivatives — the loop over the layers serves, whose gradients are these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from hdnn.flow.midpoints import Midpoints
from hdnn.flow.plans import plan_of_factors
from hdnn.flow.walks import SMALL, Moves, moves_of
from hdnn.hamiltonian import Hamiltonian, More
from hdnn.integrators import Integrator
from hdnn.kernels import graphs, native
from hdnn.kernels.plan import Plan
from hdnn.kernels.transforms import batched, forward_mode, pulled_back, tracing, transformed, watched, wrapped
from hdnn.spaces import Space
from hdnn.spaces.rows import Edges

_PLAIN = {Tensor, torch.nn.Parameter}
_KINDS = (torch.float32, torch.float64)


class _Way(Protocol):
    """Runs all layers, and walks back."""

    def run(self, tensors: Sequence[Tensor], kept: list[Tensor] | None = None, *, plain: bool) -> list[Tensor]:
        """The results; what the way back needs is put into the list."""

    def pull(self, gs: Sequence[Tensor], tensors: Sequence[Tensor], kept: list[Tensor], all: bool) -> list[Any]:
        """The gradients of the tensors from those of the results; of the states alone unless all are wanted."""


@dataclass(eq=False)
class _GraphSteps:
    """All layers of a flow on a graph by the compiled kernel, from y, K, b and W: one call forward and one back.

    Args:
        plan: what to run.
        edges: of the graph.
        walk: the same run by operations of PyTorch, for second derivatives.
    """

    plan: Plan
    edges: Edges
    walk: Callable[..., Tensor]
    _layout: str = ""

    def run(self, tensors: Sequence[Tensor], kept: list[Tensor] | None = None, *, plain: bool) -> list[Tensor]:
        """The states after the last layer."""
        if not plain:
            return [self.walk(*tensors)]
        found, numbers = graphs.forward(self.plan, self.edges, tensors, kept is not None)
        if kept is not None and numbers is not None:
            kept.append(numbers)
            self._layout = native.instruction_set()
        return [found]

    def pull(self, gs: Sequence[Tensor], tensors: Sequence[Tensor], kept: list[Tensor], all: bool) -> list[Any]:
        """The gradients of the tensors; what another instruction set has kept is computed again."""
        if self._layout != native.instruction_set():
            kept = []
            self.run(tensors, kept, plain=True)
        return list(graphs.backward(self.plan, self.edges, gs[0], tensors, kept[0], all))


def by_hand(
    integrator: Integrator,
    hamiltonian: Hamiltonian,
    space: Space,
    more: More,
    layers: int,
    h: float,
    y: Tensor,
    K: Tensor,
    b: Tensor,
    W: Tensor | None,
    native: bool = False,
) -> Tensor | None:
    """The state after the last layer; None where the loop over the layers must serve, or is the shorter way.

    Args:
        integrator: how a step is taken.
        hamiltonian: σ, and which units drive which half.
        space: as the call has bound it.
        more: what the layers have beside K, b and W.
        layers: N.
        h: the step.
        y: a state, or many.
        K: (N, m, n, *taps), or leading size 1, as b and W.
        b: (N, m), as many as K; biases of samples, and of the steps of a flow that inputs drive, are not served.
        W: K Jᵀ; None where J Kᵀ = I.
        native: whether the compiled kernel may take the layers of a flow on a graph.
    """
    if (
        b.dim() != 2
        or len(b) != len(K)
        or not layers
        or not y.numel()
        or y.dtype not in _KINDS
        or hamiltonian.beyond_units
    ):
        return None
    tensors = [x for x in (y, K, b, W) if x is not None]
    if any(x is not None for x in more[:4]) or not plain(*tensors) or (rows := space.rows(y)) is None:
        return None
    activation = hamiltonian.activation
    if activation.kernel is None and activation.value(y.new_zeros(1)).requires_grad:
        return None  # it has parameters of its own
    small = y.numel() * max(K.shape[1:3]) <= SMALL * y.shape[-1]
    if (small or rows.taps > 1) and (known := moves_of(integrator, h)) is not None:
        moves = Moves(layers, known[0], rows, activation, known[1])

        def walk(
            run: Callable[[Moves, list[Tensor], int], Sequence[Tensor]],
            y: Tensor,
            K: Tensor,
            b: Tensor,
            W: Tensor | None = None,
        ) -> Tensor:
            parts = hamiltonian.parts(K, b, W, integrator.separable_only, more)
            return moves.end(run(moves, moves.start(y, parts, h), len(parts)), y.shape)

        if native and rows.edges is not None:
            plan = plan_of_factors(hamiltonian, integrator, h, layers, len(K) == 1)
            plan = plan and replace(plan, drive="identity" if W is None else "matrix")
            if plan is not None and not graphs.why_not(plan, rows.edges, tensors):
                steps = _GraphSteps(plan, rows.edges, partial(walk, _differentiable))
                return _run(steps, tensors, 1)[0]
        return walk(_run, *tensors)
    if integrator.midpoint and rows.taps == 1:
        midpoints = Midpoints(layers, h, integrator, activation)
        (found,) = _run(midpoints, [y.reshape(-1, y.shape[-1]), *tensors[1:]], 1)
        return found.reshape(y.shape)
    return None


def plain(*tensors: Tensor) -> bool:
    """Whether PyTorch does nothing with these tensors but to run operations on them, and to differentiate once."""
    if torch.compiler.is_compiling() or tracing() or transformed() or watched() or forward_mode():
        return False
    return all(type(x) in _PLAIN and not wrapped(x) and not x.is_meta for x in tensors)


def _run(way: _Way, tensors: list[Tensor], results: int) -> Sequence[Tensor]:
    if not torch.is_grad_enabled() or not any(x.requires_grad for x in tensors):
        return way.run(tensors, plain=True)
    found: tuple[Tensor, ...] = _ByHand.apply(way, results, *tensors)  # type: ignore[no-untyped-call]
    return found


def _differentiable(way: _Way, tensors: list[Tensor], results: int) -> Sequence[Tensor]:
    return way.run(tensors, plain=False)


class _ByHand(torch.autograd.Function):
    """The results of all layers."""

    @staticmethod
    def forward(ctx: Any, way: _Way, results: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One run, which keeps what the way back needs."""
        kept: list[Tensor] = []
        found = way.run([x.detach() for x in tensors], kept, plain=True)  # views of what wants gradients cost time
        ctx.way, ctx.results, ctx.count = way, results, len(tensors)
        ctx.save_for_backward(*tensors, *kept)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> Any:
        """One way back, or the loop where more than a first derivative is asked for."""
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out only once
        tensors, kept = saved[: ctx.count], saved[ctx.count :]
        if torch.is_grad_enabled() or any(batched(g) for g in gs) or not plain(*gs, *tensors):
            found: Sequence[Any] = pulled_back(lambda *x: ctx.way.run(x, plain=False), tensors, gs)
        else:
            wanted = any(ctx.needs_input_grad[2 + ctx.results :])
            found = ctx.way.pull(gs, [x.detach() for x in tensors], list(kept), wanted)
        return None, None, *found
