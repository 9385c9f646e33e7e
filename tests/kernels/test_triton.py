"""The programs of the Triton backend are the flow: values, gradients, layouts, and numbers at the edge.

They run in Triton's interpreter, on the processor, or with `pytest --device cuda` on a device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from test_native import IMAGES, VECTORS
from torch import Tensor
from torch.func import functional_call

from families import ACTIVATIONS, DEVICE, DISSIPATIONS, F64, LITERATURE, PRESETS, Factors, preset, skew, state
from hdnn.flow import Flow
from hdnn.interconnections import Fixed
from hdnn.kernels import launches
from native_cases import DAMPED, DAMPED_COMBINATIONS, F32, FUSED, error, oracle, results
from triton_cases import QUIET, RUNS, compare, random, wide_tiles

pytestmark = [RUNS, QUIET]

RUN = [c for c in FUSED if c.integrator != "RungeKutta4"]
FEW = [c for c in RUN if (c.structure, c.interconnection) in LITERATURE and c.integrator[-2:] != "_q"]
SOME = [c if c in FEW else pytest.param(c, marks=pytest.mark.slow) for c in RUN]
each = pytest.mark.parametrize("name", PRESETS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@each
def test_presets_are_the_oracle(name: str, activation: str) -> None:
    seed = sum(map(ord, name + activation))
    flow = preset(name, 6, 3, 1.0, seed, activation=ACTIVATIONS[activation], shared=seed % 3 == 0)
    compare(flow, state(flow, 7, seed=seed + 1))


@pytest.mark.parametrize("factors", SOME, ids=str)
def test_combinations_are_the_oracle(factors: Factors) -> None:
    seed = sum(map(ord, str(factors)))
    flow = factors.flow(6, 2, 1.0, seed, activation=list(ACTIVATIONS.values())[seed % len(ACTIVATIONS)])
    compare(flow, state(flow, 5, seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("factors", FEW, ids=str)
def test_all_activations_of_the_literature_are_the_oracle(factors: Factors, activation: str) -> None:
    for n, k, shared in ((4, 1, False), (10, None, True)):
        flow = factors.flow(n, 2, 0.8, n, activation=ACTIVATIONS[activation], shared=shared, kernel_size=k)
        compare(flow, state(flow, 5, seed=n, size=(2, 3)))


@pytest.mark.parametrize(
    "factors", [c if i % 6 == 0 else pytest.param(c, marks=pytest.mark.slow) for i, c in enumerate(DAMPED_COMBINATIONS)]
)
def test_damped_combinations_are_the_oracle(factors: Factors) -> None:
    for n, layers, k, shared in ((6, 3, None, False), (4, 3, 1, True)):
        flow = factors.flow(n, layers, 0.7, 5, kernel_size=k, shared=shared, integrator=DAMPED[factors.integrator])
        compare(flow, state(flow, 5, size=(2, 3)))


@pytest.mark.parametrize("J", DISSIPATIONS)
def test_dissipation(J: str) -> None:
    flow = preset("h1", 4, 3, interconnection=DISSIPATIONS[J](4, 3))
    compare(flow, state(flow, 5))


SIZES = [(name, n) for name in ("ms2", "h1", "h2") for n in (2, 3, 5, 16, 33, 64, 128) if n % 2 == 0 or name != "h2"]


@pytest.mark.parametrize(("name", "features"), SIZES)
def test_sizes(name: str, features: int) -> None:
    options = {"interconnection": Fixed(skew(features, seed=7))} if name == "h1" and features % 2 else {}
    with wide_tiles(features):
        flow = preset(name, features, 2, 1.0 / features**0.5, seed=features, **options)
        compare(flow, state(flow, 3 if features > 16 else 33))


@pytest.mark.parametrize("few", [-1, 1 << 30])
@pytest.mark.parametrize(("name", "features"), [("h1", 4), ("ms2", 8), ("h2", 16), ("h1", 16)])
def test_tiles_of_more_samples(name: str, features: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "FEW", few)
    monkeypatch.setattr(launches, "MANY", 0)
    shape = launches.shape_of(preset(name, features, backend="eager").plan, 150)
    assert (16 if few > 0 and features > 4 else 32 if few > 0 else 128 if shape.F <= 4 else 64) == shape.S
    flow = preset(name, features, 2, 1.0 / features**0.5, seed=features)
    compare(flow, state(flow, 150))


@pytest.mark.parametrize(("name", "width"), [("h1", m) for m in (1, 5, 20)] + [("h2", m) for m in (2, 14)])
def test_widths(name: str, width: int) -> None:
    flow = preset(name, 6, 2, width=width)
    compare(flow, state(flow, 9))


@pytest.mark.parametrize("batch", [0, 1, 31, 32, 33, pytest.param(1000, marks=pytest.mark.slow)])
@each
def test_batches(name: str, batch: int) -> None:
    flow = preset(name, 4, 2)
    compare(flow, state(flow, batch))


# A thousand layers take a minute: of shared weights, whose gradients are added up layer by layer, one of each method.
DEPTHS = [
    pytest.param(name, layers, shared, marks=pytest.mark.slow if layers > 1 else ())
    for name in PRESETS
    for layers in (0, 1, 1000)
    for shared in ((False, True) if layers <= 1 or name in ("h1", "h2") else (False,))
]


@pytest.mark.parametrize(("name", "layers", "shared"), DEPTHS)
def test_depths(name: str, layers: int, shared: bool) -> None:
    flow = preset(name, 4, layers, 0.5, step=2.0 / max(layers, 1), shared=shared)
    compare(flow, state(flow, 3))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("factors", FEW[::3], ids=str)
def test_segments_and_programs_of_several_blocks(
    factors: Factors, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is bounded: ends of segments, and partial sums of few programs."""
    monkeypatch.setattr(launches, "SEGMENT", 2)
    monkeypatch.setattr(launches, "PROGRAMS", 2)
    damped = {"integrator": DAMPED[factors.integrator]} if factors.integrator in DAMPED else {}
    layers = 3 if factors.interconnection.startswith("per_layer") else 5
    flow = factors.flow(6, layers, 0.7, shared=shared, **damped)
    compare(flow, state(flow, 100))


