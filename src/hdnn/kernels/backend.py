"""What runs the layers of a flow: eager, native and any other are of one kind.

To add one: a file with a class derived from `Backend`, and its object in `choice.BACKENDS`; or give an object to
`Flow(backend=...)`, which is then named, and so never falls back.

Legend: y states, g the gradient of the output by them; S = N stored layers, or 1 where all share one; W = K Jᵀ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hdnn.kernels import transforms
from hdnn.kernels.plan import Plan

Loop = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
Gradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


class Layers(NamedTuple):
    """What a run goes through.

    Attributes:
        weight: K (S, m, n), or the free numbers of its structure (S, ...), as `Backend.full_weights` says.
        bias: (S, m); (S · m + 1,) where `plan.learn_damping`; (N, B, m) where inputs drive every step.
        W: (N or 1, m, n) where `plan.drive` is "matrix" or the backend is not fused; else None.
        loop: of y, weight, bias and W: the same run layer by layer, by operations of PyTorch alone. None where nobody
            may fall back.
        flows: F, where every array, the states too, leads with an axis of F flows; 0 where there is none.
    """

    weight: Tensor
    bias: Tensor
    W: Tensor | None
    loop: Loop | None = None
    flows: int = 0

    def one(self, flow: int) -> Layers:
        """Those of one of the flows."""
        W = None if self.W is None else self.W[flow]
        return Layers(self.weight[flow], self.bias[flow], W, self.loop)


class Wants(NamedTuple):
    """What is asked of a run beside its result and its gradients.

    Attributes:
        store: the states after all layers, kept for the backward pass.
        forward_mode: forward-mode derivatives.
        transforms: transforms of torch.func inside a compiled function.
        program: a program that is written down, by `torch.export` or `torch.jit.trace`.
    """

    store: bool = False
    forward_mode: bool = False
    transforms: bool = False
    program: bool = False


NOTHING = Wants()


def wanted(store: bool) -> Wants:
    """What is wanted here and now."""
    forward_mode = transforms.forward_mode()
    if torch.compiler.is_compiling():
        return Wants(store, forward_mode, transforms.transformed(), transforms.exporting())
    program = transforms.tracing()
    return Wants(store, forward_mode, False, program) if store or forward_mode or program else NOTHING


class Backend(ABC):
    """Runs all layers of a flow, forward and backward. A value without state: two of one class are the same.

    Attributes:
        name: as in `backend="native"`.
        fused: whether it reads plans, and gives its gradients itself; else PyTorch differentiates what `forward` does.
        many: whether its arrays may lead with an axis of flows; else flows run one after the other.
        drives: whether it knows plans whose steps inputs drive, and that ask for all states; else it meets none.
    """

    name: ClassVar[str]
    fused: ClassVar[bool] = True
    many: ClassVar[bool] = False
    drives: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def describe(self) -> str:
        """One line for `hdnn info`: "available", or "not available: " and why."""

    @abstractmethod
    def why_not(self, plan: Plan | None, y: Tensor | None, weight: Tensor | None, wants: Wants) -> str:
        """Why it cannot serve, as the error says it: what was given, why it cannot be, what to do. "" if it serves.

        Args:
            plan: what to run; None where a factor of the flow has no name that kernels know.
            y: the state; None where a flow is made.
            weight: the stored weights; None with y.
            wants: what is asked for beside the result.
        """

    def worth(self, plan: Plan | None, y: Tensor) -> bool:
        """Whether "auto" takes it for a call that it serves; who names it gets it."""
        return True

    def full_weights(self, plan: Plan) -> bool:
        """Whether it reads K in full instead of the free numbers of its structure."""
        return True

    @abstractmethod
    def forward(self, plan: Plan, y: Tensor, layers: Layers, keep: bool) -> tuple[Tensor, Any]:
        """The states after the last layer, or all where `plan.states`, and what `backward` may find useful, or None.

        Args:
            plan: what to run; a backend that is not fused also meets flows without one.
            y: (B, n), or (B, n, H, W) where `plan.images`; any shape of the space where the backend is not fused.
            layers: what to go through.
            keep: whether a backward run will follow.
        """

    @abstractmethod
    def backward(self, plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: Any, weights_too: bool) -> Gradients:
        """The gradients of y, weight, bias and W; the last None where there is none.

        Args:
            plan: what was run.
            g: gradient of the output.
            y: the states before the first layer.
            layers: what was gone through.
            kept: what `forward` left, of plans with `states` its result; None where that is not known any more.
            weights_too: whether more than the gradient of y is wanted; None takes the place of the others.
        """
