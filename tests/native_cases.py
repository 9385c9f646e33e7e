"""What the tests of the fused kernels share: the oracle, other instruction sets, other threads, and the comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from families import COMBINATIONS, INTEGRATORS, PRESETS, Factors, preset, random
from hdnn.flow import Flow
from hdnn.integrators import RungeKutta4, StormerVerlet, SymplecticEuler, Yoshida4
from hdnn.kernels import calls, native, reference, training
from hdnn.training.block import Block

F32 = torch.float32
FUSED = [c for c in COMBINATIONS if INTEGRATORS[c.integrator].kernel]
# Integrators that damp, some of which learn how much, in the place of those that do not.
DAMPED = {
    "SymplecticEuler_p": SymplecticEuler("p", 0.7, learn_damping=True),
    "SymplecticEuler_q": SymplecticEuler("q", 0.7, learn_damping=True),
    "StormerVerlet_p": StormerVerlet("p", 0.4),
    "Yoshida4_p": Yoshida4("p", 0.4, learn_damping=True),
}
DAMPED_COMBINATIONS = [c for c in FUSED if c.integrator in DAMPED]
each = pytest.mark.parametrize("name", PRESETS)
taps = pytest.mark.parametrize("k", [None, 1])


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """The kernels of another instruction set for a while."""
    before = calls.extension.instruction_set()
    calls.extension.choose_instruction_set(name)
    try:
        yield
    finally:
        calls.extension.choose_instruction_set(before)


def instruction_sets() -> list[str]:
    if not native.available():
        return []
    names = []
    for name in ("baseline", "avx2", "avx512"):
        with instruction_set(name):
            if calls.extension.instruction_set() == name:
                names.append(name)
    return names


SETS = instruction_sets()


class Fused(Block):
    """A block that takes steps."""

    def steps(
        self, x: Tensor, y: Tensor, weight: Tensor | None, order: Tensor, size: int, rates: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """One step for each rate, on batches of `size` rows in this order; the last batch may be smaller."""
        rows = order.shape[1]
        bounds = torch.tensor([*range(0, rows, size), rows])
        each = torch.tensor(rates, dtype=torch.float64)
        return training.train(self.setup, self.trainees, x, y, order, bounds, each, weight)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def twin(flow: Flow, backend: str = "eager") -> Flow:
    """The same flow with another backend."""
    other = copy.deepcopy(flow)
    other.backend = backend  # type: ignore[assignment]
    return other


def oracle(flow: Flow, y: Tensor) -> Tensor:
    """The run of the flow by `kernels.reference`, images pixel by pixel."""
    m, n, layers = flow.hamiltonian.hidden, flow.features, flow.layers
    K, b = flow.K.reshape(-1, m, n).expand(layers, m, n), flow.bias.expand(layers, m)
    J = flow._J()
    G = torch.eye(n).to(K).expand(layers, n, n) if J is None else J @ K.mT
    moved = y if flow.kernel_size is None else y.movedim(1, -1)
    rows, sigma = moved.reshape(-1, n), flow.activation.value
    step = reference.runge_kutta if flow.integrator.kernel == "runge_kutta" else reference.euler
    if moves := flow.integrator.fractions:
        rate = flow.integrator.damping if flow.damping_weight is None else flow.damping_weight.square()
        out = reference.partitioned(rows, K, b, G, flow.step, sigma, flow.integrator.first, moves, rate)
    else:
        out = step(rows, K, b, G, flow.step, sigma)
    out = out.reshape(moved.shape)
    return out if flow.kernel_size is None else out.movedim(-1, 1)


def results(run: Callable[[Tensor], Tensor], flow: Flow, y: Tensor, g: Tensor) -> list[Tensor]:
    """The output and the gradients of the state and of every parameter."""
    y = y.detach().requires_grad_()
    out = run(y)
    of = [y, *flow.parameters()]
    return [out.detach(), *torch.autograd.grad(out, of, g.to(out.device), allow_unused=True, materialize_grads=True)]


def error(mine: list[Tensor], truth: list[Tensor]) -> float:
    """The largest relative error in norm."""
    worst = 0.0
    for a, b in zip(mine, truth, strict=True):
        assert a.shape == b.shape
        off = (a.double() - b).norm() / b.norm().clamp_min(1e-300)
        assert off.isfinite() or b.numel() == 0
        worst = max(worst, off.item())
    return worst


def compare(flow: Flow, y: Tensor, seed: int = 50, sets: list[str] = SETS) -> None:
    """Kernels of every instruction set, in both precisions, against the oracle in float64 on the same numbers."""
    g = random(*y.shape, seed=seed)
    fast = twin(flow, "native")
    truth = results(lambda x: oracle(flow, x), flow, y, g)
    single = twin(fast).to(F32)
    exact = copy.deepcopy(single).double()
    small, cotangent = y.to(F32), g.to(F32)
    coarse = results(lambda x: oracle(exact, x), exact, small.double(), cotangent.double())
    bar = max(1e-5, 3 * error(results(single, single, small, cotangent), coarse))
    single.backend = "native"
    for name in sets:
        with instruction_set(name):
            off = error(results(fast, fast, y, g), truth)
            assert off <= 1e-12, f"{name}: {off}"
            off = error(results(single, single, small, cotangent), coarse)
            if off > bar:  # eager may have been lucky with these very numbers
                bar = max(bar, 3 * rounding(twin(single), small, cotangent))
            assert off <= bar, f"{name} float32: {off} > {bar}"


def rounding(single: Flow, y: Tensor, g: Tensor) -> float:
    """The worst error of eager float32 on weights that are a millionth away: what rounding costs here."""
    worst, lot = 0.0, torch.Generator().manual_seed(0)
    for _ in range(8):
        near = copy.deepcopy(single)
        with torch.no_grad():
            for weight in near.parameters():
                weight.mul_(1 + 1e-6 * torch.randn(weight.shape, generator=lot).to(weight.device))
        exact = copy.deepcopy(near).double()
        truth = results(lambda x, exact=exact: oracle(exact, x), exact, y.double(), g.double())
        worst = max(worst, error(results(near, near, y, g), truth))
    return worst


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


# One of each: free numbers, K in full, a matrix J Kᵀ, a learned J, shared weights.
TRANSFORMED = {
    **{name: lambda name=name, **o: preset(name, 4, 3, **o) for name in PRESETS},
    "learned": lambda **o: Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_q").flow(4, 3, **o),
    "seven moves": lambda **o: Factors("OffDiagonal", "block", "Yoshida4_p").flow(4, 3, **o),
    "per layer": lambda **o: Factors("Dense_wide", "per_layer_skew", "ForwardEuler").flow(4, 3, **o),
    "damped": lambda **o: preset("h2", 4, 3, integrator=DAMPED["SymplecticEuler_p"], **o),
    "stages": lambda **o: preset("h1", 4, 3, integrator=RungeKutta4(), **o),
    "shared": lambda **o: preset("h2", 4, 3, shared=True, **o),
    "images": lambda **o: preset("h2", 4, 3, kernel_size=1, **o),
}
