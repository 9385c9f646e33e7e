"""Many networks of one shape, trained as one: a step moves them all, and one kernel call runs all their flows.

Legend: E members; a stacked tensor has a leading axis E; W, μ the output layer. Members share the recipe and nothing
else: each has its own weights, data and order of batches, so each ends where a training of its own would, up to
rounding.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from hdnn.networks import Network, predicted_classes
from hdnn.training.checks import check_data, checked_weight
from hdnn.training.objective import EVALUATION_BATCH, Objective, Penalty, Record, mean_score, score_name
from hdnn.training.recipe import Recipe, make_optimizer, rate_factor

Stacked = dict[str, nn.Parameter]

_HEAD = ("head.weight", "head.bias")


def fit_together(
    networks: Sequence[Network],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    sample_weight: Tensor | None = None,
    penalties: Sequence[Penalty] = (),
) -> list[list[Record]]:
    """Train networks of one shape in place, all in one: as `fit` for each of them, and many times faster.

    A step of a small network is a hundred short operations, whose cost hardly depends on how many networks it serves.
    A member that diverges does not disturb the others: its records say nan from then on.

    Args:
        networks: E of them, alike but for their weights.
        x: (E, s, ...), the inputs of each; `x.expand(E, *x.shape)` gives all the same without copying.
        y: (E, s) class indices, or (E, s, outputs) targets.
        recipe: how; its own seed is not used. All but `validation`, `patience` and L-BFGS can be done together.
        seeds: of the order of the batches of each.
        sample_weight: (E, s), as in `fit`.
        penalties: as in `fit`.

    Returns:
        For each member one record an epoch, as `fit` gives them; "seconds" is the time that all took together.

    Raises:
        ValueError: if the networks differ in more than their weights, if data or seeds do not fit them, or if the
            recipe cannot be followed together.

    Example:
        >>> import torch, hdnn
        >>> networks = [hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0)) for _ in range(5)]
        >>> x, y = torch.randn(200, 2), torch.randint(2, (200,))
        >>> histories = fit_together(networks, x.expand(5, 200, 2), y.expand(5, 200), Recipe(epochs=3), seeds=range(5))
        >>> len(histories), len(histories[0])
        (5, 3)
    """
    _check(networks, x, y, recipe, seeds)
    device = networks[0].head.weight.device
    x, y = x.to(device), y.to(device)
    weight = None
    if sample_weight is not None:
        weight = torch.stack([checked_weight(w, targets, x.dtype) for w, targets in zip(sample_weight, y, strict=True)])
    if recipe.restarts > 1:
        start_well(networks, x, y, recipe, seeds=seeds, sample_weight=sample_weight, penalties=penalties)
    members = _Members(networks, recipe, penalties, batches=math.ceil(x.shape[1] / recipe.batch_size))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    histories: list[list[Record]] = [[] for _ in networks]
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        rate = members.rate
        losses = torch.zeros(len(networks), dtype=torch.float64)
        scores = torch.zeros(len(networks), dtype=torch.float64)
        for inputs, targets, weights in _batches(x, y, weight, generators, recipe.batch_size):
            loss, output = members.step(inputs, targets, weights)
            losses += loss.double().cpu() * inputs.shape[1]
            scores += _score_sums(networks[0], output, targets).double().cpu()
        seconds = time.perf_counter() - start
        for history, loss, score in zip(histories, losses / x.shape[1], scores, strict=True):
            value = mean_score(networks[0], float(score), y[0])
            record = {"epoch": float(epoch), "loss": float(loss), "learning_rate": rate}
            history.append({**record, f"train_{score_name(networks[0])}": value, "seconds": seconds})
    if recipe.method == "alternating":
        members.train_heads(x, y, weight, [torch.Generator().manual_seed(seed) for seed in seeds])
    members.unstack()
    return histories


def start_well(
    networks: Sequence[Network],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    sample_weight: Tensor | None = None,
    penalties: Sequence[Penalty] = (),
) -> None:
    """Give each network the weights of the best of `recipe.restarts` short trainings, its own weights being one start.

    The best has the smallest objective over the last epoch, on the training data; no other data is looked at.

    Args:
        networks: E of them; their weights are replaced.
        x: (E, s, ...), inputs.
        y: (E, s), (E, s, outputs), targets.
        recipe: of which `restarts`, `restart_epochs` and `restart_learning_rate` say how long and how fast.
        seeds: of each network, for the fresh weights and the order of the batches.
        sample_weight: (E, s), as in `fit`.
        penalties: as in `fit`.

    Raises:
        FloatingPointError: if all starts of a network diverge.
    """
    short = dataclasses.replace(
        recipe,
        restarts=1,
        epochs=recipe.restart_epochs,
        learning_rate=recipe.restart_learning_rate or recipe.learning_rate,
        validation=0.0,
        patience=None,
    )
    count = recipe.restarts
    draws = [[int(n) for n in np.random.SeedSequence(seed).generate_state(count)] for seed in seeds]
    starts = [
        network if k == 0 else _fresh(network, draw)
        for network, row in zip(networks, draws, strict=True)
        for k, draw in enumerate(row)
    ]
    member = torch.arange(len(networks), device=x.device).repeat_interleave(count)
    orders = [draw for row in draws for draw in row]
    weight = None if sample_weight is None else sample_weight[member]
    data = (x[member], y[member]) if len(networks) > 1 else (_repeated(x, count), _repeated(y, count))
    histories = fit_together(starts, *data, short, seeds=orders, sample_weight=weight, penalties=penalties)
    for i, network in enumerate(networks):
        losses = [history[-1]["loss"] for history in histories[i * count : (i + 1) * count]]
        finite = [k for k, loss in enumerate(losses) if math.isfinite(loss)]
        if not finite:
            raise FloatingPointError(
                f"All {count} starts diverged within {recipe.restart_epochs} epochs. Use a smaller learning rate or "
                f"step, or clip the gradient (clip=1.0)."
            )
        best = min(finite, key=losses.__getitem__)
        network.load_state_dict(starts[i * count + best].state_dict())


def _repeated(x: Tensor, count: int) -> Tensor:
    """The only member as often as asked for, without a copy."""
    return x.expand(count, *x.shape[1:])


def _fresh(network: Network, seed: int) -> Network:
    """A copy with weights of its own; the output layer stays, for it begins at zero."""
    made = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in (made.lift, made.flow):
            for module in part.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
    return made


class _Members:
    """The stacked parameters of the networks, and how a step moves them."""

    def __init__(
        self, networks: Sequence[Network], recipe: Recipe, penalties: Sequence[Penalty], *, batches: int
    ) -> None:
        self.networks = networks
        self.recipe = recipe
        self.template = copy.deepcopy(networks[0])
        self.objective = Objective(
            self.template,
            alpha=recipe.alpha,
            alpha_c=recipe.alpha_c,
            label_smoothing=recipe.label_smoothing,
            penalties=penalties,
        )
        named = [dict(network.named_parameters()) for network in networks]
        self.parameters: Stacked = {
            name: nn.Parameter(torch.stack([member[name].detach() for member in named]), one.requires_grad)
            for name, one in named[0].items()
        }
        alternating = recipe.method == "alternating"
        self.moved = [
            p for name, p in self.parameters.items() if p.requires_grad and not (alternating and name in _HEAD)
        ]
        self.optimizer = make_optimizer(recipe, self.moved)
        self.factor = rate_factor(recipe, batches)
        self.steps = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.recipe.learning_rate * self.factor(self.steps)

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step of every member on its own batch; objectives (E,) and outputs (E, B, outputs) before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        if self.recipe.method == "alternating":
            self._fresh_heads(x, y, weight)
        for parameter in self.parameters.values():
            parameter.grad = None
        losses, outputs = self._mapped(self._objective, self.parameters, x, y, weight)
        torch.autograd.backward(losses.sum())  # members share no parameter: each gets its own gradient
        if self.recipe.clip is not None:
            _clip(self.moved, self.recipe.clip)
        self.optimizer.step()
        self.steps += 1
        return losses.detach(), outputs.detach()

    def train_heads(self, x: Tensor, y: Tensor, weight: Tensor | None, generators: Sequence[torch.Generator]) -> None:
        """The output layers alone, on the features of the finished flows."""
        with torch.no_grad():
            parts = [
                self._mapped(self._features, self.parameters, part) for part in torch.split(x, EVALUATION_BATCH, dim=1)
            ]
            features = torch.cat(parts, dim=1)
        optimizer = self._new_heads()
        for _ in range(self.recipe.head_epochs):
            for batch in _batches(features, y, weight, generators, self.recipe.batch_size):
                self._head_step(optimizer, *batch)

    def unstack(self) -> None:
        """Give each network its weights."""
        with torch.no_grad():
            for name, stacked in self.parameters.items():
                for network, value in zip(self.networks, stacked, strict=True):
                    network.get_parameter(name).copy_(value)

    def _fresh_heads(self, x: Tensor, y: Tensor, weight: Tensor | None) -> None:
        with torch.no_grad():
            features = self._mapped(self._features, self.parameters, x)
        optimizer = self._new_heads()
        for _ in range(self.recipe.head_steps):
            self._head_step(optimizer, features, y, weight)

    def _new_heads(self) -> torch.optim.Optimizer:
        heads = [self.parameters[name] for name in _HEAD]
        with torch.no_grad():
            for head in heads:
                head.zero_()
        return torch.optim.Adam(heads, lr=self.recipe.head_learning_rate, fused=True)

    def _head_step(self, optimizer: torch.optim.Optimizer, features: Tensor, y: Tensor, weight: Tensor | None) -> None:
        optimizer.zero_grad()
        W, μ = (self.parameters[name] for name in _HEAD)
        torch.autograd.backward(self._mapped(self._head_objective, W, μ, features, y, weight).sum())
        optimizer.step()

    def _mapped(self, function: Callable[..., Any], *stacked: Any) -> Any:
        """A function of one member, for all."""
        return vmap(function, in_dims=tuple(None if x is None else 0 for x in stacked))(*stacked)

    def _objective(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        named = {f"network.{name}": value for name, value in parameters.items()}
        result: tuple[Tensor, Tensor] = functional_call(self.objective, named, (x, y, weight))
        return result

    def _features(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        part = {name: value for name, value in parameters.items() if name not in _HEAD}
        result: Tensor = functional_call(_Features(self.template), {f"network.{n}": v for n, v in part.items()}, (x,))
        return result

    def _head_objective(self, W: Tensor, μ: Tensor, features: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        loss = self.objective.data_loss(functional.linear(features, W, μ), y, weight)
        return loss + self.recipe.alpha_c * (W.square().sum() + μ.square().sum())


class _Features(nn.Module):
    """What the output layer sees, as the forward call that `functional_call` asks for."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, features)."""
        return self.network.features(x)


