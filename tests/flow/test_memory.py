"""Each `memory` gives the gradients of "store", in the memory that it promises."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.utils.flop_counter import FlopCounterMode

from families import (
    ACTIVATIONS,
    COMBINATIONS,
    INTEGRATORS,
    PRESETS,
    REPRESENTATIVE,
    Factors,
    preset,
    random,
    state,
    tight,
)
from hdnn.flow import Flow
from hdnn.hamiltonian import Field
from hdnn.integrators import ForwardEuler
from memory_cases import KINDS, both, error, every_kind, gradients, kept, sparing, sparing_of

CASES = [
    pytest.param(f, memory, id=f"{'-'.join(f)}-{memory}", marks=() if f in REPRESENTATIVE else pytest.mark.slow)
    for f in COMBINATIONS
    for memory in sparing_of(f.integrator)
]


def agree(flow: Flow, truth: Flow, *leading: int) -> None:
    y = state(flow, *leading)
    g = random(*y.shape, seed=6)
    mine, stored = gradients(flow, y, g), gradients(truth, y, g)
    assert torch.equal(mine[0], stored[0])
    assert error(mine, stored) <= 1e-12


# Values and gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factors", "memory"), CASES)
def test_every_combination(factors: Factors, memory: str) -> None:
    agree(*both(lambda **o: factors.flow(4, 5, **o), memory), 3)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize(("name", "memory"), [(name, memory) for name in PRESETS for memory in sparing_of(name)])
def test_presets(name: str, memory: str, k: int | None, shared: bool) -> None:
    flows = both(lambda **o: preset(name, 4, 3, kernel_size=k, shared=shared, **o), memory)
    agree(*flows, 2)
    if k is None:
        agree(*flows)
        agree(*flows, 2, 1, 3)


@pytest.mark.parametrize("layers", [0, 1, 2, 3, 4, 10, 17])
@sparing
def test_depths(memory: str, layers: int) -> None:
    agree(*both(lambda **o: preset("h2", 4, layers, **o), memory), 2)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@sparing
def test_activations(memory: str, activation: str) -> None:
    agree(*both(lambda **o: preset("h2", 4, 5, activation=ACTIVATIONS[activation], **o), memory), 2)


@sparing
def test_odd_features(memory: str) -> None:
    agree(*both(lambda **o: preset("ms2", 5, 4, **o), "recompute"), 3)
    agree(*both(lambda **o: Factors("Dense", "skew", "ImplicitMidpoint").flow(5, 4, **o), memory), 3)


class Residual(ForwardEuler):
    """An invertible residual layer: where h times the Lipschitz constant of f is below 1, y = y⁺ − h f(y) contracts."""

    reversible: ClassVar[bool] = True

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        before = y
        for _ in range(100):
            before = y - h * field(before)
        return before


@pytest.mark.parametrize("k", [None, 1, 3])
def test_an_integrator_of_ones_own_that_moves_no_halves(k: int | None) -> None:
    flow, truth = (preset("h1", 4, 5, kernel_size=k, step=0.05, backend="eager", memory="store") for _ in range(2))
    flow.integrator, flow.memory = Residual(), "reverse"
    agree(flow, truth, 3)
    if k is None:
        assert kept(flow, state(flow, 1000)) == 2
    with pytest.raises(ValueError, match="`ForwardEuler` does not state"):
        flow.integrator = ForwardEuler()


@every_kind
def test_gradients_that_nobody_asks_for(kind: str, memory: str) -> None:
    flow, truth = both(KINDS[kind], memory)
    y, names = state(flow, 2), [name for name, _ in flow.named_parameters()]
    for asked in ([], ["y"], names, ["bias"], ["weight"], ["y", "bias"], ["interconnection_weight", "y"]):
        results = []
        for each in (flow, truth):
            each.zero_grad()
            start = y.clone().requires_grad_("y" in asked)
            for name, parameter in each.named_parameters():
                parameter.requires_grad_(name in asked)
            out = each(start)
            if asked:
                out.sin().sum().backward()
            results.append([out, start.grad, *(parameter.grad for parameter in each.parameters())])
        for a, b in zip(*results, strict=True):
            assert (a is None) is (b is None)
            if a is not None:
                assert a.requires_grad is b.requires_grad
                tight(a, b)


@every_kind
def test_frozen_weights_cost_no_work(kind: str, memory: str) -> None:
    flow = KINDS[kind](backend="eager", memory=memory)
    y = state(flow, 2).requires_grad_()
    work = []
    for trained in (True, False):
        with FlopCounterMode(display=False) as counter:
            flow.requires_grad_(trained)(y).sum().backward()
        work.append(counter.get_total_flops())
    assert work[1] < 0.85 * work[0]


@sparing
def test_without_gradients(memory: str) -> None:
    flow, truth = both(KINDS["halves"], memory)
    y = state(flow, 2).requires_grad_()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert not flow(y).requires_grad
            assert torch.equal(flow(y), truth(y))
    assert torch.equal(flow.eval()(y), truth(y))
    with torch.no_grad():
        inner = grad(lambda y: flow(y).square().sum())(y)
    tight(inner, grad(lambda y: truth(y).square().sum())(y))


@sparing
def test_a_graph_is_used_twice(memory: str) -> None:
    flow = KINDS["learned"](memory=memory)
    y = state(flow, 2).requires_grad_()
    out = flow(y).square().sum()
    inputs = [y, *flow.parameters()]
    once = torch.autograd.grad(out, inputs, retain_graph=True)
    for a, b in zip(once, torch.autograd.grad(out, inputs), strict=True):
        assert torch.equal(a, b)


@sparing
def test_autocast_is_that_of_the_forward_pass(memory: str) -> None:
    """A layer undone in another precision would be another layer."""
    flow, truth = (each.float() for each in both(KINDS["images"], memory))
    y = state(flow, 2).float().requires_grad_()
    results: dict[bool, list[Any]] = {True: [], False: []}
    for forward in (True, False):
        for each in (flow, truth):
            with torch.autocast("cpu", torch.bfloat16, enabled=forward):
                out = each(y).sum()
            with torch.autocast("cpu", torch.bfloat16, enabled=not forward):
                results[forward].append(torch.autograd.grad(out, [y, each.weight]))
        assert error(*results[forward]) < 1e-5
    assert error(results[True][0], results[False][0]) > 1e-4


# What is kept, and how well a flow is undone ------------------------------------------------------------------------


def peak(flow: Flow, y: Tensor) -> float:
    """The most that forward and backward passes allocate at one time, in states."""
    y = y.detach().requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        flow(y).square().mean().backward()
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes)) / (y.numel() * y.element_size())


@pytest.mark.parametrize("name", INTEGRATORS)
def test_states_that_are_kept(name: str) -> None:
    for layers in (3, 4, 20):
        flow = Factors("BlockDiagonal", "canonical", name).flow(4, layers, backend="eager", memory="recompute")
        y = state(flow, 1000)
        assert kept(flow, y) == math.ceil(layers / math.isqrt(layers))
        flow.memory = "store"
        assert kept(flow, y) >= 2 * layers
        if "reverse" in sparing_of(name):
            flow.memory = "reverse"
            assert kept(flow, y) == 2


@pytest.mark.long
def test_memory_of_convolutions_against_depth() -> None:
    """The work of "reverse" is that of one layer, and of "recompute" that of √N, both passes taken together."""

    def peaks(memory: str) -> tuple[float, float]:
        shallow, deep = (preset("h2", 4, layers, kernel_size=3, memory=memory) for layers in (4, 25))
        y = state(shallow, 32, size=(16, 16))
        return peak(shallow, y), peak(deep, y)

    shallow, deep = peaks("reverse")
    assert deep <= shallow + 1
    shallow, deep = peaks("recompute")
    assert deep <= 2.5 * shallow
    shallow, deep = peaks("store")
    assert deep >= 4 * shallow


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the memory counters of Linux")
def test_the_process_does_not_grow_with_the_depth() -> None:
    """Beyond what is allocated, holes between small and large tensors must not add up either."""
    grown = {
        (kind, layers): float(subprocess.check_output([sys.executable, "-c", GROWTH, kind, str(layers)]))
        for kind in ("vectors", "images")
        for layers in (16, 256)
    }
    for kind in ("vectors", "images"):
        assert grown[kind, 256] <= 1.2 * grown[kind, 16] + 4


GROWTH = """
import re, sys, torch, hdnn
torch.set_num_threads(1)
kernel_size, size = (None, (8192, 16)) if sys.argv[1] == "vectors" else (3, (64, 4, 28, 28))
flow = hdnn.h2(size[1], int(sys.argv[2]), step=0.05, kernel_size=kernel_size, backend="eager", memory="reverse")
y = torch.randn(size, requires_grad=True)
mebibytes = lambda key: int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024
flow[:1](y[:1]).sum().backward()  # loads what PyTorch loads late
for leaf in (y, *flow.parameters()):
    leaf.grad = torch.zeros_like(leaf)
