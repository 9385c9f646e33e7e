"""The Triton backend in use: transforms, operators, compilation, stand-ins for tensors; as `test_triton.py` runs."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, jacfwd

from families import DEVICE, F64, preset, state
from hdnn import bench
from hdnn.kernels import triton
from native_cases import TRANSFORMED, error, results, twin
from transform_cases import operators_are_well_formed, transforms_are_those_of_the_loop
from triton_cases import QUIET, RUNS, random

pytestmark = [RUNS, QUIET]

KINDS = [kind for kind in TRANSFORMED if kind != "stages"]
FEW = ("h2", "per layer", "damped")


@pytest.mark.parametrize("kind", [k if k in FEW else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_transforms(kind: str) -> None:
    """Mapped parameters are an axis of flows of one launch."""
    transforms_are_those_of_the_loop(kind, "triton")


@pytest.mark.parametrize("name", ["ms2", "h1", "h2"])
def test_operators_are_well_formed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operators_are_well_formed(name, "triton", monkeypatch)


def test_gradcheck() -> None:
    flow = preset("h2", 4, 2, backend="triton", step=0.3)
    names, values = zip(*flow.named_parameters(), strict=True)

    def call(y: Tensor, *values: Tensor) -> Tensor:
        return functional_call(flow, dict(zip(names, values, strict=True)), (y,))  # type: ignore[no-any-return]

    inputs = (state(flow, 1), *(v.detach().clone() for v in values))
    assert torch.autograd.gradcheck(call, tuple(x.requires_grad_() for x in inputs), fast_mode=True)


def test_second_derivatives_are_refused_by_name() -> None:
    flow = preset("h1", 4, 2, backend="triton")
    y = state(flow, 2).requires_grad_()
    (first,) = torch.autograd.grad(flow(y).sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match="The triton backend has no second derivatives"):
        torch.autograd.grad(first.sum(), y)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="no forward-mode"):
        jacfwd(preset("h2", backend="triton"))(random(4))


def test_stand_ins() -> None:
    """Fake tensors on the processor and, which nothing here could run, on a CUDA device; nothing is launched."""
    flow = preset("h2", 4, 3, backend="triton")
    real = [x.detach().cpu() for x in (state(flow, 7), flow.K, flow.bias)]
    five = state(flow, 5)
    for device in ("cpu", "cuda"):
        with FakeTensorMode() as mode:
            y, weight, bias = (
                mode.from_tensor(x) if device == "cpu" else torch.empty(x.shape, dtype=F64, device=device) for x in real
            )
            out = torch.ops.hdnn.flow_run(y, weight, bias, None, 0, "triton", *flow.plan.values())
            assert (out.shape, out.device.type) == (y.shape, device)
            found = torch.ops.hdnn.flow_pull(y, y, weight, bias, None, True, 0, "triton", *flow.plan.values())
            assert [x.shape for x in found] == [y.shape, weight.shape, bias.shape, (0,)]
    with FakeTensorMode() as mode:
        params = {n: mode.from_tensor(p) for n, p in flow.named_parameters()}
        out = functional_call(flow, params, (mode.from_tensor(five),))
        (first, *_) = torch.autograd.grad(out.sum(), list(params.values()))
        assert (out.shape, first.shape) == ((5, 4), flow.weight.shape)
    given = [torch.empty(x, dtype=F64, device="meta") for x in ((7, 4), (3, 4, 4), (3, 4))]
    assert torch.ops.hdnn.flow_run(*given, None, 0, "triton", *flow.plan.values()).is_meta


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h2", "per layer"])
def test_compilation(kind: str) -> None:
    flow = TRANSFORMED[kind](backend="triton")
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
        for batch in (3, 5):
            y = state(flow, batch)
            g = random(*y.shape, seed=6)
            assert error(results(compiled, flow, y, g), results(flow, flow, y, g)) <= 1e-12


def test_it_trains_as_the_eager_path() -> None:
    """Some steps of an optimizer, in plain autograd."""
    found = []
    for backend in ("triton", "eager"):
        flow = twin(preset("h2", 4, 2), backend)
        optimizer = torch.optim.Adam(flow.parameters(), 0.05)
        for _ in range(3):
            optimizer.zero_grad()
            flow(state(flow, 5)).square().mean().backward()
            optimizer.step()
        found.append([p.detach() for p in flow.parameters()])
    assert error(*found) <= 1e-11


def test_what_bench_times() -> None:
    row = bench._measure(bench.Regime(4, 2, 5, "h2"), 0.01, triton.Triton(), torch.device(DEVICE))
    assert row["triton_ms"] > 0
    assert row["triton_error"] < 1e-5
    assert row["ratio"] == row["eager_ms"] / row["triton_ms"]
