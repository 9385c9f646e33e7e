"""The ring: which nodes a layer asks."""

import pytest
import torch

from hdnn import nodes
from hdnn.experiments.distributed import FEATURES, NODES, Config, Placement, network, ring
from hdnn.training import Recipe


def neighbours(i):
    return {(i - 1) % NODES, i, (i + 1) % NODES}


def test_the_ring_joins_neighbours_alone():
    mask = nodes.mask(ring(), 2)
    for row in range(FEATURES):
        assert {int(column) % NODES for column in mask[row].nonzero()} == neighbours(row % NODES)


def test_the_inputs_enter_at_nodes_one_and_five():
    state = Placement()(torch.tensor([[2.0, 3.0]]))
    assert state.nonzero()[:, 1].tolist() == [0, 12]
    assert state[0, [0, 12]].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("model", ["h1", "h2"])
def test_what_reaches_a_node_comes_from_as_far_as_the_layers(model):
    """A layer goes through K and Kᵀ, two hops; the two halves of H2 follow each other, four hops."""
    made = network(Config("swiss_roll", model, "ring", 1, Recipe())).double()
    J = torch.autograd.functional.jacobian(made.flow, torch.randn(FEATURES, dtype=torch.float64))
    reach = {"h1": 2, "h2": 4}[model]
    for row, column in J.nonzero().tolist():
        distance = abs(row % NODES - column % NODES)
        assert min(distance, NODES - distance) <= reach


def test_full_networks_have_all_couplings():
    counts = {
        coupling: network(Config("swiss_roll", "h1", coupling, 1, Recipe())).flow.weight.numel()
        for coupling in ("ring", "full")
    }
    assert counts == {"ring": 3 * 2 * FEATURES, "full": FEATURES**2}
