"""What training refuses before its first step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hdnn.networks import Network
from hdnn.training.recipe import Recipe

if TYPE_CHECKING:
    from hdnn.training.objective import Objective


def check_network(network: object, *, smoothness: float = 0.0) -> None:
    """See that a network has the parts that training and evaluation ask for.

    Raises:
        TypeError: if it is no `Network`.
        ValueError: if its head or its flow is not of the kind that is needed.
    """
    if not all(hasattr(network, part) for part in ("lift", "flow", "head", "task")):
        raise TypeError(
            f"Expected a `Network`: a lift, a flow and a linear output layer; got {type(network).__name__}. Make one "
            f"with `vector_classifier`, `vector_regressor` or `image_classifier`, or of parts of your own with "
            f'`hdnn.Network(lift, flow, head, "classification")`. Train any other module in a loop of your own, as '
            f"PyTorch modules are: a flow in it is a module like others."
        )
    head, flow = network.head, network.flow  # type: ignore[attr-defined]
    if not (isinstance(getattr(head, "out_features", None), int) and isinstance(head.weight, Tensor)):
        raise ValueError(
            f"The head of a network must be one linear layer; got {type(head).__name__}. Put the layers before the "
            f"last behind the flow: `hdnn.Network(lift, nn.Sequential(flow, more), nn.Linear(n, outputs), task)`."
        )
    if smoothness and not callable(getattr(flow, "smoothness", None)):
        raise ValueError(
            f"`smoothness` weighs how much neighbouring layers of a `Flow` differ; the flow of this network is a "
            f"{type(flow).__name__}, which has none. Use smoothness=0, or give penalties=[(smoothness, lambda "
            f"network: sum(sum(flow.smoothness()) for flow in network.modules() if isinstance(flow, hdnn.Flow)))]."
        )


def check_trainable(network: Network, recipe: Recipe) -> None:
    """See that there is something to train, and that gradients can be taken.

    Raises:
        ValueError: if not.
    """
    if not torch.is_grad_enabled():
        raise ValueError(
            "Training needs gradients, which are switched off here: it stands inside `torch.no_grad()` or "
            "`torch.inference_mode()`. Take it out, or put it under `torch.enable_grad()`."
        )
    named = dict(network.named_parameters())
    if any(p.is_inference() for p in named.values()):
        raise ValueError(
            "The weights were made under `torch.inference_mode()`, where PyTorch keeps no gradients. Make the network "
            "outside of it."
        )
    if not any(p.requires_grad for p in named.values()):
        raise ValueError(
            "All parameters are frozen (requires_grad is False), so there is nothing to train. Unfreeze some with "
            "`requires_grad_()`."
        )
    if recipe.method != "alternating":
        return
    frozen = [name for name, p in network.head.named_parameters() if not p.requires_grad]
    if frozen or not isinstance(network.head.weight, nn.Parameter):
        raise ValueError(
            'method="alternating" fits a fresh output layer for every batch, but that of this network is frozen or '
            f'parametrized (head.{frozen[0] if frozen else "weight"}). Unfreeze it, or use method="joint".'
        )
    if not any(p.requires_grad for name, p in named.items() if not name.startswith("head.")):
        raise ValueError(
            'method="alternating" moves the flow under its output layer, but all of lift and flow is frozen. Unfreeze '
            'some, or use method="joint".'
        )


def check_data(network: Network, x: Tensor, y: Tensor) -> None:
    """See that data fit each other and the network."""
    for what, value in (("Inputs", x), ("Targets", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{what} must be a tensor; got {type(value).__name__}. Use torch.as_tensor(...).")
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


def check_penalties(objective: Objective) -> None:
    """See that penalties can be minimized."""
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


def checked_weight(weight: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of samples as numbers of the network's kind, 1 on average, so that their unit does not matter."""
    if weight.shape != (len(y),):
        raise ValueError(f"Weights of samples must be of shape {(len(y),)}, one a sample; got {tuple(weight.shape)}.")
    w = weight.to(y.device, torch.float64)
    if not bool(w.isfinite().all()) or bool((w < 0).any()):
        raise ValueError(
            f"Weights of samples must be finite and not negative; got {float(w.min()):g} to {float(w.max()):g}."
        )
    if not bool((w > 0).any()):
        raise ValueError("All samples that are left to train on have weight 0, so there is nothing to learn from.")
    w = w / w.max()
    return (w / w.mean()).to(dtype)
