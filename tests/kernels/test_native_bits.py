"""The fused kernels give the same bits always: at any number of threads, in any block, whatever is kept."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import torch

from families import F64, preset, random, state
from hdnn.kernels import calls, native
from hdnn.kernels.backend import Layers
from native_cases import (
    F32,
    SETS,
    each,
    error,
    instruction_set,
    results,
    taps,
    threads,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")


@pytest.mark.parametrize("shared", [False, True])
@taps
@each
def test_the_same_bits_from_run_to_run_and_at_any_number_of_threads(name: str, k: int | None, shared: bool) -> None:
    flow = preset(name, 4, 3, kernel_size=k, shared=shared, dtype=F32, backend="native")
    y = state(flow, 37 if k else 5000, size=(9, 7)).to(F32)
    g = random(*y.shape, seed=6).to(F32)
    runs = []
    for count in (1, 1, 2, 2, 3):
        with threads(count):
            runs.append(results(flow, flow, y, g))
    for other in runs[1:]:
        assert all(map(torch.equal, runs[0], other))


def test_the_input_is_left_alone_and_a_change_before_backward_is_caught() -> None:
    flow = preset("h2", backend="native")
    y = state(flow, 5).requires_grad_()
    before, versions = y.detach().clone(), [p._version for p in flow.parameters()]
    flow(y).sum().backward()
    assert torch.equal(y, before)
    assert versions == [p._version for p in flow.parameters()]
    out = flow(y)
    with torch.no_grad():
        flow.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_backward_may_run_again_and_frozen_parts_get_no_gradient() -> None:
    flow = preset("h2", backend="native")
    y = state(flow, 5)
    flow.bias.requires_grad_(False)
    out = flow(y)
    first = torch.autograd.grad(out.sum(), flow.weight, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out.sum(), flow.weight)[0])
    assert flow.bias.grad is None
    with torch.no_grad():
        assert not flow(y).requires_grad
    with torch.inference_mode():
        assert flow(y).is_inference()


@pytest.mark.parametrize("name_of_set", SETS)
@pytest.mark.parametrize("dtype", [F32, F64])
@taps
@each
def test_a_kept_trajectory_and_unwanted_gradients_change_no_bit(
    name: str, k: int | None, dtype: torch.dtype, name_of_set: str
) -> None:
    flow = preset(name, 4, 5, kernel_size=k, dtype=dtype, backend="native")
    y = state(flow, 3 if k else 150).to(dtype)
    g = random(*y.shape, seed=6).to(dtype)
    weight = flow.K if calls.full_weights(flow.plan) else flow.weight
    with torch.no_grad(), instruction_set(name_of_set):
        out, kept = calls.forward(flow.plan, y, Layers(weight, flow.bias, None), keep=True)
        assert kept.numbers is not None
        assert torch.equal(out, calls.forward(flow.plan, y, Layers(weight, flow.bias, None))[0])
        recomputed = calls.backward(flow.plan, g, y, Layers(weight, flow.bias, None))
        assert same(recomputed, calls.backward(flow.plan, g, y, Layers(weight, flow.bias, None), kept=kept))
        to_y, *none = calls.backward(flow.plan, g, y, Layers(weight, flow.bias, None), weights_too=False)
        assert torch.equal(to_y, recomputed[0])
        assert none == [None, None, None]
        for other in SETS:  # what another instruction set kept is not read
            with instruction_set(other):
                kept = calls.forward(flow.plan, y, Layers(weight, flow.bias, None), keep=True)[1]
            assert same(recomputed, calls.backward(flow.plan, g, y, Layers(weight, flow.bias, None), kept=kept))


def same(a: calls.Gradients, b: calls.Gradients) -> bool:
    pairs = zip(a, b, strict=True)
    return all(x is y if x is None or y is None else torch.equal(x, y) for x, y in pairs)


def test_deep_or_large_runs_keep_nothing() -> None:
    """What is kept is bounded, whatever the depth and the batch."""
    for layers, batch in ((70_000, 4), (64, 20_000)):
        flow = preset("h1", 4, layers, dtype=F32, backend="native")
        with torch.no_grad():
            y = state(flow, batch).to(F32)
            assert calls.forward(flow.plan, y, Layers(flow.weight, flow.bias, None), keep=True)[1].numbers is None


@pytest.mark.parametrize("name_of_set", SETS)
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("features", [4, 6, 40])
@pytest.mark.parametrize("batch", [1, 31, 33, 100])
def test_few_samples_take_narrow_blocks_and_give_the_bits_of_wide_ones(
    batch: int, features: int, dtype: torch.dtype, name_of_set: str
) -> None:
    """Rows without a cotangent add zeros, as idle lanes do."""
    flow = preset("h2", features, 5, dtype=dtype, backend="native")
    layers = Layers(flow.weight.detach(), flow.bias.detach(), None)
    y, g = random(128, features).to(dtype), random(128, features, seed=6).to(dtype)
    g[batch:] = 0
    with instruction_set(name_of_set):
        few, kept = calls.forward(flow.plan, y[:batch], layers, keep=True)
        many = calls.forward(flow.plan, y, layers)[0]
        to_few = calls.backward(flow.plan, g[:batch], y[:batch], layers, kept=kept)
        to_many = calls.backward(flow.plan, g, y, layers)
    assert torch.equal(few, many[:batch])
    assert torch.equal(to_few[0], to_many[0][:batch])
    assert same((few, *to_few[1:]), (few, *to_many[1:]))
    assert kept.numbers is not None
    if features == 4 and batch < 33:
        rows = 128 // y.element_size()  # 32 lanes of float32: half a block, or less
        assert kept.numbers.numel() <= 2 * rows * 2 * (2 + 2) * flow.layers


def test_few_features_keep_what_fits_a_core_s_own_cache_and_no_more() -> None:
    """Beyond it, memory is shared: the same call would take twice as long beside others."""
    if (getconf := shutil.which("getconf")) is None:
        pytest.skip("the system does not tell the size of the second-level cache")
    told = subprocess.run([getconf, "LEVEL2_CACHE_SIZE"], capture_output=True, text=True, check=False).stdout.strip()
    cache = min(int(told), 1 << 23) if told.isdigit() and int(told) else 1 << 20
    flow = preset("h1", 4, 64, dtype=F32, backend="native")
    blocks = cache // (128 * 8 * 64 * 4)  # of 128 samples: 4 features and 4 hidden values a layer
    for batch, keeps in ((128 * blocks, True), (128 * (blocks + 1), False)):
        with torch.no_grad():
            kept = calls.forward(flow.plan, state(flow, batch).to(F32), Layers(flow.weight, flow.bias, None), keep=True)
        assert (kept[1].numbers is not None) == keeps


def test_batched_cotangents_of_plain_autograd() -> None:
    fast, slow = preset("h1", backend="native"), preset("h1", backend="eager")
    y, G = state(fast, 5), random(7, 5, 4, seed=6)
    found = []
    for flow in (fast, slow):
        x = y.detach().requires_grad_()
        found.append(torch.autograd.grad(flow(x), [x, *flow.parameters()], G, is_grads_batched=True))
    assert error(list(found[0]), list(found[1])) <= 1e-12
