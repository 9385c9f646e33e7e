"""Configurations of networks on signals and graphs: what must fit, and what they build."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hdnn.flow import Flow
from hdnn.networks.graphs import graph_classifier, graph_regressor, node_classifier, node_regressor
from hdnn.networks.network import Network
from hdnn.networks.signals import signal_classifier, signal_regressor
from hdnn.spaces import Graph, Signals

if TYPE_CHECKING:
    from hdnn.networks.config import NetworkConfig

_SHAPES = {"signals": (2, "signals have (C, L), channels and positions"), "graph": (1, "nodes of graphs have (d,)")}
_NOT_OF = {
    None: ("pool", "readout", "neighbours"),
    "signals": ("readout", "neighbours", "normalization"),
    "graph": ("pool", "units", "channels", "normalization", "kernel_size"),
}


def check_spaced(config: NetworkConfig) -> None:
    """See that a configuration says of signals and graphs what they have, and of others nothing of theirs.

    Raises:
        ValueError: if it does not.
    """
    space = config.space
    what = "vectors, images and sequences" if space is None else "graphs" if space == "graph" else "signals"
    for name in _NOT_OF.get(space, ()):
        if getattr(config, name) is not None:
            raise ValueError(f"Networks of {what} have no `{name}`; got {getattr(config, name)!r}. Leave it out.")
    if space not in _SHAPES:  # none, or one that is refused by name
        return
    axes, words = _SHAPES[space]
    if len(config.inputs) != axes:
        raise ValueError(f"The inputs of {what} are another shape: {words}; got {config.inputs}.")
    if config.lift != "zeros":
        raise ValueError(f"`lift` is a choice for vectors, and {what} have their own. Leave out `{config.lift}`.")
    if space == "graph":
        return
    if config.kernel_size is None:
        raise ValueError("Flows of signals need a `kernel_size`, the odd number of their taps.")
    if (config.units is None) != (config.channels is None):
        raise ValueError("Stages have `units`, the layers of each, and `channels`; one of both is missing.")
    if config.units is None or config.channels is None:
        if config.pool is not None:
            raise ValueError(f"`pool` acts between stages, and there is one flow alone; got {config.pool}.")
        return
    if not config.units or len(config.units) != len(config.channels):
        raise ValueError(f"Each stage has its layers and channels; got {config.units} and {config.channels}.")
    if (config.features, config.layers) != (config.channels[0], sum(config.units)):
        raise ValueError(
            f"Stages of these units and channels have {sum(config.units)} layers and {config.channels[0]} features at "
            f"first; got {config.layers} and {config.features}."
        )


def spaced_network(config: NetworkConfig, make: Callable[..., Flow]) -> Network:
    """The network of signals or graphs that a configuration describes.

    Args:
        config: with a `space`.
        make: from features and layers to a flow of its model.
    """
    classifies = config.task == "classification"
    if config.space == "graph":
        flow = make(config.features, config.layers, space=Graph(normalization=config.neighbours or "sum"))
        if config.readout == "nodes":
            of_nodes = node_classifier if classifies else node_regressor
            return of_nodes(config.inputs[0], config.outputs, flow)
        of_graphs = graph_classifier if classifies else graph_regressor
        return of_graphs(config.inputs[0], config.outputs, flow, readout=config.readout or "mean")
    space = Signals(config.kernel_size or 1)
    sizes = zip(config.channels or (config.features,), config.units or (config.layers,), strict=True)
    flows = [make(features, layers, space=space) for features, layers in sizes]
    of_signals = signal_classifier if classifies else signal_regressor
    return of_signals(config.inputs[0], config.outputs, flows, pool=config.pool or 2)
