"""Networks of signals and graphs: of any length, blind to the order of nodes, alike alone and in a batch, trainable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, fill, random
from hdnn.export import to_program
from hdnn.networks import (
    GraphNetwork,
    graph_classifier,
    graph_regressor,
    node_classifier,
    node_regressor,
    signal_classifier,
    signal_regressor,
)

LINE = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
PAIR = torch.tensor([[0, 1], [1, 0]])
WEIGHTS = {"h2": hdnn.h2, "h1": hdnn.h1}


def flow(space: Any, name: str = "h2", features: int = 8, dtype: torch.dtype = F64) -> hdnn.Flow:
    return fill(WEIGHTS[name](features, layers=3, step=0.2, space=space, dtype=dtype), std=0.5)


def filled(network: Any) -> Any:
    """With an output layer that says something."""
    nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    return network


GRAPH_NETWORKS = {
    "graph_classifier-mean": lambda f: graph_classifier(3, 3, f),
    "graph_classifier-sum": lambda f: graph_classifier(3, 2, f, readout="sum"),
    "graph_regressor-mean": lambda f: graph_regressor(3, 2, f),
    "graph_regressor-sum": lambda f: graph_regressor(3, 1, f, readout="sum"),
    "node_classifier": lambda f: node_classifier(3, 4, f),
    "node_regressor": lambda f: node_regressor(3, 1, f),
}


@pytest.mark.parametrize("preset", WEIGHTS)
@pytest.mark.parametrize("name", GRAPH_NETWORKS)
@pytest.mark.parametrize("normalization", ["sum", "mean", "symmetric"])
def test_the_order_of_nodes_does_not_matter(name: str, preset: str, normalization: Any) -> None:
    """Graphs: invariant; nodes: equivariant."""
    network = filled(GRAPH_NETWORKS[name](flow(hdnn.Graph(normalization=normalization), preset)))
    x, order = random(4, 3), torch.tensor([2, 0, 3, 1])
    weight = 0.5 + random(6, seed=1).abs()
    answer = network(x, LINE, edge_weight=weight)
    turned = network(x[order], order.argsort()[LINE], edge_weight=weight)
    torch.testing.assert_close(turned, answer[order] if name.startswith("node") else answer)
    assert not torch.allclose(answer, network(x.roll(1, 0), LINE, edge_weight=weight).reshape(answer.shape))


@pytest.mark.parametrize("name", GRAPH_NETWORKS)
def test_collated_graphs_answer_as_each_alone(name: str) -> None:
    network = filled(GRAPH_NETWORKS[name](flow(hdnn.Graph())))
    x, z = random(4, 3), random(2, 3, seed=1)
    together = network(torch.cat((x, z)), torch.cat((LINE, PAIR + 4), 1), torch.tensor([0] * 4 + [1] * 2))
    alone = torch.cat((network(x, LINE), network(z, PAIR)))
    torch.testing.assert_close(together, alone)
    assert len(together) == (6 if name.startswith("node") else 2)


def test_readouts_are_what_they_say() -> None:
    of_sum, of_mean = (graph_regressor(3, 1, flow(hdnn.Graph()), readout=how) for how in ("sum", "mean"))  # type: ignore[arg-type]
    of_mean.load_state_dict(of_sum.state_dict())
    x, batch = random(6, 3), torch.tensor([0, 0, 0, 0, 1, 1])
    edges = torch.cat((LINE, PAIR + 4), 1)
    counts = torch.tensor([[4.0], [2.0]], dtype=F64)
    torch.testing.assert_close(of_sum.features(x, edges, batch), counts * of_mean.features(x, edges, batch))


def test_many_samples_on_one_given_graph() -> None:
    network = filled(graph_regressor(3, 2, flow(hdnn.Graph(LINE))))
    x = random(5, 4, 3)
    torch.testing.assert_close(network(x), torch.cat([network(one) for one in x]))


@pytest.mark.long
@pytest.mark.parametrize("make", [graph_classifier, node_classifier])
def test_networks_on_a_given_graph_become_programs(make: Any) -> None:
    network = filled(make(3, 3, flow(hdnn.Graph(LINE))))
    program, x = to_program(network, (4, 3)).module(), random(5, 4, 3)
    torch.testing.assert_close(program(x)["logits"], network(x))
    with pytest.raises(ValueError, match="or make the flow with `space=Graph"):
        to_program(make(3, 3, flow(hdnn.Graph())), (4, 3))


@pytest.mark.parametrize("outputs", [2, 3])
def test_classes_and_probabilities(outputs: int) -> None:
    network = filled(node_classifier(3, outputs, flow(hdnn.Graph())))
    found = network.probabilities(random(4, 3), LINE)
    assert found.shape == (4, outputs)
    torch.testing.assert_close(found.sum(-1), torch.ones(4, dtype=F64))
    assert torch.equal(network.predict(random(4, 3), LINE), found.argmax(-1))
    with pytest.raises(ValueError, match="no class probabilities"):
        node_regressor(3, 1, flow(hdnn.Graph())).probabilities(random(4, 3), LINE)


def graphs(count: int, seed: int) -> list[tuple[tuple[Tensor, Tensor, Tensor], Tensor]]:
    """Batches of rings and lines of random length, which edges alone tell apart."""
    generator, batches = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        edges, batch, labels, start = [], [], [], 0
        for graph in range(8):
            nodes = int(torch.randint(5, 9, (1,), generator=generator))
            ring = int(torch.randint(2, (1,), generator=generator))
            i = torch.arange(nodes - 1 + ring)
            one_way = torch.stack((i, (i + 1) % nodes)) + start
            edges += [one_way, one_way.flip(0)]
            batch += [graph] * nodes
            labels.append(ring)
            start += nodes
        x = torch.ones(start, 1)
        batches.append(((x, torch.cat(edges, 1), torch.tensor(batch)), torch.tensor(labels)))
    return batches


def test_a_classifier_of_graphs_learns_from_a_loader() -> None:
    """Rings and lines: the ends of a line have one neighbour."""
    torch.manual_seed(0)
    network = graph_classifier(1, 2, hdnn.h2(8, layers=4, step=0.2, space=hdnn.Graph()))
    history = hdnn.fit(network, graphs(12, 0), recipe=hdnn.Recipe(epochs=25, learning_rate=0.03))
    assert history[-1]["train_accuracy"] == 1.0
    (x, y) = graphs(1, 9)[0]
    assert torch.equal(network.predict(*x), y)


def test_a_classifier_of_nodes_learns_from_the_labels_that_are_known() -> None:
    """One graph, half of its labels: nodes of a line left and right of the middle."""
    i = torch.arange(19)
    line = torch.cat((torch.stack((i, i + 1)), torch.stack((i + 1, i))), 1)
    labels, known = (torch.arange(20) >= 10).long(), torch.zeros(20)
    known[[0, 4, 7, 12, 15, 19]] = 1
    x = torch.zeros(20, 2)
    x[0, 0] = x[-1, 1] = 1  # what the ends know must pass along
    torch.manual_seed(0)
    network = node_classifier(2, 2, hdnn.h2(8, layers=12, step=0.3, space=hdnn.Graph()))
    inputs = {"x": x, "edge_index": line}
    hdnn.fit(network, [(inputs, labels, known)], recipe=hdnn.Recipe(epochs=150, learning_rate=0.02))
    assert (network.predict(x, line)[known > 0] == labels[known > 0]).all()


@pytest.mark.parametrize("stages", [1, 3])
def test_signals_of_any_length(stages: int) -> None:
    network = filled(signal_classifier(2, 3, [flow(hdnn.Signals(3), features=4 + 2 * s) for s in range(stages)]))
    for length in (1, 7, 40):
        assert network(random(5, 2, length)).shape == (5, 3)
    x = random(5, 2, 40)
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))
    assert network.predict(x).shape == (5,)
    assert network.probabilities(x).shape == (5, 3)


def test_a_classifier_of_signals_learns_from_tensors_and_from_a_loader() -> None:
    """Fast and slow waves of random phase."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (64,), generator=generator)
    t, phase = torch.linspace(0, 1, 32), 6.28 * torch.rand(64, 1, generator=generator)
    x = torch.sin(6.28 * (2 + 3 * y[:, None]) * t + phase)[:, None]
    for data in ((x, y), ([(x[:32], y[:32]), (x[32:], y[32:])],)):
        torch.manual_seed(0)
        stage = [hdnn.h2(n, layers=3, step=0.2, space=hdnn.Signals(5)) for n in (4, 8)]
        network = signal_classifier(1, 2, stage)
        recipe = hdnn.Recipe(epochs=30, learning_rate=0.02, batch_size=32, smoothness=1e-4)
        history = hdnn.fit(network, *data, recipe=recipe)
        assert history[-1]["train_accuracy"] >= 0.95


