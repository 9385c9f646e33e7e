"""What the tests of flows on spaces share: every space with every preset, and its layers as whole matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from families import F64, NODES, PRESETS, SPACES, call, position, preset, random, state_on
from hdnn.flow import Flow
from hdnn.interconnections import canonical

FEATURES = 4


class Case(NamedTuple):
    """A preset on a space; a graph with the edges of its calls."""

    space: str
    name: str
    directed: bool = False

    def __str__(self) -> str:
        return f"{self.space}{'-directed' if self.directed else ''}-{self.name}"

    @property
    def at_the_call(self) -> bool:
        """Whether a call brings the edges."""
        return self.space.startswith("Graph") and self.space != "Graph_given"

    @property
    def call(self) -> dict[str, Tensor]:
        """What a call brings."""
        return call(self.space, self.directed)

    def flow(self, layers: int = 3, **options: object) -> Flow:
        """The flow with seeded weights, float64."""
        return preset(self.name, FEATURES, layers, **{"space": SPACES[self.space](), **options})

    def state(self, *leading: int, seed: int = 5) -> Tensor:
        """A random state, or many."""
        return state_on(self.space, FEATURES, *leading, seed=seed)


def _cases() -> list[Case]:
    undirected = [Case(space, name) for space, name in itertools.product(SPACES, PRESETS)]
    directed = [
        Case(space, name, True)
        for space, name in itertools.product(SPACES, PRESETS)
        if space.startswith("Graph") and space != "Graph_given"
    ]
    return [*undirected, *directed]


ALL = _cases()
# ms2 needs A = Aᵀ: not on directed edges, nor where every row is divided by its own sum.
REFUSED = [case for case in ALL if case.name == "ms2" and (case.directed or case.space == "Graph_mean")]
CASES = [case for case in ALL if case not in REFUSED]
# One of each kind, for costly properties: the rest among the slow tests.
_FEW = ("Vectors", "Images_3", "Signals_5", "Graph_given", "Graph_call")


def few(cases: list[Case], fast: Callable[[Case], bool] | None = None) -> pytest.MarkDecorator:
    """All cases, those that are much like another among the slow tests."""

    def kind(case: Case) -> bool:
        return case.space in _FEW and (case.space != "Graph_call" or case.directed or case.name == "ms2")

    chosen = [(fast or kind)(case) for case in cases]
    marks = [() if one else pytest.mark.slow for one in chosen]
    params = [pytest.param(c, id=str(c), marks=mark) for c, mark in zip(cases, marks, strict=True)]
    return pytest.mark.parametrize("case", params)


every = pytest.mark.parametrize("case", CASES, ids=str)
one_of_each_kind = few(CASES)


def reversible(case: Case) -> bool:
    """Whether a step can be undone."""
    return case.name in ("ms1", "ms3", "h2")


def jacobian(case: Case, flow: Flow, y: Tensor) -> Tensor:
    """∂y_N/∂y_0 of one state, flattened."""
    M: Tensor = torch.func.jacrev(lambda y: flow(y, **case.call))(y)
    return M.reshape(y.numel(), y.numel())


# The layers as whole matrices ---------------------------------------------------------------------------------------


def adjacency(case: Case) -> Tensor:
    """A, from the edges of the calls of a case or of its space."""
    made = SPACES[case.space]()
    brought = case.call
    if not brought:
        brought = {"edge_index": torch.stack((made.given.source, made.given.target))}  # type: ignore[attr-defined]
    edges = brought["edge_index"]
    weights = brought.get("edge_weight", torch.ones(edges.shape[1], dtype=F64))
    A = torch.zeros(NODES, NODES, dtype=F64)
    for (source, target), w in zip(edges.T.tolist(), weights, strict=True):
        A[target, source] += w
    d = A.sum(1)
    if case.space == "Graph_mean":
        A = torch.where(d > 0, 1 / d, 0)[:, None] * A
    if case.space == "Graph_symmetric":
        root = torch.where(d > 0, d.rsqrt(), 0)
        A = root[:, None] * A * root
    return A


def operator(case: Case, K: Tensor) -> Tensor:
    """K (m, n, *taps) as one matrix on flattened states, entry by entry."""
    m, n = K.shape[:2]
    if case.space == "Vectors":
        return K
    if case.space.startswith("Graph"):
        return torch.kron(torch.eye(NODES, dtype=F64), K[..., 0]) + torch.kron(adjacency(case), K[..., 1])
    size, k = torch.Size(position(case.space)), K.shape[-1]
    out = torch.zeros(m, *size, n, *size, dtype=F64)
    for at in itertools.product(*map(range, size)):
        for tap in itertools.product(range(k), repeat=len(size)):
            near = tuple(i + t - k // 2 for i, t in zip(at, tap, strict=True))
            if all(0 <= i < s for i, s in zip(near, size, strict=True)):
                out[(slice(None), *at, slice(None), *near)] += K[(..., *tap)]
    return out.reshape(m * size.numel(), n * size.numel())


def everywhere(case: Case, J: Tensor) -> Tensor:
    """J (n, n) acting at every position of a flattened state."""
    one = torch.eye(torch.Size(position(case.space)).numel(), dtype=F64)
    return torch.kron(one, J) if case.space.startswith(("Vectors", "Graph")) else torch.kron(J, one)


def halves(case: Case) -> tuple[Tensor, Tensor]:
    """Which numbers of a flattened state belong to p, and which to q."""
    mask = torch.zeros_like(case.state())
    axis = SPACES[case.space]().axis
    p = mask.index_fill(axis, torch.arange(FEATURES // 2), 1.0).flatten() == 1
    return p, ~p


def dense_layers(case: Case, flow: Flow, y: Tensor) -> Tensor:
    """The state (D,) after all layers, by the formulas of the papers with whole matrices."""
    h, J = flow.step, everywhere(case, canonical(FEATURES).to(F64))
    p, q = halves(case)
    axis, size = SPACES[case.space]().axis, position(case.space)
    for K_j, b_j in zip(flow.K, flow.bias, strict=True):
        K = operator(case, K_j)
        b = (b_j.expand(*size, -1) if axis == -1 else b_j.reshape(-1, *[1] * len(size)).expand(-1, *size)).flatten()
        drive = torch.eye(len(K), dtype=F64) if case.name in ("ms1", "ms2") else J @ K.T
        moves = {"ms1": (q, p), "ms3": (p, q), "h2": (p, q)}.get(case.name, (p | q,))
        for half in moves:
            y = torch.where(half, y + h * (drive @ torch.tanh(K @ y + b)), y)
    return y


def weights(case: Case, requires_grad: bool = False) -> dict[str, Tensor]:
    """What a call brings, with gradients of the weights of edges where asked for."""
    brought = dict(case.call)
    if "edge_weight" in brought:
        brought["edge_weight"] = brought["edge_weight"].clone().requires_grad_(requires_grad)
    return brought


def values_and_gradients(case: Case, flow: Flow, y: Tensor, **more: Tensor) -> list[Tensor]:
    """The output of a call, and the gradients of the state, of all parameters and of the weights of edges."""
    y, brought = y.detach().requires_grad_(), weights(case, requires_grad=True) | more
    out = flow(y, **brought)
    inputs = [y, *flow.parameters(), *(x for x in brought.values() if x.requires_grad)]
    found = torch.autograd.grad(out, inputs, random(*out.shape, seed=6), allow_unused=True, materialize_grads=True)
    return [out.detach(), *found]
