"""States as rows of one matrix, on which a layer is a few products: K y = y K₀ᵀ + (A y) K₁ᵀ, on vectors y K₀ᵀ alone.

Legend: V nodes, E edges, B samples, R = B V rows; A (V, V) of a graph: an edge i → j adds its weight to A[j, i].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

Sums = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
Way = tuple[Tensor, Tensor, Tensor | None]


class Rows:
    """Vectors: every row by itself.

    Attributes:
        taps: how many products a layer has, 1 or 2.
        edges: those of a graph; None on vectors.
    """

    taps: int = 1
    edges: Edges | None = None

    def beside(self, plain: bool) -> Sums | None:
        """Functions of rows (R, k), to (x, A x) and to (x, Aᵀ x), each (R, 2 k); None where rows are by themselves.

        Args:
            plain: as fast as may be, for tensors that nobody differentiates, maps or traces.
        """
        return None


class Nodes(Rows):
    """The nodes of a graph, sample by sample.

    Args:
        edges: of the graph.
        general: A x and Aᵀ x of x (B, V, k), under whatever PyTorch does.
        samples: B.
    """

    taps = 2

    def __init__(self, edges: Edges, general: Sums, samples: int) -> None:
        self.edges: Edges = edges
        self._general, self._samples = general, samples

    def beside(self, plain: bool) -> Sums:
        """Along sorted edges, or by the operations of the graph."""
        if plain:
            return self.edges.sums(self._samples)
        there, back = (self._joined(each) for each in self._general)
        return there, back

    def _joined(self, summed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        nodes = self.edges.nodes

        def run(x: Tensor) -> Tensor:
            return torch.cat((x, summed(x.reshape(-1, nodes, x.shape[-1])).reshape(x.shape)), 1)

        return run


class Edges:
    """The edges of a graph in the order of their ends, there and back: sorted when somebody first asks.

    Args:
        source: where they start, (E,).
        target: where they end, (E,).
        weight: of each, (E,), or None.
        nodes: V.
    """

    def __init__(self, source: Tensor, target: Tensor, weight: Tensor | None, nodes: int) -> None:
        self._ways = ((source, target, weight), (target, source, weight))
        self.nodes = nodes
        self.count = len(source)
        self._sums: tuple[int, Sums] | None = None

    def sums(self, samples: int) -> Sums:
        """The functions from x (R, k) to (x, A x) and (x, Aᵀ x), without gradients, of so many samples."""
        if self._sums is None or self._sums[0] != samples:
            there, back = (beside(way, self.nodes, samples) for way in self._ways)
            self._sums = (samples, (there, back))
        return self._sums[1]

    @cached_property
    def sorted(self) -> tuple[Way, Way]:
        """Where the edges of every node begin among those sorted by their ends (V + 1,), their starts, and weights."""
        there, back = (self._sorted(*way) for way in self._ways)
        return there, back

    def _sorted(self, start: Tensor, end: Tensor, weight: Tensor | None) -> Way:
        order = end.argsort(stable=True)
        first = functional.pad(torch.bincount(end, minlength=self.nodes).cumsum(0), (1, 0)).int()
        return first, start[order].int(), None if weight is None else weight[order]


def beside(edges: Way, nodes: int, samples: int) -> Callable[[Tensor], Tensor]:
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
