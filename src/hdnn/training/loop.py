"""The loop: epochs, batches, early stopping, callbacks.

Legend: s samples, x inputs, y targets. A step is one optimizer step on one batch.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.networks import Network
from hdnn.training.objective import Objective, Penalty, Record, evaluate, mean_score, score_name, score_sum
from hdnn.training.recipe import Recipe, make_optimizer, rate_factor
from hdnn.training.steps import alternating_step, joint_step, train_head


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every step.

    Args:
        epoch: counted from 1.
        epochs: planned.
        batch: steps done in this epoch.
        batches: steps of an epoch.
        loss: the objective on the batch, a scalar tensor without gradient (reading it may wait for the device).
        record: the epoch's record when this step ended it, else None.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: Tensor
    record: Record | None

    @property
    def iteration(self) -> int:
        """Steps since training began."""
        return (self.epoch - 1) * self.batches + self.batch


Callback = Callable[[Progress], None]


def fit(
    network: Network,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    callbacks: Iterable[Callback] = (),
    penalties: Sequence[Penalty] = (),
) -> list[Record]:
    """Train a network in place.

    The order of the batches depends on `recipe.seed` alone; the initial weights are the caller's.

    Args:
        network: trained in place, on the device where its parameters are.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) targets.
        recipe: how.
        validation: (inputs, targets) to watch instead of the share `recipe.validation` of x and y.
        callbacks: called with a `Progress` after every step.
        penalties: (weight, function of the network) pairs to add to the objective, see `Objective`.

    Returns:
        One record an epoch: "epoch", "loss" (mean objective), "train_accuracy" or "train_error" (root mean square)
        while training, the same with "validation_" where there is validation data, "learning_rate", "seconds".

    Raises:
        ValueError: if x and y do not fit each other or the network, or are too few for a validation part, or if a
            penalty cannot be minimized.
        FloatingPointError: if objective or weights are no longer finite; the message says when and what to do.

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(200, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0))
        >>> history = fit(network, x, (x[:, 0] > 0).long(), Recipe(epochs=3))
        >>> len(history)
        3
    """
    for part in ((x, y), *([validation] if validation is not None else [])):
        _check_data(network, *part)
    device = network.head.weight.device
    x, y = x.to(device), y.to(device)
    if validation is None and recipe.validation:
        train, held = split(y, recipe.validation, recipe.seed, stratify=network.task == "classification")
        validation = (x[held], y[held])
        x, y = x[train], y[train]
    objective = Objective(
        network,
        alpha=recipe.alpha,
        alpha_c=recipe.alpha_c,
        label_smoothing=recipe.label_smoothing,
        penalties=penalties,
    )
    _check_penalties(objective)
    alternating = recipe.method == "alternating"
    take_step = alternating_step if alternating else joint_step
    history = _epochs(objective, x, y, recipe, validation, tuple(callbacks), take_step)
    if alternating:
        train_head(objective, x, y, recipe)
    if not all(bool(p.isfinite().all()) for p in network.parameters()):
        # The last step may diverge after the last objective was seen to be finite.
        raise FloatingPointError(_not_finite("weights", len(history)))
    return history


def split(y: Tensor, share: float, seed: int, *, stratify: bool) -> tuple[Tensor, Tensor]:
    """Indices of a training part and of a held-out part.

    Args:
        y: (s,) class indices, or (s, outputs) targets.
        share: of the held-out part.
        seed: of the split.
        stratify: keep the shares of the classes, unless one has a single row or a part cannot hold them all.

    Raises:
        ValueError: if no row is left to train on.
    """
    from sklearn.model_selection import train_test_split

    held_rows = math.ceil(share * len(y))
    if held_rows >= len(y):
        raise ValueError(f"Of {len(y)} rows, validation={share:g} leaves none to train on. Lower it, or add rows.")
    classes = None
    if stratify:
        counts = y.bincount()
        counts = counts[counts > 0]
        if int(counts.min()) > 1 and len(counts) <= min(held_rows, len(y) - held_rows):
            classes = y.cpu().numpy()
    train, held = train_test_split(torch.arange(len(y)).numpy(), test_size=share, random_state=seed, stratify=classes)
    return torch.from_numpy(train), torch.from_numpy(held)


Step = Callable[[Objective, torch.optim.Optimizer, Tensor, Tensor, Recipe], tuple[Tensor, Tensor]]


def _epochs(
    objective: Objective,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    validation: tuple[Tensor, Tensor] | None,
    callbacks: Sequence[Callback],
    take_step: Step,
) -> list[Record]:
    network = objective.network
    size = len(x) if recipe.optimizer == "lbfgs" else recipe.batch_size
    batches = math.ceil(len(x) / size)
    trained = list(network.parameters())
    if recipe.method == "alternating":
        trained = [p for p in trained if p is not network.head.weight and p is not network.head.bias]
    optimizer = make_optimizer(recipe, trained)
    factor = rate_factor(recipe, batches)
    order = torch.Generator().manual_seed(recipe.seed)
    best = _Best(network, recipe.patience)
    history: list[Record] = []
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        rate = recipe.learning_rate * factor((epoch - 1) * batches)
        permutation = torch.randperm(len(x), generator=order).to(x.device)
        losses, outputs = [], []  # summed up once an epoch: small steps are too short for more
        for batch, chosen in enumerate(torch.split(permutation, size), start=1):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor((epoch - 1) * batches + batch - 1)
            loss, output = take_step(objective, optimizer, x[chosen], y[chosen], recipe)
            losses.append(loss)
            outputs.append(output)
            if batch < batches and callbacks:
                _tell(callbacks, Progress(epoch, recipe.epochs, batch, batches, loss, None))
        record = {"epoch": float(epoch), "loss": _mean_loss(losses, outputs), "learning_rate": rate}
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(_not_finite("objective", epoch))
        scores = score_sum(network, torch.cat(outputs), y[permutation])
        record[f"train_{score_name(network)}"] = mean_score(network, float(scores), y)
        if validation is not None:
            watched = evaluate(network, *validation)
            record |= {f"validation_{name}": value for name, value in watched.items()}
        record["seconds"] = time.perf_counter() - start
        history.append(record)
        _tell(callbacks, Progress(epoch, recipe.epochs, batches, batches, loss, record))
        if best.is_stuck(record):
            break
    best.restore()
    return history


class _Best:
    """The best weights by validation score, when training may stop early."""

    def __init__(self, network: Network, patience: int | None) -> None:
        self.network = network
        self.patience = patience
        self.score = (-math.inf, -math.inf)
        self.waited = 0
        self.weights: dict[str, Tensor] | None = None

    def is_stuck(self, record: Record) -> bool:
        """Note an epoch; True when patience has run out."""
        if self.patience is None:
            return False
        score = (record.get("validation_accuracy", 0.0), -record["validation_loss"])
        if score > self.score:
            self.score, self.waited = score, 0
            self.weights = copy.deepcopy(self.network.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self.weights is not None:
            self.network.load_state_dict(self.weights)


def _mean_loss(losses: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """The mean over samples of the losses of batches."""
    sizes = torch.tensor([len(output) for output in outputs], dtype=torch.float64)
    return float(torch.stack(list(losses)).to("cpu", torch.float64) @ sizes / sizes.sum())


def _tell(callbacks: Sequence[Callback], progress: Progress) -> None:
    for callback in callbacks:
        callback(progress)


def _check_data(network: Network, x: Tensor, y: Tensor) -> None:
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"Inputs and targets must have one equal, positive length; got {len(x)} and {len(y)}.")
    dtype, outputs = network.head.weight.dtype, network.head.out_features
    if x.dtype != dtype:
        raise ValueError(f"Inputs must be {dtype}, as the network is; got {x.dtype}. Use x.to({dtype}).")
    if network.task == "regression":
        if y.shape != (len(x), outputs) or y.dtype != dtype:
            raise ValueError(
                f"Targets must be {dtype} of shape {(len(x), outputs)}, one number an output; got {y.dtype} of shape "
                f"{tuple(y.shape)}."
            )
        return
    classes = max(2, outputs)
    if y.dtype != torch.int64 or y.dim() != 1:
        raise ValueError(f"Targets must be class indices, int64 (s,); got {y.dtype} of shape {tuple(y.shape)}.")
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise ValueError(f"Class indices run from 0 to {classes - 1}; got {int(y.min())} to {int(y.max())}.")


def _check_penalties(objective: Objective) -> None:
    for i, (factor, penalty) in enumerate(objective.penalties):
        if not math.isfinite(factor):
            raise ValueError(f"The weight of penalty {i} must be finite; got {factor}.")
        value = penalty(objective.network)
        if not isinstance(value, Tensor) or value.dim():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"Penalty {i} must return one number, a tensor without axes; got {shape}. Sum it up.")
        if not value.requires_grad:
            raise ValueError(
                f"Penalty {i} depends on no parameter that learns, so it would change nothing. Look for a detach(), a "
                f"no_grad(), or frozen weights."
            )


def _not_finite(what: str, epoch: int) -> str:
    return (
        f"The {what} became infinite or not a number in epoch {epoch}, so training stopped. Use a smaller learning "
        f"rate or step, clip the gradient (clip=1.0), or check the inputs for extreme values."
    )
