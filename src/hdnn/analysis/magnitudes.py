"""How large sensitivities are: norms, singular values, conditioning, determinants; and statistics over a batch.

Legend: M (..., n, n) Jacobians, s_1 ≥ s_2 ≥ … ≥ s_n their singular values. Every sample has its own: the norm of the
mean of Jacobians says nothing, the mean of their norms does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# 1, 2, inf or "fro"; `Literal` has no way to write infinity.
Order = float | Literal["fro"]


def norms(matrices: Tensor | Sequence[Tensor], order: Order = 2) -> Tensor:
    """The operator norm of every matrix: 1, 2 or inf, or its Frobenius norm.

    ‖M‖₁ is the largest column sum, ‖M‖₂ the largest singular value, ‖M‖_inf the largest row sum of magnitudes.

    Args:
        matrices: (..., n, n), as `sensitivities` returns them, also as a list.
        order: 1, 2, math.inf or "fro".

    Returns:
        (...): one number a matrix; (N + 1, ...) for sensitivities.

    Raises:
        ValueError: for another order, or if a matrix is not finite.

    Example:
        >>> norms(torch.tensor([[3.0, 0.0], [4.0, 0.0]]), 1)
        tensor(7.)
    """
    if order not in (1, 2, math.inf, "fro"):
        raise ValueError(f'`order` must be 1, 2, math.inf or "fro"; got {order!r}.')
    if not isinstance(matrices, Tensor):
        return torch.stack([norms(matrix, order) for matrix in matrices])
    _check_finite(matrices)
    norm: Tensor = torch.linalg.matrix_norm(matrices.detach(), order)
    return norm


def singular_values(matrices: Tensor) -> Tensor:
    """The singular values of every matrix, from largest to smallest.

    Those below s_1 times the rounding (1e-16 in float64) are noise. A symplectic M (canonical J) has s_i s_{n+1−i} = 1:
    growth in one direction is decay in another.

    Args:
        matrices: (..., m, n).

    Returns:
        (..., min(m, n)).

    Raises:
        ValueError: if a matrix is not finite.

    Example:
        >>> singular_values(torch.tensor([[0.5, 0.0], [0.0, 2.0]]))
        tensor([2.0000, 0.5000])
    """
    _check_finite(matrices)
    values: Tensor = torch.linalg.svdvals(matrices.detach())
    return values


def condition_numbers(matrices: Tensor | Sequence[Tensor]) -> Tensor:
    """The ratio s_1 / s_n of every matrix; infinity where s_n is zero.

    Args:
        matrices: (..., m, n), also as a list.

    Returns:
        (...).

    Raises:
        ValueError: if a matrix is not finite.

    Example:
        >>> condition_numbers(torch.tensor([[0.5, 0.0], [0.0, 2.0]]))
        tensor(4.)
    """
    if not isinstance(matrices, Tensor):
        return torch.stack([condition_numbers(matrix) for matrix in matrices])
    s = singular_values(matrices)
    return torch.where(s[..., -1] > 0, s[..., 0] / s[..., -1], math.inf)


def log_determinants(jacobians: Tensor) -> tuple[Tensor, Tensor]:
    """The sign and log|det ∂y_N/∂y_j| at every depth, from the Jacobians of the layers.

    As det M_j is the product of det L_i for i ≥ j, logarithms are added. This holds at depths where the determinant of
    the product itself has lost all digits. A network that keeps volume has logarithms of zero.

    Args:
        jacobians: (N, ..., n, n), as `layer_jacobians` returns them.

    Returns:
        The signs (N + 1, ...), 1, −1 or 0, and the natural logarithms (N + 1, ...), −inf for singular matrices;
        depth j = 0 … N, the last 1 and 0.

    Raises:
        ValueError: if a matrix is not finite.

    Example:
        >>> sign, log = log_determinants(2 * torch.eye(2).expand(3, 2, 2))
        >>> log
        tensor([4.1589, 2.7726, 1.3863, 0.0000])
    """
    _check_finite(jacobians)
    sign, log = torch.linalg.slogdet(jacobians.detach())
    one, zero = sign.new_ones(1, *sign.shape[1:]), log.new_zeros(1, *log.shape[1:])
    return torch.cat((sign, one)).flip(0).cumprod(0).flip(0), torch.cat((log, zero)).flip(0).cumsum(0).flip(0)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics over the samples, at every depth.

    Attributes:
        minimum: (N + 1,).
        mean: (N + 1,).
        maximum: (N + 1,).
        levels: which quantiles.
        quantiles: one row per level, (len(levels), N + 1).
        deviation: the standard deviation over the samples, with S − 1 in the denominator, (N + 1,); 0 of one sample.
    """

    minimum: Tensor
    mean: Tensor
    maximum: Tensor
    levels: tuple[float, ...]
    quantiles: Tensor
    deviation: Tensor


def statistics(values: Tensor, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> Statistics:
    """Statistics over a batch, at every depth: of norms, or of any number that every sample has.

    Args:
        values: (N + 1, ...), one number per depth and sample, such as `norms(sensitivities(flow, y0))`.
        levels: quantiles to report, between 0 and 1; interpolated linearly.

    Raises:
        ValueError: if there is no sample, or a value is not finite.

    Example:
        >>> found = statistics(torch.tensor([[1.0, 2.0, 6.0]]), levels=[0.5])
        >>> found.mean, found.quantiles
        (tensor([3.]), tensor([[2.]]))
    """
    if values.dim() < 1 or values.numel() == 0:
        raise ValueError(f"Statistics need values (N + 1, ...) of one sample at least; got {tuple(values.shape)}.")
    if not all(0 <= level <= 1 for level in levels):
        raise ValueError(f"Levels of quantiles lie between 0 and 1; got {list(levels)}.")
    rows = values.detach().reshape(len(values), -1)
    broken = ~rows.isfinite().all(1)
    if broken.any():
        raise ValueError(
            f"A value at depth {int(broken.nonzero()[0])} is not finite, so it has no mean. Pass the depths, or the "
            f"samples, where all values are finite."
        )
    quantiles = torch.quantile(rows, rows.new_tensor(list(levels)), dim=1)
    deviation = rows.std(1, correction=min(1, rows.shape[1] - 1))
    return Statistics(rows.amin(1), rows.mean(1), rows.amax(1), tuple(levels), quantiles, deviation)


def _check_finite(matrices: Tensor) -> None:
    if matrices.dim() < 2:
        raise ValueError(f"Expected matrices of shape (..., n, n); got {tuple(matrices.shape)}.")
    if not matrices.isfinite().all():
        raise ValueError("A matrix holds NaN or infinity, so it has no norm. `log_norms` reaches depths that overflow.")
