"""The oracle: the fused methods written as plainly as they can be.

Legend: y (B, n), K (N, m, n), b (N, m), G = J Kᵀ (N, n, m), h step, σ activation. Everything fast is tested against
these functions in float64, in values and (through autograd) in gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle

import torch
from torch import Tensor


def euler(y: Tensor, K: Tensor, b: Tensor, G: Tensor, h: float, sigma: Callable[[Tensor], Tensor]) -> Tensor:
    """y⁺ = y + h G σ(K y + b), layer after layer.

    Args:
        y: (B, n).
        K: (N, m, n).
        b: (N, m).
        G: (N, n, m); the identity where J Kᵀ = I.
        h: step size.
        sigma: σ.

    Returns:
        (B, n), the state after the last layer.
    """
    for j in range(len(K)):
        y = y + h * sigma(y @ K[j].T + b[j]) @ G[j].T
    return y


def runge_kutta(y: Tensor, K: Tensor, b: Tensor, G: Tensor, h: float, sigma: Callable[[Tensor], Tensor]) -> Tensor:
    """y⁺ = y + h (k₁ + 2 k₂ + 2 k₃ + k₄) / 6, layer after layer; arguments and result are those of `euler`."""
    for j in range(len(K)):
        k1 = sigma(y @ K[j].T + b[j]) @ G[j].T
        k2 = sigma((y + h / 2 * k1) @ K[j].T + b[j]) @ G[j].T
        k3 = sigma((y + h / 2 * k2) @ K[j].T + b[j]) @ G[j].T
        k4 = sigma((y + h * k3) @ K[j].T + b[j]) @ G[j].T
        y = y + h * (k1 + 2 * k2 + 2 * k3 + k4) / 6
    return y


def partitioned(
    y: Tensor,
    K: Tensor,
    b: Tensor,
    G: Tensor,
    h: float,
    sigma: Callable[[Tensor], Tensor],
    first: str,
    fractions: Iterable[float] = (1.0, 1.0),
    damping: Tensor | float = 0.0,
) -> Tensor:
    """As `euler`, but the halves of the state move in turn, and each sees where the other went.

    Each move evaluates the whole field and keeps one half of it: wasteful and plain.

    Args:
        y: (B, n), n even, halves (p, q).
        K: (N, m, n).
        b: (N, m).
        G: (N, n, m); the identity where J Kᵀ = I.
        h: step size.
        sigma: σ.
        first: the half that moves first.
        fractions: what part of h each move takes, in turn.
        damping: γ, p ← e^(−γh) p before the moves of every layer.

    Returns:
        (B, n), the state after the last layer.
    """
    keep_p = (y.new_ones(y.shape[1]).cumsum(0) <= y.shape[1] // 2).to(y.dtype)
    halves = (keep_p, 1 - keep_p) if first == "p" else (1 - keep_p, keep_p)
    for j in range(len(K)):
        y = y * (1 - keep_p + keep_p * torch.exp(-h * torch.as_tensor(damping, dtype=y.dtype)))
        for half, fraction in zip(cycle(halves), fractions):
            y = y + fraction * h * half * (sigma(y @ K[j].T + b[j]) @ G[j].T)
    return y
