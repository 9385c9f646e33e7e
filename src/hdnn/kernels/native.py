"""The native backend: all layers, forward or backward, in one compiled call on the CPU."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hdnn.kernels import calls, threads
from hdnn.kernels.backend import NOTHING, Backend, Gradients, Layers, Wants
from hdnn.kernels.plan import Plan


def available() -> bool:
    """Whether the compiled extension is part of this installation."""
    return calls.extension is not None


def instruction_set() -> str:
    """The instruction set that the kernels run with, "none" where the extension is missing; bits depend on it."""
    return "none" if calls.extension is None else str(calls.extension.instruction_set())


class Native(Backend):
    """Keeps no layer; knows reverse mode alone, of CPU tensors that are all float32 or all float64."""

    name: ClassVar[str] = "native"
    many: ClassVar[bool] = True
    drives: ClassVar[bool] = True

    def describe(self) -> str:
        """With the instruction set and whose threads share the work."""
        extension = calls.extension
        if extension is None:
            return f"not available: {calls.why_not}"
        whose = "PyTorch's OpenMP" if threads.entry() else "threads of its own"
        return f"available ({extension.instruction_set()}, {whose})"

    def why_not(self, plan: Plan | None, y: Tensor | None, weight: Tensor | None, wants: Wants) -> str:
        """The eager path runs where programs are written down, so that they need no hdnn.

        And so it does under transforms inside a compiled function, which know neither our rule of vmap nor our second
        derivatives.
        """
        if calls.extension is None:
            return (
                'backend="native" needs the compiled extension, which this install lacks. Reinstall with a C++17 '
                'compiler (pip install --no-cache-dir --force-reinstall), or use backend="eager".'
            )
        if plan is None or not calls.knows(plan):
            return (
                'backend="native" runs ForwardEuler, RungeKutta4 and splittings of a few moves (SymplecticEuler and '
                "others), with the built-in activations and structures, on vectors and on images with kernel_size=1: "
                "no energy, J of the state, unit weights or ports of one's own, no learned damping where inputs drive "
                'the steps; this flow is another. Use backend="auto" or "eager"; "auto" has compiled steps for graphs.'
            )
        if wants.store:
            return (
                'memory="store" keeps every layer for the backward pass; backend="native" never does, it computes them '
                'again in cache. Leave `memory` out, or use backend="eager".'
            )
        if y is None or weight is None:
            return ""
        dtype = y.dtype
        plain = y.is_cpu and weight.is_cpu and dtype is weight.dtype
        if plain and (dtype is torch.float32 or dtype is torch.float64) and (wants is NOTHING or not any(wants)):
            return ""
        return (
            'backend="native" takes CPU tensors, state and weights both float32 or both float64, no forward-mode '
            "differentiation, no transform of torch.func inside a compiled function, and nothing that writes a program "
            f"down (torch.export, torch.jit.trace); got a {y.dtype} state on {y.device} and {weight.dtype} weights on "
            f'{weight.device}. Convert them, or use backend="auto" or "eager".'
        )

    def full_weights(self, plan: Plan) -> bool:
        """Free numbers serve where the halves of a state drive each other by them."""
        return calls.full_weights(plan)

    def forward(self, plan: Plan, y: Tensor, layers: Layers, keep: bool) -> tuple[Tensor, calls.Kept]:
        """One call of the extension."""
        return calls.forward(plan, y, layers, keep)

    def backward(
        self, plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: calls.Kept | None, weights_too: bool
    ) -> Gradients:
        """One call of the extension."""
        return calls.backward(plan, g, y, layers, kept, weights_too)
