"""What is answered at every step of a sequence, and which answers count: those of the steps that a sequence has.

A network that says every step (`SequenceNetwork` with `every`) has as many answers as steps, but for the padding of
shorter sequences. Targets carry that: at the padding they are -100, as in PyTorch's cross-entropy, or nan for
regression, so that whoever sees targets knows what counts.

Legend: B samples, T steps; targets (B, T) class indices or (B, T, outputs), with a leading axis of members where many
networks train together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.networks import predicted_classes
from hdnn.training.batches import Batch, Call, Inputs

UNSCORED = -100


def says_every(network: Any) -> bool:
    """Whether a network says every step of its sequences, and how good that is."""
    return bool(getattr(network, "every", False)) and hasattr(network, "task")


def lengths_of(x: Inputs, call: Call) -> Any:
    """The steps that sequences have, as a network of sequences is given them; None where all have T."""
    if isinstance(x, Mapping):
        return x.get("lengths", call.get("lengths"))
    return x[1] if isinstance(x, tuple | list) and len(x) > 1 else call.get("lengths")


def taught(objective: Any) -> bool:
    """Whether an objective is a network's own loss of every step."""
    return objective.loss is None and says_every(objective.network)


def marked(objective: Any, batch: Batch) -> Batch:
    """A batch whose targets are marked where sequences are padded; as it is where nobody says every step.

    Args:
        objective: of a network.
        batch: inputs and targets; or of many networks, stacked.

    Raises:
        ValueError: if a step that a sequence has is marked.
    """
    if not taught(objective):
        return batch
    network, y, lengths = objective.network, batch.y, lengths_of(batch.x, objective.call)
    _check_unmarked(network, y, lengths)
    return batch._replace(y=of_steps(network, y, lengths))


def of_steps(network: Any, y: Tensor, lengths: Any) -> Tensor:
    """Targets, marked behind the end of each sequence; `y` where lengths say nothing of them."""
    inside = _inside(y, lengths)
    if inside is None:
        return y
    if network.task == "classification":
        return torch.where(inside, y, UNSCORED) if y.dim() == inside.dim() else y
    fits = y.dim() == inside.dim() + 1 and y.is_floating_point()  # else it is refused for what it is
    return torch.where(inside[..., None], y, math.nan) if fits else y


def counted(network: Any, y: Tensor) -> Tensor:
    """Which answers count, of the shape of y: all, but for marks where a network says every step."""
    if not says_every(network):
        return torch.ones_like(y, dtype=torch.bool)
    return y != UNSCORED if network.task == "classification" else ~y.isnan()


def count(network: Any, y: Tensor) -> int:
    """How many answers count, numbers of a regression one by one."""
    return int(counted(network, y).sum()) if says_every(network) else y.numel()


def scored(network: Any, output: Tensor, y: Tensor) -> Tensor:
    """Of every answer whether it is correct, or its squared errors, of the shape of y; 0 where it does not count."""
    if network.task == "classification":
        return predicted_classes(output) == y
    errors = output - y
    return (torch.where(counted(network, y), errors, 0) if says_every(network) else errors).square()


def together(network: Any, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs and targets of batches as one; those of a loader, of sequences as long as they are, padded and marked."""
    mark = UNSCORED if getattr(network, "task", "") == "classification" else math.nan
    y = _as_one(targets, mark if says_every(network) else None)
    return outputs_as_one(network, outputs), y


def outputs_as_one(network: Any, outputs: Sequence[Tensor]) -> Tensor:
    """Outputs of batches as one."""
    return _as_one(outputs, 0.0 if says_every(network) else None)


def _as_one(parts: Sequence[Tensor], fill: float | None) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    if fill is not None and len({part.shape[1:2] for part in parts}) > 1:
        T = max(part.shape[1] for part in parts)
        grown = [(0, 0) * (part.dim() - 2) + (0, T - part.shape[1]) for part in parts]
        parts = [functional.pad(part, by, value=fill) for part, by in zip(parts, grown, strict=True)]
    return torch.cat(list(parts))


def _inside(y: Tensor, lengths: Any) -> Tensor | None:
    """(B, T), whether a sequence has a step; None where lengths are none for these targets, as the network will say."""
    if not isinstance(lengths, Tensor) or y.dim() <= lengths.dim() or y.shape[: lengths.dim()] != lengths.shape:
        return None
    steps = torch.arange(y.shape[lengths.dim()], device=y.device)
    return steps < lengths.to(y.device)[..., None]


def _check_unmarked(network: Any, y: Tensor, lengths: Any) -> None:
    """See that no step that a sequence has would be left out in silence."""
    behind = 0 if network.task == "classification" else 1  # axes behind that of steps
    if y.dim() < 2 + behind:
        return  # it is refused for its shape
    wrong = ~counted(network, y)
    inside = _inside(y, lengths)
    if inside is not None:
        wrong = wrong & inside.view(*inside.shape, *[1] * (y.dim() - inside.dim()))
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        sequence, step = place[len(place) - behind - 2 :][:2]
        raise ValueError(
            f"The target of step {step} of sequence {sequence} is {y[place].item()}, and every step that a sequence "
            f"has is scored. Fill it, or end the sequence before it, as in `fit(network, (x, lengths), y, recipe)`."
        )
