"""Flows on graphs by the compiled kernel are those of the loop over the layers, with their gradients, to rounding."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_by_hand import CASES, both, same
from torch import Tensor
from torch.nn.functional import cross_entropy

from families import (
    ACTIVATIONS,
    DIRECTED,
    F64,
    INTEGRATORS,
    NODES,
    SPACES,
    Factors,
    call,
    preset,
    random,
    state_on,
    tight,
)
from hdnn import Recipe, fit
from hdnn.activations import tanh
from hdnn.flow.plans import plan_of_factors
from hdnn.integrators import ForwardEuler, StormerVerlet, SymplecticEuler
from hdnn.kernels import calls, graphs
from hdnn.spaces import Graph
from hdnn.spaces.rows import Edges
from native_cases import SETS, instruction_set

pytestmark = pytest.mark.skipif(not graphs._serves, reason="no compiled extension that knows graphs; install again")


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each run on a graph, whether it was the kernel's; at least one is, in every test."""
    found: list[bool] = []
    asked = graphs.forward

    def run(*arguments: Any) -> Any:
        found.append(True)
        return asked(*arguments)

    monkeypatch.setattr(graphs, "forward", run)
    yield found
    assert found


# Every member of every family -----------------------------------------------------------------------------------------

# Kernels meet K in full, so that structures differ in what drives and in which units; vectors have no edges.
ON_GRAPHS = [case for case in CASES if case.values[0].startswith("Graph")]


@pytest.mark.parametrize(("space", "factors", "shared"), ON_GRAPHS)
def test_every_combination(space: str, factors: Factors, shared: bool) -> None:
    flow = factors.flow(4, 3, space=SPACES[space](), shared=shared)
    same(flow, state_on(space, 4, 2), **call(space))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("integrator", [ForwardEuler(), SymplecticEuler()], ids=repr)
def test_activations(integrator: Any, activation: str) -> None:
    flow = preset("h2", 4, 3, activation=ACTIVATIONS[activation], space=SPACES["Graph_given"]())
    flow.integrator = integrator
    same(flow, state_on("Graph_given", 4, 2))


@pytest.mark.parametrize("leading", [(), (1,), (60,), (3, 2)])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_samples_and_damping(leading: tuple[int, ...], damping: float) -> None:
    flow = preset("h2", 4, 3, space=SPACES["Graph_given"](), integrator=StormerVerlet(damping=damping))
    same(flow, state_on("Graph_given", 4, *leading))


@pytest.mark.parametrize("features", [2, 6, 40])
@pytest.mark.parametrize("chosen", SETS)
@pytest.mark.parametrize("nodes", [1, 70, 300])
def test_random_graphs(chosen: str, nodes: int, features: int) -> None:
    """Edges of any direction and weight, parallel ones, loops, and nodes without any."""
    draw = torch.Generator().manual_seed(nodes)
    edges = torch.randint(0, max(1, nodes - 2), (2, 4 * nodes), generator=draw)
    weight = random(4 * nodes, seed=9) / 4
    with instruction_set(chosen):
        for brought in ({"edge_index": edges}, {"edge_index": edges.int(), "edge_weight": weight}):
            flow = preset("h1", features, 2, space=Graph())
            same(flow, random(3, nodes, features), **brought)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("beyond", [8, 24, 56])
def test_hooks_may_keep_numbers_anywhere_in_memory(beyond: int, dtype: torch.dtype) -> None:
    """Bytes beyond a multiple of 64, where NumPy's arrays begin, too."""
    flow, y = preset("h2", 4, 3, space=SPACES["Graph_given"](), dtype=dtype), state_on("Graph_given", 4, 2).to(dtype)

    def moved(x: Tensor) -> Tensor:
        room = x.new_empty(x.numel() + 32)
        start = (beyond - room.data_ptr()) % 64 // x.element_size()
        return room[start : start + x.numel()].view(x.shape).copy_(x.detach())

    found = []
    for pack in (lambda x: x, moved):
        at = y.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = flow(at)
        found.append(torch.autograd.grad(out.square().sum(), [at, flow.weight, flow.bias]))
    for plain, of_moved in zip(*found, strict=True):
        assert torch.equal(plain, of_moved)


def test_a_graph_without_edges() -> None:
    same(preset("h1", 4, 2, space=Graph()), random(NODES, 4), edge_index=DIRECTED[:, :0])


# Bits, and what is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_threads_give_the_same_bits(dtype: torch.dtype) -> None:
    flow = preset("h2", 4, 5, space=SPACES["Graph_given"]()).to(dtype)
    y, before, found = state_on("Graph_given", 4, 900).to(dtype), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            start = y.clone().requires_grad_()
            result = flow(start)
            found.append([result, *torch.autograd.grad(result.square().sum(), [start, *flow.parameters()])])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_single_precision() -> None:
    flow = preset("h1", 8, 20, space=SPACES["Graph_given"]())
    exact, _ = both(flow, state_on("Graph_given", 8, 20))
    mine, plain = both(flow.float(), state_on("Graph_given", 8, 20).float())
    for right, one, other in zip(exact, mine, plain, strict=True):
        unit = torch.finfo(torch.float32).eps * right.abs().max()
        assert (one - right).abs().max() <= max(20 * unit, 3 * (other - right).abs().max())


