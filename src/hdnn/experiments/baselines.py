"""What flows are compared with, and by: fully connected tanh networks, and how much of a gradient passes back.

Legend: y_j the state before layer j, y_N the output, L = Σ y_N, g_j = dL/dy_j per sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hdnn.analysis import gradients
from hdnn.analysis.pullback import Layers
from hdnn.networks import Network, ZeroPadding

SMALLEST = -300.0  # powers of ten; what is less cannot be told from zero


def perceptron(features: int, layers: int) -> Network:
    """A classifier of the plane with tanh layers as wide as a state, y⁺ = tanh(K y + b), and PyTorch's initial weights.

    Its output layer is that of a flow, started by PyTorch.
    """
    chain: Any = nn.Sequential(*(nn.Sequential(nn.Linear(features, features), nn.Tanh()) for _ in range(layers)))
    return Network(ZeroPadding(2, features), chain, nn.Linear(features, 1), "classification")


def passage(layers: Layers, y0: Tensor) -> list[float]:
    """log₁₀ of mean ‖g_j‖ / mean ‖g_N‖ over the samples, for j = 0 … N; at least −300.

    L is the sum of the outputs, since the gradient of a loss is zero where an output layer starts at zero.

    Raises:
        FloatingPointError: if the gradients are not finite.
    """
    found = gradients(layers, y0, torch.sum).state_norms.double().mean(1)
    if not found.isfinite().all():
        raise FloatingPointError(f"The gradients of {len(found) - 1} layers are not finite.")
    share: list[float] = (found / found[-1]).log10().clamp(min=SMALLEST).tolist()
    return share
