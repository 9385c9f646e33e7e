"""What training refuses before its first step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hdnn.data.pixels import Pixels
from hdnn.networks import Network, SequenceNetwork, sequences
from hdnn.training.answers import counted, lengths_of, says_every
from hdnn.training.batches import Batch, Inputs, check_lengths, tensors_of
from hdnn.training.models import first_parameter, has_objective, head_of, smooth_parts
from hdnn.training.recipe import Recipe

if TYPE_CHECKING:
    from hdnn.training.objective import Objective


def checked_recipe(recipe: object, y: object = None) -> Recipe:
    """The recipe, if it stands in its place.

    Raises:
        TypeError: if not.
    """
    if isinstance(y, Recipe):
        raise TypeError(
            "The recipe stands in the place of the targets. A loader brings its own, so name what follows it, as in "
            "`fit(model, loader, recipe=Recipe(epochs=10), loss=loss)`."
        )
    if recipe is None:
        raise TypeError("How to train is said by a recipe, as in `fit(model, loader, recipe=Recipe(epochs=10))`.")
    if isinstance(recipe, Recipe):
        return recipe
    remedy = "as in `fit(model, x, y, Recipe(epochs=10))`"
    if isinstance(recipe, Mapping):
        remedy = "and a mapping becomes one by `Recipe(**mapping)`"
    elif callable(recipe):
        remedy = "and a loss follows it, as in `fit(model, x, y, Recipe(epochs=10), loss)`"
    raise TypeError(f"How to train is said by a `Recipe`; got {kind_of(recipe)}. It follows the targets, {remedy}.")


def check_scores(score: object) -> None:
    """See that scores are functions by the name of what they find.

    Raises:
        TypeError: if not.
    """
    if score is None:
        return
    if not isinstance(score, Mapping):
        raise TypeError(
            f"`score` names what its functions find, as in `score={{'accuracy': function of outputs and targets}}`; "
            f"got {kind_of(score)}. Name it."
        )
    for name, found in score.items():
        if not callable(found):
            raise TypeError(f"The score {name!r} must be a function of outputs and targets; got {kind_of(found)}.")


def one_number(name: str, value: Any) -> float:
    """What a score has found, as a number.

    Raises:
        TypeError: if it is none, or more than one.
    """
    try:
        return float(value)
    except (RuntimeError, TypeError, ValueError) as error:
        shape = getattr(value, "shape", None)
        got = kind_of(value) if shape is None else f"shape {tuple(shape)}"
        raise TypeError(
            f"The score {name!r} must be one number for all samples; got {got}. Take its mean, as in "
            f"`(output.argmax(-1) == y).float().mean()`."
        ) from error


def kind_of(value: object) -> str:
    """The kind of a value, and of a function or class its name."""
    name = getattr(value, "__name__", "")
    return (
        f"the {'class' if isinstance(value, type) else type(value).__name__} {name}" if name else type(value).__name__
    )


def check_objective(
    model: object, loss: object, *, smoothness: float = 0.0, head_decay: float = 0.0, label_smoothing: float = 0.0
) -> None:
    """See that there is a loss, and that a model has what regularisers weigh.

    Raises:
        TypeError: if it is no module, or neither it nor the caller says a loss.
        ValueError: if a `Network`'s head is not of the kind that is needed, or a regulariser has nothing to weigh.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected a module of PyTorch; got {type(model).__name__}.")
    if isinstance(loss, type):
        raise TypeError(f"`loss` is the class {loss.__name__} and not a loss. Make one of it: loss={loss.__name__}().")
    if loss is not None and not callable(loss):
        raise TypeError(f"`loss` must be a function of outputs and targets; got {type(loss).__name__}.")
    name = type(model).__name__
    if loss is None:
        _check_network(model)
    elif label_smoothing:
        raise ValueError(
            "`label_smoothing` is part of a `Network`'s own loss, and `loss` replaces that. Let yours do it, as in "
            "`loss=functools.partial(torch.nn.functional.cross_entropy, label_smoothing=0.1)`."
        )
    if smoothness and not smooth_parts(model):
        raise ValueError(
            f"`smoothness` weighs how much neighbouring layers of a `Flow` differ; there is none in this {name}. "
            f"Use smoothness=0, or say what it is to weigh by penalties=[(smoothness, function of the network)]."
        )
    if head_decay and head_of(model) is None:
        raise ValueError(
            f"`head_decay` weighs the output layer, `network.head`, and this {name} has none. Use head_decay=0 and "
            f"`weight_decay`, or penalties=[(head_decay, lambda network: network[-1].weight.square().sum())]."
        )