# Layouts ------------------------------------------------------------------------------------------------------------


def layouts_agree(flow: Flow, y: Tensor, g: Tensor) -> None:
    flow.backend = "triton"
    mine = results(flow, flow, y, g)
    truth = results(lambda x: oracle(flow, x), flow, y.contiguous().resolve_neg(), g.contiguous().resolve_neg())
    assert error(mine, truth) <= 1e-12


@pytest.mark.parametrize("layout", VECTORS)
@pytest.mark.parametrize("name", ["h1", "h2"])
def test_layouts_of_vectors(name: str, layout: str) -> None:
    flow = preset(name, 4, 2)
    y, g = state(flow, 37), random(37, 4, seed=6)
    layouts_agree(flow, VECTORS[layout](y), g)
    layouts_agree(flow, y, VECTORS[layout](g))


@pytest.mark.parametrize("layout", IMAGES)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (0, 3)])
def test_layouts_of_images(layout: str, size: tuple[int, int]) -> None:
    flow = preset("h2", 4, 2, kernel_size=1)
    y, g = state(flow, 3, size=size), random(3, 4, *size, seed=6)
    layouts_agree(flow, IMAGES[layout](y), g)
    layouts_agree(flow, y, IMAGES[layout](g))


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (0,), (2, 0)])
def test_free_leading_dimensions(leading: tuple[int, ...]) -> None:
    flow = preset("h2", 4, 2)
    layouts_agree(flow, state(flow, *leading), random(*leading, 4, seed=6))


def test_the_layout_of_parameters_does_not_matter() -> None:
    flow = preset("h1", 4, 3, backend="triton")
    y = state(flow, 5)
    spread = {name: p.detach().repeat_interleave(2, 0)[::2].mT.contiguous().mT for name, p in flow.named_parameters()}
    assert torch.equal(functional_call(flow, spread, (y,)), flow(y))


