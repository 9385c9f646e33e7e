"""What a flow keeps beside J: volume, energy, and the way back.

Legend: F_j = ∂y_{j+1}/∂y_j the Jacobian of layer j, M = F_{N−1} ⋯ F_0; H(y) = 1ᵀ σ̃(K y + b) the energy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hdnn.analysis.checks import check_flow
from hdnn.analysis.jacobians import layer_jacobians
from hdnn.analysis.magnitudes import log_determinants
from hdnn.analysis.precision import in_full
from hdnn.doors import shelled
from hdnn.flow import Flow


def log_volume(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """The logarithm of |det ∂y_N/∂y_0|, Σ_j log |det F_j|, per sample: zero where the flow keeps volume.

    The determinants are taken layer by layer, so that nothing overflows however deep the flow.

    Args:
        flow: any flow. `flow.preserves_volume` says whether zero is promised; forward Euler with σ′ ≥ 0 and a skew J
            gives zero or more.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`.

    Returns:
        (...) or (B,).

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.ms1(4, layers=8, step=0.1, dtype=torch.float64)
        >>> bool(log_volume(flow, torch.randn(10, 4, dtype=torch.float64)).abs().max() < 1e-13)
        True
    """
    _, logarithms = log_determinants(layer_jacobians(flow, y0, **call))
    return logarithms[0]


@in_full
@torch.no_grad()
def energy_drift(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """H(y_j) − H(y_0) along depth, for a flow that has one H.

    The continuous field keeps H exactly. Forward Euler gains energy where σ′ ≥ 0. A symplectic integrator stays near H
    for exponentially long times where σ is analytic (tanh, sigmoid, softplus, identity), the step small and the motion
    bounded. `relu` and `leaky_relu` have kinks, where that theory ends: each crossing may leave an error, and the
    errors may add up (to three times as much after 40,000 steps as after 100, where that of tanh had not grown).

    Args:
        flow: with shared weights (`shared=True`), or of one layer at most.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`.

    Returns:
        (N + 1, ...) or (N + 1, B); the first entry is 0.

    Raises:
        ValueError: if the layers have weights of their own, hence no common energy.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section IX.8.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=100, step=0.1, shared=True)
        >>> energy_drift(flow, torch.randn(10, 4)).shape
        torch.Size([101, 10])
    """
    check_flow(flow, y0)
    if not flow.shared and flow.layers > 1:
        reason = f"Each of the {flow.layers} layers has weights of its own, so no single energy H could be kept."
        raise shelled(
            ValueError(f"{reason} Use `shared=True`, or look at one layer: `energy_drift(flow[j], y)`."), reason
        )
    states = flow.trajectory(y0, **call)
    if flow.layers == 0:
        return states.new_zeros(1, *_leading(flow, y0))
    energies = torch.stack([flow.energy(y, **call) for y in states])
    return energies - energies[0]


@in_full
@torch.no_grad()
def reversibility_error(flow: Flow, y0: Tensor, *, relative: bool = False, **call: Any) -> Tensor:
    """‖inverse(flow(y0)) − y0‖₂, per sample: what is lost on the way there and back.

    It is rounding, magnified by up to ‖M⁻¹‖.

    Args:
        flow: with an integrator that has an explicit inverse.
        y0: inputs, (..., n), or images (B, n, H, W).
        **call: what a call of the flow brings besides y0, such as `edge_index`.
        relative: divide by ‖y0‖₂.

    Returns:
        (...) or (B,).

    Raises:
        ValueError: if the integrator has no explicit inverse.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> bool(reversibility_error(flow, torch.randn(10, 4, dtype=torch.float64)).max() < 1e-12)
        True
    """
    check_flow(flow, y0)
    error = _norm(flow, flow.inverse(flow(y0, **call), **call) - y0)
    return error / _norm(flow, y0) if relative else error


def _norm(flow: Flow, y: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(y, dim=flow.space.axes)
    return norm


def _leading(flow: Flow, y: Tensor) -> tuple[int, ...]:
    return tuple(y.shape[: -flow.space.rank])
