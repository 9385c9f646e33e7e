"""Configurations of networks on signals and graphs: what they build, what they keep, and what is refused."""

import copy
import dataclasses

import pytest
import torch

import hdnn
from families import random
from hdnn.data import documents
from hdnn.hub import HubNetwork
from hdnn.kernels.eager import Eager
from hdnn.networks import NetworkConfig, build_network
from hdnn.networks.graphs import over_graphs
from hdnn.runs import Run

LINE = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
KNOWN = {"task": "classification", "outputs": 3, "model": "h2", "features": 4, "layers": 5, "step": 0.2}
SIGNALS = {**KNOWN, "inputs": (2, 20), "space": "signals", "kernel_size": 5}
GRAPHS = {**KNOWN, "inputs": (3,), "space": "graph"}


def h2(features=4, layers=5, **options):
    return hdnn.h2(features, layers, step=0.2, **options)


def stages(pool=2):
    return hdnn.signal_classifier(2, 3, [h2(4, 2, space=hdnn.Signals(5)), h2(8, 3, space=hdnn.Signals(5))], pool=pool)


TWO = {**SIGNALS, "units": (2, 3), "channels": (4, 8)}
CASES = {
    "signals": (SIGNALS, lambda: hdnn.signal_classifier(2, 3, h2(space=hdnn.Signals(5)))),
    "stages": (TWO, stages),
    "stages pooled by 3": ({**TWO, "pool": 3}, lambda: stages(3)),
    "numbers of signals": (
        {**SIGNALS, "task": "regression", "damping": 0.3, "width": 6, "activation": "softplus"},
        lambda: hdnn.signal_regressor(2, 3, h2(space=hdnn.Signals(5), damping=0.3, width=6, activation="softplus")),
    ),
    "graphs": (GRAPHS, lambda: hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph()))),
    "sums": (
        {**GRAPHS, "task": "regression", "readout": "sum"},
        lambda: hdnn.graph_regressor(3, 3, h2(space=hdnn.Graph()), readout="sum"),
    ),
    "nodes": ({**GRAPHS, "readout": "nodes"}, lambda: hdnn.node_classifier(3, 3, h2(space=hdnn.Graph()))),
    "means over neighbours": (
        {**GRAPHS, "task": "regression", "readout": "nodes", "neighbours": "mean", "shared": True},
        lambda: hdnn.node_regressor(3, 3, h2(space=hdnn.Graph(normalization="mean"), shared=True)),
    ),
}
each = pytest.mark.parametrize("case", CASES)


def trained(network):
    """With random numbers everywhere."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(0.5 * random(*parameter.shape, seed=number))
    return network.eval()


def call(config):
    return (random(3, 3).float(), LINE) if config.space == "graph" else (random(5, 2, 33).float(),)


@each
def test_a_configuration_builds_the_network_of_its_words_and_files_keep_it(case, tmp_path):
    choices, make = CASES[case]
    config, mine = NetworkConfig(**choices), trained(make())
    assert documents.record(NetworkConfig, dataclasses.asdict(config), "the network") == config
    assert not config.of_sequences
    built = build_network(config)
    assert repr(built) == repr(mine)
    assert config.horizon == pytest.approx(0.2 * 5)
    x = call(config)
    HubNetwork(config, mine).save_pretrained(tmp_path)
    again = HubNetwork.from_pretrained(tmp_path)
    assert again.config.network == config
    for loaded in (again, copy.deepcopy(again), Run.open(tmp_path).load_network()):
        assert torch.equal(loaded(*x), mine(*x))
        assert torch.equal(loaded.predict(*x), mine.predict(*x))
    card = (tmp_path / "README.md").read_text()
    assert "network(x, edge_index" in card if config.space == "graph" else "(B, 2, L)" in card


def test_what_was_trained_in_a_hub_network_is_what_comes_back(tmp_path):
    torch.manual_seed(0)
    network = HubNetwork(NetworkConfig(**{**GRAPHS, "outputs": 2}))
    x, batch = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    loader = [((x, torch.cat((LINE, LINE + 3), 1), batch), torch.tensor([0, 1]))]
    before = network.head.weight.clone()
    hdnn.fit(network, loader, recipe=hdnn.Recipe(epochs=3, head_decay=1e-4, smoothness=1e-4))
    assert not torch.equal(network.head.weight, before)
    network.save_pretrained(tmp_path)
    again = HubNetwork.from_pretrained(tmp_path)
    assert torch.equal(again(*loader[0][0]), network(*loader[0][0]))
    assert again.trajectory(x[:3], LINE).shape == (6, 3, 4)
    torch.testing.assert_close(again.trajectory(x[:3], LINE)[-1].mean(0), again.features(x[:3], LINE)[0])


def test_another_network_than_that_of_the_configuration_is_refused():
    fixed = hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph(LINE)))
    for network, words in (
        (fixed, r"Graph\(.*where that has.*Graph\(\)"),
        (hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph()), readout="sum"), "sum"),
        (hdnn.graph_classifier(3, 3, hdnn.h2(4, 5, step=0.1, space=hdnn.Graph())), r"step=0\.1.*step=0\.2"),
        (hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph(), layers=4)), "their weights differ"),
    ):
        with pytest.raises(ValueError, match=f"is not that of the configuration.*{words}"):
            HubNetwork(NetworkConfig(**GRAPHS), network)
    with pytest.raises(ValueError, match=r"Pool\(3.*where that has.*Pool\(2"):
        HubNetwork(NetworkConfig(**TWO), stages(3))


def test_graphs_without_nodes_and_with_numbers_below_zero_are_refused():
    network = hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph()))
    with pytest.raises(ValueError, match="a graph has at least one"):
        network(torch.zeros(0, 3), LINE[:, :0])
    with pytest.raises(ValueError, match="whole numbers from 0; got -1"):
        network(torch.zeros(3, 3), LINE, torch.tensor([-1, 0, 0]))
    with pytest.raises(TypeError, match=r"got 'x', a str\. A run folder is read by HubNetwork\.from_run"):
        HubNetwork("x")


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_no_graphs_have_no_answers(how):
    none = torch.zeros(0, dtype=torch.long)
    assert over_graphs(torch.zeros(0, 3), none, how).shape == (0, 3)


class Settings(Eager):
    """A backend of one's own that prints commas."""

    name = "settings"

    def __repr__(self):
        return "Settings(a=1, b=2, memory='few',\n    c=3)"


