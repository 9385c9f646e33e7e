"""The fused kernels are the flow: values, gradients, layouts, and numbers at the edge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from families import ACTIVATIONS, F64, PRESETS, Factors, preset, random, skew, state
from hdnn.flow import Flow
from hdnn.integrators import RungeKutta4
from hdnn.interconnections import Fixed
from hdnn.kernels import calls, native
from native_cases import (
    DAMPED,
    DAMPED_COMBINATIONS,
    F32,
    FUSED,
    SETS,
    compare,
    each,
    error,
    instruction_set,
    oracle,
    results,
    taps,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

# Values and gradients ---------------------------------------------------------------------------------------------


def test_every_machine_has_the_baseline() -> None:
    assert SETS[0] == "baseline"
    assert calls.extension.instruction_set() == SETS[-1]
    assert calls.extension.choose_instruction_set("abacus") is None
    assert calls.extension.instruction_set() == SETS[-1]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@each
def test_presets_are_the_oracle(name: str, activation: str, shared: bool) -> None:
    seed = sum(map(ord, name + activation))
    for k in (None, 1):
        flow = preset(name, 6, 4, 1.0, seed, activation=ACTIVATIONS[activation], shared=shared, kernel_size=k)
        compare(flow, state(flow, 3 if k else 11, seed=seed + 1))


@pytest.mark.parametrize("factors", FUSED, ids=str)
def test_combinations_are_the_oracle(factors: Factors) -> None:
    seed = sum(map(ord, str(factors)))
    activation = list(ACTIVATIONS.values())[seed % len(ACTIVATIONS)]
    flow = factors.flow(6, 3, 1.0, seed, activation=activation)
    compare(flow, state(flow, 7, seed=seed))


@pytest.mark.parametrize("factors", DAMPED_COMBINATIONS, ids=str)
def test_damped_combinations_are_the_oracle(factors: Factors) -> None:
    seed = sum(map(ord, str(factors)))
    activation = list(ACTIVATIONS.values())[seed % len(ACTIVATIONS)]
    options = {"activation": activation, "integrator": DAMPED[factors.integrator]}
    for n, layers, k, shared in ((6, 3, None, False), (4, 5, 1, True), (18, 2, None, True)):
        flow = factors.flow(n, layers, 0.7, seed, kernel_size=k, shared=shared, **options)
        compare(flow, state(flow, 7, seed=seed))


@pytest.mark.long
@pytest.mark.parametrize("width", [None, 7])
def test_depths_of_damping_and_of_stages(width: int | None) -> None:
    """Deep enough for several segments of the recomputed trajectory."""
    damped = preset("h2", 66, 130, 1 / 8, step=0.02, integrator=DAMPED["SymplecticEuler_p"], width=width and 8)
    staged = preset("h1", 34, 130, 1 / 6, step=0.02, integrator=RungeKutta4(), width=width)
    for flow in (damped, staged):
        compare(flow, state(flow, 3), sets=SETS[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("factors", FUSED, ids=str)
def test_all_combinations_are_the_oracle(factors: Factors, activation: str) -> None:
    for n, k, shared in ((4, 1, False), (10, None, True), (6, None, False)):
        flow = factors.flow(n, 3, 0.8, n, activation=ACTIVATIONS[activation], shared=shared, kernel_size=k)
        compare(flow, state(flow, 5, seed=n))


# Only these two exist in odd sizes, h1 with another J than the canonical one.
SIZES = [(name, n) for name in PRESETS for n in (2, 3, 4, 5, 16, 33, 48, 128) if n % 2 == 0 or name in ("ms2", "h1")]


@pytest.mark.parametrize(("name", "features"), SIZES)
def test_sizes(name: str, features: int) -> None:
    options = {"interconnection": Fixed(skew(features, seed=7))} if name == "h1" and features % 2 else {}
    flow = preset(name, features, 2, 1.0 / features**0.5, seed=features, **options)
    compare(flow, state(flow, 65))


WIDTHS = [(name, m) for name in ("h1", "h2") for m in (1, 2, 5, 7, 20, 40) if m % 2 == 0 or name == "h1"]


@pytest.mark.parametrize(("name", "width"), WIDTHS)
def test_widths(name: str, width: int) -> None:
    flow = preset(name, 6, 3, width=width)
    compare(flow, state(flow, 9))


@pytest.mark.parametrize("batch", [0, 1, 63, 64, 65, 1000])
@each
def test_batches(name: str, batch: int) -> None:
    for n in (4, 34):
        flow = preset(name, n, 2)
        compare(flow, state(flow, batch), sets=SETS if n == 4 else SETS[-1:])


@pytest.mark.parametrize(("features", "layers"), [(4, 0), (4, 1), (4, 1000), (66, 130)])
@each
def test_depths(name: str, features: int, layers: int) -> None:
    """Deep enough for several segments of the recomputed trajectory."""
    flow = preset(name, features, layers, 1.0 / features**0.5, step=2.0 / max(layers, 1))
    compare(flow, state(flow, 3), sets=SETS[-1:] if layers > 1 else SETS)


def test_step_sizes_and_odd_widths_of_a_per_layer_matrix() -> None:
    flow = Factors("Dense_wide", "per_layer_skew", "ForwardEuler").flow(5 + 1, 4, step=0.7)
    compare(flow, state(flow, 66))


# Layouts ----------------------------------------------------------------------------------------------------------


VECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y,
    "every second row": lambda y: y.repeat_interleave(2, 0)[::2],
    "transposed": lambda y: y.mT.contiguous().mT,
    "a column slice": lambda y: torch.cat([y, y + 1, y + 2], -1)[..., : y.shape[-1]],
    "every second feature": lambda y: y.repeat_interleave(2, -1)[..., ::2],
    "one sample for all": lambda y: y[:1].expand(y.shape),
    "one number for all": lambda y: y[:1, :1].expand(y.shape),
    "an offset": lambda y: torch.cat([y[:1], y])[1:],
    "a negative": lambda y: torch._neg_view(-y),
    "an imaginary part": lambda y: torch.complex(y, -y).conj().imag,
}
IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y,
    "channels last": lambda y: y.contiguous(memory_format=torch.channels_last),
    "every second image": lambda y: y.repeat_interleave(2, 0)[::2],
    "a channel slice": lambda y: torch.cat([y, y], 1)[:, : y.shape[1]],
    "a pixel slice": lambda y: torch.cat([y, y], 3)[..., : y.shape[3]],
    "rows and columns swapped": lambda y: y.mT.contiguous().mT,
    "batch and channels swapped": lambda y: y.transpose(0, 1).contiguous().transpose(0, 1),
    "one image for all": lambda y: y[:1].expand(y.shape),
    "one pixel for all": lambda y: y[..., :1, :1].expand(y.shape),
    "one channel for all": lambda y: y[:, :1].expand(y.shape),
    "an imaginary part": lambda y: torch.complex(y, -y).conj().imag,
}


def layouts_agree(flow: Flow, y: Tensor, g: Tensor) -> None:
    flow.backend = "native"
    mine = results(flow, flow, y, g)
    truth = results(lambda x: oracle(flow, x), flow, y.contiguous().resolve_neg(), g.contiguous().resolve_neg())
    assert error(mine, truth) <= 1e-12


@pytest.mark.parametrize("layout", VECTORS)
@pytest.mark.parametrize("name", ["ms2", "h1", "h2"])
def test_layouts_of_vectors(name: str, layout: str) -> None:
    flow = preset(name)
    y, g = state(flow, 67), random(67, 4, seed=6)
    layouts_agree(flow, VECTORS[layout](y), g)
    layouts_agree(flow, y, VECTORS[layout](g))


@pytest.mark.parametrize("layout", IMAGES)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (1, 9), (9, 1), (13, 11), (0, 3)])
def test_layouts_of_images(layout: str, size: tuple[int, int]) -> None:
    flow = preset("h2", kernel_size=1)
    y, g = state(flow, 3, size=size), random(3, 4, *size, seed=6)
    layouts_agree(flow, IMAGES[layout](y), g)
    layouts_agree(flow, y, IMAGES[layout](g))


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_free_leading_dimensions(leading: tuple[int, ...]) -> None:
    flow = preset("h2", backend="native")
    layouts_agree(flow, state(flow, *leading), random(*leading, 4, seed=6))
    if len(leading) > 1:
        layouts_agree(flow, state(flow, *leading).transpose(0, 1), random(*leading, 4, seed=6).transpose(0, 1))
    one = preset("h1", kernel_size=1, backend="native")
    image = state(one)
    assert torch.equal(one(image), one(image[None])[0])


def test_the_layout_of_parameters_does_not_matter() -> None:
    flow = preset("h1", 4, 3, backend="native")
    y = state(flow, 5)
    spread = {name: p.detach().repeat_interleave(2, 0)[::2].mT.contiguous().mT for name, p in flow.named_parameters()}
    assert torch.equal(functional_call(flow, spread, (y,)), flow(y))
    one = {name: p.detach()[:1].expand(p.shape) for name, p in flow.named_parameters()}
    same = preset("h1", 4, 3, shared=True, backend="eager")
    with torch.no_grad():
        same.weight.copy_(flow.weight[:1])
        same.bias.copy_(flow.bias[:1])
    assert error([functional_call(flow, one, (y,))], [same(y)]) <= 1e-12


# What may not leak into a result ----------------------------------------------------------------------------------


@taps
@each
def test_uninitialised_memory_is_never_read(name: str, k: int | None) -> None:
    flow = preset(name, kernel_size=k, backend="native")
    y = state(flow, 5)
    g = random(*y.shape, seed=6)
    clean = results(flow, flow, y, g)
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        assert torch.empty(3).isnan().all()
        for size in (1 << 8, 1 << 12, 1 << 16, 1 << 18):  # freed memory full of NaN for the scratch to meet
            torch.full((size,), float("nan"))
        dirty = results(flow, flow, y, g)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
    assert all(map(torch.equal, clean, dirty))


@pytest.mark.parametrize("name_of_set", SETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_nan_spoils_its_own_sample_only(activation: str, dtype: torch.dtype, name_of_set: str) -> None:
    with instruction_set(name_of_set):
        for name in PRESETS:
            flow = preset(name, 4, 2, activation=ACTIVATIONS[activation], dtype=dtype, backend="native")
            y = state(flow, 70).to(dtype)
            g = random(70, 4, seed=6).to(dtype)
            clean = results(flow, flow, y, g)
            bad, others = 66, torch.arange(70) != 66
            y[bad] = float("nan")
            dirty = results(flow, flow, y, g)
            assert dirty[0][bad].isnan().all()
            for a, b in zip(clean[:2], dirty[:2], strict=True):
                assert torch.equal(a[others], b[others])


@pytest.mark.parametrize("dtype", [F32, F64])
def test_idle_lanes_cannot_overflow(dtype: torch.dtype) -> None:
    """A sample that rests where every unit is off, in a flow in which a state of zeros would blow up."""
    layers = 400
    flow = preset("h1", 4, layers, activation=ACTIVATIONS["relu"], step=1.0, dtype=dtype, backend="native")
    with torch.no_grad():
        flow.weight.copy_(3 * random(4, 4, seed=4).expand(layers, 4, 4))
        flow.bias.fill_(1)
    rest = torch.linalg.solve(flow.weight[0].double(), -6 * torch.ones(4, dtype=F64)).to(dtype)
    assert not flow(torch.zeros(1, 4, dtype=dtype)).isfinite().all()
    out, *gradients = results(flow, flow, rest[None], torch.ones(1, 4, dtype=dtype))
    assert torch.equal(out[0], rest)
    assert all(x.isfinite().all() for x in gradients)
