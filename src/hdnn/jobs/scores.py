"""The scores that a run reports, in the units of the user's data."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn.data import TargetEncoder
from hdnn.networks import Network, predicted_classes
from hdnn.training import Objective, outputs
from hdnn.training.objective import EVALUATION_BATCH

# In the states of the rows at once, 4 MiB: of images, these are fewer rows than evaluation takes by itself.
_NUMBERS = 2**20


def measure(network: Network, target: TargetEncoder, x: Tensor, y: Tensor) -> dict[str, float]:
    """Loss and scores on data.

    Args:
        network: the network.
        target: turned the user's targets into y.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) standardised targets.

    Returns:
        "loss" and "accuracy" (share, 0 to 1); for regression "loss" (of the standardised targets), "error" (root mean
        square) and "absolute_error" (mean), both in the units of the data, and "r2" (share of the variance explained);
        all meaned over several targets.

    Raises:
        FloatingPointError: if an output is not finite.
    """
    output = finite_outputs(network, x)
    # In 64 bits, where the square of a finite 32-bit error is finite too.
    truth_or_class = y if network.task == "classification" else y.double()
    loss = float(Objective(network).data_loss(output.double(), truth_or_class))
    if network.task == "classification":
        return {"loss": loss, "accuracy": float((predicted_classes(output) == y).double().mean())}
    truth, predicted = target.decode(y.numpy()), target.decode(output.numpy())
    away = truth - predicted
    errors = np.sqrt(np.mean(away**2, axis=0))
    r2 = _explained(truth, predicted)
    return {"loss": loss, "error": float(errors.mean()), "absolute_error": float(np.abs(away).mean()), "r2": r2}


def confusion(true: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many rows of each class, down, were taken for each, across: (classes, classes)."""
    return np.bincount(classes * true + said, minlength=classes**2).reshape(classes, classes)


def _explained(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """R², meaned over the targets (s, outputs), as scikit-learn has it; of one row, without variance, 0."""
    left = np.sum((truth - predicted) ** 2, axis=0)
    whole = np.sum((truth - np.mean(truth, axis=0)) ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(whole > 0, 1 - left / whole, np.where(left > 0, 0.0, 1.0))
    return float(np.mean(shares)) if len(truth) > 1 else 0.0


def finite_outputs(network: Network, x: Tensor, before: int = 0) -> Tensor:
    """The network's outputs on data of any length, (s, outputs) on the CPU.

    Args:
        network: the network.
        x: (s, ...), inputs.
        before: rows of the data that came before these, for the message.

    Raises:
        FloatingPointError: if one is not finite; the message says where the first is.
    """
    rows = max(1, _NUMBERS // (network.flow.features * math.prod(x.shape[2:])))
    if rows >= EVALUATION_BATCH:
        output = outputs(network, x).cpu()
    else:
        # Filled in place: a list of small tensors would cut the memory that large ones leave into pieces.
        output = torch.empty(len(x), network.head.out_features)
        for start in range(0, len(x), rows):
            output[start : start + rows] = outputs(network, x[start : start + rows])
    strange = (~output.isfinite().all(-1)).nonzero().flatten()
    if len(strange):
        raise FloatingPointError(
            f"The network's output for row {before + int(strange[0]) + 1} is not finite. Look there for values far "
            f"from those it was trained on."
        )
    return output
