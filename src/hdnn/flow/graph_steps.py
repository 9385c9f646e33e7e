"""All layers of a flow on a graph by the compiled kernel, one call forward and one back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hdnn.kernels import graphs, native
from hdnn.kernels.plan import Plan
from hdnn.spaces.rows import Edges


@dataclass(eq=False)
class GraphSteps:
    """The run of y, K, b and W.

    Args:
        plan: what to run.
        edges: of the graph.
        walk: the same run by operations of PyTorch, for second derivatives.
    """

    plan: Plan
    edges: Edges
    walk: Callable[..., Tensor]
    _layout: str = ""

    def run(self, tensors: Sequence[Tensor], kept: list[Tensor] | None = None, *, plain: bool) -> list[Tensor]:
        """The states after the last layer."""
        if not plain:
            return [self.walk(*tensors)]
        found, numbers = graphs.forward(self.plan, self.edges, tensors, kept is not None)
        if kept is not None and numbers is not None:
            kept.append(numbers)
            self._layout = native.instruction_set()
        return [found]

    def pull(self, gs: Sequence[Tensor], tensors: Sequence[Tensor], kept: list[Tensor], all: bool) -> list[Any]:
        """The gradients of the tensors; what another instruction set has kept is computed again."""
        if self._layout != native.instruction_set():
            kept = []
            self.run(tensors, kept, plain=True)
        return list(graphs.backward(self.plan, self.edges, gs[0], tensors, kept[0], all))
