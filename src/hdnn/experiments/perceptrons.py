"""What flows are compared with: a fully connected tanh network."""

from __future__ import annotations

from typing import Any

from torch import nn

from hdnn.networks import Network, ZeroPadding


def perceptron(features: int, layers: int) -> Network:
    """A classifier of the plane with tanh layers as wide as a state, y⁺ = tanh(K y + b), and PyTorch's initial weights.

    Its output layer is that of a flow, started by PyTorch.
    """
    chain: Any = nn.Sequential(*(nn.Sequential(nn.Linear(features, features), nn.Tanh()) for _ in range(layers)))
    return Network(ZeroPadding(2, features), chain, nn.Linear(features, 1), "classification")
