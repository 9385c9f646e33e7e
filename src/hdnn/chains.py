"""Plain deep networks that flows stand beside: ResNets and perceptrons, and how much of a gradient passes back.

Legend: y_j the state before layer j = 0 … N − 1, y_N the output, L a loss, g_j = dL/dy_j per sample; E members at once,
B samples, n features. Layer j of a member is y⁺ = tanh(K_j y + b_j), or y⁺ = y + h tanh(K_j y + b_j) where it has a
step h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.analysis import gradients
from hdnn.analysis.pullback import Layers

SMALLEST = -300.0  # powers of ten; what is less cannot be told from zero
Weights = Literal["pytorch", "orthogonal", "xavier"]
"""How K begins: uniform over ± 1/√n, b too, as `nn.Linear` does; orthogonal; uniform over ± √(3/n); both with b = 0."""


def passage(layers: Layers, y0: Tensor) -> list[float]:
    """log₁₀ of mean ‖g_j‖ / mean ‖g_N‖ over the samples, for j = 0 … N; at least −300.

    L is the sum of the outputs, since the gradient of a loss is zero where an output layer starts at zero.

    Raises:
        FloatingPointError: if the gradients are not finite.
    """
    found = gradients(layers, y0, torch.sum).state_norms.double().mean(1)
    if not found.isfinite().all():
        raise FloatingPointError(f"The gradients of {len(found) - 1} layers are not finite.")
    share: list[float] = (found / found[-1]).log10().clamp(min=SMALLEST).tolist()
    return share


class Chains(nn.Module):
    """E classifiers of the plane: [x 0 0], N layers as wide as the state, one logit.

    The output layer starts at zero, as that of a flow.

    Args:
        seeds: of the initial weights, one a member; equal seeds give equal members.
        features: n.
        layers: N.
        steps: h of every member of a ResNet; None makes perceptrons, whose layers replace their input.
        weights: how they begin.
        gains: what the K of every member begins multiplied by; empty: 1.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        features: int,
        layers: int,
        *,
        steps: Sequence[float] | None,
        weights: Weights = "pytorch",
        gains: Sequence[float] = (),
    ) -> None:
        super().__init__()
        begin = torch.stack([_begin(weights, layers, features, seed) for seed in seeds], dim=1)  # (N, E, n, n + 1)
        self.weight = nn.Parameter(begin[..., :-1].contiguous())
        if gains:
            self.weight.data.mul_(_column(gains))
        self.bias = nn.Parameter(begin[..., -1:].contiguous())
        self.head_weight = nn.Parameter(torch.zeros(len(seeds), 1, features))
        self.head_bias = nn.Parameter(torch.zeros(len(seeds), 1, 1))
        self.register_buffer("step", None if steps is None else _column(steps))
        self.step: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(E, B, 2) to logits (E, B)."""
        # Samples last: batched products of small matrices run ten times as fast.
        y = functional.pad(x, (0, self.weight.shape[-1] - x.shape[-1])).mT.contiguous()
        if torch.is_grad_enabled():
            y = _Layers.apply(y, self.weight, self.bias, self.step)  # type: ignore[no-untyped-call]
        else:
            for K, b in zip(self.weight.unbind(), self.bias.unbind(), strict=True):
                y = _layer(y, K, b, self.step)
        return torch.baddbmm(self.head_bias, self.head_weight, y).squeeze(1)

    def layers(self, member: int) -> list[Callable[[Tensor], Tensor]]:
        """The layers of a member in float64, each from (B, n) to (B, n)."""
        K, b = (p[:, member : member + 1].detach().double() for p in (self.weight, self.bias))
        h = None if self.step is None else self.step[member : member + 1].double()
        return [_Layer(K_j, b_j, h) for K_j, b_j in zip(K.unbind(), b.unbind(), strict=True)]


def _layer(y: Tensor, K: Tensor, b: Tensor, h: Tensor | None) -> Tensor:
    z = torch.baddbmm(b, K, y).tanh()
    return z if h is None else torch.addcmul(y, z, h)


def _begin(weights: Weights, layers: int, n: int, seed: int) -> Tensor:
    """K and b side by side, (N, n, n + 1)."""
    generator = torch.Generator().manual_seed(seed)
    if weights == "pytorch":
        return (2 * torch.rand(layers, n, n + 1, generator=generator) - 1) / math.sqrt(n)
    if weights == "xavier":
        K = (2 * torch.rand(layers, n, n, generator=generator) - 1) * math.sqrt(3 / n)
    else:
        Q, R = torch.linalg.qr(torch.randn(layers, n, n, generator=generator))
        K = Q * R.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # which makes them uniform among all orthogonal matrices
    return functional.pad(K, (0, 1))


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


class _Layers(torch.autograd.Function):
    """All layers, forward and backward by hand: a few times as fast as autograd, which this must agree with."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, K: Tensor, b: Tensor, h: Tensor | None) -> Tensor:
        """From y_0 (E, n, B) to y_N."""
        Y = [y]
        T = []
        for K_j, b_j in zip(K.unbind(), b.unbind(), strict=True):
            t = torch.baddbmm(b_j, K_j, Y[-1]).tanh_()
            T.append(t)
            Y.append(t if h is None else torch.addcmul(Y[-1], t, h))
        ctx.step, ctx.states, ctx.tanh = h, Y, T
        ctx.save_for_backward(K)
        return Y[-1].clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """From g = dL/dy_N to dL/dy_0, dL/dK and dL/db; tanh' = 1 − tanh²."""
        (K,), h = ctx.saved_tensors, ctx.step
        g = cotangents[0]
        dK, db = torch.empty_like(K), K.new_empty(*K.shape[:-1], 1)
        for j in reversed(range(len(K))):
            t = ctx.tanh[j]
            d = torch.addcmul(g, g * t, t, value=-1)
            if h is not None:
                d *= h
            torch.bmm(d, ctx.states[j].mT, out=dK[j])
            torch.sum(d, -1, keepdim=True, out=db[j])
            g = torch.bmm(K[j].mT, d) if h is None else torch.baddbmm(g, K[j].mT, d)
        return g, dK, db, None


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer of one member."""

    K: Tensor
    b: Tensor
    h: Tensor | None

    def __call__(self, y: Tensor) -> Tensor:
        return _layer(y.mT[None], self.K, self.b, self.h)[0].mT
