"""The parts `flow` and `training` of `device.py`: flows in one launch beside the loop over layers, compiled and not.

Nothing is timed before it agrees with float64. A CUDA graph of a whole pass takes the launches of Python out of both
sides, which is what a small flow must be compared by; never quote the plain loop alone at small sizes.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

import hdnn
import trainings
from device_steps import PATIENCE, Call, Found, Step, in_turns, on_card, within
from hdnn.bench import Pass, Regime, disagreement, flow_pass, interleaved, tolerance, truth
from hdnn.kernels.backend import NOTHING
from hdnn.kernels.triton import Triton

REGIMES = (
    Regime(4, 64, 125), Regime(4, 64, 4000), Regime(8, 4, 78400), Regime(8, 32, 78400), Regime(16, 64, 4096, "h2"),
    Regime(32, 64, 4096, "h2"), Regime(64, 256, 8192, "h2"), Regime(128, 16, 1024),
)  # fmt: skip
DEPTHS = (16, 64, 256, 1024)
SMALL = (Regime(4, 3, 7), Regime(8, 2, 7, "h2"))  # for a trial of the script
TRAININGS = ("Swiss roll, 64 layers", "MNIST")


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
    return lambda: (graph.replay(), run)  # which has what the graph reads


def passes(regime: Regime, device: str) -> Iterator[tuple[str, Pass]]:
    """The loop over layers; one launch, where it serves; and the loop compiled, which takes longest to make ready."""
    flow, y = regime.problem("eager")
    flow, y = flow.to(device), y.to(device)
    yield "eager", flow_pass(flow, y)
    if not Triton().why_not(flow.plan, y, flow.weight, NOTHING):
        one = copy.deepcopy(flow)
        one.backend = "triton"
        yield "triton", flow_pass(one, y.detach().clone())
    if on_card(device) and regime.layers <= 64:  # more take many minutes to compile
        other, z = copy.deepcopy(flow), y.detach().clone()
        run = torch.compile(other, fullgraph=True)
        yield "compiled", Pass(lambda: run(z).square().mean(), [z, *other.parameters()])


def by_jax(regime: Regime) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The pass by JAX on a GPU, where JAX has one: the loss, and gradients in the shapes of ours."""
    try:
        import jax
        import jax.numpy as jnp

        import jax_trainers
    except ImportError:
        return
    if jax.default_backend() != "gpu":
        return
    jax.config.update("jax_default_matmul_precision", "highest")
    flow, y = regime.problem("eager")
    K, b, z = (jnp.asarray(x.detach().numpy()) for x in (flow.weight, flow.bias, y))
    for depth in ("scan", "segments", "unrolled"):
        parts = flow.layers % jax_trainers.SEGMENT == 0
        if (
            depth == "scan"
            or (depth == "segments" and parts)
            or (depth == "unrolled" and flow.layers * len(y.T) <= 512)
        ):
            way = jax_trainers.flow_of(flow, depth)
            run = jax.jit(jax.value_and_grad(lambda z, K, b, way=way: jnp.mean(way(z.T, K, b) ** 2), (0, 1, 2)))
            yield f"JAX {depth}", lambda run=run: jax.block_until_ready(run(z, K, b))


def flows(options: argparse.Namespace) -> list[Step]:
    """Rows of forward + backward, then the peak of the memory against depth."""
    regimes, depths = (SMALL, DEPTHS[:1]) if options.small else (REGIMES, DEPTHS)
    options.share = options.seconds / (2 * len(regimes))
    return in_turns(paced, regimes, options) + [
        Step({"what": "memory", "layers": layers}, lambda _, layers=layers: peaks(layers, options))  # type: ignore[misc]
        for layers in depths
    ]


def paced(regime: Regime, options: argparse.Namespace, turn: Call) -> Found:
    """Milliseconds of every way that agrees with float64, and the errors of all."""
    runs: dict[str, Call] = {}
    true, errors, failed = truth(*regime.problem("eager")), {}, {}
    allowed = math.inf

    def checked(name: str, results: Callable[[], Any]) -> bool:
        """Whether it runs and agrees; what else it is stands among the failed."""
        try:
            errors[name] = disagreement(within(0.7 * PATIENCE, results), true)
        except Exception as error:  # the others still say something
            failed[name] = f"{type(error).__name__}: {str(error)[:300]}"
            return False
        if not errors[name] <= allowed:
            failed[name] = "disagrees with float64"
            return False
        return True

    if on_card(options.device):
        for name, call in by_jax(regime):
            if checked(name, lambda call=call: _flat(call())):
                runs[name] = call
    for name, run in passes(regime, options.device):
        if not checked(name, run.results):
            continue
        allowed = tolerance(errors["eager"])
        runs[name] = waited(run, options.device)
        if on_card(options.device):
            try:
                runs[f"{name}, graph"] = waited(graphed(run), options.device)
            except RuntimeError as error:
                failed[f"{name}, graph"] = f"{type(error).__name__}: {str(error)[:300]}"
    runs = {name: run for name, run in runs.items() if not errors.get(name, 0.0) > allowed}
    turn()
    timings = interleaved(runs, options.share)
    ms = {name: 1e3 * each.minimum for name, each in timings.items()}
    return {"what": "pace", "flow": f"{regime.model} {regime}", "ms": ms, "errors": errors, "failed": failed}


