"""Networks of stages: the published counts of parameters, what they learn, and what they refuse."""

import pytest
import torch

import hdnn


def trained(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (hdnn.hamiltonian74, {"batch": 432_042, "bias": 429_706, "units": 429_706, None: 427_082}),
        (hdnn.hamiltonian218, {"bias": 1_683_050}),
        (hdnn.hamiltonian1202, {"batch": 9_699_370}),
    ],
)
def test_counts_are_those_of_the_formula(make, counts):
    for kind, count in counts.items():
        with torch.device("meta"):
            network = make(normalization=kind)
        assert trained(network) == count


def test_layers_are_those_of_the_names():
    for make, layers in ((hdnn.hamiltonian74, 74), (hdnn.hamiltonian218, 218), (hdnn.hamiltonian1202, 1202)):
        with torch.device("meta"):
            network = make()
        flows = [m for m in network.modules() if isinstance(m, hdnn.Flow)]
        assert 4 * sum(flow.layers for flow in flows) + 2 == layers  # four convolutions a layer, the stem, the head


@pytest.mark.parametrize("kind", ["units", "batch", "bias", None])
@pytest.mark.parametrize("memory", [None, "reverse"])
def test_a_small_network_learns(kind, memory):
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = torch.randn(64, 1, 8, 8) * 0.2
    x[y == 0, :, ::2] += 1.0  # stripes along one axis or the other
    x[y == 1, :, :, ::2] += 1.0
    network = hdnn.image_network((1, 1), (8, 12), classes=2, inputs=1, normalization=kind, memory=memory, step=0.5)
    hdnn.fit(network, x, y, hdnn.Recipe(epochs=10, batch_size=16, learning_rate=0.01))
    assert hdnn.evaluate(network, x, y)["accuracy"] > 0.95


def test_most_of_a_network_is_in_flows():
    network = hdnn.image_network((2, 2, 2), (16, 32, 56), inputs=1)
    flows = [m for m in network.modules() if isinstance(m, hdnn.Stage)]
    outside = trained(network) - sum(map(trained, flows)) - trained(network.head)
    assert outside < 0.1 * (trained(network) - trained(network.head))


def test_scaled_pools_are_asked_for():
    pools = [m for m in hdnn.image_network(scaled=True).modules() if isinstance(m, hdnn.Pool)]
    assert len(pools) == 2
    assert all(pool.scaled for pool in pools)


@pytest.mark.parametrize(
    ("units", "channels", "words"),
    [
        ((1, 1), (8,), "one number for each stage"),
        (2, (8, 16), "one number for each stage"),
        ((1, 0), (8, 16), "at least one unit"),
        ((1, 1), (16, 8), "never fall"),
        ((1, 1), (7, 8), "even"),
    ],
)
def test_units_and_channels_that_do_not_fit_are_refused(units, channels, words):
    with pytest.raises(ValueError, match=words):
        hdnn.image_network(units, channels)