@pytest.mark.parametrize("backend", ["eager", Settings()])
def test_how_a_flow_runs_is_not_what_its_network_is(tmp_path, backend):
    space = hdnn.Graph()
    network = hdnn.graph_classifier(3, 3, h2(space=space, backend=backend, memory="recompute"))
    HubNetwork(NetworkConfig(**GRAPHS), network).save_pretrained(tmp_path)
    assert torch.equal(HubNetwork.from_pretrained(tmp_path).flow.weight, network.flow.weight)


def test_a_module_too_many_is_not_that_of_the_configuration():
    network = hdnn.graph_classifier(3, 3, h2(space=hdnn.Graph()))
    network.last = torch.nn.ReLU()
    with pytest.raises(ValueError, match=r"it has `\(last\): ReLU\(\)` where that has `nothing`"):
        HubNetwork(NetworkConfig(**GRAPHS), network)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({**SIGNALS, "inputs": (20,)}, r"signals have \(C, L\)"),
        ({**GRAPHS, "inputs": (3, 4)}, r"nodes of graphs have \(d,\)"),
        ({**SIGNALS, "kernel_size": None}, "need a `kernel_size`"),
        ({**SIGNALS, "kernel_size": 4}, "odd"),
        ({**SIGNALS, "pool": 2}, "there is one flow alone"),
        ({**SIGNALS, "readout": "sum"}, "signals have no `readout`"),
        ({**SIGNALS, "units": (5,)}, "one of both is missing"),
        ({**TWO, "units": (2, 2, 1)}, "Each stage has its layers"),
        ({**TWO, "channels": (6, 8)}, "6 features at first"),
        ({**TWO, "channels": (4, 2)}, "as many features or more"),
        ({**TWO, "pool": 0}, "`pool` must be at least 1"),
        ({**GRAPHS, "kernel_size": 3}, "graphs have no `kernel_size`"),
        ({**GRAPHS, "units": (2, 3), "channels": (4, 4)}, "graphs have no `units`"),
        ({**GRAPHS, "lift": "linear"}, "graphs have their own"),
        ({**GRAPHS, "readout": "max"}, "`readout` must be one of"),
        ({**GRAPHS, "model": "unicornn"}, "Use one of ms1"),
        ({**GRAPHS, "model": "h1", "damping": 0.1}, "one half of it"),
        ({**KNOWN, "inputs": (3,), "readout": "sum"}, "have no `readout`"),
        ({**KNOWN, "inputs": (3,), "space": "line"}, "`space` must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        build_network(NetworkConfig(**choices), device="meta")