def _flat(found: Any) -> list[Any]:
    """Loss and gradients of a JAX pass, in one list."""
    loss, gradients = found
    return [torch.tensor(float(loss)), *(torch.from_numpy(np.array(g)) for g in gradients)]


def peaks(layers: int, options: argparse.Namespace) -> Found:
    """Bytes of a pass by the loop over layers, without kept states, and in one launch."""
    return {name: peak(name, layers, options) for name in ("eager", "recompute", "triton")}


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


def whole(options: argparse.Namespace) -> list[Step]:
    """Trainings on the device by `hdnn.fit`, the flow in one launch and layer by layer, and by JAX, ours first."""
    names = [
        name for name in (("Swiss roll, 4 layers",) if options.small else TRAININGS) if name != "MNIST" or options.mnist
    ]
    ours: tuple[Any, ...] = ("triton", "eager")
    steps = [(name, way, functools.partial(_by_fit, way)) for way in ours for name in names]
    if on_card(options.device):
        steps += [(name, f"JAX, epoch in a scan, layers {d}", functools.partial(_by_jax, d))
                  for d in ("scan", "unrolled") for name in names]  # fmt: skip
    return [
        Step({"what": "training", "case": name, "by": way}, functools.partial(trained, name, make, options))
        for name, way, make in steps
    ]


def trained(name: str, make: Callable[..., Callable[[int], float]], options: argparse.Namespace, share: float) -> Found:
    """Microseconds a step, by as many epochs as the time allows, and the mean objective of one epoch."""
    case = trainings.made(name, options.mnist)
    if options.small:
        case = dataclasses.replace(case, x=case.x[:50], y=case.y[:50])
    run = make(case, options)

    def timed(epochs: int) -> float:
        began = time.perf_counter()
        run(epochs)
        return time.perf_counter() - began

    began = time.perf_counter()
    loss = within(PATIENCE, lambda: run(1))
    first, again = time.perf_counter() - began, timed(1)
    left = min(options.seconds / 8, share - first - again)
    epochs = max(1, min(200, math.floor(left / again)))
    seconds = timed(epochs)
    return {"us_per_step": 1e6 * seconds / (epochs * case.batches), "epochs": epochs, "loss": loss, "first": first}


def _by_fit(backend: Any, case: trainings.Case, options: argparse.Namespace) -> Callable[[int], float]:
    """`hdnn.fit` on the device, as a user calls it."""

    def run(epochs: int) -> float:
        network = copy.deepcopy(case.network)
        network.flow.backend = backend
        network.to(options.device)
        x, y = case.x.to(options.device), case.y.to(options.device)
        recipe = dataclasses.replace(case.recipe, epochs=epochs)
        return float(hdnn.fit(network, x, y, recipe, backend="torch")[-1]["loss"])

    return run


def _by_jax(depth: Any, case: trainings.Case, options: argparse.Namespace) -> Callable[[int], float]:
    """Whole epochs compiled as one.

    Raises:
        RuntimeError: if JAX has no GPU.
    """
    import jax

    import jax_trainers

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX would run on {jax.default_backend()}")
    jax.config.update("jax_default_matmul_precision", "highest")
    return jax_trainers.JaxTraining(case, jax_trainers.Way(depth))


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


def compiled_flow(device: str) -> float:
    """One launch within `torch.compile`, and within the CUDA graphs that it makes."""
    flow, y = hdnn.h2(8, 16, step=0.1, backend="triton" if on_card(device) else "eager"), torch.randn(45, 8)
    exact, worst = [x.double() for x in _results(copy.deepcopy(flow), y, device)], 0.0
    for mode in ("default", "reduce-overhead"):
        one = copy.deepcopy(flow).to(device)
        run, z = torch.compile(one, fullgraph=True, mode=mode), y.to(device)
        for _ in range(4):  # graphs are captured at the second call
            found = Pass(lambda run=run, z=z: run(z).square().mean(), [z, *one.parameters()]).results()
            worst = max(worst, disagreement(found, exact))
    if not worst <= 1e-5:
        raise ValueError(f"differs by {worst:.2g}")
    return worst


def one_rank(device: str) -> float:
    """Gradients by DistributedDataParallel, of a process group of one."""
    flow, y = hdnn.h2(8, 16, step=0.1, backend="triton" if on_card(device) else "eager"), torch.randn(45, 8)
    exact = [x.double() for x in _results(copy.deepcopy(flow), y, device)]
    distributed.init_process_group(
        "nccl" if on_card(device) else "gloo", store=distributed.HashStore(), rank=0, world_size=1
    )
    try:
        one, z = nn.parallel.DistributedDataParallel(copy.deepcopy(flow).to(device)), y.to(device)
        run = Pass(lambda: one(z).square().mean(), [z, *one.parameters()])
        return disagreement([x.cpu() for x in run.results()], exact)
    finally:
        distributed.destroy_process_group()


CHECKS: tuple[Callable[[str], float], ...] = (both, analysis, memory_modes, exported, one_rank, compiled_flow)