def _batches(
    x: Tensor, y: Tensor, weight: Tensor | None, generators: Sequence[torch.Generator], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """The batches of an epoch: every member's rows in its own order."""
    order = torch.stack([torch.randperm(x.shape[1], generator=generator) for generator in generators]).to(x.device)
    member = torch.arange(len(x), device=x.device)[:, None]
    for chosen in torch.split(order, size, dim=1):
        yield x[member, chosen], y[member, chosen], None if weight is None else weight[member, chosen]


def _clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradient of each member to a norm of at most `largest`, as `clip_grad_norm_` does for one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def _score_sums(network: Network, outputs: Tensor, y: Tensor) -> Tensor:
    """(E,), correct predictions, or sums of squared errors."""
    if network.task == "classification":
        return (predicted_classes(outputs) == y).sum(1)
    return (outputs - y).square().flatten(1).sum(1)


def _check(networks: Sequence[Network], x: Tensor, y: Tensor, recipe: Recipe, seeds: Sequence[int]) -> None:
    if not len(networks) == len(x) == len(y) == len(seeds) > 0:
        raise ValueError(
            f"Every network needs its own inputs, targets and seed, stacked along the first axis; got "
            f"{len(networks)} networks, {len(x)} inputs, {len(y)} targets, {len(seeds)} seeds."
        )
    for refused, what in (
        (recipe.optimizer == "lbfgs", 'optimizer="lbfgs", whose line search takes its own time for each'),
        (recipe.validation > 0 or recipe.patience is not None, "`validation`, as each would stop at its own time"),
    ):
        if refused:
            raise ValueError(f"Networks cannot be trained together with {what}. Train them one by one with `fit`.")
    first = networks[0]
    for network in networks[1:]:
        if repr(network) != repr(first) or _shapes(network) != _shapes(first):
            raise ValueError("Networks that train together must be alike but for their weights; these are not.")
        if not all(torch.equal(a, b) for a, b in zip(network.buffers(), first.buffers(), strict=True)):
            raise ValueError("Networks that train together must have the same buffers (J, masks); these do not.")
    for network, inputs, targets in zip(networks, x, y, strict=True):
        check_data(network, inputs, targets)


def _shapes(network: Network) -> list[tuple[str, torch.Size, bool]]:
    return [(name, p.shape, p.requires_grad) for name, p in network.named_parameters()]
