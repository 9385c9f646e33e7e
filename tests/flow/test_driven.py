"""The recurrent core: flows that inputs drive at every step, layer by layer or with one K for all, of any length."""

from __future__ import annotations

import copy
import io
import pickle
import time
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, PRESETS, SPACES, fill, preset, random, tight
from hdnn.analysis import gradients, layer_jacobians, log_norms, norms, sensitivities, upper_bound
from hdnn.flow import Flow
from space_cases import CASES, FEATURES, Case, few, reversible

D, N = 3, 6
each_preset = pytest.mark.parametrize("name", PRESETS)
each_case = few(CASES, lambda c: c.space in ("Vectors", "Signals_5") or str(c) == "Graph_call-directed-h2")


def recurrent(name: str, **options: Any) -> Flow:
    """A shared driven flow without a length of its own."""
    flow = PRESETS[name](FEATURES, **{"step": 0.2, "inputs": D, "shared": True, "dtype": F64, **options})
    return driven(flow)


def driven(flow: Flow) -> Flow:
    with torch.no_grad():
        fill(flow, 0.5)
        assert flow.input_weight is not None
        flow.input_weight.copy_(random(*flow.input_weight.shape, seed=3))
    return flow


def by_hand(flow: Flow, y: Tensor, u: Tensor, **call: Any) -> Tensor:
    """One undriven flow of one layer a step, its bias moved by V u."""
    for j, u_j in enumerate(u):
        i = 0 if flow.shared else j
        step = Flow(
            flow.features, 1, step=flow.step, structure=flow.structure, interconnection=flow.interconnection,
            integrator=flow.integrator, space=flow.space, dtype=F64, backend="eager",
        )  # fmt: skip
        values = {"weight": flow.weight[i : i + 1], "bias": (flow.bias[i] + u_j @ flow.input_weight[i].mT).unsqueeze(0)}  # type: ignore[index]
        y = torch.func.functional_call(step, values, (y,), call)
    return y


def u_of(case: Case, *leading: int, steps: int = N) -> Tensor:
    """Inputs: one vector a step for all samples, at every node of a graph."""
    return random(steps, *leading, D, seed=11)


# What a step does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@each_case
def test_inputs_drive_every_step(case: Case, shared: bool) -> None:
    flow = driven(case.flow(N, inputs=D, shared=shared, step=0.2))
    y, u = case.state(2), u_of(case)
    tight(flow(y, inputs=u, **case.call), by_hand(flow, y, u, **case.call))
    states = flow.trajectory(y, inputs=u, **case.call)
    tight(states[-1], flow(y, inputs=u, **case.call))
    tight(flow[2:](flow[:2](y, inputs=u[:2], **case.call), inputs=u[2:], **case.call), states[-1])
    if reversible(case):
        torch.testing.assert_close(flow.inverse(states[-1], inputs=u, **case.call), y, rtol=1e-10, atol=1e-10)


@each_preset
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_any_length(name: str, steps: int) -> None:
    flow, y = recurrent(name), random(5, FEATURES, seed=2)
    u = random(steps, 5, D, seed=4)
    out = flow(y, inputs=u)
    tight(out, torch.stack([by_hand(flow, y[i], u[:, i]) for i in range(5)]))
    tight(flow(y[0], inputs=u[:, 0]), out[0])
    half = steps // 2
    tight(flow(flow(y, inputs=u[:half]), inputs=u[half:]) if half else out, out)
    assert flow.trajectory(y, inputs=u).shape == (steps + 1, 5, FEATURES)


@each_preset
def test_gradients_are_those_of_the_loop(name: str) -> None:
    flow, y, u = recurrent(name), random(5, FEATURES, seed=2), random(N, 5, D, seed=4).requires_grad_()
    inputs = [u, flow.input_weight, flow.weight, flow.bias]
    mine = torch.autograd.grad(flow(y, inputs=u).square().sum(), inputs)
    outs = [by_hand(flow, y[i], u[:, i]) for i in range(5)]
    for a, b in zip(mine, torch.autograd.grad(torch.stack(outs).square().sum(), inputs), strict=True):
        tight(a, b)


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
@each_case
def test_memory_changes_no_number(case: Case, memory: str) -> None:
    if memory == "reverse" and not reversible(case):
        pytest.skip("forward Euler is refused")
    found = []
    for kind in (memory, "store"):
        flow = driven(case.flow(N, inputs=D, shared=True, step=0.2, memory=kind, backend="eager"))
        y, u = case.state(2).requires_grad_(), u_of(case).requires_grad_()
        out = flow(y, inputs=u, **case.call)
        found.append([out, *torch.autograd.grad(out.sin().sum(), [y, u, *flow.parameters()])])
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("memory", [None, "recompute", "reverse"])
def test_the_cost_is_linear_in_the_length(memory: Any) -> None:
    """Indexing b in a loop instead of one `unbind` would make the backward pass quadratic."""
    flow = recurrent("h2", memory=memory, dtype=torch.float32)
    y = torch.randn(8, FEATURES)

    def seconds(steps: int) -> float:
        u = torch.randn(steps, 8, D, requires_grad=True)
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            flow(y, inputs=u).sum().backward()
            best = min(best, time.process_time() - start)
        return best

    seconds(10)
    assert seconds(400) < 8 * seconds(100)