def test_what_another_instruction_set_kept_is_computed_again() -> None:
    flow, y = preset("h1", 4, 3, space=SPACES["Graph_given"]()), state_on("Graph_given", 4).requires_grad_()
    (expected,) = torch.autograd.grad(flow(y).sum(), y)
    before = calls.extension.instruction_set()
    with instruction_set("baseline"):
        result = flow(y)
    assert calls.extension.instruction_set() == before
    (found,) = torch.autograd.grad(result.sum(), y)
    tight(found, expected)


def test_what_nobody_asks_for(served: list[bool]) -> None:
    flow, y = preset("h2", 4, 3, space=SPACES["Graph_given"]()), state_on("Graph_given", 4)
    assert not flow.requires_grad_(False)(y).requires_grad
    flow.bias.requires_grad_()
    same(flow, y)
    assert len(served) == 2


def test_strides_and_signs_of_states() -> None:
    flow, y = preset("h1", 4, 2, space=SPACES["Graph_given"]()), random(2, 4, NODES)
    tight(flow(y.mT), flow(y.mT.contiguous()))
    turned = torch.complex(y, y).conj().imag.mT
    assert turned.is_neg()
    tight(flow(turned), flow(-y.mT.contiguous()))


def test_a_number_that_is_none_stays_where_edges_take_it() -> None:
    flow, y = preset("h1", 4, 1, space=Graph()), random(NODES, 4)
    y[1] = torch.nan
    found = flow(y, edge_index=DIRECTED).isnan().any(-1)
    assert found.tolist() == [True, True, True, False, False]  # u at 2 sees 1 → 2, and J Kᵀ σ(u) at 0 sees 0 → 1
    assert flow(y, edge_index=DIRECTED)[3:].isfinite().all()


# Where the loop must serve, and who is not asked ----------------------------------------------------------------------


def test_second_and_batched_derivatives() -> None:
    flow, found = preset("h2", 4, 2, space=SPACES["Graph_given"]()), []
    for kept in (None, "store"):
        flow.memory = kept  # type: ignore[assignment]
        y = state_on("Graph_given", 4, 2).requires_grad_()
        result = flow(y)
        (g,) = torch.autograd.grad(result.square().sum(), y, create_graph=True)
        second = torch.autograd.grad(g.square().sum(), [y, *flow.parameters()], retain_graph=True)
        rows = torch.stack((random(*y.shape, seed=1), random(*y.shape, seed=2)))
        second += torch.autograd.grad(result, [y, flow.weight], rows, is_grads_batched=True)
        found.append(second)
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-11)


def test_whom_it_does_not_serve(served: list[bool]) -> None:
    space, y = SPACES["Graph_given"](), state_on("Graph_given", 4)

    class Own(type(tanh)):  # type: ignore[misc]
        kernel = None

    for other in (
        preset("h2", 4, 2, space=space, backend="eager"),
        preset("h2", 4, 2, space=space, activation=Own()),
        preset("h2", 4, 2, space=space, integrator=INTEGRATORS["RungeKutta4"]),
        preset("h2", 4, 2, space=space, integrator=SymplecticEuler(damping=0.1, learn_damping=True)),
    ):
        other(y)
    torch.func.vmap(preset("h2", 4, 2, space=space))(y[None])
    assert served == []
    preset("h2", 4, 2, space=space)(y)


def test_an_extension_of_before_goes_without(monkeypatch: pytest.MonkeyPatch, served: list[bool]) -> None:
    flow, y = preset("h2", 4, 2, space=SPACES["Graph_given"]()), state_on("Graph_given", 4)
    expected = flow(y)
    monkeypatch.setattr(graphs, "_serves", False)
    tight(flow(y), expected)
    assert len(served) == 1


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, y = preset("h1", 4, 2, space=SPACES["Graph_given"]()), state_on("Graph_given", 4)
    flow(y)
    edges, tensors = Edges(DIRECTED[0], DIRECTED[1], None, NODES), [y, flow.K, flow.bias, flow.K]
    plan = plan_of_factors(flow.hamiltonian, flow.integrator, 0.1, 2, shared=False)
    assert plan is not None
    whole = replace(plan, drive="matrix")
    assert graphs.why_not(whole, edges, tensors) == ""
    assert "ForwardEuler" in graphs.why_not(None, edges, tensors)
    assert "ForwardEuler" in graphs.why_not(replace(whole, method="runge_kutta"), edges, tensors)
    assert "do not fit" in graphs.why_not(whole, edges, [y, flow.K[:1], flow.bias, flow.K])
    wide = Edges(DIRECTED[0], DIRECTED[1], None, (1 << 14) + 1)
    assert "one large graph" in graphs.why_not(whole, wide, tensors)
    monkeypatch.setattr(edges, "count", 1 << 31)
    assert "31 bits" in graphs.why_not(whole, edges, tensors)


# Whole trainings ------------------------------------------------------------------------------------------------------


def test_training_is_that_of_the_loop() -> None:
    found = []
    for backend in ("auto", "eager"):
        flow = preset("h2", 4, 4, space=SPACES["Graph_given"](), backend=backend)
        x, classes = state_on("Graph_given", 4), torch.tensor([0, 1, 2, 3, 0])
        fit(flow, [(x, classes)] * 10, recipe=Recipe(epochs=1), loss=cross_entropy)
        found.append(flow.weight.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-10)


def test_pickles_bring_no_sorted_edges() -> None:
    flow, y = preset("h1", 4, 2, space=SPACES["Graph_given"]()), state_on("Graph_given", 4)
    expected = flow(y)
    copy = pickle.loads(pickle.dumps(flow))
    assert copy.space.given._sorted is None
    tight(copy(y), expected)
