"""The mean of the weights of the last steps, which lies deeper in a valley than any of them.

Legend: w̄ the mean, w the weights after a step, k how many went into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Mean:
    """w̄ ← ρ_k w̄ + (1 − ρ_k) w with ρ_k = min(ρ, (1 + k) / (10 + k)), of all parameters and buffers.

    By `torch.optim.swa_utils.AveragedModel`. Running moments are averaged as the weights are, whatever module they
    belong to: `torch.optim.swa_utils.update_bn` would find those of PyTorch's own batch norms alone. What is counted,
    and no decimal number, is that of the last step.

    Args:
        network: whose weights move.
        share: ρ.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> mean = Mean(network, 0.9)
        >>> for weight in (1.0, 2.0):
        ...     _ = nn.init.constant_(network.weight, weight)
        ...     mean.note(network)
        >>> round(mean.network.weight.item(), 3)  # 2/11 of the first
        1.818
    """

    def __init__(self, network: nn.Module, share: float) -> None:
        from torch.optim.swa_utils import AveragedModel  # with PyTorch's compiler, which takes over a second

        self.model: Any = AveragedModel(network, multi_avg_fn=partial(_average, share), use_buffers=True)
        self.model.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """One with the mean for its weights."""
        found: nn.Module = self.model.module
        return found

    def note(self, network: nn.Module) -> None:
        """Let the weights after a step count."""
        self.model.update_parameters(network)

    def state(self) -> dict[str, Tensor]:
        """The mean, and how many went into it."""
        found: dict[str, Tensor] = self.model.state_dict()
        return found

    def remember(self, state: dict[str, Tensor]) -> None:
        """Go on from where another stood."""
        self.model.load_state_dict(state)


@torch.no_grad()
def _average(share: float, means: Sequence[Tensor], values: Sequence[Tensor], count: Any) -> None:
    kept = min(share, (1 + int(count)) / (10 + int(count)))
    for mean, value in zip(means, values, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - kept)
        else:
            mean.copy_(value)
