"""The fused kernels are the flow: values, gradients, layouts, threads, transforms, tracing, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from families import ACTIVATIONS, COMBINATIONS, F64, PRESETS, SMOOTH, Factors, fill, preset, random, skew, state
from hdnn.activations import tanh
from hdnn.flow import Flow
from hdnn.integrators import SymplecticEuler
from hdnn.interconnections import Fixed
from hdnn.kernels import native, reference

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

F32 = torch.float32
FUSED = [c for c in COMBINATIONS if c.integrator in ("ForwardEuler", "SymplecticEuler_p", "SymplecticEuler_q")]
each = pytest.mark.parametrize("name", PRESETS)
taps = pytest.mark.parametrize("k", [None, 1])


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """The kernels of another instruction set for a while."""
    before = native._native.instruction_set()
    native._native.choose_instruction_set(name)
    try:
        yield
    finally:
        native._native.choose_instruction_set(before)


def _instruction_sets() -> list[str]:
    if not native.available():
        return []
    names = []
    for name in ("baseline", "avx2", "avx512"):
        with instruction_set(name):
            if native._native.instruction_set() == name:
                names.append(name)
    return names


SETS = _instruction_sets()


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
    G = torch.eye(n, dtype=F64).expand(layers, n, n) if J is None else J @ K.mT
    moved = y if flow.kernel_size is None else y.movedim(1, -1)
    rows, sigma = moved.reshape(-1, n), flow.activation.value
    if isinstance(flow.integrator, SymplecticEuler):
        out = reference.partitioned(rows, K, b, G, flow.step, sigma, flow.integrator.first)
    else:
        out = reference.euler(rows, K, b, G, flow.step, sigma)
    out = out.reshape(moved.shape)
    return out if flow.kernel_size is None else out.movedim(-1, 1)


def results(run: Callable[[Tensor], Tensor], flow: Flow, y: Tensor, g: Tensor) -> list[Tensor]:
    """The output and the gradients of the state and of every parameter."""
    y = y.detach().requires_grad_()
    out = run(y)
    of = [y, *flow.parameters()]
    return [out.detach(), *torch.autograd.grad(out, of, g, allow_unused=True, materialize_grads=True)]


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
            assert off <= bar, f"{name} float32: {off} > {bar}"


# Values and gradients ---------------------------------------------------------------------------------------------


def test_every_machine_has_the_baseline() -> None:
    assert SETS[0] == "baseline"
    assert native._native.instruction_set() == SETS[-1]
    assert native._native.choose_instruction_set("abacus") is None
    assert native._native.instruction_set() == SETS[-1]


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


FORK = """
import os, signal, sys, torch, hdnn
torch.set_num_threads(2)
flow = hdnn.h2(features=4, layers=3, step=0.1, backend="native")
y = torch.randn(2000, 4)  # several chunks for the kernels, too few numbers for PyTorch's own threads
if sys.argv[1] == "after":
    expected = flow(y)
else:  # PyTorch has started the threads, and the flow has not run yet
    torch.randn(2000, 2000).exp().sum()
child = os.fork()
if child == 0:
    signal.alarm(20)
    out = flow(y)
    out.sum().backward()
    os._exit(0 if sys.argv[1] == "before" or torch.equal(out, expected) else 3)
_, status = os.waitpid(child, 0)
flow(y).sum().backward()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("when", ["after", pytest.param("before", marks=pytest.mark.slow)])
def test_a_forked_child_does_not_hang(when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, when], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# Transforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", SMOOTH)
@taps
@each
def test_gradcheck(name: str, k: int | None, activation: str) -> None:
    flow = preset(name, 4, 2, kernel_size=k, activation=ACTIVATIONS[activation], backend="native", step=0.3)
    names, values = zip(*flow.named_parameters(), strict=True)

    def call(y: Tensor, *values: Tensor) -> Tensor:
        return functional_call(flow, dict(zip(names, values, strict=True)), (y,))  # type: ignore[no-any-return]

    inputs = (state(flow, 1, size=(1, 2)), *(v.detach().clone() for v in values))
    assert torch.autograd.gradcheck(call, tuple(x.requires_grad_() for x in inputs))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


