"""The parts `flow` and `training` of `device.py`: flows in one launch beside the loop over layers, compiled and not.

Nothing is timed before it agrees with float64. A CUDA graph of a whole pass takes the launches of Python out of both
sides, which is what a small flow must be compared by; never quote the plain loop alone at small sizes.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import hdnn
import trainings
from hdnn.bench import Pass, Regime, disagreement, flow_pass, interleaved, tolerance, truth
from hdnn.kernels.backend import NOTHING
from hdnn.kernels.triton import Triton

Found = dict[str, Any]
Call = Callable[[], object]

REGIMES = (
    Regime(4, 64, 125), Regime(4, 64, 4000), Regime(8, 4, 78400), Regime(8, 32, 78400), Regime(16, 64, 4096, "h2"),
    Regime(32, 64, 4096, "h2"), Regime(64, 256, 8192, "h2"), Regime(128, 16, 1024),
)  # fmt: skip
DEPTHS = (16, 64, 256, 1024)


def on_card(device: str) -> bool:
    """Whether it is a CUDA device."""
    return torch.device(device).type == "cuda"


def waited(run: Call, device: str) -> Call:
    """The call, over when the device is."""
    return (lambda: (run(), torch.cuda.synchronize(device))) if on_card(device) else run


def graphed(run: Call) -> Call:
    """The call as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def passes(regime: Regime, device: str) -> Iterator[tuple[str, Pass]]:
    """The loop over layers, the loop compiled, and one launch; the last where it serves."""
    flow, y = regime.problem("eager")
    flow, y = flow.to(device), y.to(device)
    yield "eager", flow_pass(flow, y)
    if on_card(device):
        other, z = copy.deepcopy(flow), y.detach().clone()
        run = torch.compile(other, fullgraph=True)
        yield "compiled", Pass(lambda: run(z).square().mean(), [z, *other.parameters()])
    if not Triton().why_not(flow.plan, y, flow.weight, NOTHING):
        one = copy.deepcopy(flow)
        one.backend = "triton"
        yield "triton", flow_pass(one, y.detach().clone())