# Inputs that drive the steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ["ms2", "h1", "h2", "ms1"])
def test_driven_flows(name: str, whole: bool, shared: bool) -> None:
    options = {"inputs": 3, "shared": shared, "step": 0.1}
    make: Callable[..., Flow] = PRESETS[name]
    torch.manual_seed(3)
    flow = make(6, **options, dtype=F64) if shared else make(6, 4, **options, dtype=F64)
    flow.to(DEVICE)
    y, u = random(5, 6), random(4, 5, 3, seed=2)
    found = []
    for backend in ("eager", "triton"):
        flow.backend = backend
        y, u = y.detach().requires_grad_(), u.detach().requires_grad_()
        out = flow.trajectory(y, inputs=u) if whole else flow(y, inputs=u)
        found.append([out, *torch.autograd.grad(out, [y, u, *flow.parameters()], random(*out.shape, seed=9))])
    assert error(found[1], found[0]) <= 1e-12


# What may not leak into a result ------------------------------------------------------------------------------------


@each
def test_uninitialised_memory_is_never_read(name: str) -> None:
    flow = preset(name, 6, 2, backend="triton")
    y = state(flow, 5)
    g = random(*y.shape, seed=6)
    clean = results(flow, flow, y, g)
    torch.use_deterministic_algorithms(True)
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        assert torch.empty(3).isnan().all()
        dirty = results(flow, flow, y, g)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
    assert all(map(torch.equal, clean, dirty))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_spoils_its_own_sample_only(activation: str, dtype: torch.dtype) -> None:
    for name in ("ms2", "h2"):
        flow = preset(name, 4, 2, activation=ACTIVATIONS[activation], dtype=dtype, backend="triton")
        y, g = state(flow, 35).to(dtype), random(35, 4, seed=6).to(dtype)
        clean = results(flow, flow, y, g)
        for bad in (20, 34):  # the last stands in for idle lanes
            others = torch.arange(35, device=DEVICE) != bad
            spoilt = y.clone()
            spoilt[bad] = float("nan")
            dirty = results(flow, flow, spoilt, g)
            assert dirty[0][bad].isnan().all()
            for a, b in zip(clean[:2], dirty[:2], strict=True):
                assert torch.equal(a[others], b[others])


@pytest.mark.parametrize("number", [float("nan"), -0.0, 5e-324, 1e-310, float("inf")])
@pytest.mark.parametrize("name", ["ms1", "h1", "h2"])
def test_numbers_at_the_edge_in_every_input(name: str, number: float) -> None:
    """As the eager path: what is no number there is none here, and everything else agrees."""
    for where in ("y", "weight", "bias", "g"):
        flow = preset(name, 4, 2)
        y, g = state(flow, 3), random(3, 4, seed=6)
        place = {"y": y, "g": g}.get(where)
        with torch.no_grad():
            (getattr(flow, where) if place is None else place).view(-1)[1] = number
        plain = copy.deepcopy(flow).cpu()  # products on a device may multiply what is infinite by their own zeros
        truth = results(plain, plain, y.cpu(), g.cpu())
        flow.backend = "triton"
        for mine, theirs in zip((x.cpu() for x in results(flow, flow, y, g)), truth, strict=True):
            if number == number and abs(number) < 1:
                torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
            else:
                sound = theirs.isfinite() & mine.isfinite()
                torch.testing.assert_close(mine[sound], theirs[sound], rtol=1e-11, atol=1e-12)
                assert not (mine.isfinite() & ~theirs.isfinite()).any()


def test_idle_lanes_cannot_overflow() -> None:
    """A sample that rests where every unit is off, in a flow in which a state of zeros would blow up."""
    layers = 400
    flow = preset("h1", 4, layers, activation=ACTIVATIONS["relu"], step=1.0, dtype=F32, backend="triton")
    with torch.no_grad():
        flow.weight.copy_(3 * random(4, 4, seed=4).expand(layers, 4, 4))
        flow.bias.fill_(1)
    ones = torch.ones(1, 4, device=DEVICE)
    rest = torch.linalg.solve(flow.weight[0].double(), -6 * ones[0].double()).to(F32)
    assert not flow(0 * ones).isfinite().all()
    out, *gradients = results(flow, flow, rest[None], ones)
    assert torch.equal(out[0], rest)
    assert all(x.isfinite().all() for x in gradients)


def test_the_same_numbers_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "PROGRAMS", 3)
    flow = preset("h1", 6, 3, backend="triton").to(F32)
    y, g = state(flow, 200).to(F32), random(200, 6, seed=6).to(F32)
    first, again = (results(flow, flow, y, g) for _ in range(2))
    assert all(map(torch.equal, first, again))
