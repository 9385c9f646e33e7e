"""Losses of PyTorch that native steps know: given as `loss`, they need not keep a training from being native."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.training.batches import Rows, Source


class Known(NamedTuple):
    """A loss in the words of the native step.

    Args:
        kind: "classes", the cross-entropy; or "squares", the mean over the outputs.
        label_smoothing: probability spread evenly over the classes.
    """

    kind: Literal["classes", "squares"]
    label_smoothing: float = 0.0


def known(loss: Callable[..., Any] | None) -> Known | None:
    """A loss as native steps know it; None where they do not.

    Args:
        loss: `cross_entropy` or `mse_loss` of `torch.nn.functional`, a module of the same kind, or a `partial` of the
            first that smooths labels. Others, and whatever else is asked of these, nobody knows here.

    Example:
        >>> import torch
        >>> known(torch.nn.CrossEntropyLoss(label_smoothing=0.1))
        Known(kind='classes', label_smoothing=0.1)
        >>> known(torch.nn.functional.huber_loss)
    """
    found = _function(loss) or _module(loss)
    return found if found is not None and 0 <= found.label_smoothing <= 1 else None  # else PyTorch says what is wrong


def _function(loss: object) -> Known | None:
    if loss is functional.mse_loss:
        return Known("squares")
    bare = loss.func if isinstance(loss, partial) and not loss.args else loss
    settings = loss.keywords if isinstance(loss, partial) else {}
    if bare is not functional.cross_entropy or not settings.keys() <= {"label_smoothing"}:
        return None
    return Known("classes", **settings)


def _module(loss: object) -> Known | None:
    if not isinstance(loss, nn.CrossEntropyLoss | nn.MSELoss) or loss.reduction != "mean":
        return None
    if loss._forward_hooks or loss._forward_pre_hooks or "forward" in vars(loss):
        return None
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.ignore_index == -100:
        return Known("classes", loss.label_smoothing)
    return Known("squares") if type(loss) is nn.MSELoss else None


def why_not(loss: Known, head: nn.Linear, source: Source | None) -> str:
    """Why native steps cannot take data by a known loss that was given, in words; empty if they can.

    What PyTorch's loss would do with other numbers than these (broadcast them, leave some out, refuse them) is left to
    it. What a loader gives, its batches show too late.
    """
    if not isinstance(source, Rows) or source.data.weight is not None:
        return "the loss is the user's own"
    x, y, *_ = source.data
    if isinstance(x, Tensor) and x.dtype is not head.weight.dtype:
        return f"the inputs are {x.dtype}, and the weights {head.weight.dtype}"
    shape, outputs = y.shape[int(source.stacked) :], head.out_features
    if loss.kind == "squares":
        fits = shape[1:] == (outputs,) and y.dtype is head.weight.dtype and not y.requires_grad
        return "" if fits else "the loss is the user's own, and the targets are not like the outputs"
    fits = y.dtype is torch.int64 and len(shape) == 1 and outputs > 1
    fits = fits and int(y.min()) >= 0 and int(y.max()) < outputs
    return "" if fits else "the loss is the user's own, and the targets are not one class for every sample"