open("/proc/self/clear_refs", "w").write("5")
before = mebibytes("VmRSS")
flow(y).square().mean().backward()
print(mebibytes("VmHWM") - before)
"""


@pytest.mark.parametrize("layers", [16, 64, *(pytest.param(n, marks=pytest.mark.slow) for n in (256, 1024))])
@pytest.mark.parametrize("name", ["h2", "ms1", "ms3", "StormerVerlet_p"])
def test_reversal_is_as_good_as_storing_at_small_steps(name: str, layers: int) -> None:
    options = {"std": 1 / math.sqrt(8), "step": 0.05, "backend": "eager"}
    if name in PRESETS:
        exact = preset(name, 8, layers, **options)  # type: ignore[arg-type]
    else:
        exact = Factors("BlockDiagonal", "canonical", name).flow(8, layers, **options)  # type: ignore[arg-type]
    exact = exact.float().double()
    y = state(exact, 8).float().double()
    g = random(*y.shape, seed=6).float().double()
    truth = gradients(exact, y, g)
    single = copy.deepcopy(exact).float()
    stored = error(gradients(single, y.float(), g.float()), truth)
    exact.memory = single.memory = "reverse"
    assert error(gradients(exact, y, g), truth) <= 1e-16 * layers
    assert error(gradients(single, y.float(), g.float()), truth) <= 2 * stored


def test_a_lost_way_back_raises() -> None:
    flow = preset("h2", 8, 200, 1.0, activation=ACTIVATIONS["relu"], backend="eager", memory="reverse").float()
    y = state(flow, 3).float()
    phrase = r'memory="reverse" lost its way back.*misses the input by up to \d.*\. Use memory="recompute", float64'
    with pytest.raises(RuntimeError, match=phrase):
        flow(y).sum().backward()
    flow.memory = "recompute"
    flow(y).sum().backward()
    flow.double().memory = "reverse"
    flow(y.double()).sum().backward()
