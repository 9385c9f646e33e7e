"""Networks of graphs: lift → flow → readout → head, with one answer for a graph or one for every node.

Legend: V nodes of a graph, ΣV those of all graphs of a batch, d numbers of a node, n features of its state.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hdnn.arguments import shown
from hdnn.flow import Flow
from hdnn.modes import evaluating
from hdnn.networks.network import Network, class_probabilities, logits, output_layer, predicted_classes
from hdnn.options import Readout, Task


class GraphNetwork(Network):
    """A Hamiltonian network on graphs: output = W readout(flow(lift(x))) + μ. Its calls bring the graph.

    Usually made by `graph_classifier`, `graph_regressor`, `node_classifier` or `node_regressor`.

    Args:
        lift: module from inputs of nodes to their states.
        flow: on a `Graph`.
        head: linear layer from the state of a node, or what is read of a graph, to the outputs.
        task: "classification" or "regression".
        readout: "nodes" leaves every node its own answer; "mean" and "sum" over the nodes of a graph give one.
    """

    def __init__(self, lift: nn.Module, flow: Flow, head: nn.Linear, task: Task, readout: Readout) -> None:
        if (flow.space.axis, flow.space.rank) != (-1, 2):  # nodes of a graph: features last, one axis of positions
            raise ValueError(
                f"A network of graphs needs a flow on one; this acts on `{flow.space!r}`. Make it with `space=Graph()`."
            )
        if readout not in ("nodes", "mean", "sum"):
            raise ValueError(f'`readout` must be "nodes", "mean" or "sum"; got {readout!r}.')
        super().__init__(lift, flow, head, task, readout=None if readout == "nodes" else OverGraphs(readout))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Logits or predictions of every graph, or of every node.

        Args:
            x: (ΣV, d), the nodes of all graphs one after the other, as PyTorch Geometric collates them; of one graph
                also (B, V, d), for an answer per graph.
            edge_index: (2, E), sources above targets; None where the flow was made with its edges.
            batch: (ΣV,), the graph of every node; None where there is one graph.
            edge_weight: (E,); None means 1.

        Returns:
            (graphs, outputs), or (ΣV, outputs).
        """
        output: Tensor = self.head(self.features(x, edge_index, batch, edge_weight))
        return output

    def features(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """What the output layer sees; arguments are those of `forward`."""
        return self.read(self.flow(self.lift(x), **_brought(edge_index, edge_weight)), batch)

    def read(self, states: Tensor, batch: Tensor | None = None) -> Tensor:
        """What the output layer sees of the states after the flow: theirs, or one of every graph."""
        readout = self._modules.get("readout")
        found: Tensor = states if readout is None else readout(states, batch)
        return found

    def trajectory(self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None) -> Tensor:
        """The lifted nodes and their states after every layer, (N + 1, ΣV, n); arguments are those of `forward`."""
        with evaluating(self):
            return self.flow.trajectory(self.lift(x), **_brought(edge_index, edge_weight))

    def probabilities(self, x: Tensor, *graph: Tensor | None, **named: Tensor | None) -> Tensor:
        """Class probabilities, (…, classes), in evaluation mode; arguments are those of `forward`.

        Raises:
            ValueError: for a regression network.
        """
        if self.task != "classification":
            raise ValueError("A regression network has no class probabilities; call it for its predictions.")
        with evaluating(self):
            return class_probabilities(self(x, *graph, **named))

    def predict(self, x: Tensor, *graph: Tensor | None, **named: Tensor | None) -> Tensor:
        """The most probable classes, or the predictions, in evaluation mode; arguments are those of `forward`."""
        with evaluating(self):
            output: Tensor = self(x, *graph, **named)
        return predicted_classes(output) if self.task == "classification" else output


class OverGraphs(nn.Module):
    """The sum or the mean over the nodes of every graph, see `over_graphs`.

    Args:
        how: "sum" or "mean".
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, y: Tensor, batch: Tensor | None = None) -> Tensor:
        """(graphs, n)."""
        return over_graphs(y, batch, self.how)

    def extra_repr(self) -> str:
        """Which of both."""
        return self.how


def graph_classifier(
    inputs: int, classes: int, flow: Flow, *, readout: Literal["mean", "sum"] = "mean"
) -> GraphNetwork:
    """A classifier of whole graphs: a linear lift of every node, a flow, the mean or sum over nodes, a linear layer.

    Args:
        inputs: d, numbers of a node.
        classes: at least 2; two classes get one logit.
        flow: on a `Graph`.
        readout: "mean", or "sum" where the number of nodes counts.

    Example:
        >>> import torch, hdnn
        >>> network = graph_classifier(3, 2, hdnn.h2(8, layers=4, step=0.1, space=hdnn.Graph()))
        >>> edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])  # two graphs of two nodes each
        >>> network(torch.randn(4, 3), edges, torch.tensor([0, 0, 1, 1])).shape
        torch.Size([2, 1])
    """
    return _of_graphs(inputs, logits(classes), flow, "classification", readout)


def graph_regressor(inputs: int, outputs: int, flow: Flow, *, readout: Literal["mean", "sum"] = "mean") -> GraphNetwork:
    """A regressor from whole graphs to `outputs` numbers, built as `graph_classifier` is."""
    return _of_graphs(inputs, outputs, flow, "regression", readout)


def node_classifier(inputs: int, classes: int, flow: Flow) -> GraphNetwork:
    """A classifier of every node of a graph.

    Where only some nodes have labels, train with weights: `fit(network, [(x, y, known.float())], recipe=recipe)`.

    Args:
        inputs: d, numbers of a node.
        classes: at least 2; two classes get one logit.
        flow: on a `Graph`.

    Example:
        >>> import torch, hdnn
        >>> line = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> network = node_classifier(3, 4, hdnn.h2(8, layers=4, step=0.1, space=hdnn.Graph(line)))
        >>> network(torch.randn(3, 3)).shape
        torch.Size([3, 4])
    """
    return _of_graphs(inputs, logits(classes), flow, "classification", "nodes")


def node_regressor(inputs: int, outputs: int, flow: Flow) -> GraphNetwork:
    """A regressor from every node of a graph to `outputs` numbers, built as `node_classifier` is."""
    return _of_graphs(inputs, outputs, flow, "regression", "nodes")


def _of_graphs(inputs: int, outputs: int, flow: Flow, task: Task, readout: Readout) -> GraphNetwork:
    if flow.inputs is not None:
        raise ValueError("Nothing here brings `inputs` for every step of a flow. Write a module that does.")
    lift = nn.Linear(inputs, flow.features, device=flow.weight.device, dtype=flow.weight.dtype)
    return GraphNetwork(lift, flow, output_layer(flow.features, outputs, flow.weight), task, readout)


def _brought(edge_index: Tensor | None, edge_weight: Tensor | None) -> dict[str, Tensor]:
    """What a call brings of a graph: nothing where the flow has its own."""
    graph = {"edge_index": edge_index, "edge_weight": edge_weight}
    return {name: value for name, value in graph.items() if value is not None}


def over_graphs(y: Tensor, batch: Tensor | None, how: str) -> Tensor:
    """The sum or the mean over the nodes of every graph.

    Args:
        y: (..., V, n), nodes; with `batch` (ΣV, n), the nodes of all graphs one after the other.
        batch: (ΣV,), the number of the graph that a node belongs to, from 0 without gaps at the end; None where there
            is one graph.
        how: "sum" or "mean".

    Returns:
        (graphs, n), or (..., n) of one graph, (1, n) where y is (V, n).

    Raises:
        TypeError: if `batch` is no tensor.
        ValueError: if the numbers do not fit the nodes.
    """
    if batch is None:
        if how == "mean" and y.shape[-2] == 0:
            raise ValueError("There is no mean over no nodes: a graph has at least one.")
        pooled = y.sum(-2) if how == "sum" else y.mean(-2)
        return pooled if pooled.dim() > 1 else pooled[None]
    if not isinstance(batch, Tensor):
        raise TypeError(f"`batch` must be a tensor (ΣV,), the number of the graph of every node; got {shown(batch)}.")
    if y.dim() != 2 or batch.shape != y.shape[:1]:
        raise ValueError(
            f"`batch` gives the graph of every node, (ΣV,) for nodes (ΣV, n); got {tuple(batch.shape)} for "
            f"{tuple(y.shape)}."
        )
    if batch.is_floating_point() or batch.dtype is torch.bool:
        raise ValueError("`batch` numbers graphs by whole numbers from 0. Convert it with batch.long().")
    batch = batch.long()
    if len(batch) and int(batch.min()) < 0:
        raise ValueError(f"`batch` numbers graphs by whole numbers from 0; got {int(batch.min())}.")
    count = int(batch.max()) + 1 if len(batch) else 0
    sums = y.new_zeros(count, y.shape[-1]).index_add(0, batch, y)
    if how == "sum":
        return sums
    return sums / torch.bincount(batch, minlength=count).clamp_min(1).unsqueeze(-1)
