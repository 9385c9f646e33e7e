"""Whole trainings by native steps, against `hdnn.fit` and against JAX with every epoch in one scan.

    python benchmarks/native_training.py --epochs 10 --rounds 5

Same weights, batches and schedule for all, in turns in one process on one core; each is warm, compilation apart. The
mean objectives of one epoch are compared first, and trainings that differ are not timed. JAX takes part where it
is installed, on the Swiss roll.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import hdnn
from hdnn.training import Recipe
from hdnn.training.fused import why_not
from hdnn.training.recipe import rate_factor
from trainers import HORIZON, INIT_STD, SWISS, data_of

NATIVE, FIT = "native", "hdnn.fit"
TOLERANCE = 1e-3  # of the mean objective of an epoch, float32


@dataclass(frozen=True)
class Case:
    """A network, its data, and how it is trained."""

    name: str
    network: hdnn.Network
    x: Tensor
    y: Tensor
    recipe: Recipe

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.x) / self.recipe.batch_size)

    def schedule(self) -> list[tuple[Tensor, list[float]]]:
        """Order and rates of every epoch."""
        generator, factor = torch.Generator().manual_seed(self.recipe.seed), rate_factor(self.recipe, self.batches)
        return [
            (
                torch.randperm(len(self.x), generator=generator),
                [self.recipe.learning_rate * factor(epoch * self.batches + k) for k in range(self.batches)],
            )
            for epoch in range(self.recipe.epochs)
        ]


def cases(epochs: int) -> list[Case]:
    """The papers' Swiss roll at three depths, and handwritten digits."""
    torch.manual_seed(0)
    x, y, *_ = data_of(0)
    made = []
    for layers in (64, 16, 4):
        flow = hdnn.h1(4, layers, horizon=HORIZON, init_std=INIT_STD)
        recipe = Recipe(**{**vars(SWISS), "epochs": epochs})
        made.append(Case(f"Swiss roll, 4 features, {layers} layers", hdnn.vector_classifier(2, 2, flow), x, y, recipe))
    digits = load_digits()
    x, y = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target).long()
    flow = hdnn.h2(128, 8, horizon=1.0)
    network = hdnn.vector_classifier(64, 10, flow, lift="linear")
    return [*made, Case("digits, 128 features, 8 layers", network, x, y, Recipe(epochs=epochs, learning_rate=0.003))]


def by_fit(case: Case) -> float:
    """Mean objective of the last epoch."""
    return hdnn.fit(copy.deepcopy(case.network), case.x, case.y, case.recipe, backend="torch")[-1]["loss"]


def by_native_steps(case: Case) -> float:
    """The same by native steps."""
    return hdnn.fit(copy.deepcopy(case.network), case.x, case.y, case.recipe, backend="native")[-1]["loss"]


