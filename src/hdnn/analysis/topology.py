"""Networks of nodes: how far a layer carries what a node knows, forward and backward, and whether a graph bounds it.

Legend: V nodes of d features, A (V, V) the adjacency; a *hop* is an edge, whichever way it points. The field
J Kᵀ σ(K y + b) goes along the edges of K, back along those of Kᵀ, and along those of J: at most 2 + (hops of J) hops
for each time that a step asks it. SymplecticEuler asks it twice, each half by the other, so that a layer with K on a
ring and a J within nodes reaches 4 hops, forward and backward alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn import nodes
from hdnn.analysis.checks import check_flow, check_vectors
from hdnn.analysis.matrix_free import vector_sensitivity_product
from hdnn.analysis.precision import in_full
from hdnn.analysis.sensitivity import sensitivities
from hdnn.energies import Quadratic
from hdnn.flow import Flow
from hdnn.hamiltonian import Drive, Field, Layer

_REMEDY = {"K": "Masked", "J": "Learned"}


@dataclass(frozen=True, eq=False)
class Topology:
    """How far states and gradients of a flow reach over a graph.

    Attributes:
        local: whether all that was measured lies within `allowed`.
        hops_per_layer: that the factors of the flow allow a layer, None where nothing bounds them.
        allowed: hops from the state before layer j to the output, (N + 1,), at most V − 1 within a connected graph;
            V where nothing bounds them.
        forward: the farthest node that the output of a node depends on, in hops, (N + 1,): entries of ∂y_N/∂y_j that
            are not zero. V stands for a node that no path leads to.
        backward: the farthest node whose state receives a gradient from a loss at one node, (N + 1,), by the backward
            pass.
        reason: a sentence.
    """

    local: bool
    hops_per_layer: int | None
    allowed: Tensor
    forward: Tensor
    backward: Tensor
    reason: str


@in_full
def check_topology(flow: Flow, adjacency: Tensor, y0: Tensor | None = None, *, halves: bool = True) -> Topology:
    """Measure how far the states and the gradients of a flow reach over a graph, beside what its factors allow.

    What is allowed is read off zero patterns, those of K and J, and the number of times that a step asks the field:
    2 hops for K and Kᵀ each time, or 1 where J Kᵀ = I, and one more for a J that joins neighbours. What is measured are
    entries that are exactly zero: of ∂y_N/∂y_j, and of the gradients that one backward pass per node brings to every
    layer. Nothing bounds a step that solves equations, as `ImplicitMidpoint`, or a K or J that joins other nodes.

    Args:
        flow: on vectors, n = V d.
        adjacency: (V, V), A[target, source] nonzero for an edge; weights and directions do not count.
        y0: states to measure at, (S, n); None draws two.
        halves: whether half of a node's features are of p and half of q; as for `Masked.from_graph`.

    Raises:
        ValueError: if n is no multiple of V, or a state or the flow does not fit.

    Example:
        >>> import torch, hdnn
        >>> ring = torch.eye(12).roll(1, 0) + torch.eye(12).roll(-1, 0)
        >>> flow = hdnn.Flow(24, layers=2, step=0.1, structure=hdnn.Masked.from_graph(ring, node_size=2),
        ...                  interconnection="canonical", integrator=hdnn.SymplecticEuler)
        >>> found = check_topology(flow, ring)
        >>> found.local, found.hops_per_layer, found.forward.tolist()
        (True, 4, [6, 4, 0])
    """
    check_vectors(flow, "`check_topology`")
    near = nodes.graph(adjacency)
    count, rest = divmod(flow.features, len(near))
    if rest:
        raise ValueError(
            f"The {flow.features} features of this flow are no multiple of the {len(near)} nodes of `adjacency`. A "
            f"node has as many features as every other."
        )
    owner, distance = nodes.owners(len(near), count, halves), nodes.distances(adjacency)
    if y0 is None:
        y0 = torch.randn(2, flow.features, generator=torch.Generator().manual_seed(0)).to(flow.weight)
    check_flow(flow, y0)
    if flow.layers == 0:
        still = torch.zeros(1, dtype=torch.int64)
        return Topology(True, 0, still, still, still, "A flow without layers moves nothing.")
    farthest = distance[owner[:, None], owner]
    M = sensitivities(flow, y0.reshape(-1, flow.features)).detach().cpu()
    forward = torch.stack([farthest[of_layer].max() for of_layer in (M != 0).any(1)])
    backward = _backward(flow, y0.reshape(-1, flow.features), owner, distance)
    per_layer, why = _allowed(flow, farthest)
    connected = int(distance[distance < len(near)].max())
    left = torch.arange(flow.layers, -1, -1)
    allowed = torch.where(left == 0, 0, len(near)) if per_layer is None else (per_layer * left).clamp_max(connected)
    local = per_layer is not None and bool((forward <= allowed).all() and (backward <= allowed).all())
    return Topology(local, per_layer, allowed, forward, backward, _reason(flow, per_layer, why, local, forward))


def _backward(flow: Flow, y: Tensor, owner: Tensor, distance: Tensor) -> Tensor:
    """How far the gradient of a loss at one node comes, the farthest over all nodes, (N + 1,)."""
    reached = []
    for node in range(len(distance)):
        g = vector_sensitivity_product(flow, y, (owner == node).to(y).expand_as(y)).detach().cpu()
        hops = distance[node][owner].expand(len(g), -1)
        reached.append(torch.where((g != 0).any(1), hops, 0).amax(1))
    return torch.stack(reached).amax(0)


def _allowed(flow: Flow, farthest: Tensor) -> tuple[int | None, str]:
    """The hops of one layer that the patterns of K and J and the step allow; None, and why, where nothing does."""
    evaluations, name = _evaluations(flow), type(flow.integrator).__name__
    if evaluations is None:
        return None, f"`{name}` solves equations, so that a layer may carry anything anywhere"
    if flow.hamiltonian.own is not None and not isinstance(flow.hamiltonian.own, Quadratic):
        return None, "an energy of one's own may join any nodes"
    K, J = flow.structure.pattern(flow.features, flow.space), flow.interconnection.pattern(flow.features)
    if K.shape != farthest.shape:
        return None, f"K is {K.shape[0]} x {K.shape[1]}, so that its units belong to no node"
    through = {"K": int(farthest[K].max()), "J": 0 if J is None else int(farthest[J].max())}
    for matrix, hops in through.items():
        if hops > 1:
            return None, f"{matrix} joins nodes that are no neighbours. Use `{_REMEDY[matrix]}.from_graph`"
    return evaluations * (through["K"] if J is None else 2 * through["K"] + through["J"]), ""


class _Counted(Drive):
    """A drive that stands still and counts how often it is asked."""

    __slots__ = ("asked",)

    def __init__(self, drive: Drive) -> None:
        super().__init__(Layer(*drive.layer), drive.space, drive.activation)
        self.asked = 0

    def __call__(self, y: Tensor) -> Tensor:
        self.asked += 1
        return 0 * y


def _evaluations(flow: Flow) -> int | None:
    """How often a step asks the field, each time of what it found before; None where it solves equations."""
    if not flow.integrator.explicit:
        return None
    field = flow.fields()[0]
    drives = tuple(_Counted(drive) for drive in field.drives)
    flow.integrator.step(Field(drives, field.axis), flow.weight.detach().new_zeros(flow.features), flow.step)
    return sum(drive.asked for drive in drives)


def _reason(flow: Flow, per_layer: int | None, why: str, local: bool, forward: Tensor) -> str:
    if per_layer is None:
        return f"Not local: {why}."
    if local:
        name = type(flow.integrator).__name__
        return f"Local: a layer of `{name}` carries a state {per_layer} hops at most, and its gradient as far back."
    return f"Not local: {int(forward.max())} hops were reached, where {per_layer} a layer are allowed."