# The analysis -------------------------------------------------------------------------------------------------------


@each_preset
def test_sensitivities(name: str) -> None:
    flow, y, u = recurrent(name), random(2, FEATURES, seed=2), random(N, 2, D, seed=4)
    M, L = sensitivities(flow, y, inputs=u), layer_jacobians(flow, y, inputs=u)
    states = flow.trajectory(y, inputs=u)
    for i in range(2):
        for j in range(N):
            rest = torch.func.jacrev(lambda y, i=i, j=j: flow(y, inputs=u[j:, i]))(states[j, i])
            one = torch.func.jacrev(lambda y, i=i, j=j: flow(y, inputs=u[j : j + 1, i]))(states[j, i])
            tight(M[j, i], rest)
            tight(L[j, i], one)
    tight(log_norms(flow, y, inputs=u), norms(M).log())
    assert (norms(M) >= 1 - 1e-12).all()
    J = hdnn.canonical(FEATURES).to(F64)
    if name in ("h2", "ms3"):
        assert flow.preserves_structure
        tight(M[0] @ J @ M[0].mT, J.expand_as(M[0]))
    found = gradients(flow, y, lambda y: y.square().sum(), inputs=u)
    assert found.state_norms.shape == (N + 1, 2)


def test_bounds_hold_whatever_the_inputs() -> None:
    flow, y = driven(preset("h2", FEATURES, N, inputs=D)), random(9, FEATURES, seed=2)
    M = sensitivities(flow, y, inputs=10 * random(N, 9, D, seed=4))
    assert (norms(M)[0] <= upper_bound(flow)).all()


# Among PyTorch's tools ----------------------------------------------------------------------------------------------


def test_many_flows_at_once() -> None:
    flows, y, u = [recurrent("h2") for _ in range(3)], random(2, FEATURES), random(N, 2, D, seed=4)
    for i, flow in enumerate(flows):
        fill(flow, 0.5, seed=i)
    parameters, buffers = torch.func.stack_module_state(flows)  # type: ignore[arg-type]
    base = copy.deepcopy(flows[0]).to("meta")

    def run(parameters: Any, buffers: Any) -> Tensor:
        out: Tensor = torch.func.functional_call(base, (parameters, buffers), (y,), {"inputs": u})
        return out

    tight(torch.vmap(run)(parameters, buffers), torch.stack([flow(y, inputs=u) for flow in flows]))
    one = torch.vmap(lambda y, u: flows[0](y, inputs=u), in_dims=(0, 1))(y, u)
    tight(one, flows[0](y, inputs=u))


@pytest.mark.long
def test_compiles_and_exports() -> None:
    torch._dynamo.reset()
    flow, y, u = recurrent("h2"), random(2, FEATURES), random(N, 2, D, seed=4).requires_grad_()
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = compiled(y, inputs=u)
        tight(out, flow(y, inputs=u))
        mine = torch.autograd.grad(out.sum(), [u, flow.weight])
        program = torch.export.export(flow, (y,), {"inputs": u.detach()}).module()
    for a, b in zip(mine, torch.autograd.grad(flow(y, inputs=u).sum(), [u, flow.weight]), strict=True):
        tight(a, b)
    tight(program(y, inputs=u.detach() + 1), flow(y, inputs=u + 1))


def test_copies_and_files() -> None:
    flow, y, u = recurrent("h2"), random(2, FEATURES), random(N, 2, D, seed=4)
    out = flow(y, inputs=u)
    for twin in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow)), flow.refine(1)):
        assert torch.equal(twin(y, inputs=u), out)
    stream = io.BytesIO()
    torch.save(flow.state_dict(), stream)
    stream.seek(0)
    fresh = recurrent("h2")
    fresh.reset_parameters()
    assert flow.input_weight is not None
    assert fresh.input_weight is not None
    assert not torch.equal(fresh.input_weight, flow.input_weight)
    fresh.load_state_dict(torch.load(stream))
    assert torch.equal(fresh(y, inputs=u), out)
    assert "inputs=3" in repr(flow)
    assert flow.recurrent
    assert not preset("h2").recurrent


def test_files_of_undriven_flows_hold_nothing_new() -> None:
    """So that those of before load, and those of now are read by what came before."""
    flow = preset("h2")
    assert set(flow.state_dict()) == {"weight", "bias", "interconnection_matrix"}
    state = flow.__getstate__() if hasattr(flow, "__getstate__") else flow.__dict__
    old = {key: value for key, value in dict(state).items() if key != "_inputs"}
    twin = Flow.__new__(Flow)
    twin.__setstate__(copy.deepcopy(old))
    assert twin.inputs is None
    assert torch.equal(twin(random(2, FEATURES)), flow(random(2, FEATURES)))


