"""What the analysis refuses: what is not finite, or does not fit, and results that no memory holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn.flow import Flow
from hdnn.flow.depth import OF_LAYERS

# Bytes that a result may take where the caller names no limit: 4 GiB.
LIMIT = 4 * 2**30
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
            per_layer = name in OF_LAYERS and not flow.shared
            where = f" from layer {int(bad.flatten(1).any(1).nonzero()[0])} on" if per_layer else ""
            raise ValueError(
                f"`flow.{name}` has NaN or infinite entries{where}, so nothing can be said about the flow. "
                f"Its training has diverged: use a smaller learning rate or step, or call `reset_parameters()`."
            )


def check_vectors(flow: Flow, what: str, remedy: str = "") -> None:
    """Refuse flows on other spaces where a matrix per sample is asked for.

    Args:
        flow: the flow to analyse.
        what: is asked.
        remedy: what else would do, a sentence.

    Raises:
        ValueError: if the flow acts on anything but vectors.
    """
    if flow.space.rank > 1:
        remedy = remedy or "A pointwise flow (kernel_size=1) can be rebuilt for vectors with the same weights."
        raise ValueError(f"{what} is for flows on vectors; this one acts on `{flow.space!r}`. {remedy}")


def check_undriven(flow: Flow, what: str) -> None:
    """Refuse a flow that a call drives, where one field is looked at for all calls.

    Args:
        flow: the flow to analyse.
        what: is asked.
    """
    if driven := [name for name in ("inputs", "ports") if getattr(flow, name) is not None]:
        given = ", ".join(f"{name}={value}" for name, value in zip(driven, "uv", strict=False))
        raise ValueError(
            f"The field of this flow shifts with the {' and '.join(driven)} of a call, so it has no one {what}. Look "
            f"at a call: `sensitivities(flow, y0, {given})`."
        )


def check_undamped(flow: Flow, what: str) -> None:
    """Refuse a damping of either kind where only the field y' = J ∂H/∂y is looked at.

    Args:
        flow: the flow to analyse.
        what: is asked.
    """
    if flow.hamiltonian.beyond_units or flow._beside:
        raise ValueError(
            f"{what} knows the field y' = J Kᵀ σ(K y + b) alone, and this flow has more: an energy of its own, weights "
            f"of units, J(y) or ports. Look at the flow itself: `sensitivities(flow, y0)`."
        )
    if not flow.interconnection.skew:
        raise ValueError(
            f"{what} rests on J = -Jᵀ, which `{flow.interconnection!r}` does not state (`skew = True`). Look at the "
            f"flow itself: `sensitivities(flow, y0)`."
        )
    if flow.damping:
        raise ValueError(
            f"{what} knows the field y' = J ∂H/∂y alone, and the steps of this flow also damp the momenta, at the "
            f"rate γ = {flow.damping:g}. Look at the flow itself: `sensitivities(flow, y0)`."
        )


def check_flow(flow: Flow, y: Tensor) -> None:
    """Refuse weights that are not finite, and states that do not fit the flow.

    Args:
        flow: the flow to analyse.
        y: should be a state of its space.
    """
    check_weights(flow)
    flow.space.check(y, flow.features)
    if y.dtype is not flow.weight.dtype:
        raise ValueError(
            f"The state is {y.dtype}, the weights are {flow.weight.dtype}. Convert one of them; sensitivities of many "
            f"layers deserve float64, `y0.double()` and `flow.double()`."
        )
    check_state(y)


def check_state(y: Tensor) -> None:
    """Refuse an initial state of another dtype than float32 or float64, or with numbers that are not finite."""
    if y.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"The analysis needs float32 or float64; got a {y.dtype} state. Convert it: `y0.double()`.")
    if not y.isfinite().all():
        raise ValueError("The initial state y0 holds NaN or infinity. Remove those samples first.")


def check_states(states: Tensor, first: int = 0) -> None:
    """Refuse states that have overflowed.

    Args:
        states: y_j for j = first, first + 1, …, along the first axis.
        first: j of the first of them.
    """
    broken = ~states.isfinite().reshape(len(states), -1).all(1)
    if broken.any():
        layer = first + int(broken.nonzero()[0]) - 1
        raise ValueError(
            f"The state after layer {layer} is not finite, so no sensitivity exists across it. Use a smaller step or "
            f"smaller weights, or analyse the layers before it."
        )


def check_products(products: Tensor | Sequence[Tensor]) -> None:
    """Refuse sensitivities, or products with them, that have overflowed.

    Args:
        products: for j = 0 … N, each made from the next, so that what is not finite once stays so down to j = 0.
    """
    if products[0].isfinite().all():
        return
    layer = max(j for j, product in enumerate(products) if not product.isfinite().all())
    raise ValueError(
        f"dy_N/dy_{layer} exceeds the range of {products[0].dtype}. Use `log_norms`, which rescales the product after "
        f"every layer, or only the layers behind it."
    )


def check_bytes(what: str, sizes: list[tuple[int, ...]], y: Tensor, limit: int, remedy: str = "") -> None:
    """Refuse to allocate more than the limit.

    Args:
        what: the result, in the plural.
        sizes: the shapes of its parts.
        y: a tensor of its dtype.
        limit: bytes.
        remedy: what else would do, a sentence; for cases that have more remedies than the usual ones.
    """
    taken = y.element_size() * sum(math.prod(shape) for shape in sizes)
    if taken > limit:
        shape = " x ".join(f"{size:,}" for size in (len(sizes), *sizes[0]))
        raise ValueError(
            f"The {what} ({shape} numbers) would take {_size(taken)}, but `limit` is {_size(limit)}. "
            f"{remedy}Use fewer samples, raise `limit`, or build no matrix: `largest_singular_values`, "
            f"`sensitivity_vector_product` and `vector_sensitivity_product` need none."
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


def _size(count: int) -> str:
    return f"{count / 2**30:,.3g} GiB" if count < 2**39 else f"{count / 2**30:,.0f} GiB"