def test_a_regressor_of_signals_learns() -> None:
    x = random(64, 1, 20).float()
    torch.manual_seed(0)
    network = signal_regressor(1, 1, hdnn.h2(8, layers=3, step=0.2, space=hdnn.Signals(3)))
    y = x.square().mean(-1)
    history = hdnn.fit(network, x, y, hdnn.Recipe(epochs=60, learning_rate=0.02, batch_size=32))
    assert history[-1]["train_error"] < 0.7 * float(y.std())  # below what a constant answers


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a flow on one; this acts on `Vectors\(\)`"):
        graph_classifier(3, 2, hdnn.h2(4, 2, step=0.1))
    with pytest.raises(ValueError, match="needs flows on `Signals`"):
        signal_classifier(1, 2, hdnn.h2(4, 2, step=0.1, kernel_size=3))
    with pytest.raises(ValueError, match="at least two classes"):
        node_classifier(3, 1, flow(hdnn.Graph()))
    with pytest.raises(ValueError, match="`readout` must be"):
        GraphNetwork(nn.Identity(), flow(hdnn.Graph()), nn.Linear(8, 1), "regression", "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Nothing here brings `inputs`"):
        node_regressor(3, 1, hdnn.h2(8, 2, step=0.1, space=hdnn.Graph(), inputs=2))
    network = graph_regressor(3, 1, flow(hdnn.Graph()))
    with pytest.raises(ValueError, match="needs its edges"):
        network(random(4, 3))
    with pytest.raises(ValueError, match="graph of every node"):
        network(random(4, 3), LINE, torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="whole numbers from 0"):
        network(random(4, 3), LINE, torch.zeros(4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_graphs_are_numbered_by_any_whole_numbers(dtype: torch.dtype) -> None:
    network = filled(graph_classifier(3, 2, flow(hdnn.Graph())))
    x, edges, batch = random(6, 3), torch.cat((LINE, PAIR + 4), 1), torch.tensor([0, 0, 0, 0, 1, 1])
    assert torch.equal(network(x, edges, batch.to(dtype)), network(x, edges, batch))


def test_numbers_of_graphs_that_are_none_are_refused() -> None:
    network = graph_classifier(3, 2, flow(hdnn.Graph()))
    x, edges = random(2, 3), PAIR
    with pytest.raises(TypeError, match=r"`batch` must be a tensor \(ΣV,\), the number of the graph of every node"):
        network(x, edges, [0, 0])
    with pytest.raises(ValueError, match=r"`batch` numbers graphs by whole numbers"):
        network(x, edges, torch.tensor([False, True]))
    with pytest.raises(TypeError, match=r"`edge_weight` must be a tensor \(E,\), one number for each edge; got 1.0"):
        network(x, edges, edge_weight=1.0)  # type: ignore[arg-type]