def test_half_precision() -> None:
    flow, y = recurrent("h2", dtype=torch.float32), random(2, FEATURES).float()
    u = random(N, 2, D, seed=4).float()
    encoder = nn.Linear(D, D)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(flow(y, inputs=u), flow(y, inputs=u))
        out = flow(y, inputs=encoder(u))  # an encoder under autocast gives half precision
    assert out.dtype is torch.float32
    torch.testing.assert_close(out, flow(y, inputs=encoder(u)), rtol=0.05, atol=0.05)


def test_trains_to_remember() -> None:
    """Return the first input after ten more."""
    torch.manual_seed(0)
    flow, head = hdnn.h2(8, step=0.3, inputs=1, shared=True), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*flow.parameters(), *head.parameters()], 0.02)
    losses = []
    for _ in range(300):
        u = torch.rand(11, 64, 1)
        loss = (head(flow(torch.zeros(64, 8), inputs=u)) - u[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.5 / 12  # half of what the mean alone leaves


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("u", "error", "words"),
    [
        (None, ValueError, r"is driven: give `inputs=` \(N, ..., 3\), one entry a step"),
        (random(N, 2), ValueError, r"shape \(N, ..., 3\), one entry a step; got \(6, 2\)"),
        (random(D), ValueError, r"got \(3,\)"),
        (random(N, D).float(), TypeError, "must be a tensor of torch.float64, like the weights; got torch.float32"),
        ([[0.0] * D], TypeError, "got list"),
    ],
)
def test_inputs_that_are_refused(u: Any, error: type[Exception], words: str) -> None:
    flow, y = recurrent("h2"), random(2, FEATURES)
    for ask in (flow, flow.trajectory, flow.inverse, lambda y, inputs: sensitivities(flow, y, inputs=inputs)):
        with pytest.raises(error, match=words):
            ask(y, inputs=u)


def test_other_mistakes() -> None:
    y, u = random(2, FEATURES), random(N + 1, 2, D)
    by_layer = driven(preset("h2", FEATURES, N, inputs=D))
    with pytest.raises(ValueError, match=r"Expected inputs of shape \(6, ..., 3\).*got \(7, 2, 3\)"):
        by_layer(y, inputs=u)
    with pytest.raises(TypeError, match="takes no `inputs`; make it with `inputs=d`"):
        preset("h2")(y, inputs=u)
    flow = recurrent("h2")
    for ask in (lambda: flow.layers, lambda: flow.horizon, lambda: flow[:2]):
        with pytest.raises(ValueError, match="as many steps as the inputs of a call have entries"):
            ask()
    for wrong in ({"inputs": D}, {"shared": True}, {}):
        with pytest.raises(ValueError, match="give `inputs=d`, `shared=True` and `step=`; or give `layers`"):
            hdnn.h2(FEATURES, step=0.1, **wrong)
    with pytest.raises(ValueError, match="Without `layers` the horizon follows from the inputs, so give `step`"):
        hdnn.h2(FEATURES, horizon=1.0, inputs=D, shared=True)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        hdnn.h2(FEATURES, 3, step=0.1, inputs=0)


@pytest.mark.parametrize("leading", [(7,), (5, 2, 7), (3, 2, 1)])
@pytest.mark.parametrize("space", ["Vectors", "Images_3", "Signals_5", "Graph_given"])
def test_inputs_of_other_samples_are_refused(space: str, leading: tuple[int, ...]) -> None:
    """Also those that would make more samples of the state than there are."""
    flow = driven(preset("h2", FEATURES, N, inputs=D, space=SPACES[space]()))
    y = Case(space, "h2").state(2)
    with pytest.raises(ValueError, match=r"axes between that fit those of the state before its features, \(2"):
        flow(y, inputs=random(N, *leading, 1, D) if space == "Graph_given" else random(N, *leading, D))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by which the compiler meets an autograd function
def test_compiles_where_the_samples_of_the_state_alone_are_of_an_open_number() -> None:
    """As they are for a second flow of the same class, whose states are more."""
    torch._dynamo.reset()
    flow = recurrent("h2")
    compiled = torch.compile(flow, fullgraph=True, backend="eager")
    y, u = random(5, FEATURES), random(N, 5, D)
    torch._dynamo.maybe_mark_dynamic(y, 0)
    tight(compiled(y, inputs=u), flow(y, inputs=u))


def test_copies_keep_the_order_of_parameters() -> None:
    """Optimizers count them: those of the second parameter must not go to the third."""
    flow = recurrent("h2")
    names = [name for name, _ in flow.named_parameters()]
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert [name for name, _ in other.named_parameters()] == names


@pytest.mark.parametrize("shared", [False, True])
def test_no_samples_and_no_steps(shared: bool) -> None:
    flow = driven(hdnn.h2(4, 2, step=0.1, inputs=D, shared=shared, dtype=F64))
    y, u = random(0, 4), random(2, 0, D).requires_grad_()
    assert flow(y, inputs=u).shape == (0, 4)
    flow(y, inputs=u).sum().backward()
    assert u.grad is not None
    start = random(5, 4)
    tight(flow[:0](start, inputs=random(0, 5, D)), start)
