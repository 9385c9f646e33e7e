"""Lyapunov exponents: how fast directions grow over the depth of a flow, at one state and over a data set.

Legend: F_j the Jacobian of layer j, Q_j orthogonal and R_j upper triangular, T = N h the horizon, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hdnn.analysis.jacobians import layer_jacobians
from hdnn.analysis.magnitudes import Statistics, statistics
from hdnn.analysis.precision import in_full
from hdnn.flow import Flow

# Samples whose Jacobians are held at a time.
_BATCH = 256


@in_full
def lyapunov_exponents(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """The mean growth rates of n directions over the depth of a flow, by the QR method.

    F_j Q_j = Q_{j+1} R_{j+1} with Q_0 = I; the rates are λ_i = (1/T) Σ_j log |R_j[i, i]|. Their sum is
    (1/T) log |det M| at any depth. One rate tends to a Lyapunov exponent as the depth grows; at finite depth it is
    a description, not a bound.

    Args:
        flow: with at least one layer.
        y0: inputs, (..., n), or images (B, n, H, W), whose D = n H W numbers take the place of n.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (..., n) or (B, D), from largest to smallest, in 1/time.

    Raises:
        ValueError: if the flow has no layers, has weights that are not finite, or diverges.

    References:
        Benettin, Galgani, Giorgilli, Strelcyn, Meccanica 15, 1980, https://doi.org/10.1007/BF02128236

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> lyapunov_exponents(flow, torch.randn(10, 4, dtype=torch.float64)).shape
        torch.Size([10, 4])
    """
    if not flow.recurrent and flow.layers == 0:
        raise ValueError("A flow without layers takes no time, so it has no growth rates; got layers=0.")
    factors = layer_jacobians(flow, y0, **call)
    Q = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    logarithms = factors.new_zeros(*factors.shape[1:-1])
    for F in factors:
        Q, R = torch.linalg.qr(F @ Q)
        logarithms = logarithms + R.diagonal(dim1=-2, dim2=-1).abs().log()
    rates: Tensor = logarithms.sort(-1, descending=True).values / (len(factors) * flow.step)
    return rates


@torch.no_grad()
def lyapunov_statistics(
    flow: Flow,
    states: Tensor | Iterable[Tensor],
    *,
    batch: int = _BATCH,
    levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    **call: Any,
) -> Statistics:
    """How the growth rates of a flow are spread over a data set: mean, standard deviation and quantiles of each.

    The rates of a sample are those of `lyapunov_exponents`, from largest to smallest; statistics are of the i-th rate
    of all samples. Jacobians of one batch at a time are held, only the rates of all.

    Args:
        flow: with at least one layer.
        states: the inputs of the flow, (S, n) or (S, n, H, W); or batches of them, as a loader gives. Nodes (ΣV, n) of
            a graph that comes with the call are one state.
        batch: samples at a time, where one tensor is given.
        levels: quantiles to report, between 0 and 1.
        **call: what a call of the flow brings besides the states, the same for every batch, such as `edge_index`.

    Returns:
        Statistics whose first axis counts the rates, (n,) in place of (N + 1,), in 1/time.

    Raises:
        ValueError: if there is no state, or as `lyapunov_exponents`.

    Example:
        >>> import torch, hdnn
        >>> _ = torch.manual_seed(0)
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> found = lyapunov_statistics(flow, torch.randn(1000, 4, dtype=torch.float64), levels=[0.5])
        >>> found.mean.shape, found.quantiles.shape
        (torch.Size([4]), torch.Size([1, 4]))
    """
    if batch < 1:
        raise ValueError(f"`batch` counts samples, so it must be at least 1; got {batch}.")
    batches: Iterable[Tensor] = states
    if isinstance(states, Tensor):
        batches = torch.split(states, batch) if states.dim() > flow.space.rank else [states]
    found = [lyapunov_exponents(flow, y0, **call) for y0 in batches]
    rates = [of_batch.reshape(-1, of_batch.shape[-1]) for of_batch in found]
    if not rates:
        raise ValueError("Statistics need one state at least; got none.")
    return statistics(torch.cat(rates).mT, levels)
