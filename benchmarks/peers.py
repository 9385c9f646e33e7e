"""Everyone who runs the same flow: forward, mean square of the output, gradients of y0, K and b, in float32.

    python benchmarks/peers.py 4 64 125 --threads 1 --seconds 10

Checks every peer against the oracle in float64, times those that agree in turns, and prints JSON. One regime a process:
pin it to its cores before it starts.

Legend: y (B, n) states, K (N, n, n) and b (N, n) weights, h step, W = h K Jᵀ, so that a layer is
y⁺ = y + tanh(y Kᵀ + b) W, samples first, or y⁺ = y + Wᵀ tanh(K y + b), features first. J is canonical, so W takes the
columns of K in another order and no product.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdnn.bench import Pass, Regime, disagreement, flow_pass, interleaved, require_agreement, tolerance, truth

OURS, OWN_EAGER, BY_HAND, COMPILED = "hdnn native", "hdnn eager", "PyTorch loop by hand", "torch.compile"
SCAN, SEGMENTS, UNROLLED = "JAX scan", "JAX scan of segments", "JAX unrolled"
DIFFRAX, TORCHDIFFEQ = "diffrax Euler", "torchdiffeq Euler"
SEGMENT = 8  # layers that are computed again together
SAMPLES, FEATURES, CHECKPOINTED = "samples first", "features first", "features first, checkpointed"

Loop = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def rows(y: Tensor, K: Tensor, b: Tensor, h: float) -> Tensor:
    """The Euler loop by hand, samples first: three operations a layer, parameters taken apart once."""
    for k, w, c in zip(K.mT.unbind(), drive(K, h).unbind(), b.unbind(), strict=True):
        y = torch.addmm(y, torch.tanh(torch.addmm(c, y, k)), w)
    return y


def columns(y: Tensor, K: Tensor, b: Tensor, h: float) -> Tensor:
    """The same, features first: faster for few features, whose products then run along the samples."""
    y = y.T
    for k, w, c in zip(K.unbind(), drive(K, h).mT.unbind(), b.unsqueeze(-1).unbind(), strict=True):
        y = torch.addmm(y, w, torch.tanh(torch.addmm(c, k, y)))
    return y.T


def halves(y: Tensor, K: Tensor, b: Tensor, h: float) -> Tensor:
    """The partitioned loop (h2) by hand, samples first; K (N, 2, n/2, n/2) holds K_p and K_q."""
    p, q = y.chunk(2, dim=-1)
    b_p, b_q = b.chunk(2, dim=-1)
    K_p, K_q = K.unbind(1)
    layers = zip((h * K_p).unbind(), (h * K_q).unbind(), K_p.mT.unbind(), K_q.mT.unbind(), strict=True)
    for (w_p, w_q, k_p, k_q), c_p, c_q in zip(layers, b_p.unbind(), b_q.unbind(), strict=True):
        p = torch.addmm(p, torch.tanh(torch.addmm(c_q, q, k_q)), w_q)
        q = torch.addmm(q, torch.tanh(torch.addmm(c_p, p, k_p)), w_p, alpha=-1)
    return torch.cat((p, q), dim=-1)


def halves_columns(y: Tensor, K: Tensor, b: Tensor, h: float) -> Tensor:
    """The same, features first."""
    p, q = y.T.chunk(2)
    b_p, b_q = b.unsqueeze(-1).chunk(2, dim=1)
    K_p, K_q = K.unbind(1)
    layers = zip((h * K_p.mT).unbind(), (h * K_q.mT).unbind(), K_p.unbind(), K_q.unbind(), strict=True)
    for (w_p, w_q, k_p, k_q), c_p, c_q in zip(layers, b_p.unbind(), b_q.unbind(), strict=True):
        p = torch.addmm(p, w_q, torch.tanh(torch.addmm(c_q, k_q, q)))
        q = torch.addmm(q, w_p, torch.tanh(torch.addmm(c_p, k_p, p)), alpha=-1)
    return torch.cat((p, q)).T


def odeint(y: Tensor, K: Tensor, b: Tensor, h: float) -> Tensor:
    """torchdiffeq: one Euler step a layer, the layer's number is the time."""
    integrate = importlib.import_module("torchdiffeq").odeint
    k, w, c = K.mT.unbind(), drive(K, h).unbind(), b.unbind()

    def field(t: Tensor, y: Tensor) -> Tensor:
        j = int(t)
        return torch.tanh(torch.addmm(c[j], y, k[j])) @ w[j]

    states: Tensor = integrate(field, y, torch.arange(len(K) + 1.0), method="euler")
    return states[-1]