def jax_scan(regime: Regime) -> Callable[[], object] | None:
    """The pass of an `h1` by a JAX scan on a GPU, where JAX has one."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    if jax.default_backend() != "gpu" or regime.model != "h1":
        return None
    flow, y = regime.problem("eager")
    K, b, J, z = (jnp.asarray(x.detach().numpy()) for x in (flow.K, flow.bias, flow.J, y))

    def loss(K: Any, b: Any, z: Any) -> Any:
        def layer(z: Any, now: Any) -> Any:
            return z + flow.step * jnp.tanh(z @ now[0].T + now[1]) @ now[0] @ J.T, None

        return jnp.mean(jax.lax.scan(layer, z, (K, b))[0] ** 2)

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    return lambda: jax.block_until_ready(run(K, b, z))


def flows(options: argparse.Namespace, regimes: tuple[Regime, ...] = REGIMES) -> Iterator[Found]:
    """Rows of forward + backward, then the peak of the memory against depth."""
    seconds = options.seconds / (2 * len(regimes))
    for regime in regimes:
        yield {"what": "pace", "flow": f"{regime.model} {regime}", **paced(regime, options.device, seconds)}
    for layers in DEPTHS:
        found = {name: peak(name, layers, options) for name in ("eager", "recompute", "triton")}
        yield {"what": "memory", "layers": layers, **found}


def paced(regime: Regime, device: str, seconds: float) -> Found:
    """Milliseconds of every way that agrees with float64, and the errors of all."""
    runs: dict[str, Call] = {}
    true, errors, failed = truth(*regime.problem("eager")), {}, {}
    for name, run in passes(regime, device):
        try:
            errors[name] = disagreement(run.results(), true)
            if not errors[name] <= tolerance(errors["eager"]):
                failed[name] = "disagrees with float64"
                continue
            runs[name] = waited(run, device)
            if on_card(device):
                runs[f"{name}, graph"] = waited(graphed(run), device)
        except Exception as error:  # the others still say something
            failed[name] = f"{type(error).__name__}: {error}"
    if scan := jax_scan(regime):
        scan()
        runs["JAX scan"] = scan
    timings = interleaved(runs, seconds)
    return {"ms": {name: 1e3 * each.minimum for name, each in timings.items()}, "errors": errors, "failed": failed}


def peak(name: str, layers: int, options: argparse.Namespace) -> int | str | None:
    """Bytes that a pass of a flow of 16 features takes beside its numbers; None where nobody counts them."""
    device = options.device
    try:
        choices: Found = {"backend": "triton"} if name == "triton" else {"backend": "eager"}
        memory = {"memory": "recompute"} if name == "recompute" else {}
        flow = hdnn.h2(16, layers, horizon=1.0, **choices, **memory).to(device)
        run = flow_pass(flow, torch.randn(options.batch, 16, device=device))
        run()
        if not on_card(device):
            return None
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def whole(options: argparse.Namespace, names: tuple[str, ...] = ("Swiss roll, 64 layers", "MNIST")) -> Iterator[Found]:
    """Trainings by `hdnn.fit` on the device, the flow in one launch and layer by layer."""
    for name in names:
        if name == "MNIST" and options.mnist is None:
            continue
        case = trainings.made(name, options.mnist)
        for backend in ("eager", "triton"):
            yield {"what": "training", "case": name, "backend": backend, **trained(case, backend, options)}


def trained(case: trainings.Case, backend: str, options: argparse.Namespace) -> Found:
    """Microseconds a step, by as many epochs as a part of the time allows, and the last mean objective."""
    share = options.seconds / 8

    def run(epochs: int) -> tuple[float, float]:
        network = copy.deepcopy(case.network)
        try:
            network.flow.backend = backend
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        network.to(options.device)
        x, y = case.x.to(options.device), case.y.to(options.device)
        began = time.perf_counter()
        loss = hdnn.fit(network, x, y, dataclasses.replace(case.recipe, epochs=epochs), backend="torch")[-1]["loss"]
        return time.perf_counter() - began, loss

    try:
        first, _ = run(1)
        again, _ = run(1)
        epochs = max(1, min(200, math.floor((share - first - again) / again)))
        seconds, loss = run(epochs)
    except (RuntimeError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"us_per_step": 1e6 * seconds / (epochs * case.batches), "epochs": epochs, "loss": loss}


def both(device: str) -> float:
    """Presets in float64 on the device, layer by layer and in one launch, beside those on the processor."""
    worst = 0.0
    for make in (hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3):
        for kernel_size in (None, 1):
            flow = make(8, layers=4, step=0.1, kernel_size=kernel_size, dtype=torch.float64, backend="eager")
            x = torch.randn(45, 8, *([6, 6] if kernel_size else []), dtype=torch.float64)
            exact = _results(flow, x, "cpu")
            for backend in ("eager", "triton"):
                one = copy.deepcopy(flow)
                one.backend = backend
                worst = max(worst, disagreement(_results(one, x, device), exact))
    if not worst <= 1e-10:
        raise ValueError(f"differs by {worst:.2g}")
    return worst


def _results(flow: hdnn.Flow, x: Tensor, device: str) -> list[Tensor]:
    run = flow_pass(flow.to(device), x.detach().clone().to(device))
    return [part.detach().cpu() for part in run.results()]


def analysis(device: str) -> float:
    """Sensitivities on the device beside those on the processor."""
    flow, y = hdnn.h2(4, 6, step=0.1, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    exact = hdnn.analysis.sensitivities(flow, y)
    found = hdnn.analysis.sensitivities(copy.deepcopy(flow).to(device), y.to(device)).cpu()
    return float((found - exact).detach().abs().max())


def memory_modes(device: str) -> float:
    """The eager path without kept states, beside the one that keeps them."""
    flow, y = hdnn.h2(8, 16, step=0.1, dtype=torch.float64, backend="eager"), torch.randn(9, 8, dtype=torch.float64)
    exact, worst = _results(copy.deepcopy(flow), y, "cpu"), 0.0
    for memory in ("store", "recompute", "reverse"):
        one = copy.deepcopy(flow)
        one.memory = memory
        worst = max(worst, disagreement(_results(one, y, device), exact))
    if not worst <= 1e-9:
        raise ValueError(f"differs by {worst:.2g}")
    return worst


def exported(device: str) -> float:
    """A program of `torch.export`, made and run on the device."""
    flow, y = hdnn.h2(4, 3, step=0.1).to(device), torch.randn(5, 4, device=device)
    program = torch.export.export(flow, (y,))
    return float((program.module()(y) - flow(y)).detach().abs().max())


CHECKS: tuple[Callable[[str], float], ...] = (both, analysis, memory_modes, exported)
