"""The objective of the paper, and the scores that people read.

    (1/s) Σ L(f(y_N), c) + α_c R_N + α (R_K + R_b) + Σ λ_i P_i

Legend: s samples, L logistic or cross-entropy loss (mean square for regression), R_N = ‖W‖² + ‖μ‖² of the output
layer, R_K and R_b how much neighbouring layers of the flow differ (see `Flow.smoothness`); P_i penalties of the user's,
which the paper does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.modes import evaluating
from hdnn.networks import Network, predicted_classes
from hdnn.renames import RECIPE, renamed
from hdnn.training.checks import check_network

Record = dict[str, float]
Penalty = tuple[float, Callable[[Network], Tensor]]

EVALUATION_BATCH = 4096


@renamed({old: RECIPE[old] for old in ("alpha", "alpha_c")})
class Objective(nn.Module):
    """The objective as a function of parameters and a batch.

    Called, it uses the network's own parameters; `torch.func.functional_call(objective, parameters, (x, y))` makes
    it a pure function of any others, which can be differentiated, vmapped and stacked.

    Args:
        network: the network.
        smoothness: α.
        head_decay: α_c.
        label_smoothing: share of probability spread evenly over the classes.
        penalties: (λ_i, P_i) pairs; P_i maps the network to one number, to be made small with the loss.
            `hdnn.analysis.log_upper_bound` of the flow keeps gradients from exploding; it adds the time of 1.5 (h1) to
            2.4 (h2) training steps to each (measured: 64 layers, 4 features, batches of 125, native backend, one core).

    Example:
        >>> import torch, hdnn
        >>> objective = Objective(
        ...     hdnn.vector_classifier(2, 2, hdnn.h1(4, 8, step=0.1)),
        ...     smoothness=1e-3,
        ...     penalties=[(1e-3, lambda network: hdnn.analysis.log_upper_bound(network.flow))],
        ... )
        >>> loss, output = objective(torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1]))
        >>> loss.shape, output.shape
        (torch.Size([]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        network: Network,
        *,
        smoothness: float = 0.0,
        head_decay: float = 0.0,
        label_smoothing: float = 0.0,
        penalties: Sequence[Penalty] = (),
    ) -> None:
        super().__init__()
        check_network(network, smoothness=smoothness)
        self.network = network
        self.smoothness = smoothness
        self.head_decay = head_decay
        self.label_smoothing = label_smoothing
        self.penalties = tuple(penalties)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The objective and the network's outputs on a batch.

        Args:
            x: (B, ...), inputs.
            y: (B,) class indices, or (B, outputs) targets.
            weight: (B,), w, see `data_loss`.

        Returns:
            A scalar and (B, outputs).
        """
        output = self.network(x)
        loss = self.data_loss(output, y, weight)
        if self.head_decay:
            loss = loss + self.head_decay * squared_norm(self.network.head.parameters())
        if self.smoothness:
            weight, bias = self.network.flow.smoothness()
            loss = loss + self.smoothness * (weight + bias)
        for factor, penalty in self.penalties:
            loss = loss + factor * penalty(self.network)
        return loss, output

    def data_loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean of L over a batch, without regularisers; with weights w of the samples Σ w L / Σ w.

        Args:
            output: (B, outputs).
            y: (B,) class indices, or (B, outputs) targets.
            weight: (B,), not negative; None counts all samples alike. A batch whose weights are all zero has loss 0.

        Raises:
            ValueError: if outputs and targets of a regression differ in shape.
        """
        if weight is None:
            return self._losses(output, y, "mean")
        losses = self._losses(output, y, "none")
        if losses.dim() > 1:
            losses = losses.mean(1)
        return (weight * losses).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)

    def _losses(self, output: Tensor, y: Tensor, reduction: str) -> Tensor:
        if self.network.task == "regression":
            # PyTorch would spread (B,) over (B, 1) to (B, B) and train on nonsense.
            if output.shape != y.shape:
                raise ValueError(
                    f"Expected targets of the shape of the outputs, {tuple(output.shape)}; got {tuple(y.shape)}."
                )
            return functional.mse_loss(output, y, reduction=reduction)
        if output.shape[-1] > 1:
            return functional.cross_entropy(output, y, label_smoothing=self.label_smoothing, reduction=reduction)
        target = y.to(output.dtype)
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(output.squeeze(-1), target, reduction=reduction)


def squared_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The sum of the squares of all numbers, as R_N = ‖W‖² + ‖μ‖²."""
    squares = [p.square().sum() for p in parameters]
    return sum(squares[1:], squares[0])


def evaluate(network: Network, x: Tensor, y: Tensor) -> Record:
    """Loss and score on data, in batches, without gradients and in evaluation mode, which modules leave again.

    Args:
        network: the network.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) targets.

    Returns:
        "loss" (no regularisers) and "accuracy" (share, 0 to 1); for regression "error", the root mean square.
    """
    output = outputs(network, x)
    y = y.to(output.device)
    loss = float(Objective(network).data_loss(output, y))
    return {"loss": loss, score_name(network): mean_score(network, float(score_sum(network, output, y)), y)}


def outputs(network: Network, x: Tensor) -> Tensor:
    """The network's outputs on data of any length, in batches, without gradients, in evaluation mode: (s, outputs)."""
    check_network(network)
    device = network.head.weight.device
    with torch.no_grad(), evaluating(network):
        return torch.cat([network(part.to(device)) for part in batches(x)])


def batches(x: Tensor) -> Sequence[Tensor]:
    """Data of any length in parts that fit into memory."""
    return torch.split(x, EVALUATION_BATCH)


def score_name(network: Network) -> str:
    """The name of the score that people read: "accuracy", or "error" for regression."""
    return "accuracy" if network.task == "classification" else "error"


def score_sum(network: Network, output: Tensor, y: Tensor) -> Tensor:
    """Correct predictions, or the sum of squared errors."""
    if network.task == "classification":
        return (predicted_classes(output) == y).sum()
    return (output - y).square().sum()


def mean_score(network: Network, total: float, y: Tensor) -> float:
    """The share of correct predictions, or the root mean square error, from the sum over all of y."""
    return total / len(y) if network.task == "classification" else math.sqrt(total / y.numel())
