"""What flows are compared with, and by: plain deep networks, and how much of a gradient passes back through layers.

Legend: y_j the state before layer j = 0 … N − 1, y_N the output, L a loss, g_j = dL/dy_j per sample; E members trained
at once, B samples, n features. Layer j of a member is y⁺ = tanh(K_j y + b_j), or y⁺ = y + h tanh(K_j y + b_j) where it
has a step h. At 4096 layers a step of training takes little longer for ten members than for one.
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
from hdnn.kernels import training as native
from hdnn.kernels.plan import Plan
from hdnn.kernels.training import Session, Setup, Trainees
from hdnn.networks import Network, ZeroPadding
from hdnn.training import Recipe
from hdnn.training.batches import Batch, Rows
from hdnn.training.course import Stretch
from hdnn.training.learners import Stepwise
from hdnn.training.recipe import rate_factor
from hdnn.training.trainer import Trainer

SMALLEST = -300.0  # powers of ten; what is less cannot be told from zero
Weights = Literal["pytorch", "orthogonal", "xavier"]
"""How K begins: uniform over ± 1/√n, b too, as `nn.Linear` does; orthogonal; uniform over ± √(3/n); both with b = 0."""


def perceptron(features: int, layers: int) -> Network:
    """A classifier of the plane with tanh layers as wide as a state, y⁺ = tanh(K y + b), and PyTorch's initial weights.

    Its output layer is that of a flow, started by PyTorch.
    """
    chain: Any = nn.Sequential(*(nn.Sequential(nn.Linear(features, features), nn.Tanh()) for _ in range(layers)))
    return Network(ZeroPadding(2, features), chain, nn.Linear(features, 1), "classification")


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


def train_chains(chains: Chains, x: Tensor, y: Tensor, recipe: Recipe, rates: Tensor, orders: Sequence[int]) -> Tensor:
    """Train all members, as `hdnn.fit` trains one with Adam.

    Args:
        chains: trained in place.
        x: (E, s, 2), the training points of every member.
        y: (E, s), their classes.
        recipe: epochs, batch size, schedule and clip are used.
        rates: (E,), the largest learning rate of every member.
        orders: seeds of the order of the batches.

    Returns:
        (steps, E), the loss of every batch; a member that diverged has NaN from there on, and the others go on.
    """
    generators = [torch.Generator().manual_seed(order) for order in orders]
    rows = Rows(Batch(x, y), recipe.batch_size, generators, stacked=True)
    if not native.why_not(chains.weight.dtype, chains.weight.device) and len(chains.weight):
        return _train_natively(chains, rows, recipe, rates)
    training = _Training(_Learner(chains, recipe, rates), rows)
    training.run()
    return torch.stack(training.losses)


def _train_natively(chains: Chains, rows: Rows, recipe: Recipe, rates: Tensor) -> Tensor:
    """The same by native steps, those of one h at a time."""
    layers, E, n, _ = chains.weight.shape
    steps = [1.0] * E if chains.step is None else chains.step.flatten().tolist()
    ends = [*range(0, rows.count, rows.size), rows.count]
    factor = rate_factor(recipe, rows.batches)
    parts = (chains.weight.transpose(0, 1), chains.bias.transpose(0, 1), chains.head_weight, chains.head_bias)
    orders = [rows.order() for _ in range(recipe.epochs)]
    losses = torch.empty(E, recipe.epochs * rows.batches, dtype=chains.weight.dtype)
    for h in sorted(set(steps)):
        members = torch.tensor([e for e in range(E) if steps[e] == h])
        setup = _setup("perceptron" if chains.step is None else "euler", h, n, layers, recipe.clip or 0.0)
        block = torch.cat([part.detach()[members].flatten(1) for part in parts], 1)
        trainees = Trainees.fresh(block, "adam")
        x, y, _ = rows.data.each(lambda part: part[members])  # noqa: B023  # called at once
        session = Session(setup, trainees, x, y)  # type: ignore[arg-type]
        for epoch, order in enumerate(orders):
            session.begin(order[members], torch.tensor(ends))
            first = epoch * rows.batches
            shares = torch.tensor([factor(first + k) for k in range(rows.batches)], dtype=torch.float64)
            found, _ = session.take(0, rates[members, None].double() * shares)
            losses[members, first : first + rows.batches] = found
        with torch.no_grad():
            learned = torch.split(trainees.parameters, [part[0].numel() for part in parts], 1)
            for part, values in zip(parts, learned, strict=True):
                part[members] = values.view(-1, *part.shape[1:])
    return losses.mT


def _setup(method: str, h: float, n: int, layers: int, clip: float) -> Setup:
    plan = Plan(method, "", "dense", "identity", "tanh", 0.0, h, n, n, layers, shared=False, images=False)
    return Setup(plan, 2, 1, False, "binary", "adam", clip=clip)


class _Learner(Stepwise):
    """All members of chains, each at a rate of its own.

    Adam's step is proportional to the rate: it is taken at rate 1, then shortened member by member.
    """

    def __init__(self, chains: Chains, recipe: Recipe, rates: Tensor) -> None:
        self.chains, self.recipe, self.rates = chains, recipe, rates
        self.moved = list(chains.parameters())
        self.optimizer = torch.optim.Adam(self.moved, lr=1.0)
        self.factor = 1.0

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss of every member, and logits."""
        logits = self.chains(batch.x)
        losses = functional.binary_cross_entropy_with_logits(logits, batch.y.to(logits.dtype), reduction="none")
        return losses.mean(1), logits

    def clip(self, largest: float) -> None:
        """Shorten the gradient of every member to a norm of at most `largest`."""
        found = [p.grad for p in self.moved if p.grad is not None]
        squares = [g.square().sum([axis for axis in range(g.dim()) if axis != _axis(g)]) for g in found]
        scale = (largest / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1)
        for gradient in found:
            gradient.mul_(_per_member(scale, gradient))

    def set_rate(self, share: float) -> None:
        """Set the learning rates of the next step, as a share of the largest."""
        self.factor = share

    def weights(self) -> dict[str, Tensor]:
        """All parameters, by name."""
        return dict(self.chains.named_parameters())

    def close(self) -> None:
        """They learn in place."""

    def move(self) -> None:
        """One step along the gradients that are there."""
        before = [p.detach().clone() for p in self.moved]
        self.optimizer.step()
        with torch.no_grad():
            for p, old in zip(self.moved, before, strict=True):
                p.copy_(torch.lerp(old, p, _per_member(self.factor * self.rates, p)))


class _Training(Trainer):
    """A training of which the losses are kept, and nothing else."""

    def __init__(self, learner: _Learner, source: Rows) -> None:
        super().__init__(learner, source, ())
        self.losses: list[Tensor] = []

    def note(self, stretch: Stretch) -> None:
        """Keep the losses of steps."""
        if stretch.losses is not None:
            self.losses.extend(stretch.losses.unbind(-1))


def _per_member(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape([-1 if axis == _axis(like) else 1 for axis in range(like.dim())])


def _axis(p: Tensor) -> int:
    """Where a parameter has its members: behind the layers, where it has layers."""
    return 1 if p.dim() == 4 else 0
