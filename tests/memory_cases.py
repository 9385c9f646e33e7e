"""What the tests of `memory` share: one flow of each kind, what its passes give, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from families import F64, IMPLICIT, Factors, preset
from hdnn.flow import Flow

Make = Callable[..., Flow]


SPARING = ("recompute", "reverse")
REVERSIBLE = ("SymplecticEuler", "StormerVerlet", "Yoshida4", "Suzuki4", *IMPLICIT, "ms1", "ms3", "h2")
sparing = pytest.mark.parametrize("memory", SPARING)


def sparing_of(name: str) -> tuple[str, ...]:
    """The ways to spare memory that an integrator or a preset allows."""
    return SPARING if name.startswith(REVERSIBLE) else SPARING[:1]


# One of each kind of field: halves and whole, J folded in, learned and absent, shared weights, pixels and convolutions.
KINDS: dict[str, Make] = {
    "halves": lambda **o: preset("h2", 4, 5, **o),
    "whole": lambda **o: Factors("Dense_wide", "per_layer_skew", "RungeKutta4").flow(3, 5, **o),
    "learned": lambda **o: Factors("BlockDiagonal", "Learned_block", "StormerVerlet_q").flow(4, 5, **o),
    "no J": lambda **o: preset("ms1", 4, 5, **o),
    "shared": lambda **o: preset("h2", 4, 5, shared=True, **o),
    "shared, J by layer": lambda **o: Factors("OffDiagonal", "per_layer", "SymplecticEuler_p").flow(
        4, 5, shared=True, **o
    ),
    "pixels": lambda **o: preset("h2", 4, 5, kernel_size=1, **o),
    "images": lambda **o: preset("ms3", 4, 5, kernel_size=3, **o),
}
KINDS_AND_MEMORIES = [(kind, m) for kind in KINDS for m in SPARING if (kind, m) != ("whole", "reverse")]
every_kind = pytest.mark.parametrize(("kind", "memory"), KINDS_AND_MEMORIES)


def both(make: Make, memory: str) -> tuple[Flow, Flow]:
    """The same eager flow with this memory, and as it stores."""
    return make(backend="eager", memory=memory), make(backend="eager", memory="store")


def gradients(flow: Flow, y: Tensor, g: Tensor) -> list[Tensor]:
    """The output, and the gradients of the state and of every parameter."""
    y = y.detach().requires_grad_()
    out = flow(y)
    inputs = [y, *flow.parameters()]
    return [out.detach(), *torch.autograd.grad(out, inputs, g, allow_unused=True, materialize_grads=True)]


def error(mine: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest relative error in norm."""
    pairs = zip(mine, truth, strict=True)
    return max(float((a.to(F64) - b.to(F64)).norm() / b.to(F64).norm().clamp_min(1e-300)) for a, b in pairs)


def kept(flow: Callable[[Tensor], Tensor], y: Tensor) -> int:
    """How many states' worth of memory the forward pass leaves to the backward pass."""
    storages = {}

    def keep(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        flow(y.detach().requires_grad_())
    return round(sum(storages.values()) / (y.numel() * y.element_size()))
