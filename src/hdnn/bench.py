"""How fast flows run here: forward, loss and backward as a user calls them, fused beside eager.

Nothing is timed before it agrees with the plain oracle in float64, in the loss and in every gradient.
Legend: y (B, n) states, K and b the weights of N layers, J the interconnection, G = J Kᵀ.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hdnn.flow import Backend, Flow
from hdnn.kernels import backend as contract
from hdnn.kernels import native, reference, triton
from hdnn.presets import h1, h2
from hdnn.training.devices import require_device, require_threads

TURN = 0.02  # seconds
_MOST_CALLS, _FEWEST_ROUNDS = 200, 5
_PRESETS = {"h1": h1, "h2": h2}
_STEP = 0.05


@dataclass(frozen=True)
class Regime:
    """One size of flow and batch.

    Args:
        features: n.
        layers: N.
        batch: B, states at a time.
        model: "h1" (forward Euler) or "h2" (partitioned), with the canonical J and tanh.
    """

    features: int
    layers: int
    batch: int
    model: Literal["h1", "h2"] = "h1"

    def __str__(self) -> str:
        return f"{self.features}·{self.layers}·{self.batch}"

    def problem(self, backend: Backend) -> tuple[Flow, Tensor]:
        """A float32 flow and states (B, n) to run it on; the same numbers every time, for every backend."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            flow = _PRESETS[self.model](self.features, self.layers, step=_STEP, backend=backend, dtype=torch.float32)
            return flow, torch.randn(self.batch, self.features, dtype=torch.float32)


SHORT = (
    Regime(4, 64, 125),  # a training step of the papers' planar sets
    Regime(4, 64, 4000),
    Regime(8, 4, 78400),  # MNIST: 100 images of 28 x 28 pixels
    Regime(16, 64, 4096, "h2"),
    Regime(128, 16, 1024),
)


@dataclass(frozen=True)
class Timing:
    """Seconds a call takes.

    Args:
        minimum: of all calls; what the machine can do when nothing disturbs it.
        median: of all calls.
        calls: how many were timed.
    """

    minimum: float
    median: float
    calls: int


class Pass:
    """A loss and its gradients, called as a training step calls them.

    Args:
        loss: a function of no arguments.
        leaves: tensors whose gradients are wanted, the state first.
    """

    def __init__(self, loss: Callable[[], Tensor], leaves: Iterable[Tensor]) -> None:
        self.loss = loss
        self.leaves = [leaf.requires_grad_() for leaf in leaves]

    def __call__(self) -> Tensor:
        """The loss; the gradients are left at the leaves."""
        for leaf in self.leaves:
            leaf.grad = None
        loss = self.loss()
        torch.autograd.backward(loss)
        return loss

    def results(self) -> list[Tensor]:
        """The loss and the gradients of one call; zero for leaves that took no part."""
        loss = self().detach()
        return [loss, *(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.leaves)]


def flow_pass(flow: Flow, y: Tensor) -> Pass:
    """The pass of a flow: forward, mean square of the output, backward to the state and the parameters."""
    return Pass(lambda: flow(y).square().mean(), [y, *flow.parameters()])


def truth(flow: Flow, y: Tensor) -> list[Tensor]:
    """The results of `flow_pass` by the plain oracle in float64.

    Raises:
        ValueError: for a flow that the oracle does not know.
    """
    exact, state = copy.deepcopy(flow).double(), y.detach().double()
    plan, sigma = exact.plan, exact.activation.value
    if plan is None or plan.images or plan.shared:
        raise ValueError("The oracle runs flows of vectors with weights of their own for every layer; got another.")

    def loss() -> Tensor:
        K = exact.K
        G = exact.J @ K.mT
        if plan.first:
            out = reference.partitioned(state, K, exact.bias, G, exact.step, sigma, plan.first, plan.fractions)
        else:
            out = reference.euler(state, K, exact.bias, G, exact.step, sigma)
        return out.square().mean()

    return Pass(loss, [state, *exact.parameters()]).results()


def disagreement(found: Iterable[Any], true: Iterable[Tensor]) -> float:
    """The largest relative error, in norm, among the loss and the gradients; infinite where one is not finite."""
    worst = 0.0
    for mine, exact in zip(found, true, strict=True):
        error = float((torch.as_tensor(mine).double().cpu() - exact).norm() / exact.norm().clamp_min(1e-300))
        worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def tolerance(eager: float) -> float:
    """The error that float32 may have: 1e-5, or three times that of the eager path, and never more than 1e-3."""
    return min(1e-3, max(1e-5, 3 * eager))


