"""The paper's Swiss roll training, by hdnn and by two loops written in plain PyTorch; prints JSON.

    python benchmarks/trainers.py --epochs 50 --seeds 3

All three start from the same weights, see the same batches in the same order, minimize the same objective by Adam on
the same schedule, and run in turns in one process; each is warm. Their objectives and gradients are compared first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import hdnn
import peers
from hdnn.bench import disagreement, require_agreement
from hdnn.jobs import Source
from hdnn.jobs.sources import load
from hdnn.training import Objective, Recipe
from hdnn.training.recipe import rate_factor
from trainings import HORIZON, INIT_STD, SWISS

FEATURES, LAYERS = 4, 64
OURS, PLAIN, CAREFUL = "hdnn", "plain loop", "careful loop"
TOLERANCE = 1e-4  # of float32, through 64 layers and summed over a batch


class Plain(nn.Module):
    """The network as its equations read: a list of layers, and a loop over them."""

    def __init__(self, network: hdnn.Network) -> None:
        super().__init__()
        self.step = network.flow.step
        self.K = nn.ParameterList([nn.Parameter(K.clone()) for K in network.flow.weight.detach()])
        self.b = nn.ParameterList([nn.Parameter(b.clone()) for b in network.flow.bias.detach()])
        self.register_buffer("J", network.flow.J.detach().clone())
        self.head = same_linear(network.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,)."""
        y = torch.cat([x, torch.zeros_like(x)], dim=1)
        for K, b in zip(self.K, self.b, strict=True):
            y = y + self.step * torch.tanh(y @ K.T + b) @ K @ self.J.T
        return self.head(y).squeeze(1)

    def smoothness(self) -> Tensor:
        """R_K + R_b."""
        total = torch.zeros(())
        for j in range(1, len(self.K)):
            total = total + ((self.K[j] - self.K[j - 1]) ** 2).sum() + ((self.b[j] - self.b[j - 1]) ** 2).sum()
        return self.step / 2 * total


class Careful(nn.Module):
    """The same with the tricks of an experienced user: stacked parameters, fused products, no loop over differences."""

    def __init__(self, network: hdnn.Network) -> None:
        super().__init__()
        self.step = network.flow.step
        self.K = nn.Parameter(network.flow.weight.detach().clone())
        self.b = nn.Parameter(network.flow.bias.detach().clone())
        self.head = same_linear(network.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,)."""
        y = torch.cat([x, torch.zeros_like(x)], dim=1)
        return self.head(peers.columns(y, self.K, self.b, self.step)).squeeze(1)

    def smoothness(self) -> Tensor:
        """R_K + R_b."""
        return self.step / 2 * (self.K.diff(dim=0).square().sum() + self.b.diff(dim=0).square().sum())


def same_linear(head: nn.Linear) -> nn.Linear:
    """A linear layer with the same weights."""
    copy = nn.Linear(head.in_features, head.out_features)
    copy.load_state_dict(head.state_dict())
    return copy


def objective(model: Plain | Careful, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Logistic loss with the regularisers of the paper."""
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    head = (model.head.weight**2).sum() + (model.head.bias**2).sum()
    return loss + recipe.head_decay * head + recipe.smoothness * model.smoothness()


def train(model: Plain | Careful, x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """The training loop of every tutorial."""
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=isinstance(model, Careful))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(recipe, math.ceil(len(x) / recipe.batch_size)))
    order = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(x), generator=order).split(recipe.batch_size):
            optimizer.zero_grad()
            loss = objective(model, x[chosen], y[chosen], recipe)
            loss.backward()
            optimizer.step()
            scheduler.step()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of correct signs."""
    with torch.no_grad():
        return float(((model(x).flatten() > 0) == (y > 0.5)).double().mean())


def network_of(seed: int) -> hdnn.Network:
    """The network, with fresh weights."""
    torch.manual_seed(seed)
    flow = hdnn.h1(FEATURES, LAYERS, horizon=HORIZON, init_std=INIT_STD)
    return hdnn.vector_classifier(2, 2, flow)


def recipe_of(seed: int, epochs: int) -> Recipe:
    """One training, with the paper's regularisers."""
    return dataclasses.replace(SWISS, epochs=epochs, seed=seed)


def data_of(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test points; classes are whole numbers."""
    data = load(Source("swiss-roll", seed=seed))
    x, y, x_test, y_test = (torch.from_numpy(part) for part in (data.x_train, data.y_train, data.x_test, data.y_test))
    return x, y, x_test, y_test


def require_same(network: hdnn.Network, x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """Refuse to time networks that differ in objective or gradients."""
    loss, _ = Objective(network, smoothness=recipe.smoothness, head_decay=recipe.head_decay)(x, y)
    flow, head = network.flow, network.head
    true = [loss, *torch.autograd.grad(loss, (flow.weight, flow.bias, head.weight, head.bias))]
    for name, model in {PLAIN: Plain(network), CAREFUL: Careful(network)}.items():
        loss = objective(model, x, y.to(x.dtype), recipe)
        loss.backward()
        K, b = (
            torch.stack([each.grad for each in parameters]) if name == PLAIN else parameters.grad
            for parameters in (model.K, model.b)
        )
        found = [loss, K, b, model.head.weight.grad, model.head.bias.grad]
        error = disagreement([each.detach() for each in found], [each.detach().double() for each in true])
        require_agreement(name, error, TOLERANCE)


def compare(seed: int, epochs: int) -> dict[str, dict[str, float]]:
    """Seconds and test accuracy of the three, one after the other."""
    x, y, x_test, y_test = data_of(seed)
    labels, test_labels = y.to(x.dtype), y_test.to(x.dtype)
    recipe = recipe_of(seed, epochs)
    network = network_of(seed)
    plain, careful = Plain(network), Careful(network)
    require_same(network, x[:500], y[:500], recipe)
    runs: dict[str, tuple[nn.Module, Callable[[], object]]] = {
        OURS: (network, lambda: hdnn.fit(network, x, y, recipe)),
        PLAIN: (plain, lambda: train(plain, x, labels, recipe)),
        CAREFUL: (careful, lambda: train(careful, x, labels, recipe)),
    }
    found = {}
    for name, (model, run) in runs.items():
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        found[name] = {"seconds": seconds, "test_accuracy": accuracy(model, x_test, test_labels)}
    return found


def main() -> None:
    """Print one result a seed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    compare(0, 1)  # warm
    print(json.dumps([{"seed": seed, **compare(seed, chosen.epochs)} for seed in range(chosen.seeds)]))


if __name__ == "__main__":
    main()
