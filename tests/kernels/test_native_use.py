"""The fused kernels in use: forks, transforms, tracing, copies, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from families import ACTIVATIONS, F64, PRESETS, SMOOTH, Factors, fill, preset, random, skew, state
from hdnn.activations import tanh
from hdnn.flow import Flow
from hdnn.interconnections import Fixed
from hdnn.kernels import calls, native
from native_cases import F32, TRANSFORMED, close, each, error, results, taps, twin
from transform_cases import operators_are_well_formed, transforms_are_those_of_the_loop

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

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


@pytest.mark.long
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


@pytest.mark.parametrize("kind", TRANSFORMED)
def test_transforms(kind: str) -> None:
    transforms_are_those_of_the_loop(kind, "native")


def test_mapped_states_are_rows_of_one_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where their cotangents are mapped; gradients of the weights, one for each state, take flows of their own."""
    flow = preset("h2", backend="native")
    many, seen = state(flow, 7), []
    params = {name: p.detach() for name, p in flow.named_parameters()}
    for name in ("forward", "backward"):
        run = getattr(calls, name)
        place = 2 if name == "forward" else 3
        monkeypatch.setattr(calls, name, lambda *x, run=run, place=place: (seen.append(x[place].flows), run(*x))[1])

    def loss(p: dict[str, Tensor], y: Tensor) -> Tensor:
        return functional_call(flow, p, (y,)).sin().sum()  # type: ignore[no-any-return]

    runs: list[Callable[[], Any]] = [
        lambda: vmap(flow)(many),
        lambda: vmap(jacrev(flow))(many),
        lambda: vmap(grad(loss, argnums=1), in_dims=(None, 0))(params, many),
        lambda: vmap(vmap(jacrev(flow)))(many[:6].reshape(2, 3, 4)),
        lambda: jacrev(flow)(many),
    ]
    for run in runs:
        run()
        assert len(seen) in (1, 2)
        assert not any(seen)
        seen.clear()
    vmap(grad(loss), in_dims=(None, 0))(params, many)
    assert seen == [0, 7]


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
    operators_are_well_formed(name, "native", monkeypatch, k)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_runs_eagerly() -> None:
    flow = preset("h2")
    y, tangent = state(flow, 5), random(5, 4, seed=6)
    close(jvp(flow, (y,), (tangent,))[1], jvp(twin(flow), (y,), (tangent,))[1])
    close(jacfwd(flow)(y[0]), jacrev(flow)(y[0]))
    with torch.autograd.forward_ad.dual_level():
        out = flow(torch.autograd.forward_ad.make_dual(y, tangent))
        assert torch.autograd.forward_ad.unpack_dual(out).tangent is not None
    with pytest.raises(ValueError, match="no forward-mode"):
        jvp(twin(flow, "native"), (y,), (tangent,))


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
    with pytest.raises(ValueError, match="nothing that writes a program down"):
        torch.jit.trace(flow, (y,), check_trace=False)
    flow.backend = "auto"
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


@pytest.mark.filterwarnings("ignore:The weights are bfloat16")
def test_auto_takes_the_kernels_where_they_serve_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    forward = native.Native.forward
    monkeypatch.setattr(native.Native, "forward", lambda *x: (runs.append(1), forward(*x))[1])
    flow = preset("h2")
    y = state(flow, 5)
    fast = flow(y)
    assert len(runs) == 1
    assert error([fast], [twin(flow)(y)]) <= 1e-12
    half = preset("h2", dtype=torch.bfloat16)
    half(y.to(torch.bfloat16))
    preset("h2", kernel_size=3)(random(1, 4, 5, 5))
    Factors("BlockDiagonal", "canonical", "ImplicitMidpoint").flow(4, 2)(y)
    assert len(runs) == 1


@pytest.mark.filterwarnings("ignore:The weights are bfloat16")
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
