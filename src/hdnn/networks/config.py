"""What a network is but its weights, in plain values that a file can hold."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import torch

from hdnn import options
from hdnn.activations import ACTIVATIONS
from hdnn.flow import Flow
from hdnn.integrators import INTEGRATORS
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.names import count, unknown
from hdnn.networks.graphs import graph_classifier, graph_regressor, node_classifier, node_regressor
from hdnn.networks.images import checked, image_network
from hdnn.networks.network import Network, image_classifier, vector_classifier, vector_regressor
from hdnn.networks.sequences import marked_sequences
from hdnn.networks.signals import signal_classifier, signal_regressor
from hdnn.options import Lift, Neighbours, OfPositions, Readout, Task, UnitsInRange
from hdnn.presets import h1, h2, ms1, ms2, ms3
from hdnn.recurrent import MODELS, OSCILLATORS, HamiltonianRNN
from hdnn.spaces import Graph, Signals

# Beyond these a slip of the pen, or a configuration from elsewhere, would ask for more than a memory holds.
_LARGEST_INPUT = 2**24
_LARGEST_FLOW = 2**31
PRESETS: dict[str, Callable[..., Flow]] = {"ms1": ms1, "ms2": ms2, "ms3": ms3, "h1": h1, "h2": h2}
STAGES: dict[str, dict[str, Any]] = {
    "stages": {},
    "hamiltonian74": {"units": (6, 6, 6), "channels": (32, 64, 112), "normalization": "batch"},
    "hamiltonian218": {"units": (18, 18, 18), "channels": (32, 64, 128), "normalization": "batch"},
    "hamiltonian1202": {"units": (100, 100, 100), "channels": (32, 64, 128), "normalization": "batch"},
}
"""What users call networks of images in stages, and what the published ones are made of."""
_DEEP = 100  # layers from which on a network keeps the ends of its stages alone
_OF_STAGES = ("units", "channels", "normalization")
_OF_ONE_FLOW = ("lift", "interconnection", "width", "shared", "integrator", "damping")
_SHAPES = {"signals": (2, "signals have (C, L), channels and positions"), "graph": (1, "nodes of graphs have (d,)")}
_NOT_OF = {
    None: ("pool", "readout", "neighbours"),
    "signals": ("readout", "neighbours", "normalization"),
    "graph": ("pool", "units", "channels", "normalization", "kernel_size"),
}
_ALSO = {"model": {"sequences": [name for name in MODELS if name not in PRESETS], "images": list(STAGES)}}
_NAMES: dict[str, Mapping[str, object]] = {
    "model": PRESETS,
    "activation": ACTIVATIONS,
    "interconnection": INTERCONNECTIONS,
    "integrator": INTEGRATORS,
}


def check_names(choices: Mapping[str, object]) -> None:
    """See that there are a model, an activation, an interconnection and an integrator of the names that were chosen.

    Raises:
        ValueError: if there is none; the message names those that there are.
    """
    for kind, known in _NAMES.items():
        also = _ALSO.get(kind, {})
        if choices.get(kind) is not None and choices[kind] not in [*known, *chain(*also.values())]:
            raise ValueError(unknown(kind, choices[kind], known, also))


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is but its weights, in plain values that a file can hold.

    Args:
        task: "classification" or "regression".
        inputs: (d,) for vectors and the nodes of graphs, (C, H, W) for images, (C, L) for signals, (T, d) for
            sequences, of which T is the longest in training and d counts the mark of `marked_sequences`; signals may
            have any other length L as well.
        outputs: classes, or numbers to predict.
        model: "ms1", "ms2", "ms3", "h1" or "h2", or another of `HamiltonianRNN` for sequences, or "stages" for images.
        features: n; of stages the channels of the first.
        layers: N; of sequences the networks one above the other; of stages all of them.
        step: h.
        lift: "zeros" or "linear" for vectors; images and signals are lifted by a convolution of 3 taps along each
            axis, nodes of graphs by a linear map.
        interconnection: J of h1 and h2, "canonical" or "upper_ones"; None where the model has its own.
        activation: name of σ.
        width: hidden units a layer, for h1 and h2; None means n.
        kernel_size: None for vectors and graphs; odd k for images and signals.
        shared: one K and b for all layers.
        integrator: name of the method; None is the model's own.
        damping: rate at which the momenta decay, for h2, ms1 and ms3; None damps nothing.
        units: layers of every stage, of images or signals; None for one flow, as for the next two.
        channels: of every stage.
        normalization: what keeps the hidden units of stages of images in range, see `hdnn.Stage`; "none" is nothing.
        space: "signals" for `signal_classifier` and `signal_regressor`, "graph" for the networks of graphs, whose
            calls bring the edges; None for all others.
        pool: positions that pooling between the stages of signals makes one; None is 2.
        readout: of graphs "nodes", "mean" or "sum"; None is "mean".
        neighbours: of graphs how edges are weighed, the `normalization` of `Graph`; None is "sum".

    Raises:
        ValueError: if a name is unknown, a choice does not apply to the model, or a size is out of all proportion.
    """

    task: Task
    inputs: tuple[int, ...]
    outputs: int
    model: str
    features: int
    layers: int
    step: float
    lift: Lift = "zeros"
    interconnection: str | None = None
    activation: str = "tanh"
    width: int | None = None
    kernel_size: int | None = None
    shared: bool = False
    integrator: str | None = None
    damping: float | None = None
    units: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    normalization: UnitsInRange | None = None
    space: OfPositions | None = None
    pool: int | None = None
    readout: Readout | None = None
    neighbours: Neighbours | None = None

    def __post_init__(self) -> None:
        check_names(vars(self))
        if self.model in STAGES:
            self._check_stages()
        elif self.space is None and (named := [name for name in _OF_STAGES if getattr(self, name) is not None]):
            raise ValueError(f"`{named[0]}` is of a network in stages, and `{self.model}` is none. Use stages.")
        elif self.model not in ("h1", "h2"):
            for name in ("interconnection", "width"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{self.model}` fixes its {name}; got {getattr(self, name)}. Use h1 or h2.")
        self._check_sequences()
        self._check_spaced()
        if self.model in ("h1", "ms2") and self.damping is not None and not self.of_sequences:
            raise ValueError(
                f"`{self.model}` moves the whole state at once, and `damping` is that of one half of it; got "
                f"{self.damping}. Use h2, ms1 or ms3."
            )
        if len(self.inputs) not in (1, 2, 3) or min(self.inputs) < 1:
            raise ValueError(
                f"`inputs` must be (d,), (T, d) or (C, H, W), each at least 1; got {reprlib.repr(self.inputs)}."
            )
        if max(self.inputs) > _LARGEST_INPUT:
            raise ValueError(f"`inputs` may be at most {_LARGEST_INPUT:,}; got {self.inputs}.")
        if self.space is None and (len(self.inputs) == 3) != (self.kernel_size is not None):
            raise ValueError(
                f"Images need a `kernel_size`, vectors none; got inputs {self.inputs}, kernel size {self.kernel_size}."
            )
        options.check(options.NetworkOptions, vars(self))
        vars(self).update(options.truths(options.NetworkOptions, vars(self)))
        wide = (max(self.channels),) * 2 if self.channels else (self.features, self.width or self.features)
        taps = 2 if self.space == "graph" else (self.kernel_size or 1) ** (1 if self.space else 2)
        weights = self.layers * wide[0] * wide[1] * taps
        if weights > _LARGEST_FLOW:
            raise ValueError(
                f"{self.layers:,} layers of {wide[0]:,} features make {weights:,} weights; at most "
                f"{_LARGEST_FLOW:,} are allowed. Use fewer layers or features."
            )

    @property
    def of_sequences(self) -> bool:
        """Whether its inputs are sequences."""
        return len(self.inputs) == 2 and self.space is None

    @property
    def horizon(self) -> float:
        """N h, or T h of sequences."""
        return self.step * (self.inputs[0] if self.of_sequences else self.layers)

    @property
    def sizes(self) -> str:
        """Depth and width in words."""
        if self.units is None or self.channels is None:
            return f"{count(self.layers, 'layer')}, {self.features} features"
        units, channels = ("-".join(map(str, numbers)) for numbers in (self.units, self.channels))
        stages = f"{units} layers of {channels} channels"
        return stages if self.space else f"{stages}, normalization {self.normalization}"

    def _check_stages(self) -> None:
        if self.model != "stages":
            raise ValueError(f'A configuration calls `{self.model}` "stages", with its units and channels.')
        if self.units is None or self.channels is None or self.normalization is None:
            raise ValueError("Stages have `units`, `channels` and `normalization`; one of them is missing.")
        checked(self.units, self.channels)
        self._check_sizes(self.units, self.channels)
        if self.task != "classification" or len(self.inputs) != 3:
            raise ValueError(f"Stages sort images (C, H, W); got inputs {self.inputs} for {self.task}. Use h2.")
        for name in _OF_ONE_FLOW:
            if getattr(self, name) not in (None, False, "zeros"):
                raise ValueError(f"Stages are flows of their own kind and take no `{name}`. Leave it out, or use h2.")

    def _check_sizes(self, units: tuple[int, ...], channels: tuple[int, ...]) -> None:
        """See that layers and features are those of the stages."""
        if (self.features, self.layers) != (channels[0], sum(units)):
            raise ValueError(
                f"Stages of these units and channels have {sum(units)} layers and {channels[0]} features at first; "
                f"got {self.layers} and {self.features}."
            )

    def _check_spaced(self) -> None:
        """See that signals and graphs have what is theirs, and others nothing of it."""
        space = self.space
        what = "vectors, images and sequences" if space is None else "graphs" if space == "graph" else "signals"
        for name in _NOT_OF.get(space, ()):
            if getattr(self, name) is not None:
                raise ValueError(f"Networks of {what} have no `{name}`; got {getattr(self, name)!r}. Leave it out.")
        if space not in _SHAPES:  # none, or one that is refused by name
            return
        axes, words = _SHAPES[space]
        if len(self.inputs) != axes:
            raise ValueError(f"The inputs of {what} are another shape: {words}; got {self.inputs}.")
        if self.lift != "zeros":
            raise ValueError(f"`lift` is a choice for vectors, and {what} have their own. Leave out `{self.lift}`.")
        if space == "graph":
            return
        if self.kernel_size is None:
            raise ValueError("Flows of signals need a `kernel_size`, the odd number of their taps.")
        if (self.units is None) != (self.channels is None):
            raise ValueError("Stages have `units`, the layers of each, and `channels`; one of both is missing.")
        if self.units is None or self.channels is None:
            if self.pool is not None:
                raise ValueError(f"`pool` acts between stages, and there is one flow alone; got {self.pool}.")
            return
        if not self.units or len(self.units) != len(self.channels):
            raise ValueError(f"Each stage has its layers and channels; got {self.units} and {self.channels}.")
        self._check_sizes(self.units, self.channels)

    def _check_sequences(self) -> None:
        """See that what is for sequences alone is said of them alone, and what is not for them of none."""
        if not self.of_sequences:
            if self.model not in PRESETS and self.model not in STAGES:
                raise ValueError(f"`{self.model}` is a network of sequences. Use one of {', '.join(PRESETS)}.")
            return
        if self.inputs[1] < 2:
            raise ValueError(f"A step of a sequence has at least one number, and a mark; got `inputs={self.inputs}`.")
        if self.layers < 1:
            raise ValueError(f"A network of sequences has at least one layer; got `layers={self.layers}`.")
        unset = {each.name: each.default for each in fields(self)}
        for name in ("lift", "interconnection", "width", "shared", "integrator"):
            if getattr(self, name) != unset[name]:
                raise ValueError(
                    f"`{name}` is for networks of vectors and images; those of sequences have their own. Leave out "
                    f"`{name}={getattr(self, name)}`."
                )
        if self.model == "h1" and self.damping is not None:
            raise ValueError(f"`h1` moves the whole state at once and has no `damping`; got {self.damping}. Use h2.")


def build_network(
    config: NetworkConfig, *, init_std: float | None = None, device: torch.device | str | None = None
) -> Network:
    """The network that a configuration describes, with fresh random weights.

    Args:
        config: what to build.
        init_std: see `Flow`.
        device: where the parameters are created; "meta" allocates nothing.

    Example:
        >>> config = NetworkConfig("classification", (2,), 2, model="h1", features=4, layers=8, step=0.1)
        >>> sum(p.numel() for p in build_network(config).parameters())
        165
    """
    if config.of_sequences:  # early runs of oscillators name an activation or a deviation, which they never had
        free = config.model in OSCILLATORS
        rnn = HamiltonianRNN(
            config.inputs[1] - 1, config.features, config.layers, True, model=config.model,  # type: ignore[arg-type]
            step=config.step, damping=config.damping, activation="tanh" if free else config.activation,
            init_std=None if free else init_std, device=device,
        )  # fmt: skip
        return marked_sequences(rnn, config.outputs, config.task)
    if config.space is None and config.units is not None and config.channels is not None:
        return image_network(
            config.units,
            config.channels,
            classes=config.outputs,
            inputs=config.inputs[0],
            step=config.step,
            normalization=None if config.normalization == "none" else config.normalization,
            activation=config.activation,
            memory="reverse" if config.layers >= _DEEP else None,
            kernel_size=config.kernel_size or 3,
            device=device,
        )
    own = ("interconnection", "width", "integrator", "damping")  # that not every model takes
    choices = {name: getattr(config, name) for name in own if getattr(config, name) is not None}
    make = functools.partial(
        PRESETS[config.model],
        step=config.step,
        activation=config.activation,
        shared=config.shared,
        init_std=init_std,
        device=device,
        **choices,
    )
    if config.space is not None:
        return _spaced_network(config, make)
    flow = make(config.features, config.layers, kernel_size=config.kernel_size)
    if config.task == "regression":
        return vector_regressor(config.inputs[0], config.outputs, flow, lift=config.lift)
    if len(config.inputs) == 3:
        channels, height, width = config.inputs
        return image_classifier(channels, (height, width), config.outputs, flow)
    return vector_classifier(config.inputs[0], config.outputs, flow, lift=config.lift)


def _spaced_network(config: NetworkConfig, make: Callable[..., Flow]) -> Network:
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