# One of each: free numbers, K in full, a matrix J Kᵀ, a learned J, shared weights.
TRANSFORMED = {
    **{name: lambda name=name, **o: preset(name, 4, 3, **o) for name in PRESETS},
    "learned": lambda **o: Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_q").flow(4, 3, **o),
    "per layer": lambda **o: Factors("Dense_wide", "per_layer_skew", "ForwardEuler").flow(4, 3, **o),
    "shared": lambda **o: preset("h2", 4, 3, shared=True, **o),
    "images": lambda **o: preset("h2", 4, 3, kernel_size=1, **o),
}


@pytest.mark.parametrize("kind", TRANSFORMED)
def test_transforms(kind: str) -> None:
    fast, slow = TRANSFORMED[kind](backend="native"), TRANSFORMED[kind](backend="eager")
    one = state(fast) if fast.kernel_size is None else state(fast, 1)
    many = random(5, *one.shape, seed=8)
    params = {name: p.detach() for name, p in fast.named_parameters()}
    stacked = {name: torch.stack([p + 0.1 * j for j in range(3)]) for name, p in params.items()}

    def loss(flow: Flow, p: dict[str, Tensor], y: Tensor) -> Tensor:
        return functional_call(flow, p, (y,)).sin().sum()  # type: ignore[no-any-return]

    def both(f: Callable[[Flow], Any]) -> None:
        for a, b in zip(*(torch.utils._pytree.tree_leaves(f(flow)) for flow in (fast, slow)), strict=True):
            close(a, b)

    both(lambda flow: jacrev(flow)(one))
    both(lambda flow: vmap(flow)(many))
    both(lambda flow: vmap(flow, in_dims=1, out_dims=1)(many.movedim(0, 1)))
    both(lambda flow: vmap(jacrev(flow))(many))
    both(lambda flow: vmap(vmap(flow))(random(2, 5, *one.shape)))
    both(lambda flow: grad(lambda p: loss(flow, p, one))(params))
    both(lambda flow: jacrev(lambda p: functional_call(flow, p, (one,)))(params))
    both(lambda flow: vmap(lambda p: functional_call(flow, p, (one,)))(stacked))
    both(lambda flow: vmap(grad(lambda p: loss(flow, p, one)))(stacked))
    both(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)), in_dims=(None, 0))(params, many))
    both(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)))(stacked, many[:3]))
    both(lambda flow: vmap(vmap(lambda p, y: functional_call(flow, p, (y,)), (None, 0)), (0, None))(stacked, many))
    both(lambda flow: vmap(vmap(grad(lambda p, y: loss(flow, p, y)), (None, 0)), (0, None))(stacked, many))
    both(lambda flow: vmap(jacrev(lambda p: functional_call(flow, p, (one,))))(stacked))
    # one of the parameters mapped, the others shared
    for name, values in stacked.items():
        both(lambda flow, n=name, v=values: vmap(grad(lambda x: loss(flow, {**params, n: x}, one)))(v))


def test_vmap_reaches_plain_autograd() -> None:
    fast, slow = preset("h2", backend="native"), preset("h2", backend="eager")
    y = state(fast, 5).requires_grad_()
    for flow in (fast, slow):
        flow.zero_grad()
        vmap(flow)(y).sin().sum().backward()
    close(fast.weight.grad, slow.weight.grad)  # type: ignore[arg-type]
    close(fast.bias.grad, slow.bias.grad)  # type: ignore[arg-type]