def drive(K: Tensor, h: float) -> Tensor:
    """W = h K Jᵀ for the canonical J: (K_p, K_q) -> h (K_q, −K_p)."""
    K_p, K_q = K.chunk(2, dim=-1)
    return h * torch.cat((K_q, -K_p), dim=-1)


class TorchPeer(Pass):
    """A loop on tensors of its own, compiled with its loss if asked."""

    def __init__(self, loop: Loop, regime: Regime, compiled: bool = False) -> None:
        flow, y = regime.problem("eager")
        K, b = (p.detach().clone().requires_grad_() for p in (flow.weight, flow.bias))

        def loss(y: Tensor, K: Tensor, b: Tensor) -> Tensor:
            return loop(y, K, b, flow.step).square().mean()

        run = torch.compile(loss, fullgraph=True) if compiled else loss
        super().__init__(lambda: run(y, K, b), [y, K, b])


def our_peer(backend: Any, regime: Regime) -> Pass:
    """A flow of the library, as its users call it."""
    return flow_pass(*regime.problem(backend))


class JaxPeer:
    """A function of JAX arrays, compiled with its loss and gradients.

    Args:
        solve: one of those below.
        regime: the problem.
        layout: of the states.
    """

    def __init__(self, solve: Callable[..., Any], regime: Regime, layout: str) -> None:
        self.jax = importlib.import_module("jax")
        self.jax.config.update("jax_platforms", "cpu")
        flow, y = regime.problem("eager")
        n, h = regime.features, flow.step
        arrays = (y.numpy(), flow.weight.detach().numpy(), flow.bias.detach().numpy())
        self.arguments = [self.jax.device_put(array) for array in arrays]
        jnp = self.jax.numpy

        def increment(y: Any, k: Any, w: Any, c: Any) -> Any:
            return jnp.tanh(y @ k.T + c) @ w

        def increment_of_columns(y: Any, k: Any, w: Any, c: Any) -> Any:
            return w.T @ jnp.tanh(k @ y + c[:, None])

        step = increment if layout == SAMPLES else increment_of_columns
        if layout == CHECKPOINTED:
            step = self.jax.checkpoint(step)

        def loss(y: Any, K: Any, b: Any) -> Any:
            W = h * jnp.concatenate((K[..., n // 2 :], -K[..., : n // 2]), -1)
            out = solve(step, y if layout == SAMPLES else y.T, (K, W, b))
            return jnp.square(out).mean()

        self.run = self.jax.jit(self.jax.value_and_grad(loss, argnums=(0, 1, 2)))

    def __call__(self) -> Any:
        """Loss and gradients, finished."""
        return self.jax.block_until_ready(self.run(*self.arguments))

    def results(self) -> list[Any]:
        """The loss and the gradients of one call."""
        loss, gradients = self()
        return [np.asarray(array, dtype=np.float64) for array in (loss, *gradients)]


def scan(step: Callable[..., Any], y: Any, parameters: tuple[Any, ...]) -> Any:
    """One compiled body, looped over the layers."""
    lax = importlib.import_module("jax").lax
    return lax.scan(lambda y, layer: (y + step(y, *layer), None), y, parameters)[0]


def segments(step: Callable[..., Any], y: Any, parameters: tuple[Any, ...]) -> Any:
    """A scan over segments, unrolled: backward knows the state before each, and computes its layers again."""
    jax = importlib.import_module("jax")
    whole = len(parameters[0]) // SEGMENT * SEGMENT
    parts = tuple(each[:whole].reshape(-1, SEGMENT, *each.shape[1:]) for each in parameters)
    through = jax.checkpoint(lambda y, part: (unrolled(step, y, part), None))
    return unrolled(step, jax.lax.scan(through, y, parts)[0], tuple(each[whole:] for each in parameters))


def unrolled(step: Callable[..., Any], y: Any, parameters: tuple[Any, ...]) -> Any:
    """All layers one after the other, for the compiler to fuse."""
    for layer in zip(*parameters, strict=True):
        y = y + step(y, *layer)
    return y


def diffrax_euler(step: Callable[..., Any], y: Any, parameters: tuple[Any, ...]) -> Any:
    """Diffrax with its recommended adjoint; the layer's number is the time."""
    diffrax = importlib.import_module("diffrax")
    layers = len(parameters[0])

    def field(t: Any, y: Any, parameters: tuple[Any, ...]) -> Any:
        j = t.astype(int)
        return step(y, *(each[j] for each in parameters))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Euler(), 0.0, float(layers), 1.0, y, parameters, max_steps=layers
    )
    return solution.ys[0]


def builders(model: str) -> dict[tuple[str, str], Callable[[Regime], Any]]:
    """(peer, variant) to what makes it; a peer is as fast as the fastest of its variants."""
    make = functools.partial
    ours: dict[tuple[str, str], Callable[[Regime], Any]] = {
        (OURS, ""): make(our_peer, "native"),
        (OWN_EAGER, ""): make(our_peer, "eager"),
    }
    loops = {SAMPLES: rows, FEATURES: columns} if model == "h1" else {SAMPLES: halves, FEATURES: halves_columns}
    by_hand = {(BY_HAND, layout): make(TorchPeer, loop) for layout, loop in loops.items()}
    if model != "h1":
        return ours | by_hand
    return {
        **ours,
        **by_hand,
        **{(COMPILED, layout): make(TorchPeer, loop, compiled=True) for layout, loop in loops.items()},
        **{(SCAN, layout): make(JaxPeer, scan, layout=layout) for layout in (SAMPLES, FEATURES, CHECKPOINTED)},
        **{(SEGMENTS, layout): make(JaxPeer, segments, layout=layout) for layout in (SAMPLES, FEATURES)},
        **{(UNROLLED, layout): make(JaxPeer, unrolled, layout=layout) for layout in (SAMPLES, FEATURES)},
        **{(DIFFRAX, layout): make(JaxPeer, diffrax_euler, layout=layout) for layout in (SAMPLES, FEATURES)},
        (TORCHDIFFEQ, ""): make(TorchPeer, odeint),
    }


def measure(regime: Regime, seconds: float, peers: list[str] | None = None) -> list[dict[str, Any]]:
    """Time all peers that are installed and agree with float64.

    Args:
        regime: the problem.
        seconds: to measure for, all together.
        peers: their names; None takes all.

    Returns:
        For each variant "peer", "variant", and its timing and "error", or the "reason" why there is none.

    Raises:
        FloatingPointError: if hdnn itself disagrees.
    """
    true = truth(*regime.problem("eager"))
    allowed = tolerance(disagreement(flow_pass(*regime.problem("eager")).results(), true))
    ready: dict[tuple[str, str], Any] = {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, build in builders(regime.model).items():
        if peers is not None and name[0] not in peers:
            continue
        try:
            run = build(regime)
            run()
            error = disagreement(run.results(), true)
            require_agreement(" ".join(name), error, allowed)
        except ModuleNotFoundError as missing:
            found[name] = {"reason": f"not installed ({missing.name})"}
        except Exception as failure:  # compilers fail in ways of their own; the report says how
            if name[0] in (OURS, OWN_EAGER):
                raise
            found[name] = {"reason": f"{type(failure).__name__}: {str(failure).strip().splitlines()[0]}"}
        else:
            ready[name], found[name] = run, {"error": error}
    for name, timing in interleaved(ready, seconds).items():
        found[name] |= dataclasses.asdict(timing)
    return [{"peer": peer, "variant": variant, **result} for (peer, variant), result in found.items()]


def main() -> None:
    """Print the timings of one regime as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=int)
    parser.add_argument("layers", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--model", choices=("h1", "h2"), default="h1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--peers", nargs="+", help="their names; default: all")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    regime = Regime(chosen.features, chosen.layers, chosen.batch, chosen.model)
    print(json.dumps(measure(regime, chosen.seconds, chosen.peers)))


if __name__ == "__main__":
    main()
