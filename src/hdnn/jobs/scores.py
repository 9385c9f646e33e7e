"""The scores that a run reports, in the units of the user's data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hdnn.data import Pixels, TargetEncoder
from hdnn.jobs import measures
from hdnn.networks import Network, class_probabilities, predicted_classes
from hdnn.training import Objective, outputs
from hdnn.training.batches import parts
from hdnn.training.objective import EVALUATION_BATCH

# In the states of the rows at once, 4 MiB: of images, these are fewer rows than evaluation takes by itself.
_NUMBERS = 2**20


def measure(network: Network, target: TargetEncoder, x: Tensor | Pixels, y: Tensor) -> dict[str, float]:
    """Loss and scores on data.

    Args:
        network: the network.
        target: turned the user's targets into y.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) standardised targets.

    Returns:
        For classes "loss" (the log loss) and what `measures.of_classes` finds; for numbers "loss" (of the standardised
        targets) and what `measures.of_numbers` finds.

    Raises:
        FloatingPointError: if an output is not finite.
    """
    output = finite_outputs(network, x)
    # In 64 bits, where the square of a finite 32-bit error is finite too.
    truth_or_class = y if network.task == "classification" else y.double()
    loss = float(Objective(network).data_loss(output.double(), truth_or_class))
    if network.task == "classification":
        said = predicted_classes(output).numpy()
        return {"loss": loss, **measures.of_classes(y.numpy(), said, class_probabilities(output.double()).numpy())}
    return {"loss": loss, **measures.of_numbers(target.decode(y.numpy()), target.decode(output.numpy()))}


def finite_outputs(network: Network, x: Tensor | Pixels, before: int = 0) -> Tensor:
    """The network's outputs on data of any length, (s, outputs) on the CPU.

    Args:
        network: the network.
        x: (s, ...), inputs.
        before: rows of the data that came before these, for the message.

    Raises:
        FloatingPointError: if one is not finite; the message says where the first is.
    """
    rows = max(1, _NUMBERS // network.state_size(x.shape[1:]))
    if rows >= EVALUATION_BATCH:
        output = outputs(network, x).cpu()
    else:
        # Filled in place: a list of small tensors would cut the memory that large ones leave into pieces.
        output = torch.empty(len(x), network.head.out_features)
        for k, part in enumerate(parts(x, rows)):
            output[k * rows : (k + 1) * rows] = outputs(network, part)
    strange = (~output.isfinite().all(-1)).nonzero().flatten()
    if len(strange):
        raise FloatingPointError(
            f"The network's output for row {before + int(strange[0]) + 1} is not finite. Look there for values far "
            f"from those it was trained on."
        )
    return output


def tensors(x: Any, y: Any) -> tuple[Tensor | Pixels, Tensor]:
    """Arrays as tensors that share their memory; images in bytes as they are."""
    return x if isinstance(x, Pixels) else torch.from_numpy(x), torch.from_numpy(y)
