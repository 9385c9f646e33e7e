"""Flows on networks of nodes: hops are counted forward and backward, and what reaches farther is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import F64, INTEGRATORS, fill, random
from hdnn import nodes
from hdnn.analysis import check_topology, sensitivities
from hdnn.energies import Energy, Quadratic
from hdnn.flow import Flow
from hdnn.interconnections import Fixed, Interconnection, Inverse, Learned, canonical
from hdnn.structures import BlockDiagonal, Dense, Masked, Skew, Structure

NODES = 16
# How often a step asks the field, each time of what it found before.
EVALUATIONS = {
    "ForwardEuler": 1,
    "SymplecticEuler_p": 2,
    "SymplecticEuler_q": 2,
    "StormerVerlet_p": 3,
    "StormerVerlet_q": 3,
    "Yoshida4_p": 7,
    "RungeKutta4": 4,
}


def ring(count: int = NODES) -> Tensor:
    return torch.eye(count).roll(1, 0) + torch.eye(count).roll(-1, 0)


def line(count: int = NODES, *, directed: bool = False) -> Tensor:
    along = torch.diag(torch.ones(count - 1), -1)
    return along if directed else along + along.mT


class Together(Energy):
    """Every node feels all others."""

    def value(self, y: Tensor, t: float) -> Tensor:
        return y.sum(-1).square() / 2


def flow_of(
    adjacency: Tensor,
    integrator: str = "SymplecticEuler_p",
    J: Interconnection | None = None,
    inner: Structure | None = None,
    layers: int = 2,
    energy: Energy | None = None,
) -> Flow:
    n = 2 * len(adjacency)
    made = Flow(
        n,
        layers,
        step=0.3,
        structure=Masked.from_graph(adjacency, 2, inner),
        interconnection=J or Fixed(canonical(n)),
        integrator=INTEGRATORS[integrator],
        energy=energy,
        dtype=F64,
    )
    return fill(made, std=0.7)


@pytest.mark.parametrize("integrator", EVALUATIONS)
@pytest.mark.parametrize("graph", [ring(40), line(40)])
def test_a_layer_reaches_two_hops_for_each_time_it_asks_the_field(integrator: str, graph: Tensor) -> None:
    """One layer of SymplecticEuler with K on a ring: 4 hops, and no fewer."""
    found = check_topology(flow_of(graph, integrator, layers=1), graph)
    assert found.local
    assert found.hops_per_layer == 2 * EVALUATIONS[integrator]
    assert found.forward.tolist() == found.backward.tolist()
    assert found.allowed.tolist() == found.forward.tolist() == [found.hops_per_layer, 0]


def test_the_nodes_that_are_reached_are_those_within_the_hops() -> None:
    graph = ring()
    flow = flow_of(graph, layers=3)
    found = check_topology(flow, graph, random(3, 2 * NODES))
    assert found.allowed.tolist() == [8, 8, 4, 0]
    assert (found.forward <= found.allowed).all()
    owner, distance = nodes.owners(NODES, 2, True), nodes.distances(graph)
    M = sensitivities(flow, random(2 * NODES))[2]
    beyond = distance[owner[:, None], owner] > int(found.forward[2])
    assert beyond.any()
    assert (M[beyond] == 0).all()


def test_a_learned_J_on_the_graph_adds_a_hop_to_every_move_and_stays_skew() -> None:
    graph = ring(24)
    J = Learned.from_graph(graph, 2)
    flow = flow_of(graph, J=J, layers=1)
    with torch.no_grad():
        flow.interconnection_weight += random(*flow.interconnection_weight.shape)
    assert torch.equal(flow.J, -flow.J.mT)
    assert (flow.J[~nodes.mask(graph, 2)] == 0).all()
    found = check_topology(flow, graph)
    assert found.local
    assert found.hops_per_layer == 6
    assert int(found.forward[0]) > int(check_topology(flow_of(graph, layers=1), graph).forward[0])
    flow(random(5, 48)).square().sum().backward()
    assert flow.interconnection_weight.grad.abs().min() > 0


def test_where_J_follows_from_K_one_hop_is_all() -> None:
    graph = line()
    flow = Flow(
        NODES,
        1,
        step=0.3,
        structure=Masked.from_graph(graph, 1, Skew(), halves=False),
        interconnection=Inverse(),
        integrator=INTEGRATORS["ForwardEuler"],
        dtype=F64,
    )
    found = check_topology(flow, graph, halves=False)
    assert (found.local, found.hops_per_layer, found.forward.tolist()) == (True, 1, [1, 0])


def test_a_directed_graph_is_passed_both_ways() -> None:
    """K goes along an edge, Kᵀ back: a layer depends on both ends of its edges."""
    graph = line(directed=True)
    found = check_topology(flow_of(graph, layers=1), graph)
    assert found.local
    M = sensitivities(flow_of(graph, "ForwardEuler", inner=Dense(), layers=1), random(2 * NODES))[0]
    owner = nodes.owners(NODES, 2, True)
    assert (M[owner == 4][:, owner == 5] != 0).any()
    assert (M[owner == 5][:, owner == 4] != 0).any()


def test_what_reaches_farther_is_told() -> None:
    graph = ring()
    euler = INTEGRATORS["SymplecticEuler_p"]
    dense = fill(
        Flow(32, 1, step=0.3, structure=BlockDiagonal(), interconnection="canonical", integrator=euler, dtype=F64)
    )
    found = check_topology(dense, graph)
    assert (found.local, found.hops_per_layer) == (False, None)
    assert int(found.forward[0]) == NODES // 2
    assert "K joins nodes that are no neighbours" in found.reason
    # A wider neighbourhood than the graph says.
    assert not check_topology(flow_of(ring() + ring() @ ring()), graph).local
    far = Learned(canonical(32), torch.ones(32, 32))
    found = check_topology(flow_of(graph, "ForwardEuler", J=far), graph)
    assert not found.local
    assert "J joins" in found.reason
    found = check_topology(flow_of(graph, "ImplicitMidpoint", layers=1), graph)
    assert not found.local
    assert "solves equations" in found.reason
    assert int(found.forward[0]) == NODES // 2
    wide = Flow(32, 1, step=0.1, structure=Dense(40), interconnection="canonical", integrator="forward_euler")
    assert "its units belong to no node" in check_topology(wide, graph).reason
    bound = flow_of(graph, "ForwardEuler", energy=Together(), layers=1)
    assert "energy of one's own may join any nodes" in check_topology(bound, graph).reason
    assert int(check_topology(bound, graph).forward[0]) == NODES // 2
    held = check_topology(flow_of(graph, "ForwardEuler", energy=Quadratic(torch.ones(32)), layers=1), graph)
    assert (held.local, held.forward.tolist()) == (True, [2, 0])
    # Parts that no path joins.
    apart = torch.block_diag(ring(8), ring(8))
    assert int(check_topology(flow_of(graph), apart).forward[0]) == NODES


def test_parts_that_no_path_joins_stay_apart() -> None:
    apart = torch.block_diag(ring(4), ring(4))
    found = check_topology(flow_of(apart, layers=5), apart)
    assert found.local
    assert found.forward.tolist() == [2, 2, 2, 2, 2, 0]


def test_masks_of_graphs() -> None:
    graph = line(3)
    near = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    assert torch.equal(nodes.mask(graph, 2), near.repeat(2, 2))
    assert torch.equal(nodes.mask(graph, 4), near.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat(2, 2))
    assert torch.equal(nodes.mask(graph, 3, halves=False), near.repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert nodes.distances(graph).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert torch.equal(Masked.from_graph(graph, 2, Skew(), halves=False).mask, nodes.mask(graph, 2, halves=False))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="`node_size` must be even; got 3"):
        Masked.from_graph(ring(), 3)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        Masked.from_graph(ring(), 0)
    with pytest.raises(TypeError, match="must be a tensor"):
        Masked.from_graph([[0, 1], [1, 0]], 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"A\[e\[1\], e\[0\]\] = 1"):
        Masked.from_graph(torch.ones(2, 3), 2)
    with pytest.raises(ValueError, match="NaN"):
        Masked.from_graph(torch.full((2, 2), torch.nan), 2)
    with pytest.raises(ValueError, match="acts both ways"):
        Learned.from_graph(line(directed=True), 2)
    with pytest.raises(ValueError, match="32 features of this flow are no multiple of the 5 nodes"):
        check_topology(flow_of(ring()), ring(5))