def _check_network(model: nn.Module) -> None:
    """See that a model carries an objective: a task, and an output layer that fits it."""
    if not has_objective(model):
        raise TypeError(
            f"{type(model).__name__} does not say what it is to learn, as a `Network` of hdnn does, so it needs a "
            f"loss: loss=torch.nn.functional.cross_entropy (class indices), mse_loss or huber_loss (numbers), "
            f"binary_cross_entropy_with_logits (yes or no), nll_loss, poisson_nll_loss, or any function of outputs and "
            f"targets. Or make a network with `vector_classifier`, `vector_regressor` or `image_classifier`."
        )
    if not _is_linear(model.head):
        raise ValueError(
            f"The head of a network must be one linear layer; got {type(model.head).__name__}. Put the layers before "
            f"the last behind the flow: `hdnn.Network(lift, nn.Sequential(flow, more), nn.Linear(n, outputs), task)`."
        )


def _is_linear(head: object) -> bool:
    return isinstance(getattr(head, "out_features", None), int) and isinstance(getattr(head, "weight", None), Tensor)


def check_trainable(model: Any, recipe: Recipe) -> None:
    """See that there is something to train, and that gradients can be taken.

    Raises:
        ValueError: if not.
    """
    if not torch.is_grad_enabled():
        raise ValueError(
            "Training needs gradients, which are switched off here: it stands inside `torch.no_grad()` or "
            "`torch.inference_mode()`. Take it out, or put it under `torch.enable_grad()`."
        )
    named = dict(model.named_parameters())
    if any(p.is_inference() for p in named.values()):
        raise ValueError(
            "The weights were made under `torch.inference_mode()`, where PyTorch keeps no gradients. Make the network "
            "outside of it."
        )
    if not named:
        raise ValueError(f"This {type(model).__name__} has no parameters, so there is nothing to train.")
    if not any(p.requires_grad for p in named.values()):
        raise ValueError(
            "All parameters are frozen (requires_grad is False), so there is nothing to train. Unfreeze some with "
            "`requires_grad_()`."
        )
    if recipe.method != "alternating":
        return
    if not callable(getattr(model, "features", None)) or not _is_linear(getattr(model, "head", None)):
        raise ValueError(
            f'method="alternating" fits a linear output layer, `network.head`, to what it sees, `network.features(x)`; '
            f'this {type(model).__name__} has not both, as a `Network` has. Use method="joint".'
        )
    frozen = [name for name, p in model.head.named_parameters() if not p.requires_grad]
    if frozen or not isinstance(model.head.weight, nn.Parameter):
        raise ValueError(
            'method="alternating" fits a fresh output layer for every batch, but that of this network is frozen or '
            f'parametrized (head.{frozen[0] if frozen else "weight"}). Unfreeze it, or use method="joint".'
        )
    if not any(p.requires_grad for name, p in named.items() if not name.startswith("head.")):
        raise ValueError(
            'method="alternating" moves the flow under its output layer, but all of lift and flow is frozen. Unfreeze '
            'some, or use method="joint".'
        )


def check_data(model: Any, batch: Batch, loss: object = None) -> None:
    """See that data fit each other and, where a model carries an objective, the model."""
    check_lengths(batch)
    check_fit(model, batch, loss)


def check_fit(model: Any, batch: Batch, loss: object = None) -> None:
    """See that a batch, of lengths of its own, fits a model that carries an objective."""
    if loss is not None:
        return
    if isinstance(batch.x, Tensor | Pixels):
        check_lengths(batch)
    _check_fit(model, batch)


