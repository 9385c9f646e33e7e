"""States as rows of one matrix, on which a layer is a few products: K y = y K₀ᵀ + (A y) K₁ᵀ, on vectors y K₀ᵀ alone.

Legend: V nodes, E edges, B samples, R = B V rows; A (V, V) of a graph: an edge i → j adds its weight to A[j, i].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Sums = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
Edges = tuple[Tensor, Tensor, Tensor | None]


class Rows:
    """Vectors: every row by itself.

    Attributes:
        taps: how many products a layer has, 1 or 2.
    """

    taps: int = 1

    def beside(self, plain: bool) -> Sums | None:
        """Functions of rows (R, k), to (x, A x) and to (x, Aᵀ x), each (R, 2 k); None where rows are by themselves.

        Args:
            plain: as fast as may be, for tensors that nobody differentiates, maps or traces.
        """
        return None


class Nodes(Rows):
    """The nodes of a graph, sample by sample.

    Args:
        fast: both functions, without gradients.
        general: A x and Aᵀ x of x (B, V, k), under whatever PyTorch does.
        nodes: V.
    """

    taps = 2

    def __init__(self, fast: Sums, general: Sums, nodes: int) -> None:
        self._fast, self._general, self._nodes = fast, general, nodes

    def beside(self, plain: bool) -> Sums:
        """Along sorted edges, or by the operations of the graph."""
        if plain:
            return self._fast
        there, back = (self._joined(each) for each in self._general)
        return there, back

    def _joined(self, summed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            return torch.cat((x, summed(x.reshape(-1, self._nodes, x.shape[-1])).reshape(x.shape)), 1)

        return run


def beside(edges: Edges, nodes: int, samples: int) -> Callable[[Tensor], Tensor]:
    """The function from x (R, k) to (x, A x), without gradients.

    Edges sorted by where they end are summed several times as fast as those of any order; every node is an edge too,
    the first half of its row.

    Args:
        edges: where they start (E,), where they end, and their weights.
        nodes: V.
        samples: B.
    """
    start, end, weight = edges
    order = end.argsort(stable=True)
    itself = torch.arange(nodes, device=end.device)
    # Of every node itself and then its edges: edge number k of the sorted ones has its end and those before it ahead.
    places = torch.arange(len(order), device=end.device) + end[order] + 1
    counts = torch.bincount(end, minlength=nodes)
    of_itself = counts.cumsum(0) - counts + itself
    of_rows = torch.empty(nodes + len(order), dtype=torch.int64, device=end.device)
    of_rows[places], of_rows[of_itself] = start[order].long(), itself
    weights = None
    if weight is not None:
        weights = weight.new_ones(len(of_rows)).index_copy(0, places, weight[order])
    first = torch.stack((of_itself, of_itself + 1), 1).flatten()
    if samples > 1:
        steps = torch.arange(samples, device=end.device)[:, None]
        of_rows = (of_rows + nodes * steps).flatten()
        first = (first + (nodes + len(order)) * steps).flatten()
        weights = None if weights is None else weights.repeat(samples)

    size = (samples * nodes, -1)

    def run(x: Tensor) -> Tensor:
        found: Tensor = torch.embedding_bag(x, of_rows, first, False, 0, False, weights)[0]
        return found.view(size)

    return run
