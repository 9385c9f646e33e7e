"""What the analysis refuses: numbers that are not finite, states that do not fit, results that no memory holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn.analysis.inputs import check_weights
from hdnn.flow import Flow

# Bytes that a result may take where the caller names no limit: 4 GiB.
LIMIT = 4 * 2**30


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


def _size(count: int) -> str:
    return f"{count / 2**30:,.3g} GiB" if count < 2**39 else f"{count / 2**30:,.0f} GiB"
