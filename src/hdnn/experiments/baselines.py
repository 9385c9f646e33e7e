"""How the plain deep networks of `hdnn.chains` are trained, many members at once.

Legend: N layers, E members, B samples, n features. At 4096 layers a step of training takes little longer for ten
members than for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.chains import Chains
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


def perceptron(features: int, layers: int) -> Network:
    """A classifier of the plane with tanh layers as wide as a state, y⁺ = tanh(K y + b), and PyTorch's initial weights.

    Its output layer is that of a flow, started by PyTorch.
    """
    chain: Any = nn.Sequential(*(nn.Sequential(nn.Linear(features, features), nn.Tanh()) for _ in range(layers)))
    return Network(ZeroPadding(2, features), chain, nn.Linear(features, 1), "classification")


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
        x, y, *_ = rows.data.each(lambda part: part[members])  # noqa: B023  # called at once
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
