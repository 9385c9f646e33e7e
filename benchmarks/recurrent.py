"""One training step of recurrent networks, forward and back, beside those of others.

    python benchmarks/recurrent.py --output FILE.md

h2 of `hdnn.HamiltonianRNN`, native and eager, beside `nn.LSTM`, `nn.GRU` and a JAX scan of the very same h2, plain and
checkpointed in segments: T steps of d numbers, n units, batch B, float32; loss = mean square of the last state,
gradients of all parameters. All are timed in turns in one process on one core; given are the least seconds of
processor time and of the clock. Nothing is reported where hdnn or JAX disagrees with the eager path in float64.
JAX is taken from PYTHONPATH where it is: pip install --target DIR jax.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hdnn
from sequences import keep_memory

Step = Callable[[], Any]


def stepper(rnn: nn.Module, u: Tensor) -> Step:
    """One step of a module of PyTorch; the gradients come back."""

    def step() -> list[Tensor]:
        output, _ = rnn(u)
        return list(torch.autograd.grad(output[-1].square().mean(), list(rnn.parameters())))

    return step


def of_jax(rnn: hdnn.HamiltonianRNN, u: Tensor, segment: int | None) -> Step | None:
    """The same h2 as a scan; None without JAX."""
    try:
        import jax
        from jax import numpy as jnp
    except ImportError:
        return None
    flow = rnn.cells[0]
    h, n = float(flow.step), rnn.hidden_size  # type: ignore[arg-type]
    parameters = tuple(jnp.asarray(p.detach().numpy()) for p in flow.parameters())
    inputs = jnp.asarray(u.numpy())
    T, B = inputs.shape[:2]

    def loss(parameters: Any) -> Any:
        K, b, V = parameters
        K_p, K_q = K[0]

        def move(state: Any, d: Any) -> Any:
            p, q = state
            p = p + h * jnp.tanh(q @ K_q.T + d[:, n // 2 :]) @ K_q
            q = q - h * jnp.tanh(p @ K_p.T + d[:, : n // 2]) @ K_p
            return (p, q), None

        start = (jnp.zeros((B, n // 2), u.numpy().dtype),) * 2
        driven = inputs @ V[0].T + b[0]
        if segment is None:
            (p, q), _ = jax.lax.scan(move, start, driven)
        else:
            many = jax.checkpoint(lambda state, d: jax.lax.scan(move, state, d))
            (p, q), _ = jax.lax.scan(many, start, driven.reshape(T // segment, segment, B, n))
        return (jnp.sum(p * p) + jnp.sum(q * q)) / (B * n)

    gradient = jax.jit(jax.grad(loss))

    def step() -> list[Tensor]:
        return [torch.from_numpy(np.array(g)) for g in gradient(parameters)]

    return step


def timed(steps: dict[str, Step], repeats: int) -> dict[str, tuple[float, float]]:
    """Least seconds of the processor and of the clock, all in turns."""
    least = dict.fromkeys(steps, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, step in steps.items():
            start, own = time.perf_counter(), time.process_time()
            step()
            found = time.process_time() - own, time.perf_counter() - start
            least[name] = (min(least[name][0], found[0]), min(least[name][1], found[1]))
    return least


def report(options: argparse.Namespace) -> str:
    """The table, once all that should agree do."""
    T, B, d, n = options.steps, options.batch, options.inputs, options.units
    torch.manual_seed(0)
    rnn, u = hdnn.HamiltonianRNN(d, n, step=0.05, backend="native"), torch.randn(T, B, d)
    eager = copy.deepcopy(rnn)
    eager.cells[0].backend = "eager"  # type: ignore[assignment]
    truth = stepper(copy.deepcopy(eager).double(), u.double())()
    steps: dict[str, Step | None] = {
        "hdnn h2, native": stepper(rnn, u),
        "hdnn h2, eager": stepper(eager, u),
        "JAX scan of h2": of_jax(rnn, u, None),
        f"JAX scan of h2, segments of {options.segment}": of_jax(rnn, u, options.segment),
        "nn.LSTM": stepper(nn.LSTM(d, n), u),
        "nn.GRU": stepper(nn.GRU(d, n), u),
    }
    there = {name: step for name, step in steps.items() if step is not None}
    for name, step in there.items():
        if "h2" in name:
            for found, true in zip(step(), truth, strict=True):
                error = float((found.double() - true).norm() / true.norm())
                if error > 1e-4:
                    raise SystemExit(f"{name} disagrees with float64: {error:.1e}.")
    least = timed(there, options.repeats)
    ours = least["hdnn h2, native"]
    lines = ["| | processor, s | ours is faster | clock, s | ours is faster |", "|---|---|---|---|---|"]
    for name, (own, clock) in least.items():
        lines.append(f"| {name} | {own:.3f} | {own / ours[0]:.2f} | {clock:.3f} | {clock / ours[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("steps", 784), ("units", 128), ("batch", 128), ("inputs", 1), ("segment", 28), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    table = report(options)
    print(table)
    if options.output:
        options.output.write_text(table + "\n")


if __name__ == "__main__":
    main()
