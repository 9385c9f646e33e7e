"""What training refuses before its first step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hdnn.networks import Network
from hdnn.training.objective import Objective


def check_data(network: Network, x: Tensor, y: Tensor) -> None:
    """See that data fit each other and the network."""
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
