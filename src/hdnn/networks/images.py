"""Deep networks of images in stages of falling resolution: stem → flows, pooling and widening between them → head.

Legend: units u_s layers and channels c_s of stage s; images (B, d, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.activations import Activation
from hdnn.arguments import whole
from hdnn.flow import Memory
from hdnn.networks.network import Network, logits, output_layer
from hdnn.presets import h2
from hdnn.stages import Pool, Stage, Stages, Widen
from hdnn.stages.normalization import Normalization


class GlobalMean(nn.Module):
    """The mean of σ(normed(y)) over all positions: (B, c, H, W) to (B, c).

    Args:
        channels: c.
        normalize: batch norm before σ, as published; nothing otherwise.
        device: where its parameters are created.
    """

    def __init__(self, channels: int, *, normalize: bool = True, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, device=device) if normalize else nn.Identity()

    def forward(self, y: Tensor) -> Tensor:
        """(B, c)."""
        mean: Tensor = functional.relu(self.norm(y)).mean((-2, -1))
        return mean


def image_network(
    units: Sequence[int] = (2, 2, 2),
    channels: Sequence[int] = (32, 64, 112),
    *,
    classes: int = 10,
    inputs: int = 3,
    step: float = 1.0,
    normalization: Normalization | None = "units",
    activation: Activation | str = "relu",
    scaled: bool = False,
    memory: Memory | None = None,
    kernel_size: int = 3,
    device: torch.device | str | None = None,
) -> Network:
    """A classifier of images by flows of several resolutions, the reversible Hamiltonian network of Chang et al.

    A 3 x 3 convolution lifts an image to c_1 channels. The flow of stage s, an `h2` of 3 x 3 convolutions (MS3 up to
    the order of rows), has u_s layers; between two stages the resolution is halved (`Pool`) and channels are widened
    with zeros (`Widen`). As published, the first unit of a stage still runs at the width and resolution before it. The
    mean over positions goes to a linear layer. Images of 32 x 32 or 28 x 28 take three stages.

    Every stage keeps what `Stage` says, M J Mᵀ = J for "units", "bias" and None in evaluation mode. A pool gives J / 4,
    `scaled=True` J, and Wᵀ J' W = J of a widening does not make W J Wᵀ regular: that ‖M⁻¹‖ stays bounded and
    ‖M‖ ≥ 1 follow for each stage, not for the whole network.

    Args:
        units: u_s, layers of each stage.
        channels: c_s of each stage, even, not falling.
        classes: at least 2.
        inputs: d, channels of an image.
        step: h; the published networks take 1.0 (0.1 in an earlier version of their code).
        normalization: "units" keeps the structure, "batch" is the published block, "bias" has two biases a layer
            instead, None neither, its biases are frozen at zero; see `Stage`.
        activation: σ of the flows.
        scaled: let pools keep J.
        memory: "reverse" keeps two states a stage for gradients, at any depth; see `Flow`.
        kernel_size: odd k of the flows.
        device: where the parameters are created.

    Returns:
        A `Network` from (B, d, H, W) to (B, classes), (B, 1) for two.

    Raises:
        ValueError: if units and channels do not fit each other.

    References:
        Chang et al., Reversible architectures for arbitrarily deep residual neural networks, AAAI 2018,
        https://arxiv.org/abs/1709.03698

    Example:
        >>> import torch, hdnn
        >>> network = hdnn.image_network(units=(2, 2), channels=(8, 16), inputs=1)
        >>> network(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    units, channels = checked(units, channels)
    stages: list[nn.Module] = []
    # The first unit of a stage runs before its pool: it is one layer more of the flow before.
    for s, width in enumerate(channels):
        layers = units[s] - (s > 0) + (s + 1 < len(units))
        if s:
            stages += [Pool(2, scaled=scaled), Widen(width)]
        flow = h2(
            width,
            layers,
            step=step,
            kernel_size=kernel_size,
            activation=activation,
            memory=memory,
            device=device,
            init_std=(2 / (kernel_size**2 * (width // 2))) ** 0.5,
        )
        if normalization is None:
            nn.init.zeros_(flow.bias).requires_grad_(False)
        stages.append(Stage(flow, normalization))
    normalize = normalization is not None
    lift: list[Any] = [nn.Conv2d(inputs, channels[0], 3, padding=1, bias=False, device=device)]
    lift += [nn.BatchNorm2d(channels[0], device=device)] if normalize else []
    lift[0].weight.data = lift[0].weight.data.to(memory_format=torch.channels_last)  # what follows keeps to it
    return Network(
        nn.Sequential(*lift, nn.ReLU()),
        Stages(*stages),  # type: ignore[arg-type]  # any module from states to states
        output_layer(channels[-1], logits(classes), lift[0].weight),
        "classification",
        readout=GlobalMean(channels[-1], normalize=normalize, device=device),
    )


def hamiltonian74(
    classes: int = 10,
    *,
    inputs: int = 3,
    normalization: Normalization | None = "batch",
    memory: Memory | None = None,
) -> Network:
    """Hamiltonian-74: units 6-6-6, channels 32-64-112; 432,042 parameters with batch norm and ten classes.

    429,706 with "bias" or "units", 427,082 trained ones with None. Published: 92.76 % on CIFAR-10.

    Args:
        classes: at least 2.
        inputs: channels of an image.
        normalization: see `image_network`; "batch" is the published one.
        memory: see `image_network`.

    References:
        Chang et al., AAAI 2018, table 2, https://arxiv.org/abs/1709.03698
    """
    return image_network(
        (6, 6, 6), (32, 64, 112), classes=classes, inputs=inputs, normalization=normalization, memory=memory
    )


def hamiltonian218(
    classes: int = 10,
    *,
    inputs: int = 3,
    normalization: Normalization | None = "batch",
    memory: Memory | None = None,
) -> Network:
    """Hamiltonian-218: units 18-18-18, channels 32-64-128. The published 1.68 M parameters fit "bias" (1,683,050).

    Args:
        classes: at least 2.
        inputs: channels of an image.
        normalization: see `image_network`.
        memory: see `image_network`.

    References:
        Chang et al., AAAI 2018, table 2, https://arxiv.org/abs/1709.03698
    """
    return image_network(
        (18, 18, 18), (32, 64, 128), classes=classes, inputs=inputs, normalization=normalization, memory=memory
    )


def hamiltonian1202(
    classes: int = 10,
    *,
    inputs: int = 3,
    normalization: Normalization | None = "batch",
    memory: Memory | None = "reverse",
) -> Network:
    """Hamiltonian-1202: units 100-100-100, channels 32-64-128. The published 9.70 M fit "batch" (9,699,370).

    Args:
        classes: at least 2.
        inputs: channels of an image.
        normalization: see `image_network`.
        memory: see `image_network`; "reverse" by default, for depth is free then.

    References:
        Chang et al., AAAI 2018, table 2, https://arxiv.org/abs/1709.03698
    """
    return image_network(
        (100, 100, 100), (32, 64, 128), classes=classes, inputs=inputs, normalization=normalization, memory=memory
    )


def checked(units: Sequence[int], channels: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Layers and channels of stages that fit each other.

    Raises:
        ValueError: if they do not.
    """
    if isinstance(units, int) or isinstance(channels, int) or len(units) != len(channels) or not len(units):
        raise ValueError(
            f"`units` and `channels` have one number for each stage, as 6,6,6 and 32,64,112 do; got {_listed(units)} "
            f"and {_listed(channels)}."
        )
    units, channels = tuple(whole("units", u) for u in units), tuple(whole("channels", c) for c in channels)
    if min(units) < 1:
        raise ValueError(f"Every stage has at least one unit; got {_listed(units)}.")
    if min(channels) < 2 or any(c % 2 for c in channels) or list(channels) != sorted(channels):
        raise ValueError(f"`channels` are even, for states have two halves, and never fall; got {_listed(channels)}.")
    return units, channels


def _listed(numbers: Sequence[int] | int) -> str:
    return str(numbers) if isinstance(numbers, int) else ",".join(map(str, numbers[:10]))
