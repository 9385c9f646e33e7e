"""Networks: lift → flow → head, from inputs to logits or predictions.

Legend: x inputs, y_0 the lifted state with n features, y_N = flow(y_0), output = W y_N + μ. Two classes have one
logit, more have one each; class probabilities are its logistic function or their softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.flow import Flow
from hdnn.modes import evaluating
from hdnn.options import Lift, Task


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
        readout: from the last state to what the head takes; None flattens it.
    """

    def __init__(
        self, lift: nn.Module, flow: Flow, head: nn.Linear, task: Task, *, readout: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.lift = lift
        self.flow = flow
        self.head = head
        self.task: Task = task
        if readout is not None:
            self.readout = readout

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
        """What the output layer sees, (B, features): the state after the flow, flattened or read out."""
        return self.read(self.flow(self.lift(x)))

    def read(self, states: Tensor) -> Tensor:
        """What the output layer sees of the states after the flow, (B, features).

        Raises:
            ValueError: if these are no batch, or of another size.
        """
        readout = self._modules.get("readout")
        if readout is not None:
            found: Tensor = readout(states)
            return found
        size = getattr(self.head, "in_features", 0)  # 0 of a lazy one
        if states.dim() < 2 or (size and math.prod(states.shape[1:]) != size):
            takes = f"{size} numbers of each sample" if size else "a batch of samples"
            raise ValueError(
                f"The output layer takes {takes}, and the states after the flow are of shape "
                f"{tuple(states.shape)}. Give a batch (B, ...) of inputs of the size that the network was made for; a "
                f"single one as x[None]."
            )
        return states.flatten(1)

    def state_size(self, inputs: Sequence[int]) -> int:
        """How many numbers the state of one sample has, of inputs of that shape: what evaluation and training hold."""
        return self.flow.features * math.prod(inputs[1:])

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
    return Network(_lift(inputs, flow, lift), flow, _head(flow.features, logits(classes), flow), "classification")


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
    head = _head(flow.features * size[0] * size[1], logits(classes), flow)
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
    """The output layer of a flow that is called with states alone."""
    if names := asked(flow):
        raise ValueError(
            f"A network is called with its inputs alone, and every call of this flow brings {names}. Write a module "
            f"that calls it with them, such as self.head(self.flow(self.lift(x), ...)); of graphs, take "
            f"`graph_classifier` or `node_classifier`."
        )
    return output_layer(inputs, outputs, flow.weight)


def output_layer(inputs: int, outputs: int, like: Tensor) -> nn.Linear:
    """The output layer W y + μ, started at zero as in the paper; of the device and the numbers of a tensor."""
    head = nn.Linear(inputs, outputs, device=like.device, dtype=like.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def logits(classes: int) -> int:
    """Outputs of a classifier: one for two classes, one each for more.

    Raises:
        ValueError: if there are fewer than two.
    """
    if classes < 2:
        raise ValueError(f"A classifier needs at least two classes; got {classes}.")
    return 1 if classes == 2 else classes
