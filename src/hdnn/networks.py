"""Networks: lift → flow → head, from inputs to logits or predictions.

Legend: x inputs, y_0 the lifted state with n features, y_N = flow(y_0), output = W y_N + μ. Two classes have one
logit, more have one each; class probabilities are its logistic function or their softmax.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn import options
from hdnn.activations import ACTIVATIONS
from hdnn.flow import Flow
from hdnn.integrators import INTEGRATORS
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.modes import evaluating
from hdnn.names import unknown
from hdnn.options import Lift as Lift
from hdnn.options import Task as Task
from hdnn.presets import h1, h2, ms1, ms2, ms3


class ZeroPadding(nn.Module):
    """Append zeros to the features of a vector: [x₁ x₂] becomes [x₁ x₂ 0 0].

    Args:
        inputs: d, features of the input.
        features: n ≥ d, features of the state.

    Raises:
        ValueError: if n < d.
    """

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        if features < inputs:
            raise ValueError(
                f"Zeros can only be appended: {inputs} inputs do not fit into {features} features. "
                f'Use `features={inputs + inputs % 2}` or more, or `lift="linear"`.'
            )
        self.inputs = inputs
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., n).

        Raises:
            ValueError: if the last size of x is not d.
        """
        if x.shape[-1] != self.inputs:
            raise ValueError(f"Expected inputs of shape (..., {self.inputs}); got {tuple(x.shape)}.")
        return functional.pad(x, (0, self.features - self.inputs))

    def extra_repr(self) -> str:
        """The two sizes."""
        return f"{self.inputs}, {self.features}"


class Network(nn.Module):
    """A Hamiltonian network for one task: output = W flow(lift(x)) + μ.

    Usually made by `vector_classifier`, `vector_regressor` or `image_classifier`.

    Args:
        lift: module from inputs to states of the flow.
        flow: the Hamiltonian flow, or any module from states to states.
        head: linear layer from the flattened last state to the outputs.
        task: "classification" or "regression".
    """

    def __init__(self, lift: nn.Module, flow: Flow, head: nn.Linear, task: Task) -> None:
        super().__init__()
        self.lift = lift
        self.flow = flow
        self.head = head
        self.task: Task = task

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or predictions for regression.

        Args:
            x: (B, d) or (B, C, H, W).

        Returns:
            (B, 1) for two classes, (B, classes) for more, (B, outputs) for regression.
        """
        output: Tensor = self.head(self.features(x))
        return output

    def features(self, x: Tensor) -> Tensor:
        """The flattened state after the flow, (B, n) or (B, n H W): what the output layer sees."""
        states: Tensor = self.flow(self.lift(x))
        return states.flatten(1)

    def trajectory(self, x: Tensor) -> Tensor:
        """The lifted input and the state after every layer: (N + 1, B, n) or (N + 1, B, n, H, W).

        Like `probabilities` and `predict` it reads the network: in evaluation mode, which the modules leave again.
        """
        with evaluating(self):
            return self.flow.trajectory(self.lift(x))

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities, (B, classes), in evaluation mode. For a loss take `class_probabilities` of the logits.

        Raises:
            ValueError: for a regression network.
        """
        if self.task != "classification":
            raise ValueError("A regression network has no class probabilities; call it for its predictions.")
        with evaluating(self):
            return class_probabilities(self(x))

    def predict(self, x: Tensor) -> Tensor:
        """The most probable class (B,), or the predictions (B, outputs), in evaluation mode."""
        with evaluating(self):
            output: Tensor = self(x)
        return predicted_classes(output) if self.task == "classification" else output


def class_probabilities(logits: Tensor) -> Tensor:
    """Probabilities (B, classes) from logits (B, 1) for two classes or (B, classes) for more."""
    if logits.shape[-1] == 1:
        return torch.cat((torch.sigmoid(-logits), torch.sigmoid(logits)), dim=-1)
    return torch.softmax(logits, dim=-1)


def predicted_classes(logits: Tensor) -> Tensor:
    """The most probable class (B,) from logits (B, 1) for two classes or (B, classes) for more."""
    if logits.shape[-1] == 1:
        return (logits.squeeze(-1) > 0).to(torch.int64)
    return logits.argmax(-1)


def vector_classifier(inputs: int, classes: int, flow: Flow, *, lift: Lift = "zeros") -> Network:
    """A classifier of vectors.

    Args:
        inputs: d.
        classes: number of classes, at least 2; two classes get one logit, as in the paper.
        flow: a flow of vectors.
        lift: "zeros" appends zeros to the input, "linear" learns a linear map from d to n.

    Raises:
        ValueError: if there are fewer than two classes, zeros cannot fill the state, or the calls of the flow bring
            more than a state.

    Example:
        >>> import torch, hdnn
        >>> network = vector_classifier(2, 2, hdnn.h1(4, layers=8, horizon=2.0))
        >>> network(torch.randn(5, 2)).shape, network.probabilities(torch.randn(5, 2)).shape
        (torch.Size([5, 1]), torch.Size([5, 2]))
    """
    return Network(_lift(inputs, flow, lift), flow, _head(flow.features, _logits(classes), flow), "classification")


