"""The networks of `trainings.py` in JAX: same weights, batches, objective and optimizer, compiled by step or by epoch.

Legend: y state, features first: (n, samples), of images (n, images · pixels); K and b the weights of N layers, h step,
W = h K Jᵀ; z = V y_N + μ outputs, (outputs, samples); t targets; the optimizer's m and v are the moments of gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from torch import nn

import hdnn
from peers import SEGMENT
from trainings import Case

Layer = Callable[[Any, Any], Any]
Depth = Literal["scan", "checkpointed", "segments", "unrolled"]


@dataclass(frozen=True)
class Way:
    """How layers are run, and what is compiled as one: a step, or an epoch as a scan over its batches."""

    depth: Depth
    epoch: bool = True


def ways(layers: int) -> dict[str, list[Way]]:
    """By what they are called; each is as fast as its fastest."""
    scans: list[Depth] = ["scan", "checkpointed", *(["segments"] if layers % SEGMENT == 0 else [])]
    return {
        "JAX, jitted step": [Way(depth, epoch=False) for depth in ("unrolled", *scans)],
        "JAX, epoch in a scan": [Way(depth) for depth in scans],
        "JAX, unrolled epoch": [Way("unrolled")],
    }


def through(layer: Layer, y: Any, parameters: Any, depth: Depth) -> Any:
    """The state after all layers."""
    if depth == "unrolled":
        for j in range(len(parameters[0])):
            y = layer(y, [each[j] for each in parameters])
        return y
    if depth == "segments":
        parts = [each.reshape(-1, SEGMENT, *each.shape[1:]) for each in parameters]
        segment = jax.checkpoint(lambda y, part: (through(layer, y, part, "unrolled"), None))
        return lax.scan(segment, y, parts)[0]
    step = jax.checkpoint(layer) if depth == "checkpointed" else layer
    return lax.scan(lambda y, part: (step(y, part), None), y, parameters)[0]


def flow_of(flow: hdnn.Flow, depth: Depth) -> Callable[[Any, Any, Any], Any]:
    """The run of a flow of h1, or of h2 with the canonical J, as a function of y, K and b."""
    h, half = flow.step, flow.features // 2
    J = jnp.asarray(flow.J.numpy())

    def euler(y: Any, part: Any) -> Any:
        K, W, b = part
        return y + W.T @ jnp.tanh(K @ y + b[:, None])

    def halves(y: Any, part: Any) -> Any:
        K, b = part
        p, q = y
        p = p + h * K[1].T @ jnp.tanh(K[1] @ q + b[half:, None])
        return p, q - h * K[0].T @ jnp.tanh(K[0] @ p + b[:half, None])

    def run(y: Any, K: Any, b: Any) -> Any:
        if flow.integrator.first:
            return jnp.concatenate(through(halves, (y[:half], y[half:]), (K, b), depth))
        canonical = flow.plan is not None and flow.plan.drive == "canonical"
        W = h * (jnp.concatenate((K[..., half:], -K[..., :half]), -1) if canonical else K @ J.T)
        return through(euler, y, (K, W, b), depth)

    return run


def lifted(network: hdnn.Network, x: Any, lift: Any) -> Any:
    """Inputs as states, features first: zeros appended, or a convolution of one channel by its nine shifts."""
    if isinstance(network.lift, nn.Conv2d):
        A, c = lift
        rows, columns = x.shape[2:]
        padded = jnp.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
        shifts = [padded[:, i : i + rows, j : j + columns].reshape(-1) for i in range(3) for j in range(3)]
        return A.reshape(len(A), 9) @ jnp.stack(shifts) + c[:, None]
    return jnp.concatenate([x, jnp.zeros((len(x), network.flow.features - x.shape[1]), x.dtype)], 1).T


def objective(case: Case, depth: Depth) -> Callable[[Any, Any, Any], Any]:
    """As hdnn has it, as a function of parameters and a batch."""
    network, recipe = case.network, case.recipe
    run, h, epsilon = flow_of(network.flow, depth), network.flow.step, recipe.label_smoothing

    def value(p: Any, x: Any, t: Any) -> Any:
        y = run(lifted(network, x, p["lift"]), p["K"], p["b"])
        if x.ndim == 4:  # a row of the head goes through the pixels of one feature after those of another
            y = y.reshape(len(y), len(x), -1).transpose(1, 0, 2).reshape(len(x), -1).T
        z = p["V"] @ y + p["mu"][:, None]
        if len(z) == 1:  # with the right slope at 0, where the output layer begins
            data = jnp.mean(jax.nn.softplus(z[0]) - z[0] * (t * (1 - epsilon) + epsilon / 2))
        else:
            wanted = jax.nn.one_hot(t, len(z), axis=0) * (1 - epsilon) + epsilon / len(z)
            data = -jnp.mean((wanted * jax.nn.log_softmax(z, axis=0)).sum(0))
        smooth = (jnp.diff(p["K"], axis=0) ** 2).sum() + (jnp.diff(p["b"], axis=0) ** 2).sum()
        head = (p["V"] ** 2).sum() + (p["mu"] ** 2).sum()
        return data + recipe.head_decay * head + recipe.smoothness * h / 2 * smooth

    return value


class JaxTraining:
    """A training by JAX; what it needs beside the batches is on its device before it is called."""

    def __init__(self, case: Case, way: Way) -> None:
        self.case, self.way = case, way
        self.value = objective(case, way.depth)
        self.x, self.t = case.x.numpy(), case.y.numpy().astype(np.float32 if case.outputs == 1 else np.int32)
        self.on_device = (jnp.asarray(self.x), jnp.asarray(self.t))
        self.step = jax.jit(self._step, donate_argnums=0)
        self.epoch = jax.jit(self._epoch, donate_argnums=0)

    def start(self) -> Any:
        """Parameters and moments of the network as it was made."""
        network = self.case.network
        tensors = {
            "lift": [each.detach().numpy() for each in network.lift.parameters()],
            "K": self.case.weight().numpy(),
            "b": network.flow.bias.detach().numpy(),
            "V": network.head.weight.detach().numpy(),
            "mu": network.head.bias.detach().numpy(),
        }
        p = jax.tree.map(jnp.array, tensors)
        return p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.zeros(())

    def _step(self, state: Any, batch: Any) -> Any:
        """One step of Adam or AdamW."""
        p, m, v, k = state
        x, t, rate = batch
        value, g = jax.value_and_grad(self.value)(p, x, t)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        first, second = 1 - 0.9 ** (k + 1), jnp.sqrt(1 - 0.999 ** (k + 1))
        kept = 1 - rate * self.case.recipe.weight_decay
        p = jax.tree.map(lambda p, m, v: kept * p - rate / first * m / (jnp.sqrt(v) / second + 1e-8), p, m, v)
        return (p, m, v, k + 1), value

    def _epoch(self, state: Any, x: Any, t: Any, order: Any, rates: Any) -> Any:
        """All batches; the last, where it is smaller, after the scan over the others."""
        size = self.case.recipe.batch_size
        whole = len(x) // size
        now, rest = order[: whole * size], order[whole * size :]
        batches = (x[now].reshape(whole, size, *x.shape[1:]), t[now].reshape(whole, size), rates[:whole])
        state, losses = lax.scan(self._step, state, batches)
        if len(rest):
            state, last = self._step(state, (x[rest], t[rest], rates[whole]))
            losses = jnp.append(losses, last)
        return state, losses

    def __call__(self, epochs: int) -> float:
        """The mean objective of the last epoch."""
        state, size = self.start(), self.case.recipe.batch_size
        losses: Any = []
        for order, rates in self.case.schedule(epochs):
            if self.way.epoch:
                state, losses = self.epoch(state, *self.on_device, order.numpy(), np.asarray(rates, np.float32))
                continue
            losses = []
            for k, chosen in enumerate(order.numpy().reshape(-1)[i : i + size] for i in range(0, len(order), size)):
                state, loss = self.step(state, (self.x[chosen], self.t[chosen], np.float32(rates[k])))
                losses.append(loss)
        jax.block_until_ready(state)
        return self.case.mean(losses)


def trainers(case: Case) -> dict[str, list[JaxTraining]]:
    """Every way of every name."""
    jax.config.update("jax_platforms", "cpu")
    return {
        name: [JaxTraining(case, way) for way in of_name] for name, of_name in ways(case.network.flow.layers).items()
    }
