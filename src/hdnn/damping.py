"""The damping of the momenta, p ← e^(−γh) p before a partitioned step: what it keeps, and how far it can be undone.

Legend: γ ≥ 0 the rate, h step, N layers, T = N h; (p, q) the halves of a state, D = diag(e^(−γh) I, I); M = ∂y_N/∂y_0.

D J Dᵀ = e^(−γh) J for every J = block(X), so that steps which keep such a J make a *conformally symplectic* flow,
M J Mᵀ = e^(−γT) J. The determinant of D is e^(−γhn/2), so ‖M‖ ≥ e^(−γT/2) whatever J is.

It is not the field (J − R) ∂H/∂y with R = diag(γ I, 0), which is not conformal, unless ∂H/∂p = p: it takes γ p from
p', not γ ∂H/∂p. So H may grow: dH/dt = −γ p · ∂H/∂p, which is positive at p = −0.5 for H = log cosh(p + 1). For an
energy that never grows see `hdnn.Dissipation`; the two are never mixed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hdnn.arguments import real, truth
from hdnn.entries import Slot

# Walking back multiplies rounding by e^(γT): beyond these, float32 is left with less than four digits.
FARTHEST = {torch.float32: 4.0, torch.float64: 20.0}


def checked(rate: float, learned: bool) -> float:
    """γ as a number of Python.

    Raises:
        ValueError: if it is negative or not finite, or 0 where it shall be learned.
    """
    rate = real("damping", rate)
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"`damping` is the rate at which the momenta decay, 0 or more; got {rate}.")
    if truth("learn_damping", learned) and rate == 0:
        raise ValueError(
            "A learned damping is γ = g², and g = 0 has no gradient to leave it by: give the rate that training starts "
            "from, such as `damping=0.1`; got 0."
        )
    return rate


def decayed(p: Tensor, rate: Tensor | float | None, h: float) -> Tensor:
    """e^(−γh) p; a step back has −h."""
    if isinstance(rate, Tensor):
        return p * torch.exp(-h * rate)
    if rate is None:
        raise ValueError("A learned damping is a number of a flow: bind the field by `flow.fields()`.")
    return p * math.exp(-rate * h)


def described(rate: float, learned: bool) -> str:
    """What a `repr` adds to the half that moves first; nothing where nothing is damped."""
    return (f", damping={rate:g}" if rate else "") + (", learn_damping=True" if learned else "")


def slots(rate: float, learned: bool) -> dict[str, Slot]:
    """What a flow keeps for a learned damping: g with γ = g², which no step of an optimizer makes negative."""
    if not learned:
        return {}
    start = torch.tensor([math.sqrt(rate)], dtype=torch.float64, device="cpu")
    return {"damping_weight": Slot((1,), start)}


def check_way_back(rate: float, learned: bool, horizon: float, dtype: torch.dtype) -> None:
    """Refuse to undo more damping than rounding leaves digits for: errors grow by e^(γT) on the way back.

    Raises:
        ValueError: if γT is above 4 in float32, 20 in float64, or is learned, so that nobody knows it before.
    """
    if learned:
        raise ValueError(
            'memory="reverse" undoes the damping e^(−γT), which multiplies rounding by e^(γT), and a learned γ may '
            'become any. Use memory="recompute", or a fixed `damping`.'
        )
    total, most = rate * horizon, FARTHEST.get(dtype, 0.0)
    if total > most:
        raise ValueError(
            f'memory="reverse" undoes the damping e^(−γT), which multiplies rounding by e^(γT); got γT = {total:.4g}, '
            f"and {str(dtype).removeprefix('torch.')} leaves digits up to γT = {most:g}. Use "
            f'memory="recompute"{", float64" if dtype is torch.float32 else ""}, or less damping.'
        )