@taps
@each
def test_operators_are_well_formed(name: str, k: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    apply = native._apply
    monkeypatch.setattr(native, "_apply", lambda f, *x: (calls.append((f, x)), apply(f, *x))[1])
    flow = preset(name, kernel_size=k, backend="native")
    if name == "h1":
        flow = Factors("Dense_narrow", "skew", "ForwardEuler").flow(4, 3, kernel_size=k, backend="native")
    flow(state(flow, 3).requires_grad_()).sum().backward()
    names = {native._Run: torch.ops.hdnn.flow_run.default, native._Pull: torch.ops.hdnn.flow_pull.default}
    assert [f for f, _ in calls] == [native._Run, native._Pull]
    for function, (*tensors, flows, spec) in calls:
        plain = [None if x is None else x.detach() for x in tensors]
        checked = torch.library.opcheck(names[function], (*plain, flows, *spec))
        assert set(checked.values()) == {"SUCCESS"}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_runs_eagerly() -> None:
    flow = preset("h2")
    y, tangent = state(flow, 5), random(5, 4, seed=6)
    close(jvp(flow, (y,), (tangent,))[1], jvp(twin(flow), (y,), (tangent,))[1])
    close(jacfwd(flow)(y[0]), jacrev(flow)(y[0]))
    close(hessian(lambda x: flow(x).sin().sum())(y[0]), hessian(lambda x: twin(flow)(x).sin().sum())(y[0]))
    with torch.autograd.forward_ad.dual_level():
        out = flow(torch.autograd.forward_ad.make_dual(y, tangent))
        assert torch.autograd.forward_ad.unpack_dual(out).tangent is not None
    with pytest.raises(ValueError, match="no forward-mode"):
        jvp(twin(flow, "native"), (y,), (tangent,))


def test_a_second_derivative_is_refused() -> None:
    flow = preset("h2")
    y = state(flow, 5).requires_grad_()
    message = r'no second derivatives\. Make the flow with backend="eager"'
    (first,) = torch.autograd.grad(flow(y).sin().sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match=message):
        first.sum().backward()
    with pytest.raises(RuntimeError, match=message):
        jacrev(jacrev(lambda x: flow(x).sin().sum()))(y[0].detach())
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.functional.hvp(lambda x: flow(x).sin().sum(), y.detach(), y.detach())


# Tracing ----------------------------------------------------------------------------------------------------------


def compiles(flow: Flow, *batches: int, **options: Any) -> None:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(flow, fullgraph=True, **options)
        for batch in batches:
            y = state(flow, batch)
            g = random(*y.shape, seed=6)
            assert error(results(compiled, flow, y, g), results(flow, flow, y, g)) <= 1e-12


TRACED = [pytest.param(kind, marks=() if kind == "h2" else pytest.mark.slow) for kind in TRANSFORMED]


@pytest.mark.parametrize("kind", TRACED)
def test_compiles_as_one_graph(kind: str) -> None:
    compiles(TRANSFORMED[kind](backend="native"), 5, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFORMED)
def test_compiles_with_inductor_and_with_any_batch(kind: str) -> None:
    flow = TRANSFORMED[kind](backend="native")
    compiles(flow, 5, 7, 130, backend="aot_eager", dynamic=True)
    compiles(flow, 5, 7, backend="inductor")


@pytest.mark.parametrize("kind", TRACED)
def test_exported_programs_do_not_need_hdnn(kind: str) -> None:
    flow = TRANSFORMED[kind]()
    y = state(flow, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(flow, (y,))
    assert not [n.target for n in program.graph.nodes if "hdnn" in str(n.target)]
    close(program.module()(y), flow(y))


@pytest.mark.filterwarnings("ignore")
def test_older_tracers_see_the_run() -> None:
    """A call past the dispatcher would leave them a constant, or memory that nobody fills."""
    flow = preset("h2", backend="native")
    y, other = state(flow, 5), state(flow, 5, seed=9)
    for mode in ("real", "symbolic"):
        traced = make_fx(flow, tracing_mode=mode, _allow_non_fake_inputs=True)(y)
        close(traced(other), flow(other))
    close(torch.jit.trace(flow, (y,), check_trace=False)(other), flow(other))


@pytest.mark.parametrize("name", ["h1", "h2"])
def test_meta_and_fake_tensors(name: str) -> None:
    meta = PRESETS[name](4, 3, step=0.1, device="meta")
    out = meta(torch.empty(5, 4, device="meta"))
    out.sum().backward()
    assert (out.device.type, out.shape, meta.weight.grad is not None) == ("meta", (5, 4), True)
    flow = preset(name, backend="native")
    with FakeTensorMode() as mode:
        params = {n: mode.from_tensor(p) for n, p in flow.named_parameters()}
        out = functional_call(flow, params, (mode.from_tensor(state(flow, 5)),))
        assert (type(out).__name__, out.shape, out.dtype) == ("FakeTensor", (5, 4), F64)
        first, *_ = torch.autograd.grad(out.sum(), list(params.values()))
        assert first.shape == flow.weight.shape


def test_copies_and_files() -> None:
    flow = preset("h2", backend="native")
    y = state(flow, 5)
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert torch.equal(other(y), flow(y))

    class Own(Tensor):
        pass

    assert type(flow(y.as_subclass(Own))) is Own


# What is refused --------------------------------------------------------------------------------------------------


def test_auto_takes_the_kernels_where_they_serve_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = native.run
    monkeypatch.setattr(native, "run", lambda *x: (runs.append(1), run(*x))[1])
    flow = preset("h2")
    y = state(flow, 5)
    fast = flow(y)
    assert len(runs) == 1
    assert error([fast], [twin(flow)(y)]) <= 1e-12
    half = preset("h2", dtype=torch.bfloat16)
    half(y.to(torch.bfloat16))
    preset("h2", kernel_size=3)(random(1, 4, 5, 5))
    Factors("BlockDiagonal", "canonical", "RungeKutta4").flow(4, 2)(y)
    assert len(runs) == 1


def test_a_named_native_backend_does_not_fall_back() -> None:
    flow = preset("h2", backend="native")
    with pytest.raises(ValueError, match=r'backend="native" takes CPU tensors.*float32 state.*float64 weights'):
        flow(state(flow, 5).float())
    with pytest.raises(ValueError, match="bfloat16"):
        preset("h2", dtype=torch.bfloat16, backend="native")(state(flow, 5).to(torch.bfloat16))
    with pytest.raises(ValueError, match='Use backend="auto" or "eager"'):
        preset("h2", kernel_size=3, backend="native")


def test_parameters_that_were_swapped_for_others_are_refused() -> None:
    """The kernels read memory through sizes that the plan fixed; a wrong size would read beyond the end."""
    flow = preset("h1", interconnection=Fixed(skew(4)), backend="native")
    y = state(flow, 5)
    for name, p in flow.named_parameters():
        for other in (p[:2], p[..., :3], torch.cat([p, p])):
            with pytest.raises((ValueError, RuntimeError)):
                functional_call(flow, {name: other}, (y,))
    flow = preset("h2", backend="native")
    for name, p in flow.named_parameters():
        for other in (p[:2], p[..., :1], torch.cat([p, p])):
            with pytest.raises(ValueError, match="do not fit a flow of 4 features and 3 stored layers; got"):
                functional_call(flow, {name: other}, (y,))
    for other in (flow.bias.float(), flow.bias.to("meta")):
        with pytest.raises(ValueError, match="must all be float32 or all float64, on the CPU; got"):
            functional_call(flow, {"bias": other}, (y,))


def test_saturated_units_pass_no_gradient() -> None:
    """tanh(±20) is ±1 with slope 0, in a layer q⁺ = q − σ(p)."""
    for dtype in (F32, F64):
        flow = fill(PRESETS["h1"](2, 1, width=1, step=1.0, activation=tanh, dtype=dtype, backend="native"))
        with torch.no_grad():
            flow.weight.copy_(torch.tensor([[[1.0, 0.0]]]))
            flow.bias.zero_()
        p = torch.tensor([20.0, -20.0, 100.0, -1e30, float("inf"), -float("inf")], dtype=dtype)
        y = torch.stack([p, torch.zeros_like(p)], 1)
        out, to_y, *_ = results(flow, flow, y, torch.tensor([0.0, 1.0], dtype=dtype).expand(6, 2))
        assert torch.equal(out[:, 1], -p.sign())
        assert torch.equal(to_y[:, 0], torch.zeros(6, dtype=dtype))
