"""The way back through a stage, layer by layer and to the bit, which keeps both ends of it and nothing between.

Legend: N layers; y the state in float64 on a grid, where sums have no rounding; g the gradient of a loss by a state;
numbers: what a stage holds, stacked over its layers, (N, ...) or (1, ...) where these share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdnn.flow.memory import cast_to, concrete, only_the_loop_serves, precision
from hdnn.hamiltonian import Field
from hdnn.integrators import Integrator
from hdnn.kernels.transforms import pulled_back
from hdnn.steps import on_grid

Numbers = Sequence[Tensor | None]
_J = 2  # its place among the numbers of a stage


def serves(integrator: Integrator, y: Tensor) -> bool:
    """Whether a stage can be undone to the bit."""
    loop = only_the_loop_serves() or torch.compiler.is_compiling()
    return integrator.exact and y.dtype is torch.float32 and torch.is_grad_enabled() and not loop


def run(
    bind: Callable[[Numbers], Field], integrator: Integrator, step: float, layers: int, y: Tensor, numbers: Numbers
) -> Tensor:
    """The state after the last layer; the gradients of what is stacked are summed where they belong, without copies.

    Args:
        bind: makes the field of a layer of its own numbers, (1, ...) each.
        integrator: how a step is taken.
        step: h.
        layers: N.
        y: float32.
        numbers: of all layers; J has no axis of layers where they share it.
    """
    places = tuple(i for i, x in enumerate(numbers) if x is not None)
    given = [x for x in numbers if x is not None]
    # J may have as many rows as there are layers, and is shared for all that.
    own = tuple(layers > 1 and len(x) == layers and (i, x.dim()) != (_J, 2) for i, x in zip(places, given, strict=True))
    way = _Way(bind, integrator, step, layers, len(numbers), places, own, cast_to(y.device.type))
    end: Tensor = _Undone.apply(way, on_grid(y.double()), *given)  # type: ignore[no-untyped-call]
    return end.to(y.dtype)


@dataclass(frozen=True)
class _Way:
    """All but the numbers, which autograd must see."""

    bind: Callable[[Numbers], Field]
    integrator: Integrator
    step: float
    layers: int
    count: int  # of numbers, None among them
    places: tuple[int, ...]  # of those that are tensors
    own: tuple[bool, ...]  # which of these every layer has for itself
    autocast: torch.dtype | None

    def cut(self, i: int, x: Tensor, j: int) -> Tensor:
        """What of the i-th stack is layer j's, (1, ...)."""
        return x.narrow(0, j, 1) if self.own[i] else x

    def field(self, parts: Sequence[Tensor]) -> Field:
        """Of a layer, from its numbers."""
        numbers: list[Tensor | None] = [None] * self.count
        for i, part in zip(self.places, parts, strict=True):
            numbers[i] = part
        return self.bind(numbers)

    def move(self, j: int, y: Tensor, numbers: Sequence[Tensor], *, back: bool = False) -> Tensor:
        """The state after layer j, or before it."""
        with precision(y.device.type, self.autocast):
            field = self.field([self.cut(i, x, j) for i, x in enumerate(numbers)])
            return self.integrator.exact_step(field, y, self.step, torch.float32, back=back)

    def pull(
        self, j: int, y: Tensor, g: Tensor, numbers: Sequence[Tensor], wanted: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """The gradients of the state before layer j and of its numbers, from that of the state after it."""
        parts = [self.cut(i, x, j) for i, x in enumerate(numbers)]

        def step(y: Tensor, *values: Tensor) -> tuple[Tensor]:
            now = list(parts)
            for i, value in zip(wanted, values, strict=True):
                now[i] = value
            with precision(y.device.type, self.autocast):
                return (self.integrator.step(self.field(now), y, self.step),)

        g, *terms = pulled_back(step, [y, *(parts[i] for i in wanted)], [g])
        return g, terms


class _Undone(torch.autograd.Function):
    """The output; backward goes the same way back, through the very same states."""

    generate_vmap_rule = True

    @staticmethod
    def forward(way: _Way, y: Tensor, *numbers: Tensor) -> Tensor:
        """Layer after layer."""
        for j in range(way.layers):
            y = way.move(j, y, numbers)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep both ends, and the numbers, which live in any case."""
        ctx.way, y, *numbers = inputs
        ctx.save_for_backward(y, output, *numbers)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Gradients of the first state and of the numbers."""
        way: _Way = ctx.way
        first, y, *numbers = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        sums = {i: torch.zeros_like(numbers[i]) for i in wanted}
        g = g.float()
        for j in reversed(range(way.layers)):
            y = way.move(j, y, numbers, back=True)
            g, terms = way.pull(j, y.float(), g, numbers, wanted)
            for i, term in zip(wanted, terms, strict=True):
                own = way.cut(i, sums[i], j)
                if concrete(term):
                    own.add_(term)
                elif own is sums[i]:
                    sums[i] = own + term
                else:  # what `torch.vmap` maps does not fit into a sum that it does not
                    sums[i] = torch.slice_scatter(sums[i], own + term, 0, j, j + 1)
        if concrete(y) and not torch.equal(y, first):
            raise RuntimeError(
                'memory="reverse" lost its way back from the output: states grew beyond 500,000, or the field is not '
                'the same to the bit when it is computed once more. Use memory="recompute", or a smaller step.'
            )
        return None, g.double(), *map(sums.get, range(len(numbers)))
