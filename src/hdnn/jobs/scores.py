"""The scores that a run reports, in the units of the user's data."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hdnn.data import TargetEncoder
from hdnn.networks import Network
from hdnn.training import Objective, outputs


def measure(network: Network, target: TargetEncoder, x: Tensor, y: Tensor) -> dict[str, float]:
    """Loss and scores on data.

    Args:
        network: the network.
        target: turned the user's targets into y.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) standardised targets.

    Returns:
        "loss" and "accuracy" (share, 0 to 1); for regression "loss", "error" (root mean square, in the units of the
        data) and "r2" (share of the variance explained), both meaned over several targets.
    """
    output = outputs(network, x).cpu()
    loss = float(Objective(network).data_loss(output, y))
    if network.task == "classification":
        from hdnn.networks import predicted_classes

        return {"loss": loss, "accuracy": float((predicted_classes(output) == y).double().mean())}
    from sklearn.metrics import r2_score

    truth, predicted = target.decode(y.numpy()), target.decode(output.numpy())
    errors = np.sqrt(np.mean((truth - predicted) ** 2, axis=0))
    # One row has no variance to explain.
    r2 = float(r2_score(truth, predicted)) if len(truth) > 1 else 0.0
    return {"loss": loss, "error": float(errors.mean()), "r2": r2}