def jax_epochs(case: Case, segment: int) -> Callable[[Case], float]:
    """The epoch in one `lax.scan` of h1 on zero-padded inputs; layers in checkpointed segments, 0 for none."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    flow, alpha, alpha_c, size = (
        case.network.flow,
        case.recipe.smoothness,
        case.recipe.head_decay,
        case.recipe.batch_size,
    )
    h, n, batches = flow.step, flow.features, case.batches
    if batches * size != len(case.x):
        raise SystemExit("The scan of JAX takes batches of one size.")

    def layer(y: Any, p: Any) -> tuple[Any, None]:
        K, W, b = p
        return y + W.T @ jnp.tanh(K @ y + b[:, None]), None

    def loss(p: Any, x: Any, t: Any) -> Any:
        K, b, V, mu = p
        W = h * jnp.concatenate((K[..., n // 2 :], -K[..., : n // 2]), -1)
        y = jnp.concatenate([x, jnp.zeros((len(x), n - x.shape[1]), x.dtype)], 1).T
        if segment:
            parts = [q.reshape(-1, segment, *q.shape[1:]) for q in (K, W, b)]
            y, _ = lax.scan(jax.checkpoint(lambda y, p: (lax.scan(layer, y, p)[0], None)), y, tuple(parts))
        else:
            y, _ = lax.scan(layer, y, (K, W, b))
        z = (V @ y)[0] + mu[0]
        data = jnp.mean(jax.nn.softplus(z) - z * t)  # with the right slope at 0, where the output layer begins
        smooth = (jnp.diff(K, axis=0) ** 2).sum() + (jnp.diff(b, axis=0) ** 2).sum()
        return data + alpha_c * ((V**2).sum() + (mu**2).sum()) + alpha * h / 2 * smooth

    def step(state: Any, batch: Any) -> Any:
        p, m, v, k = state
        x, t, rate = batch
        value, g = jax.value_and_grad(loss)(p, x, t)
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        first, second = 1 - 0.9 ** (k + 1), jnp.sqrt(1 - 0.999 ** (k + 1))
        moved = zip(p, m, v, strict=True)
        p = tuple(q - rate / first * a / (jnp.sqrt(b) / second + 1e-8) for q, a, b in moved)
        return (p, m, v, k + 1), value

    @jax.jit
    def epoch(state: Any, x: Any, t: Any, order: Any, rates: Any) -> Any:
        return lax.scan(step, state, (x[order].reshape(batches, size, -1), t[order].reshape(batches, size), rates))

    def run(case: Case) -> float:
        network = case.network
        tensors = (network.flow.weight, network.flow.bias, network.head.weight, network.head.bias)
        p = tuple(jnp.asarray(q.detach().numpy()) for q in tensors)
        state = (p, [jnp.zeros_like(q) for q in p], [jnp.zeros_like(q) for q in p], jnp.zeros(()))
        x, t = jnp.asarray(case.x.numpy()), jnp.asarray(case.y.numpy().astype(np.float32))
        for order, rates in case.schedule():
            state, losses = epoch(state, x, t, jnp.asarray(order.numpy()), jnp.asarray(rates, jnp.float32))
        return float(losses.mean())

    return run


def trainers_of(case: Case) -> dict[str, Callable[[Case], float]]:
    """Who takes part."""
    found: dict[str, Callable[[Case], float]] = {NATIVE: by_native_steps, FIT: by_fit}
    if importlib.util.find_spec("jax") and case.name.startswith("Swiss"):
        found["JAX, epoch in a scan"] = jax_epochs(case, 0)
        if case.network.flow.layers % 8 == 0:
            found["JAX, scan over segments of 8"] = jax_epochs(case, 8)
    return found


def measure(case: Case, rounds: int) -> dict[str, float]:
    """The fewest microseconds of processor time that a step of each took.

    Raises:
        SystemExit: if the native step cannot serve, or the trainings differ.
    """
    if reason := why_not(case.network, case.recipe):
        raise SystemExit(f"{case.name}: {reason}")
    trainers = trainers_of(case)
    one = dataclasses.replace(case, recipe=dataclasses.replace(case.recipe, epochs=1))
    losses = {name: run(one) for name, run in trainers.items()}
    if max(losses.values()) - min(losses.values()) > TOLERANCE * max(losses.values()):
        raise SystemExit(f"{case.name}: the trainings differ, {losses}.")
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, run in trainers.items():
            start = time.process_time()
            run(case)
            seconds[name].append(time.process_time() - start)
    steps = case.recipe.epochs * case.batches
    return {name: 1e6 * min(each) / steps for name, each in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| training | microseconds a step, and how many times as long as native |\n|---|---|")
    for case in cases(chosen.epochs):
        found = measure(case, chosen.rounds)
        each = [f"{name} {value:,.0f} ({value / found[NATIVE]:.1f})" for name, value in found.items()]
        print(f"| {case.name} | {', '.join(each)} |", flush=True)


if __name__ == "__main__":
    main()
