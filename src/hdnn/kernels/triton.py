"""The Triton backend: all layers, forward or backward, in one launch on a CUDA device.

Triton is no part of hdnn: CUDA builds of PyTorch bring it along, and it is loaded on use. Nothing per layer is stored:
the backward launch computes the layers again from kept ends of segments, in memory whose size has a bound.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor

from hdnn.kernels import calls, launches
from hdnn.kernels.backend import NOTHING, Backend, Gradients, Layers, Wants
from hdnn.kernels.plan import Plan

MOST_FEATURES = 128
FEWEST_LAYERS = 4  # for a call to be worth three launches, if backend="auto"
_ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "softplus", "identity")
_DRIVES = ("identity", "canonical", "matrix")


# Asked once: compilers trace what asks later.
installed = find_spec("triton") is not None
# Whether Triton runs its programs on the processor, operation by operation, as it does for tests.
interpreted = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def serves(plan: Plan) -> bool:
    """Whether the programs know every word of a plan, and its sizes."""
    return (
        plan.method in ("euler", "partitioned")
        and plan.first in ("", "p", "q")
        and plan.drive in _DRIVES
        and plan.activation in _ACTIVATIONS
        and plan.features <= MOST_FEATURES
        and len(plan.fractions) <= calls.MOST_MOVES
        and not (plan.driven and plan.learn_damping)
    )


class Triton(Backend):
    """Keeps no layer; knows reverse mode alone, of CUDA tensors that are all float32 or all float64."""

    name: ClassVar[str] = "triton"
    many: ClassVar[bool] = True
    drives: ClassVar[bool] = True

    def describe(self) -> str:
        """With the version, and on what it would run."""
        if not installed:
            return "not available: Triton is not installed (pip install 'hdnn[triton]')"
        if not (interpreted or torch.cuda.is_available()):
            return "not available: PyTorch sees no CUDA device"
        version = importlib.import_module("triton").__version__
        return f"available (Triton {version}{', interpreted on the processor' if interpreted else ''})"

    def why_not(self, plan: Plan | None, y: Tensor | None, weight: Tensor | None, wants: Wants) -> str:
        """As the native backend, of CUDA tensors."""
        if plan is None or not serves(plan):
            return (
                'backend="triton" runs ForwardEuler and splittings of a few moves (SymplecticEuler and others) of at '
                f"most {MOST_FEATURES} features, with the built-in activations and structures, on vectors and on "
                "images with kernel_size=1: no RungeKutta4, energy, J of the state, unit weights or ports of one's "
                "own, no learned damping where inputs drive the steps; this flow is another. Use "
                'backend="auto" or "eager".'
            )
        if wants.store:
            return (
                'memory="store" keeps every layer for the backward pass; backend="triton" never does, it computes them '
                'again. Leave `memory` out, or use backend="eager".'
            )
        if y is not None and not (y.is_cuda or (y.is_cpu and interpreted)):
            return self._other_tensors(y, weight)
        if not installed:
            return (
                'backend="triton" needs Triton, which this install lacks. Install it (pip install "hdnn[triton]"), or '
                'use backend="eager".'
            )
        if y is None or weight is None:
            return ""
        plain = y.device == weight.device and y.dtype is weight.dtype and y.dtype in (torch.float32, torch.float64)
        if plain and (wants is NOTHING or not any(wants)):
            return ""
        return self._other_tensors(y, weight)

    def _other_tensors(self, y: Tensor, weight: Tensor | None) -> str:
        weights = "" if weight is None else f" and {weight.dtype} weights on {weight.device}"
        return (
            'backend="triton" takes CUDA tensors, state and weights both float32 or both float64, no forward-mode '
            "differentiation, no transform of torch.func inside a compiled function, and nothing that writes a program "
            f"down (torch.export, torch.jit.trace); got a {y.dtype} state on {y.device}{weights}. Convert them, or "
            'use backend="auto" or "eager".'
        )

    def worth(self, plan: Plan | None, y: Tensor) -> bool:
        """Whether it was faster than the loop over the layers on an H200, both called as they are.

        The loop is bound by its launches as long as batches are small, the programs by their sums of squares of
        features, of a half where halves move in turn.
        """
        if plan is None or y.is_cpu or plan.layers < FEWEST_LAYERS:
            return False
        n, samples = plan.features // (2 if plan.first else 1), y.numel() // plan.features
        if n <= 8 or y.dtype is not torch.float32:  # float64 was not timed; there launches take longest, too
            return n <= 8
        return (n <= 16 and samples <= 1 << 16) or (n <= 32 and samples <= 1 << 12)

    def forward(self, plan: Plan, y: Tensor, layers: Layers, keep: bool) -> tuple[Tensor, None]:
        """One launch."""
        return launches.forward(plan, y, layers), None

    def backward(self, plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: None, weights_too: bool) -> Gradients:
        """One launch, and one that adds the sums of its programs up."""
        return launches.backward(plan, g, y, layers, weights_too)
