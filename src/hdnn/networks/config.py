"""What a network is but its weights, in plain values that a file can hold."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch

from hdnn import options
from hdnn.activations import ACTIVATIONS
from hdnn.flow import Flow
from hdnn.integrators import INTEGRATORS
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.names import unknown
from hdnn.networks.network import Network, image_classifier, vector_classifier, vector_regressor
from hdnn.networks.sequences import marked_sequences
from hdnn.options import Lift, Task
from hdnn.presets import h1, h2, ms1, ms2, ms3
from hdnn.recurrent import MODELS, HamiltonianRNN

# Beyond these a slip of the pen, or a configuration from elsewhere, would ask for more than a memory holds.
_LARGEST_INPUT = 2**24
_LARGEST_FLOW = 2**31
PRESETS: dict[str, Callable[..., Flow]] = {"ms1": ms1, "ms2": ms2, "ms3": ms3, "h1": h1, "h2": h2}
_NAMES: dict[str, Mapping[str, object]] = {
    "model": {**PRESETS, **dict.fromkeys(MODELS)},
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
        if choices.get(kind) is not None and choices[kind] not in known:
            raise ValueError(unknown(kind, choices[kind], known))


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is but its weights, in plain values that a file can hold.

    Args:
        task: "classification" or "regression".
        inputs: (d,) for vectors, (C, H, W) for images, (T, d) for sequences, of which T is the longest in training and
            d counts the mark of `marked_sequences`.
        outputs: classes, or numbers to predict.
        model: "ms1", "ms2", "ms3", "h1" or "h2", or another of `HamiltonianRNN` for sequences.
        features: n.
        layers: N; of sequences the networks one above the other.
        step: h.
        lift: "zeros" or "linear" for vectors; images are lifted by a 3 x 3 convolution.
        interconnection: J of h1 and h2, "canonical" or "upper_ones"; None where the model has its own.
        activation: name of σ.
        width: hidden units a layer, for h1 and h2; None means n.
        kernel_size: None for vectors; odd k for images.
        shared: one K and b for all layers.
        integrator: name of the method; None is the model's own.
        damping: rate at which the momenta decay, for h2, ms1 and ms3; None damps nothing.

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

    def __post_init__(self) -> None:
        check_names(vars(self))
        if self.model not in ("h1", "h2"):
            for name in ("interconnection", "width"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{self.model}` fixes its {name}; got {getattr(self, name)}. Use h1 or h2.")
        self._check_sequences()
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
        if (len(self.inputs) == 3) != (self.kernel_size is not None):
            raise ValueError(
                f"Images need a `kernel_size`, vectors none; got inputs {self.inputs}, kernel size {self.kernel_size}."
            )
        options.check(options.NetworkOptions, vars(self))
        weights = self.layers * self.features * (self.width or self.features) * (self.kernel_size or 1) ** 2
        if weights > _LARGEST_FLOW:
            raise ValueError(
                f"{self.layers:,} layers of {self.features:,} features make {weights:,} weights; at most "
                f"{_LARGEST_FLOW:,} are allowed. Use fewer layers or features."
            )

    @property
    def of_sequences(self) -> bool:
        """Whether its inputs are sequences."""
        return len(self.inputs) == 2

    @property
    def horizon(self) -> float:
        """N h, or T h of sequences."""
        return self.step * (self.inputs[0] if self.of_sequences else self.layers)

    def _check_sequences(self) -> None:
        """See that what is for sequences alone is said of them alone, and what is not for them of none."""
        if not self.of_sequences:
            if self.model not in PRESETS:
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
    if config.of_sequences:
        rnn = HamiltonianRNN(
            config.inputs[1] - 1, config.features, config.layers, True, model=config.model,  # type: ignore[arg-type]
            step=config.step, damping=config.damping, activation=config.activation, init_std=init_std, device=device,
        )  # fmt: skip
        return marked_sequences(rnn, config.outputs, config.task)
    own = ("interconnection", "width", "integrator", "damping")  # that not every model takes
    choices = {name: getattr(config, name) for name in own if getattr(config, name) is not None}
    flow = PRESETS[config.model](
        config.features,
        config.layers,
        step=config.step,
        activation=config.activation,
        kernel_size=config.kernel_size,
        shared=config.shared,
        init_std=init_std,
        device=device,
        **choices,
    )
    if config.task == "regression":
        return vector_regressor(config.inputs[0], config.outputs, flow, lift=config.lift)
    if len(config.inputs) == 3:
        channels, height, width = config.inputs
        return image_classifier(channels, (height, width), config.outputs, flow)
    return vector_classifier(config.inputs[0], config.outputs, flow, lift=config.lift)
