"""Networks of nodes: which features of a state belong to which node, and which of them a graph lets meet.

Legend: V nodes of d features, n = V d; A (V, V) the adjacency, A[target, source] ≠ 0 for an edge. In a state y = (p, q)
a node has d/2 features of p and the d/2 of q that drive them: node i owns i d/2 … (i + 1) d/2 − 1 of either half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.arguments import shown, whole


def owners(nodes: int, node_size: int, halves: bool) -> Tensor:
    """Which node every feature belongs to, (n,).

    Args:
        nodes: V.
        node_size: d.
        halves: whether a node has its share of p and of q; one stretch of the state otherwise.

    Raises:
        ValueError: if d is not positive, or odd where nodes have halves.
    """
    if whole("node_size", node_size) < 1:
        raise ValueError(f"`node_size` counts the features of a node, so it must be at least 1; got {node_size}.")
    if halves and node_size % 2:
        raise ValueError(
            f"Half of the features of a node are of p and half of q, so `node_size` must be even; got {node_size}. Use "
            f"{node_size + 1}, or `halves=False` for a network that does not split its state."
        )
    of_part = torch.arange(nodes, device="cpu").repeat_interleave(node_size // 2 if halves else node_size)
    return of_part.repeat(2) if halves else of_part


def graph(adjacency: Tensor) -> Tensor:
    """Which nodes may meet, boolean (V, V): the edges of the adjacency, and every node with itself.

    Raises:
        TypeError: if the adjacency is not a tensor.
        ValueError: if it is not square, or has entries that are not finite.
    """
    if not isinstance(adjacency, Tensor):
        raise TypeError(f"`adjacency` must be a tensor (V, V); got {shown(adjacency)}. Use torch.as_tensor(adjacency).")
    if adjacency.dim() != 2 or adjacency.shape[0] != adjacency.shape[1] or not len(adjacency):
        raise ValueError(
            f"`adjacency` must be a matrix (V, V), nonzero at [target, source] of every edge; got "
            f"{tuple(adjacency.shape)}. Of an edge_index e: A[e[1], e[0]] = 1."
        )
    if adjacency.is_floating_point() and not adjacency.isfinite().all():
        raise ValueError("`adjacency` has NaN or infinite entries: it says which edges exist, by zero or not.")
    edges = adjacency.detach().cpu() != 0
    return edges | torch.eye(len(edges), dtype=torch.bool, device="cpu")


def mask(adjacency: Tensor, node_size: int, halves: bool = True) -> Tensor:
    """Which entries of a matrix (n, n) stay within a node or go along an edge, boolean: [i, k] for k acting on i."""
    near = graph(adjacency)
    owner = owners(len(near), node_size, halves)
    return near[owner[:, None], owner]


def distances(adjacency: Tensor) -> Tensor:
    """The fewest edges from node to node, whichever way they point, (V, V); V where none lead there."""
    near = graph(adjacency)
    near = (near | near.mT).float()
    found = torch.full(near.shape, len(near), dtype=torch.int64, device="cpu")
    reached = torch.eye(len(near), device="cpu")
    for hops in range(len(near)):
        found[(reached > 0) & (found == len(near))] = hops
        reached = ((reached @ near) > 0).float()
    return found