def vector_regressor(inputs: int, outputs: int, flow: Flow, *, lift: Lift = "zeros") -> Network:
    """A regressor from vectors to `outputs` numbers.

    Args:
        inputs: d.
        outputs: numbers to predict.
        flow: a flow of vectors.
        lift: as in `vector_classifier`.

    Example:
        >>> import torch, hdnn
        >>> vector_regressor(3, 1, hdnn.h2(4, layers=8, horizon=1.0))(torch.randn(5, 3)).shape
        torch.Size([5, 1])
    """
    return Network(_lift(inputs, flow, lift), flow, _head(flow.features, outputs, flow), "regression")


def image_classifier(channels: int, size: tuple[int, int], classes: int, flow: Flow) -> Network:
    """The paper's network for MNIST: a 3 x 3 convolution, a flow of images, a linear layer on all values.

    The convolution (padding 1, no activation) lifts the channels of the image to the features of the flow.

    Args:
        channels: of the input images.
        size: (H, W).
        classes: number of classes.
        flow: a flow of images (kernel_size given); the paper's is pointwise with 8 features.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, section 4.2, https://arxiv.org/abs/2104.13166

    Example:
        >>> import torch, hdnn
        >>> network = image_classifier(1, (28, 28), 10, hdnn.h1(8, layers=4, step=0.05, kernel_size=1))
        >>> network(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if flow.space.rank != 3:
        raise ValueError("An image classifier needs a flow of images; make it with kernel_size=1 (pointwise) or 3.")
    device, dtype = flow.weight.device, flow.weight.dtype
    lift = nn.Conv2d(channels, flow.features, kernel_size=3, padding=1, device=device, dtype=dtype)
    head = _head(flow.features * size[0] * size[1], _logits(classes), flow)
    return Network(lift, flow, head, "classification")


def asked(flow: Flow) -> str:
    """What every call of a flow must bring besides a state; nothing for most."""
    return " and ".join(f"`{name}`" for name in (*flow.space.asks, *(() if flow.inputs is None else ("inputs",))))


def _lift(inputs: int, flow: Flow, lift: Lift) -> nn.Module:
    if flow.space.rank > 1:
        raise ValueError(f"A network of vectors needs a flow of vectors; got one on `{flow.space!r}`.")
    if lift == "zeros":
        return ZeroPadding(inputs, flow.features)
    if lift == "linear":
        return nn.Linear(inputs, flow.features, device=flow.weight.device, dtype=flow.weight.dtype)
    raise ValueError(f'`lift` must be "zeros" or "linear"; got {lift!r}.')


def _head(inputs: int, outputs: int, flow: Flow) -> nn.Linear:
    """The output layer W y + μ, started at zero as in the paper."""
    if names := asked(flow):
        raise ValueError(
            f"A network is called with its inputs alone, and every call of this flow brings {names}. Write a module "
            f"that calls it with them, such as self.head(self.flow(self.lift(x), ...))."
        )
    head = nn.Linear(inputs, outputs, device=flow.weight.device, dtype=flow.weight.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _logits(classes: int) -> int:
    if classes < 2:
        raise ValueError(f"A classifier needs at least two classes; got {classes}.")
    return 1 if classes == 2 else classes


# Beyond these a slip of the pen, or a configuration from elsewhere, would ask for more than a memory holds.
_LARGEST_INPUT = 2**24
_LARGEST_FLOW = 2**31
PRESETS: dict[str, Callable[..., Flow]] = {"ms1": ms1, "ms2": ms2, "ms3": ms3, "h1": h1, "h2": h2}
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
        if choices.get(kind) is not None and choices[kind] not in known:
            raise ValueError(unknown(kind, choices[kind], known))


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is but its weights, in plain values that a file can hold.

    Args:
        task: "classification" or "regression".
        inputs: (d,) for vectors, (C, H, W) for images.
        outputs: classes, or numbers to predict.
        model: "ms1", "ms2", "ms3", "h1" or "h2".
        features: n.
        layers: N.
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
        if self.model in ("h1", "ms2") and self.damping is not None:
            raise ValueError(
                f"`{self.model}` moves the whole state at once, and `damping` is that of one half of it; got "
                f"{self.damping}. Use h2, ms1 or ms3."
            )
        if len(self.inputs) not in (1, 3) or min(self.inputs) < 1:
            raise ValueError(f"`inputs` must be (d,) or (C, H, W), each at least 1; got {reprlib.repr(self.inputs)}.")
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