def _check_fit(network: Network, batch: Batch) -> None:
    x, y, *_ = batch
    dtype, outputs = network.head.weight.dtype, network.head.out_features
    steps = _steps(x, y) if says_every(network) else ()
    if isinstance(network, SequenceNetwork) and (lengths := lengths_of(x, {})) is not None:
        sequences.check_lengths(tensors_of(x)[0], lengths)
    if isinstance(x, Pixels) and dtype != torch.float32:
        raise ValueError(f"Images as bytes become torch.float32, and the network is {dtype}. Use network.float().")
    if isinstance(x, Tensor) and x.dtype != dtype:
        raise ValueError(f"Inputs must be {dtype}, as the network is; got {x.dtype}. Use x.to({dtype}).")
    if network.task == "regression":
        if y.shape != (wanted := (len(y), *steps, outputs)) or y.dtype != dtype:
            raise ValueError(
                f"Targets must be {dtype} of shape {wanted}, one number an output; got {y.dtype} of shape "
                f"{tuple(y.shape)}."
            )
        if not steps and not bool((finite := y.isfinite().all(1)).all()):
            raise ValueError(
                f"The targets of sample {int((~finite).nonzero()[0])} are infinite or not a number. Leave such samples "
                f"out, or give them `sample_weight` 0 and any finite target."
            )
        return
    classes = max(2, outputs)
    if y.dtype != torch.int64 or y.shape != (len(y), *steps):
        shape = f"(s, T), {(len(y), *steps)}" if steps else "(s,)"
        raise ValueError(f"Targets must be class indices, int64 {shape}; got {y.dtype} of shape {tuple(y.shape)}.")
    y = y[counted(network, y)] if steps else y
    if y.numel() and (int(y.min()) < 0 or int(y.max()) >= classes):
        raise ValueError(f"Class indices run from 0 to {classes - 1}; got {int(y.min())} to {int(y.max())}.")


def _steps(x: Inputs, y: Tensor) -> tuple[int, ...]:
    """How many steps the sequences of a batch have, padding among them."""
    sequences = next(iter(tensors_of(x)), None)
    return tuple((y if sequences is None or sequences.dim() != 3 else sequences).shape[1:2])


def check_penalties(objective: Objective) -> None:
    """See that penalties can be minimized."""
    for i, (factor, penalty) in enumerate(objective.penalties):
        if not math.isfinite(factor):
            raise ValueError(f"The weight of penalty {i} must be finite; got {factor}.")
        value = penalty(objective.network)
        check_penalty(i, value)
        if not value.requires_grad:
            raise ValueError(
                f"Penalty {i} depends on no parameter that learns, so it would change nothing. Look for a detach(), a "
                f"no_grad(), or frozen weights."
            )


def check_penalty(i: int, value: object) -> None:
    """See that it is one number, which is not spread over others."""
    if not isinstance(value, Tensor) or value.dim():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"Penalty {i} must return one number, a tensor without axes; got {shape}. Sum it up.")


def checked_weight(weight: Tensor, y: Tensor, model: nn.Module) -> Tensor:
    """Weights of all samples as numbers of the model's kind, 1 on average, so that their unit does not matter."""
    w = _usable(weight, y)
    if not bool((w > 0).any()):
        raise ValueError("All samples that are left to train on have weight 0, so there is nothing to learn from.")
    w = w / w.max()
    return (w / w.mean()).to(first_parameter(model).dtype)


def batch_weight(weight: Tensor, y: Tensor, model: nn.Module) -> Tensor:
    """Weights of the samples of one batch, of which all may be 0, as numbers of the model's kind."""
    w = _usable(weight, y)
    return (w / w.max().clamp_min(torch.finfo(w.dtype).tiny)).to(first_parameter(model).dtype)


def _usable(weight: Tensor, y: Tensor) -> Tensor:
    if weight.shape != (len(y),):
        raise ValueError(f"Weights of samples must be of shape {(len(y),)}, one a sample; got {tuple(weight.shape)}.")
    w = weight.to(y.device, torch.float64)
    if not bool(w.isfinite().all()) or bool((w < 0).any()):
        raise ValueError(
            f"Weights of samples must be finite and not negative; got {float(w.min()):g} to {float(w.max()):g}."
        )
    return w
