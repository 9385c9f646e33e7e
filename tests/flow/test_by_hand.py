"""Runs by hand are those of the loop over the layers, to rounding, with their gradients; elsewhere the loop serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from families import (
    ACTIVATIONS,
    DIRECTED,
    F64,
    INTEGRATORS,
    NODES,
    SPACES,
    Factors,
    call,
    fill,
    preset,
    random,
    state_on,
    tight,
)
from hdnn.activations import Activation, tanh
from hdnn.flow import Flow, memory, midpoints, walks
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, StormerVerlet, SymplecticEuler
from hdnn.interconnections import Fixed, canonical
from hdnn.spaces import VECTORS, Graph, Vectors
from hdnn.spaces.rows import beside
from hdnn.structures import Dense

ROWS = [name for name in SPACES if name == "Vectors" or name.startswith("Graph")]
# How an integrator that is served may be wrong: the whole moves, halves in either turn, halves more than once, a solve.
SERVED = ("ForwardEuler", "SymplecticEuler_q", "StormerVerlet_p", "Yoshida4_p", "ImplicitMidpoint")
FACTORS = [
    ("Dense", "canonical"),
    ("Dense_wide", "per_layer_skew"),
    ("Skew", "Inverse"),
    ("BlockDiagonal_wide", "per_layer"),
    ("BlockSkew", "Inverse"),
    ("Masked_Dense", "Learned_block"),
]
CASES = [
    pytest.param(space, Factors(*pair, name), shared, id=f"{space}-{'-'.join(pair)}-{name}-{shared}")
    for space in ROWS
    for name in SERVED
    for pair in FACTORS
    for shared in (False, True)
    if (space == "Vectors" or name != "ImplicitMidpoint")
    and (pair[0] not in ("Dense", "Dense_wide", "Skew") or not INTEGRATORS[name].separable_only)
    and not (space == "Graph_mean" and pair[1] == "Inverse")  # refused: there A ≠ Aᵀ
    and not (shared and pair[1].startswith("per_layer") and name != "ForwardEuler")
]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each eager run was served."""
    found: list[bool] = []
    asked = memory.by_hand

    def ask(*arguments: Any) -> Tensor | None:
        result = asked(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(memory, "by_hand", ask)
    return found


def both(flow: Flow, y: Tensor, **brought: Any) -> list[list[Tensor]]:
    """The result with the gradients of state and parameters: as flows run, and by the plain loop."""
    found = []
    for kept in (None, "store"):
        flow.memory = kept  # type: ignore[assignment]
        start = y.clone().requires_grad_()
        result = flow(start, **brought)
        wanted = [start, *(p for p in flow.parameters() if p.requires_grad)]
        found.append([result.detach(), *torch.autograd.grad(result, wanted, random(*y.shape, seed=3).to(y.dtype))])
    return found


def same(flow: Flow, y: Tensor, **brought: Any) -> None:
    for mine, plain in zip(*both(flow, y, **brought), strict=True):
        tight(mine, plain)


# Every member of every family -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "factors", "shared"), CASES)
def test_every_combination(space: str, factors: Factors, shared: bool, runs: list[bool]) -> None:
    flow = factors.flow(4, 3, space=SPACES[space](), shared=shared, backend="eager")
    same(flow, state_on(space, 4, 2), **call(space))
    assert runs == [True]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("integrator", [ForwardEuler(), SymplecticEuler(), ImplicitMidpoint()], ids=repr)
def test_activations(integrator: Any, activation: str, runs: list[bool]) -> None:
    flow = preset("h2", 4, 3, activation=ACTIVATIONS[activation], backend="eager")
    flow.integrator = integrator
    same(flow, random(5, 4))
    assert runs == [True]


@pytest.mark.parametrize("leading", [(), (1,), (3, 2)])
@pytest.mark.parametrize("space", ["Vectors", "Graph_given"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_samples_and_damping(space: str, leading: tuple[int, ...], damping: float, runs: list[bool]) -> None:
    flow = preset("h2", 4, 3, space=SPACES[space](), backend="eager", integrator=StormerVerlet(damping=damping))
    for size in (leading, (2,)):  # a graph keeps what it made for one number of samples
        same(flow, state_on(space, 4, *size))
    assert runs == [True, True]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("edges", [DIRECTED, DIRECTED.int(), DIRECTED[:, :0]], ids=["long", "int", "none"])
def test_sums_along_sorted_edges(edges: Tensor, samples: int, weighted: bool) -> None:
    weight = random(edges.shape[1], seed=8) if weighted else None
    A = torch.zeros(NODES, NODES, dtype=F64)
    for k, (i, j) in enumerate(edges.T.tolist()):
        A[j, i] += 1.0 if weight is None else weight[k]
    x = random(samples, NODES, 3)
    found = beside((edges[0], edges[1], weight), NODES, samples)(x.flatten(0, 1))
    tight(found.reshape(samples, NODES, 6), torch.cat((x, A @ x), -1))


# Spans, and what is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 5, 6])
@pytest.mark.parametrize("integrator", [StormerVerlet(), ImplicitMidpoint()], ids=repr)
def test_spans_of_layers(integrator: Any, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = both(preset("h2", 4, layers, integrator=integrator, backend="eager"), random(7, 4))
    monkeypatch.setattr(walks, "_AT_ONCE", 3 * 7 * 4 * 3)
    monkeypatch.setattr(midpoints, "_AT_ONCE", 2 * 7 * 16)
    in_spans, _ = both(preset("h2", 4, layers, integrator=integrator, backend="eager"), random(7, 4))
    for mine, other in zip(in_spans, whole, strict=True):
        tight(mine, other)


@pytest.mark.parametrize("integrator", [SymplecticEuler(), ImplicitMidpoint()], ids=repr)
def test_gradients_that_nobody_asks_for(integrator: Any, runs: list[bool]) -> None:
    flow = preset("h2", 4, 3, integrator=integrator, backend="eager")
    with torch.no_grad():
        tight(flow(random(5, 4)), preset("h2", 4, 3, integrator=integrator, memory="store")(random(5, 4)))
    assert not flow.requires_grad_(False)(random(5, 4)).requires_grad
    same(flow, random(5, 4))
    flow.bias.requires_grad_()
    same(flow, random(5, 4))
    assert runs == [True] * 4


@pytest.mark.parametrize("integrator", [SymplecticEuler(), ImplicitMidpoint()], ids=repr)
def test_a_result_is_used_twice_and_may_be_changed(integrator: Any) -> None:
    flow, y = preset("h2", 4, 3, integrator=integrator, backend="eager"), random(5, 4).requires_grad_()
    result = flow(y)
    (first,) = torch.autograd.grad(result.sum(), y, retain_graph=True)
    result.mul_(2)
    (again,) = torch.autograd.grad(result.sum(), y)
    tight(again, 2 * first)
    (sparing,) = torch.autograd.grad(checkpoint(flow, y, use_reentrant=False).sum(), y)
    tight(sparing, first)


# Where the loop must serve --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", [SymplecticEuler(), ImplicitMidpoint()], ids=repr)
@pytest.mark.parametrize("space", ["Vectors", "Graph_given"])
def test_second_and_batched_derivatives(space: str, integrator: Any) -> None:
    if integrator.midpoint and space != "Vectors":
        integrator = ForwardEuler()
    flow = preset("h2", 4, 2, integrator=integrator, space=SPACES[space](), backend="eager")
    found = []
    for kept in (None, "store"):
        flow.memory = kept  # type: ignore[assignment]
        y = state_on(space, 4, 2).requires_grad_()
        result = flow(y)
        (g,) = torch.autograd.grad(result.square().sum(), y, create_graph=True)
        second = torch.autograd.grad(g.square().sum(), [y, *flow.parameters()], retain_graph=True)
        rows = torch.stack((random(*y.shape, seed=1), random(*y.shape, seed=2)))
        if not integrator.midpoint:
            second += torch.autograd.grad(result, [y, flow.weight], rows, is_grads_batched=True)
        found.append(second)
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-11)


def test_large_layers_of_vectors_take_few_passes_over_memory(runs: list[bool]) -> None:
    flow = preset("h2", 4, 2, backend="eager")
    for rows in (walks.SMALL // 4, walks.SMALL // 4 + 1):
        flow(random(rows, 4))
    assert runs == [True, False]


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_transforms(runs: list[bool]) -> None:
    flow, y = preset("h2", 4, 2, backend="eager"), random(3, 4)
    jacobians = torch.func.vmap(torch.func.jacrev(flow))(y)
    forward = torch.func.jvp(flow, (y,), (torch.ones_like(y),))[1]
    tight(forward, jacobians.sum(-1))
    assert not any(runs)


def test_learned_weights_of_edges(runs: list[bool]) -> None:
    flow, y = preset("h1", 4, 2, space=Graph()), random(NODES, 4)
    weight = random(DIRECTED.shape[1], seed=7).requires_grad_()
    flow(y, edge_index=DIRECTED, edge_weight=weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0
    flow(y, edge_index=DIRECTED, edge_weight=weight.detach())
    assert runs == [False, True]


class Scaled(nn.Module, Activation):
    """A tanh with a slope that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=F64))

    def value(self, u: Tensor) -> Tensor:
        return self.scale * torch.tanh(u)

    def potential(self, u: Tensor) -> Tensor:
        return self.scale * tanh.potential(u)

    def slope(self, u: Tensor) -> Tensor:
        return self.scale * tanh.slope(u)


def test_activations_of_ones_own(runs: list[bool]) -> None:
    sigma = Scaled()
    flow = preset("h1", 4, 2, activation=sigma)
    flow(random(3, 4)).sum().backward()
    assert sigma.scale.grad is not None
    assert sigma.scale.grad.abs() > 0
    sigma.requires_grad_(False)
    same(flow, random(3, 4))
    assert runs == [False, True]


def test_a_space_with_a_map_of_its_own_is_not_taken_for_vectors(runs: list[bool]) -> None:
    class Doubled(Vectors):
        def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
            return super().map(2 * K, y, b)

        def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
            return super().adjoint(2 * K, z)

    assert Doubled().rows(random(3, 4)) is None
    assert VECTORS.rows(random(3, 4)) is not None
    same(preset("h1", 4, 2, space=Doubled()), random(3, 4))
    assert runs == [False]


# Midpoints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("h", [0.5, 4.0])
def test_long_steps(h: float, activation: str, runs: list[bool]) -> None:
    """Where the quick solver does not arrive, the slow one does."""
    sigma = ACTIVATIONS[activation]
    J = Fixed(canonical(8))
    flow = Flow(
        8, 3, step=h, structure=Dense(), interconnection=J, activation=sigma, integrator=ImplicitMidpoint(), dtype=F64
    )
    fill(flow, 1.0)
    mine, plain = both(flow, random(6, 8))
    assert runs == [True]
    y, after = random(6, 8), flow[0](random(6, 8)).detach()
    middle, K, b = (y + after) / 2, flow.K[0], flow.bias[0]
    tight(after, y + h * sigma.value(middle @ K.mT + b) @ K @ canonical(8, dtype=F64).mT)
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_what_is_not_solved_is_said_as_before(runs: list[bool]) -> None:
    flow = preset("h1", 4, 2, integrator=ImplicitMidpoint())
    y = random(3, 4)
    y[1, 2] = torch.nan
    with pytest.raises(RuntimeError, match=r"1 of 3 samples miss what rounding leaves. The state holds NaN"):
        flow(y)
    flow.integrator = replace(ImplicitMidpoint(), tolerance=1e-30, iterations=2)
    with pytest.raises(RuntimeError, match=r"did not converge in 2 Newton steps at step size 0\.1"):
        flow(random(3, 4))
    assert runs == []


def test_single_precision() -> None:
    flow = preset("h1", 8, 20, std=1.0, integrator=ImplicitMidpoint())
    exact, _ = both(flow, random(50, 8))
    mine, plain = both(flow.float(), random(50, 8).float())
    for right, one, other in zip(exact, mine, plain, strict=True):
        unit = torch.finfo(torch.float32).eps * right.abs().max()
        assert (one - right).abs().max() <= max(100 * unit, 3 * (other - right).abs().max())


def test_integrators_of_which_no_moves_are_known(runs: list[bool]) -> None:
    assert walks.moves_of(SymplecticEuler(damping=0.1, learn_damping=True), 0.1) is None
    assert walks.moves_of(INTEGRATORS["RungeKutta4"], 0.1) is None
    flow = preset("h2", 4, 2, backend="eager", integrator=SymplecticEuler(damping=0.1, learn_damping=True))
    same(flow, random(3, 4))
    assert runs == [False]
