"""The recipe: how a network is trained, in plain values; and the optimizer and schedule that it names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hdnn import options
from hdnn.options import Method as Method
from hdnn.options import Optimizer as Optimizer
from hdnn.options import Precision as Precision
from hdnn.options import Schedule as Schedule
from hdnn.renames import RECIPE, renamed
from hdnn.training.augmentation import check_changes
from hdnn.training.optimizers import AnyOptimizer, optimizer_of


@renamed(RECIPE)
@dataclass(frozen=True)
class Recipe:
    """How a network is trained, in plain values.

    Args:
        epochs: passes over the training data.
        batch_size: samples a step; L-BFGS always takes all.
        optimizer: "adam", "adamw", "sgd" (momentum 0.9) or "lbfgs".
        learning_rate: the largest rate of the schedule.
        schedule: "cosine" (linear warm-up, then a cosine down to zero), "one_cycle" (half a cosine up from a
            twenty-fifth of the rate, half a cosine down to zero), "exponential" (× `decay` an epoch) or "constant".
        warmup: share of all steps over which the rate rises, of "cosine" and "one_cycle", 0 to 1.
        decay: factor an epoch of the exponential schedule.
        smoothness: α of the papers, weight of R_K + R_b over depth, of all flows in the model.
        head_decay: α_c of the papers, weight of the output layer's R_N, where the model has a `head`.
        weight_decay: of all parameters, as the optimizer defines it (decoupled for "adamw").
        augment: how images (s, C, H, W) are changed by chance, each anew in every epoch: "crop", "flip", "cutout", see
            `hdnn.training.augmentation`. Never in the search of `restarts`, nor where a network is scored.
        label_smoothing: probability spread evenly over the classes, 0 to 1.
        clip: largest norm of the gradient; None leaves it alone.
        average: ρ of the mean of the weights, w̄ ← ρ w̄ + (1 − ρ) w after every step, with a smaller ρ in the first ones,
            (1 + k) / (10 + k) at most; running moments of normalisation are averaged as well. The mean is what is
            watched while training and what is kept at the end. 0 keeps the last weights.
        precision: "bfloat16" lets convolutions and products of matrices run in 16 bits while training, by
            `torch.autocast`; losses, states of flows and all scoring stay as the weights are, as with "full".
        method: "joint" trains everything at once; "alternating" is the paper's: for each batch a fresh output layer
            gets `head_steps` Adam steps on frozen features, then the flow gets one step; at the end an output layer
            is trained for `head_epochs` epochs on frozen features.
        head_steps: steps of the output layer for each batch of the alternating method.
        head_epochs: epochs of the last output layer of the alternating method.
        head_learning_rate: of the output layer in the alternating method.
        validation_fraction: share of the training data held back to watch and, with `patience`, to stop.
        patience: epochs without a better one, after which training stops and the best weights return; None trains for
            all epochs and keeps the last weights. Better is a smaller validation loss; for a `Network` that classifies
            with its own loss a larger validation accuracy, and the loss where that is equal; without validation a
            smaller objective. What `score` of `fit` asks for never decides. Epochs in which the rate rises are not
            counted.
        refit: once training has stopped, train anew from the first weights on all rows, those held back too, for as
            many epochs as were best, and keep these weights. Needs a `validation_fraction`; not with a loader, nor with
            data to watch of the user's own.
        restarts: trainings that begin from fresh weights each, all in one. The one with the smallest objective on the
            training data goes on, for `epochs` epochs; 1 begins with the weights that are there. Small networks land
            in very different places by the luck of their first weights. Every module that learns needs a
            `reset_parameters`, as those of PyTorch have, and none may be a BatchNorm or Dropout, which cannot train
            stacked (LayerNorm can). Not with a loader, nor with "lbfgs".
        restart_epochs: of each of the `restarts`, with a schedule of their own.
        restart_learning_rate: of the `restarts`; None means `learning_rate`.
        seed: of the order of the batches, of the validation split, and of the weights of the restarts.

    Raises:
        ValueError: if a value makes no sense; the message names it.
    """

    epochs: int = 50
    batch_size: int = 125
    optimizer: Optimizer = "adam"
    learning_rate: float = 0.02
    schedule: Schedule = "cosine"
    warmup: float = 0.2
    decay: float = 0.8
    smoothness: float = 0.0
    head_decay: float = 0.0
    weight_decay: float = 0.0
    augment: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    clip: float | None = None
    average: float = 0.0
    precision: Precision = "full"
    method: Method = "joint"
    head_steps: int = 10
    head_epochs: int = 50
    head_learning_rate: float = 0.05
    validation_fraction: float = 0.0
    patience: int | None = None
    refit: bool = False
    restarts: int = 1
    restart_epochs: int = 100
    restart_learning_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # a file of the recipe holds Python's numbers
                object.__setattr__(self, name, value.item())
        options.check(options.RecipeOptions, vars(self))
        vars(self).update(options.truths(options.RecipeOptions, vars(self)))
        check_changes(self.augment)
        if self.refit and not self.validation_fraction:
            raise ValueError(
                "`refit` trains on the rows that were held back as well, and `validation_fraction=0` holds none back. "
                "Set it to 0.15, or leave `refit` out."
            )
        if self.average and self.method == "alternating":
            raise ValueError(
                "`average` is of weights that move step by step, and the alternating method fits the output layer anew "
                "for each batch. Leave one of them out."
            )
        if self.optimizer == "lbfgs":
            self._check_lbfgs()

    def _check_lbfgs(self) -> None:
        if self.method == "alternating":
            raise ValueError('The alternating method steps on mini-batches, which "lbfgs" cannot; use "adam".')
        if self.weight_decay:
            raise ValueError('`weight_decay` is not part of "lbfgs"; use `head_decay`, or `optimizer="adamw"`.')
        if self.average or self.precision != "full":
            raise ValueError('`average` and `precision` are for many small steps, not for "lbfgs"; use "adam".')
        if self.clip is not None:
            raise ValueError('`clip` would mislead the line search of "lbfgs"; leave it out, or use "adam".')
        if self.restarts > 1:
            raise ValueError('`restarts` train together, step by step, which the line search of "lbfgs" cannot.')


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> AnyOptimizer:
    """The optimizer that a recipe names."""
    if recipe.optimizer == "lbfgs":
        return torch.optim.LBFGS(parameters, lr=recipe.learning_rate, line_search_fn="strong_wolfe")
    return optimizer_of(recipe.optimizer, parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def warm_epochs(recipe: Recipe) -> float:
    """Epochs in which the learning rate rises."""
    rises = recipe.schedule in ("cosine", "one_cycle") and recipe.optimizer != "lbfgs"
    return recipe.warmup * recipe.epochs if rises else 0.0


def rate_factor(recipe: Recipe, batches: int) -> Callable[[int], float]:
    """The learning rate of each step, as a share of the largest."""
    steps = recipe.epochs * batches
    warm = recipe.warmup * steps
    rest = max(1.0, steps - warm)

    def cosine(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / rest))

    def one_cycle(step: int) -> float:
        if step < warm:
            return 0.52 - 0.48 * math.cos(math.pi * step / warm)
        return cosine(step)

    if recipe.optimizer == "lbfgs" or recipe.schedule == "constant":
        return lambda step: 1.0
    shapes = {"cosine": cosine, "one_cycle": one_cycle}
    return shapes.get(recipe.schedule, lambda step: recipe.decay ** (step // batches))
