"""Networks of signals of any length: lift → flows, pooling and widening between them → mean over positions → head.

Legend: L positions of a signal, n features of a state.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.networks.network import Network, logits, output_layer
from hdnn.options import Task
from hdnn.stages import Pool, Widen


class MeanOfPositions(nn.Module):
    """The mean over the positions of a signal, (B, n, L) to (B, n)."""

    def forward(self, y: Tensor) -> Tensor:
        """(B, n)."""
        return y.mean(-1)


def signal_classifier(
    channels: int, classes: int, flows: Flow | Sequence[Flow], *, kernel_size: int = 3, pool: int = 2
) -> Network:
    """A classifier of signals: a convolution, stages with pooling in between, the mean over positions, a linear layer.

    Signals of any length do, for nothing depends on it.

    Args:
        channels: of the input.
        classes: at least 2; two classes get one logit.
        flows: a flow on `Signals`, or one for each stage, of as many features or more from stage to stage.
        kernel_size: odd, of the convolution that lifts the channels to the features of the first flow.
        pool: positions that pooling makes one.

    Raises:
        ValueError: if there are fewer than two classes, or flows do not follow each other.

    Example:
        >>> import torch, hdnn
        >>> stage = lambda features: hdnn.h2(features, layers=4, step=0.1, space=hdnn.Signals(5))
        >>> network = signal_classifier(1, 10, [stage(8), stage(16)])
        >>> network(torch.randn(2, 1, 40)).shape, network(torch.randn(2, 1, 300)).shape
        (torch.Size([2, 10]), torch.Size([2, 10]))
    """
    return _of_signals(channels, logits(classes), flows, kernel_size, pool, "classification")


def signal_regressor(
    channels: int, outputs: int, flows: Flow | Sequence[Flow], *, kernel_size: int = 3, pool: int = 2
) -> Network:
    """A regressor from signals to `outputs` numbers, built as `signal_classifier` is.

    Example:
        >>> import torch, hdnn
        >>> network = signal_regressor(2, 1, hdnn.h2(8, layers=4, step=0.1, space=hdnn.Signals(3)))
        >>> network(torch.randn(5, 2, 64)).shape
        torch.Size([5, 1])
    """
    return _of_signals(channels, outputs, flows, kernel_size, pool, "regression")


def _of_signals(
    channels: int, outputs: int, flows: Flow | Sequence[Flow], kernel_size: int, pool: int, task: Task
) -> Network:
    stages = [flows] if isinstance(flows, Flow) else list(flows)
    wrong = [flow for flow in stages if flow.space.rank != 2 or flow.space.axis != -2]
    if wrong or not stages:
        raise ValueError(
            f"A network of signals needs flows on `Signals`; got {f'`{wrong[0].space!r}`' if wrong else 'none'}."
        )
    first, last = stages[0], stages[-1]
    parts: list[nn.Module] = [first]
    for before, after in itertools.pairwise(stages):
        if after.features < before.features:
            raise ValueError(
                f"A later stage has as many features or more; got {before.features} and then {after.features}."
            )
        parts += [Pool(pool), *([Widen(after.features)] if after.features > before.features else []), after]
    lift = nn.Conv1d(channels, first.features, kernel_size, padding=kernel_size // 2).to(first.weight)
    flow: Any = first if len(stages) == 1 else nn.Sequential(*parts)
    head = output_layer(last.features, outputs, last.weight)
    return Network(lift, flow, head, task, readout=MeanOfPositions())
