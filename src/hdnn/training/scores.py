"""The scores of a training: what the task of a network says, and what its user asks for.

Legend: s samples, k epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hdnn.networks import Network, predicted_classes
from hdnn.training import answers
from hdnn.training.checks import check_scores, one_number
from hdnn.training.models import has_objective

Record = dict[str, float]
Score = Callable[[Tensor, Tensor], Tensor | float]
Scores = Mapping[str, Score]


@dataclass(frozen=True)
class _Own:
    """The score of a network of its own task."""

    network: Network

    def __call__(self, output: Tensor, y: Tensor) -> float:
        return mean_score(self.network, float(score_sum(self.network, output, y)), y)

    def each(self, output: Tensor, y: Tensor) -> list[float]:
        """Of k epochs, (k, s, ...)."""
        if self.network.task != "classification":
            return [self(*epoch) for epoch in zip(output, y, strict=True)]
        return [hits / y.shape[1] for hits in (predicted_classes(output) == y).sum(1).tolist()]


def judged(network: nn.Module, scores: Scores, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Record:
    """What is found in outputs and targets of batches, taken as one."""
    if not scores:
        return {}
    output, y = answers.together(network, outputs, targets)
    return {name: one_number(name, found(output, y)) for name, found in scores.items()}


def judged_each(scores: Scores, outputs: Tensor, targets: Tensor) -> list[Record]:
    """What `judged` finds in each of k epochs, (k, s, ...)."""
    found = {
        name: score.each(outputs, targets)
        if isinstance(score, _Own)
        else [one_number(name, score(*epoch)) for epoch in zip(outputs, targets, strict=True)]
        for name, score in scores.items()
    }
    return [{name: values[k] for name, values in found.items()} for k in range(len(outputs))]


def scores_of(network: nn.Module, loss: Callable[..., Tensor] | None, score: Scores | None) -> Scores:
    """What is recorded beside the loss: what the task of a network with its own loss says, and what is asked for."""
    check_scores(score)
    own: dict[str, Score] = {}
    if loss is None and has_objective(network):
        of_task: Any = network
        own[score_name(of_task)] = _Own(of_task)
    if taken := {"loss", "epoch", "learning_rate", "seconds"} & (score or {}).keys():
        raise ValueError(f"A record has a {min(taken)!r} of its own, so a score of yours needs another name.")
    return own | dict(score or {})


def score_name(network: Network) -> str:
    """The name of the score that people read: "accuracy", or "error" for regression."""
    return "accuracy" if network.task == "classification" else "error"


def score_sum(network: Network, output: Tensor, y: Tensor) -> Tensor:
    """Correct predictions, or the sum of squared errors."""
    return answers.scored(network, output, y).sum()


def mean_score(network: Network, total: float, y: Tensor) -> float:
    """The share of correct predictions, or the root mean square error, from the sum over all of y."""
    share = total / answers.count(network, y)
    return share if network.task == "classification" else math.sqrt(share)
