"""K y, Kᵀ z, K Jᵀ and ‖K‖ on every space, against explicit sums and each other."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from families import DIRECTED, F64, NODES, SPACES, call, random, skew, state_on
from hdnn.spaces import Graph, Images, Signals, Space, Vectors, space_of

each = pytest.mark.parametrize("name", SPACES)


def bound(name: str, directed: bool = False) -> Space:
    return SPACES[name]().bind(state_on(name, 3), **call(name, directed))


def matrix(space: Space, K: Tensor, y: Tensor) -> Tensor:
    """The whole operator, column by column."""
    eye = torch.eye(y.numel(), dtype=F64)
    return torch.stack([space.map(K, column.reshape(y.shape)).flatten() for column in eye], 1)


@each
@pytest.mark.parametrize("directed", [False, True])
@settings(deadline=None, max_examples=10)
@given(m=st.integers(1, 5), n=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_adjoint_is_exact(name: str, directed: bool, m: int, n: int, seed: int) -> None:
    space = bound(name, directed)
    K = random(*space.weights(m, n), seed=seed)
    y, z = state_on(name, n, 2, seed=seed + 1), state_on(name, m, 2, seed=seed + 2)
    left, right = (space.map(K, y) * z).sum(), (y * space.adjoint(K, z)).sum()
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
    if space.transposes:
        again = space.map(space.transposed(K), z)
        torch.testing.assert_close(again, space.adjoint(K, z), rtol=1e-11, atol=1e-11)


@each
def test_biases_of_all_samples_and_of_each(name: str) -> None:
    space, m, n = bound(name), 3, 2
    K, b, y = random(*space.weights(m, n)), random(m, seed=1), state_on(name, n, 4)
    plain = space.map(K, y)
    of_features = b.reshape(-1, *[1] * (-1 - space.axis))
    torch.testing.assert_close(space.map(K, y, b), plain + of_features)
    each_b = random(4, *[1] * (0 if space.axis != -1 else space.rank - 1), m, seed=2)
    expected = torch.stack([space.map(K, y[i], each_b[i].reshape(-1)) for i in range(4)])
    torch.testing.assert_close(space.map(K, y, each_b), expected)


@each
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("stored", [1, 3])
def test_what_drives_is_folded_into_the_weights(name: str, per_layer: bool, stored: int) -> None:
    n, m, layers, space = 4, 5, 3, bound(name)
    J = torch.stack([skew(n, seed=j) for j in range(layers)]) if per_layer else skew(n)
    K = random(stored, *space.weights(m, n))
    W = space.turned(J, K)
    z = state_on(name, m, 2, seed=3)
    for j in range(max(stored, layers if per_layer else 1)):
        pulled = space.adjoint(K[j if stored > 1 else 0], z).movedim(space.axis, -1)
        expected = (pulled @ (J[j] if per_layer else J).mT).movedim(-1, space.axis)
        torch.testing.assert_close(space.adjoint(W[j], z), expected, rtol=1e-12, atol=1e-12)


@each
def test_norms_bound_the_whole_operator(name: str) -> None:
    space = SPACES[name]()
    if name.startswith("Graph") and name != "Graph_given":
        with pytest.raises(ValueError, match=r"edges, which come with the call"):
            space.norm(random(*space.weights(3, 2)))
        space = bound(name, directed=name == "Graph_call")
    for seed in range(5):
        K = random(*space.weights(3, 2), seed=seed)
        exact = torch.linalg.matrix_norm(matrix(space, K, state_on(name, 2)), 2)
        assert exact <= space.norm(K) * (1 + 1e-12) <= 3 * exact
    if name == "Graph_given":
        torch.testing.assert_close(space.norm(K), exact)
    if name.startswith(("Graph", "Vectors")):
        with pytest.raises(ValueError, match="the pixels of images; this flow is one of"):
            space.norm(K, (4, 4))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_convolutions_are_the_plain_sums(k: int) -> None:
    K, b, y = random(2, 3, k, k), random(2, seed=1), random(1, 3, 4, 5, seed=2)
    out = torch.zeros(1, 2, 4, 5, dtype=F64)
    for i, j, a, c in torch.cartesian_prod(*map(torch.arange, (4, 5, k, k))):
        row, column = i + a - k // 2, j + c - k // 2
        if 0 <= row < 4 and 0 <= column < 5:
            out[0, :, i, j] += K[:, :, a, c] @ y[0, :, row, column]
    torch.testing.assert_close(Images(k).map(K, y, b), out + b[:, None, None], rtol=1e-12, atol=1e-12)
    line = Signals(k).map(K[..., k // 2, :], y[:, :, 0])
    torch.testing.assert_close(line, Images(k).map(K, y[:, :, :1])[:, :, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", ["sum", "mean", "symmetric"])
@pytest.mark.parametrize("weighted", [False, True])
def test_graphs_are_the_plain_sums(normalization: str, weighted: bool) -> None:
    w = random(DIRECTED.shape[1], seed=1).abs() if weighted else torch.ones(DIRECTED.shape[1], dtype=F64)
    A = torch.zeros(NODES, NODES, dtype=F64)
    for (source, target), weight in zip(DIRECTED.T.tolist(), w, strict=True):
        A[target, source] += weight
    d = A.sum(1)
    if normalization == "mean":
        A = torch.where(d > 0, 1 / d, 0)[:, None] * A
    elif normalization == "symmetric":
        root = torch.where(d > 0, d.rsqrt(), 0)
        A = root[:, None] * A * root
    K, b, y = random(3, 2, 2), random(3, seed=1), random(4, NODES, 2, seed=2)
    expected = y @ K[..., 0].T + A @ y @ K[..., 1].T + b
    given_at_the_call = Graph(normalization=normalization).bind(
        y, edge_index=DIRECTED, edge_weight=w if weighted else None
    )
    given_before = Graph(DIRECTED, w if weighted else None, nodes=NODES, normalization=normalization)
    for space in (given_at_the_call, given_before):
        torch.testing.assert_close(space.map(K, y, b), expected, rtol=1e-12, atol=1e-12)
    assert not given_before.transposes


def test_learned_weights_come_with_the_call() -> None:
    learned = torch.ones(6, requires_grad=True)
    with pytest.raises(ValueError, match=r"is learned.*`flow\(x, edge_index=e, edge_weight=w\)`.*detach\(\) here"):
        Graph(DIRECTED, learned)
    assert Graph(DIRECTED, learned.detach()).directed()


def test_a_space_must_say_where_its_features_stand() -> None:
    with pytest.raises(TypeError, match=r"`Points` does not state `axis` and `rank`: .*`axis = -1` and `rank = 1`"):

        class Points(Space):
            pass

    with pytest.raises(TypeError, match=r"`Ranked` does not state `axis`: "):

        class Ranked(Space):
            rank = 1


def test_a_batch_of_graphs_is_one_graph() -> None:
    """As PyTorch Geometric collates them."""
    K, y, graph = random(3, 2, 2), random(2, NODES, 2, seed=2), Graph()
    apart = [graph.bind(x, edge_index=e).map(K, x) for x, e in zip(y, (DIRECTED, DIRECTED.flip(0)), strict=True)]
    both = torch.cat((DIRECTED, DIRECTED.flip(0) + NODES), 1)
    together = y.flatten(0, 1)
    assert torch.equal(graph.bind(together, edge_index=both).map(K, together), torch.cat(apart))


def test_how_a_space_is_given() -> None:
    assert space_of(None) == space_of(Vectors) == Vectors()
    assert space_of(None, 3) == Images(3)
    with pytest.raises(ValueError, match=r"`kernel_size=3` is short for `space=Images\(3\)`; got both"):
        space_of(Signals(3), 3)
    with pytest.raises(TypeError, match=r"was given as the class `Signals`, which needs arguments"):
        space_of(Signals)
    with pytest.raises(TypeError, match=r"`space` must be a `Space` of hdnn; got 'graph', a str"):
        space_of("graph")  # type: ignore[arg-type]
    for kind in (Images, Signals):
        with pytest.raises(ValueError, match=r"must be odd.*Use 3"):
            kind(2)


@pytest.mark.parametrize(
    ("edges", "weights", "error", "words"),
    [
        (None, None, ValueError, "needs its edges: give `edge_index="),
        (torch.zeros(2, 3), None, TypeError, "whole numbers, torch.int64; got torch.float32"),
        ([[0], [1]], None, TypeError, "got a list|list"),
        (DIRECTED.T, None, ValueError, r"got \(6, 2\). Transpose it"),
        (DIRECTED + 2, None, ValueError, "names node 5, and the state has the nodes 0 to 4"),
        (DIRECTED - 1, None, ValueError, "names node -1"),
        (DIRECTED, torch.ones(5, dtype=F64), ValueError, "one number for each of the 6 edges"),
        (DIRECTED, torch.ones(6), TypeError, "Convert it with edge_weight.to"),
    ],
)
def test_edges_that_are_refused(edges: object, weights: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Graph().bind(random(NODES, 2), edge_index=edges, edge_weight=weights)


def test_other_mistakes_on_graphs() -> None:
    y = random(NODES, 2)
    with pytest.raises(TypeError, match=r"takes no `edge_index`; got a Tensor. .*`space=Graph\(\)`"):
        Vectors().bind(y, edge_index=DIRECTED)
    with pytest.raises(TypeError, match=r"takes no `edge_attr`: an edge carries one number, `edge_weight=`"):
        Graph().bind(y, edge_index=DIRECTED, edge_attr=torch.ones(6, 3))
    with pytest.raises(TypeError, match=r"`Graph\(\)` takes no `edges`"):
        Graph().bind(y, edge_index=DIRECTED, edges=DIRECTED)
    with pytest.raises(ValueError, match="were given with `Graph"):
        Graph(DIRECTED).bind(y, edge_index=DIRECTED)
    with pytest.raises(ValueError, match="must not be negative"):
        Graph(DIRECTED, -torch.ones(6), normalization="mean")
    with pytest.raises(ValueError, match='must be "sum", "mean" or "symmetric"'):
        Graph(normalization="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"nodes of a graph, \(..., 4, 2\); got \(5, 2\)"):
        Graph(DIRECTED).check(y, 2)


def test_given_edges_are_made_once_for_each_kind_of_number() -> None:
    graph = Graph(DIRECTED, random(DIRECTED.shape[1]).abs(), nodes=NODES)
    y = random(NODES, 2).float()
    assert graph.bind(y) is graph.bind(y.clone())
    assert graph.bind(y).numbers[2].dtype is torch.float32
    again = pickle.loads(pickle.dumps(graph))
    torch.testing.assert_close(again.map(random(2, 2, 2).float(), y), graph.map(random(2, 2, 2).float(), y))


def test_edges_of_32_bits_on_many_nodes_are_compared_without_overflow() -> None:
    nodes = 65_537
    one_way = torch.tensor([[0], [nodes - 1]], dtype=torch.int32)
    assert Graph().bind(torch.zeros(nodes, 1), edge_index=one_way).directed()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("seed", range(5))
def test_weights_that_were_divided_are_symmetric_up_to_rounding(dtype: torch.dtype, seed: int) -> None:
    """√d_i √d_j and √d_j √d_i of an edge and its reverse differ in the last digit."""
    torch.manual_seed(seed)
    i, j = torch.combinations(torch.arange(30)).T
    w = torch.rand(len(i), dtype=dtype) + 0.1
    edges, both = torch.stack((torch.cat((i, j)), torch.cat((j, i)))), torch.cat((w, w))
    d = torch.zeros(30, dtype=dtype).index_add(0, edges[1], both)
    divided = d[edges[0]].rsqrt() * both * d[edges[1]].rsqrt()
    y, K = torch.randn(30, 4, dtype=dtype), torch.randn(4, 4, 2, dtype=F64)
    assert not torch.equal(divided[: len(i)], divided[len(i) :])
    graphs = [
        Graph(edges, divided),
        Graph(edges, both, normalization="symmetric"),
        Graph().bind(y, edge_index=edges, edge_weight=divided),
        Graph(normalization="symmetric").bind(y, edge_index=edges, edge_weight=both),
    ]
    for graph in graphs:
        assert graph.transposes
        assert not graph.directed()
    given = graphs[0].given
    assert given is not None
    exact = torch.linalg.matrix_norm(matrix(graphs[0], K, torch.zeros(30, 4, dtype=F64)), 2)
    assert exact <= graphs[0].norm(K) * (1 + 1e-12)
    torch.testing.assert_close(graphs[0].norm(K), exact, rtol=1e-5, atol=0.0)
    off = divided.clone()
    off[0] *= 1 + 100 * torch.finfo(dtype).eps
    assert Graph(edges, off).directed()
    assert Graph().bind(y, edge_index=edges, edge_weight=off).directed()
