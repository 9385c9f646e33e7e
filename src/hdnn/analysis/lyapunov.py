"""Lyapunov exponents over depth, by QR factorisations: no product of Jacobians is formed, so none overflows.

Legend: F_j = ∂y_{j+1}/∂y_j the Jacobian of layer j, M = F_{N−1} ⋯ F_0; h step, T = N h.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hdnn.analysis.jacobians import layer_jacobians
from hdnn.analysis.precision import in_full
from hdnn.flow import Flow


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
