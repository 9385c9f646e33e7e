"""What takes the steps of a training: the native step where it serves, else PyTorch.

Legend: s samples, E members.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn

from hdnn.data.pixels import Pixels
from hdnn.ranks import present
from hdnn.training import fused, losses
from hdnn.training.batches import Batch, Call, Inputs, Rows, Source
from hdnn.training.objective import Loss, Objective, Penalty, objective_of
from hdnn.training.recipe import Recipe

TrainingBackend = Literal["auto", "native", "torch"]


class Chosen(NamedTuple):
    """What takes the steps of a training.

    Args:
        backend: "native" or "torch".
        reason: why it is not "native", in words; empty if it is.
    """

    backend: str
    reason: str


def training_backend(
    network: nn.Module,
    x: Inputs | Iterable[Any],
    y: Tensor | None,
    recipe: Recipe,
    loss: Loss | None = None,
    *,
    penalties: Sequence[Penalty] = (),
    call: Call | None = None,
) -> Chosen:
    """What `fit` takes the steps with, where its `backend` is "auto", and why.

    Args:
        network: as for `fit`, like all others.
        x: inputs, or a loader.
        y: targets.
        recipe: how.
        loss: None where it is that of a `Network`.
        penalties: of the objective.
        call: what every call of the network gets beside its inputs.

    Example:
        >>> import torch, hdnn
        >>> x, y = torch.randn(100, 2), torch.arange(100) % 2
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, step=0.1, integrator=hdnn.ImplicitMidpoint()))
        >>> hdnn.training_backend(network, x, y, hdnn.Recipe())
        Chosen(backend='torch', reason='no native kernel serves the flow (integrator, structure or activation)')
    """
    objective = objective_of(network, recipe, loss=loss, penalties=penalties, call=call)
    ranks = present()
    rows = None if y is None else Rows(Batch(x, y), recipe.batch_size, (), ranks=ranks)  # type: ignore[arg-type]
    reason = why_not([network], objective, recipe, rows)
    return Chosen("torch" if reason else "native", reason)


def chosen_backend(
    networks: Sequence[nn.Module],
    objective: Objective,
    recipe: Recipe,
    source: Source,
    wanted: TrainingBackend = "auto",
    written_by: str | None = None,
) -> str:
    """What takes the steps, "native" or "torch".

    Args:
        networks: to be trained.
        objective: of one of them.
        recipe: how.
        source: from what.
        wanted: what the user asks for.
        written_by: what took the steps before the pause; None where there was none.

    Raises:
        ValueError: if "native" is asked for and cannot serve; if there is no such backend.
    """
    if wanted not in get_args(TrainingBackend):
        raise ValueError(f'`backend` must be "auto", "native" or "torch"; got {wanted!r}.')
    if wanted == "auto" and written_by == "torch":
        return "torch"
    reason = why_not(networks, objective, recipe, source)
    if wanted == "native" and reason:
        raise ValueError(
            f'backend="native" cannot take the steps of this training: {reason}. Change that, or use backend="auto".'
        )
    return "torch" if reason or wanted == "torch" else "native"


def warn_of_change(before: str, now: str) -> None:
    """Warn where the steps after a pause are taken by another backend than those before it."""
    if before != now:
        warnings.warn(
            f"The steps before the pause were taken by the {before} backend, those from here on are taken by the {now} "
            f"backend. The last bits of the result may differ from those of a training without the pause.",
            stacklevel=5,
        )


def why_not(networks: Sequence[nn.Module], objective: Objective, recipe: Recipe, source: Source | None) -> str:
    """Why the native step cannot train, in words; empty if it can."""
    if source is not None and source.ranks is not None:
        return f"{source.ranks.count} processes share every step"
    loss = losses.known(objective.loss)
    if loss is None and objective.loss is not None:
        return "the loss is the user's own"
    if objective.penalties:
        return "the objective has penalties"
    if objective.call:
        return "calls of the network get more than their inputs"
    reasons = (fused.why_not(network, recipe) for network in networks)
    if reason := next((reason for reason in reasons if reason), ""):
        return reason
    if fused.overlap([p for network in networks for p in network.parameters()]):
        return "networks share parameters"
    reason = _data_refuse(networks[0], source)
    return reason or ("" if loss is None else losses.why_not(loss, fused.parts_of(networks[0])[2], source))


def _data_refuse(network: Any, source: Source | None) -> str:
    if not isinstance(source, Rows):
        return ""  # what a loader gives, its batches show
    x = source.data.x
    if isinstance(x, Pixels):
        return "" if fused.takes(network, x.shape[1:]) else "the images are not of the size that the network takes"
    if not isinstance(x, Tensor) or not fused.takes(network, x.shape[1 + int(source.stacked) :]) or x.is_sparse:
        return "the inputs are not rows of as many numbers as the network takes"
    return "the inputs want gradients" if any(source.wanting) else ""