def require_agreement(name: str, error: float, allowed: float) -> None:
    """Refuse to time what computes something else.

    Raises:
        FloatingPointError: if the error is larger than what is allowed.
    """
    if not error <= allowed:
        raise FloatingPointError(
            f"The {name} pass is off by {error:.1e} from float64, where {allowed:.1e} is allowed, so its time would "
            f'mean nothing. Report this with the output of "hdnn info".'
        )


def interleaved(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Time functions in turns, so that whatever else the machine does falls on all of them alike.

    In each round every function has one turn: a call that is not counted, for what ran before it has left threads
    spinning and caches full, then as many calls as fit into `TURN`. A call longer than that counts at once.

    Args:
        runs: name to function; called once before, they are warm.
        seconds: to measure for, all functions together; there are at least 5 rounds.

    Returns:
        Name to timing.

    Example:
        >>> timings = interleaved({"sum": lambda: sum(range(1000))}, seconds=0.01)
        >>> 0 < timings["sum"].minimum <= timings["sum"].median
        True
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < _FEWEST_ROUNDS or time.perf_counter() < end:
        for name, run in runs.items():
            first = _seconds(run)
            repeats = min(_MOST_CALLS, int(TURN / max(first, 1e-9)))
            times[name] += [_seconds(run) for _ in range(repeats)] or [first]
        rounds += 1
    return {name: Timing(min(each), statistics.median(each), len(each)) for name, each in times.items()}


def bench(
    regimes: Iterable[Regime] | None = None,
    *,
    seconds: float = 10.0,
    threads: int | None = None,
    device: str = "cpu",
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Time forward + backward of flows by the eager path and, where it is there, by the fused backend of the device.

    Args:
        regimes: what to run; None takes the five of `SHORT`.
        seconds: to measure for, all regimes together; making ready takes a few more.
        threads: that PyTorch and the kernels use; None leaves PyTorch's own number.
        device: "cpu", where the native backend is timed, or "cuda", where it is Triton's.
        announce: told what is being measured.

    Returns:
        Plain values: "native" or "triton" (whether and how it runs here), "threads", "dtype", "device", and "regimes":
        for each "model", "features", "layers", "batch", then for "eager" and "native" or "triton" the minimum "…_ms"
        and "…_median_ms" of a pass and its "…_error" (relative, against float64), and "ratio", eager over fused. What
        did not run is None.

    Raises:
        ValueError: if `seconds` or `threads` make no sense, or the device is not there.
        FloatingPointError: if a backend disagrees with float64.

    Example:
        >>> bench([Regime(4, 8, 16)], seconds=0.01, threads=1)["regimes"][0]["eager_ms"] > 0
        True
    """
    regimes = SHORT if regimes is None else tuple(regimes)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"`seconds` must be positive and finite; got {seconds}.")
    if threads is not None:
        require_threads(threads)
    place, before = require_device(device), torch.get_num_threads()
    fused: contract.Backend = triton.Triton() if place.type == "cuda" else native.Native()
    torch.set_num_threads(threads or before)
    try:
        rows = []
        for regime in regimes:
            announce(f"{regime.model} {regime}")
            rows.append(_measure(regime, seconds / len(regimes), fused, place))
        return {
            fused.name: fused.describe(),
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "device": str(place),
            "regimes": rows,
        }
    finally:
        torch.set_num_threads(before)


def _measure(regime: Regime, seconds: float, fused: contract.Backend, place: torch.device) -> dict[str, Any]:
    there = native.available() if fused.name == "native" else not fused.describe().startswith("not available")
    problems: dict[str, tuple[Flow, Tensor]] = {"eager": regime.problem("eager")}
    if there:
        problems[fused.name] = regime.problem(fused)
    passes = {name: flow_pass(flow.to(place), y.to(place)) for name, (flow, y) in problems.items()}
    true = truth(*regime.problem("eager"))
    errors = {backend: disagreement(run.results(), true) for backend, run in passes.items()}
    for backend, error in errors.items():
        require_agreement(backend, error, tolerance(errors["eager"]))
    timings = interleaved({name: _waited(run, place) for name, run in passes.items()}, seconds)
    row: dict[str, Any] = {
        "model": regime.model,
        "features": regime.features,
        "layers": regime.layers,
        "batch": regime.batch,
    }
    for backend in ("eager", fused.name):
        timing = timings.get(backend)
        row[f"{backend}_ms"] = timing and 1e3 * timing.minimum
        row[f"{backend}_median_ms"] = timing and 1e3 * timing.median
        row[f"{backend}_error"] = errors.get(backend)
    row["ratio"] = timings["eager"].minimum / timings[fused.name].minimum if there else None
    return row


def _waited(run: Callable[[], object], place: torch.device) -> Callable[[], object]:
    """The function, over when the device has done what it was sent."""
    if place.type != "cuda":
        return run

    def whole() -> None:
        run()
        torch.cuda.synchronize(place)

    return whole


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
