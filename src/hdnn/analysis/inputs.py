"""What the analysis is given, refused where it would give a number without meaning."""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.flow import Flow

# J may come out of a computation (K⁻ᵀ, a file of lower precision); beyond this share of its size it is not skew.
_SKEW = 1e-6


def check_weights(flow: Flow) -> None:
    """Refuse a flow with NaN or infinite parameters, and name them.

    Raises:
        ValueError: with the parameter and the first layer where it is not finite.
    """
    for name, parameter in flow.named_parameters():
        bad = ~torch.isfinite(parameter.detach())
        if bad.any():
            per_layer = name in ("weight", "bias", "input_weight") and not flow.shared
            where = f" from layer {int(bad.flatten(1).any(1).nonzero()[0])} on" if per_layer else ""
            raise ValueError(
                f"`flow.{name}` has NaN or infinite entries{where}, so nothing can be said about the flow. "
                f"Its training has diverged: use a smaller learning rate or step, or call `reset_parameters()`."
            )


def check_vectors(flow: Flow, what: str) -> None:
    """Refuse flows on other spaces where a matrix per sample is asked for.

    Raises:
        ValueError: if the flow acts on anything but vectors.
    """
    if flow.space.rank > 1:
        raise ValueError(
            f"{what} is for flows on vectors; this one acts on `{flow.space!r}`. A pointwise flow (kernel_size=1) can "
            f"be rebuilt for vectors with the same weights."
        )


def skew_matrix(J: Tensor, features: int) -> Tensor:
    """J itself, once it is known to be a skew (n, n) matrix.

    Raises:
        TypeError: if J is not a tensor.
        ValueError: if it has another size, is not finite or not skew.
    """
    if not isinstance(J, Tensor):
        raise TypeError(f"J must be a tensor; got {type(J).__name__}. Use `canonical(n)` or torch.tensor(...).")
    if tuple(J.shape) != (features, features):
        raise ValueError(
            f"J must be one {features} x {features} matrix, for {features} features; got shape {tuple(J.shape)}."
        )
    J = J.detach()
    if not torch.isfinite(J).all():
        raise ValueError("J must be finite; it has NaN or infinite entries.")
    excess = float((J + J.mT).abs().amax())
    if excess > _SKEW * float(J.abs().amax()):
        raise ValueError(
            f"J must be skew, J = -Jᵀ; |J + Jᵀ| reaches {excess:.3g}. Use its skew part, `(J - J.mT) / 2`."
        )
    return J
