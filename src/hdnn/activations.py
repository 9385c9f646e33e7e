"""Activations: σ, the potential σ̃ it comes from, and the slope σ′.

Legend: u = K y + b, σ = value, σ̃ = potential (σ̃′ = σ), σ′ = slope.
The energy of a layer is H(y) = 1ᵀ σ̃(K y + b), so every activation must know its own antiderivative.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.arguments import factor
from hdnn.facts import restated

# torch's softplus switches to the identity above this argument. Its default of 20 costs 2e-9, visible in
# float64; at 40 the switch changes no bit, and exp(40) is finite in float32.
_SOFTPLUS_SWITCH = 40.0
# Weights and places of the five nodes of Gauss on [0, 1].
GAUSS: tuple[tuple[float, float], ...] = tuple(
    (weight, (1 + sign * node) / 2)
    for node, weight in (
        (0.0, 64 / 225),
        (math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 3, (322 + 13 * math.sqrt(70)) / 1800),
        (math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 3, (322 - 13 * math.sqrt(70)) / 1800),
    )
    for sign in ((1,) if node == 0 else (-1, 1))
)


class Activation(ABC):
    """An elementwise activation σ together with its potential σ̃ and its slope σ′.

    All three act elementwise on a tensor u of any shape and return the same shape. To add one, subclass this,
    implement the three methods and pass an instance to `Flow`.

    Attributes:
        kernel: the name under which the fused kernels know σ; None runs eagerly.
        negative_slope: σ′ below zero, where that is a number to choose; 0 for the others.
        slopes: the smallest and the largest value of σ′, or bounds of them, from which those of ‖M‖ follow; None where
            they are not known: nothing is then promised of them.
        increasing: whether σ′ > 0 everywhere, also where rounding makes it zero.
    """

    kernel: ClassVar[str | None] = None
    increasing: ClassVar[bool] = False
    negative_slope: float = 0.0
    CLOSE: ClassVar[float] = 0.2  # |v − u| below which `mean` takes no difference of potentials

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        facts = {"kernel": None, "slopes": None, "increasing": False, "mean": Activation.mean}
        restated(cls, ["value", "potential", "slope"], facts)

    @property
    def slopes(self) -> tuple[float, float] | None:
        """Bounds of σ′, the lower first; None where they are not known."""
        return None

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """σ(u), the derivative of the potential."""

    @abstractmethod
    def potential(self, u: Tensor) -> Tensor:
        """σ̃(u), an antiderivative of σ; the summand of the energy."""

    @abstractmethod
    def slope(self, u: Tensor) -> Tensor:
        """σ′(u), which enters the Jacobian J Kᵀ diag(σ′) K of the field."""

    def mean(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """δ = (σ̃(v) − σ̃(u)) / (v − u), the mean of σ between u and v, and its derivative ∂δ/∂v.

        Where u and v are too close for a difference to keep its digits, five nodes of Gauss take the mean, to rounding
        where σ is smooth; an activation with kinks should know better.
        """
        d = v - u
        close = d.abs() < self.CLOSE
        wide, far = torch.where(close, 1, d), torch.where(close, u + 1, v)  # no 0/0 may reach a gradient
        delta = (self.potential(far) - self.potential(u)) / wide
        slope = (self.value(far) - delta) / wide
        short = torch.where(close, d, 0)
        nodes = [(weight, share, u + share * short) for weight, share in GAUSS]
        near: Tensor = sum((weight * self.value(x) for weight, _, x in nodes), start=torch.zeros_like(u))
        near_slope = sum((weight * share * self.slope(x) for weight, share, x in nodes), start=torch.zeros_like(u))
        return torch.where(close, near, delta), torch.where(close, near_slope, slope)

    def __repr__(self) -> str:
        return type(self).__name__.lower()


def _log1p_exp(u: Tensor) -> Tensor:
    return functional.softplus(u, threshold=_SOFTPLUS_SWITCH)


@dataclass(frozen=True, repr=False)
class Tanh(Activation):
    """σ(u) = tanh u, σ̃(u) = log cosh u, σ′(u) = 1 − tanh² u. The choice of the papers."""

    kernel: ClassVar[str | None] = "tanh"
    slopes: ClassVar[tuple[float, float]] = (0.0, 1.0)
    increasing: ClassVar[bool] = True

    def value(self, u: Tensor) -> Tensor:
        """tanh u."""
        return torch.tanh(u)

    def potential(self, u: Tensor) -> Tensor:
        """log cosh u, without overflow for large |u| and without cancellation for small |u|."""
        small = u.abs() < 1
        # Both branches are evaluated: the clamp keeps sinh finite, so that no 0 · inf reaches the gradient.
        near = 0.5 * torch.log1p(torch.sinh(torch.where(small, u, 0.0)).square())
        magnitude = u.abs()
        far = magnitude + torch.log1p(torch.exp(-2 * magnitude)) - math.log(2)
        return torch.where(small, near, far)

    def slope(self, u: Tensor) -> Tensor:
        """1 − tanh² u."""
        return 1 - torch.tanh(u).square()


@dataclass(frozen=True, repr=False)
class ReLU(Activation):
    """σ(u) = max(u, 0), σ̃(u) = max(u, 0)² / 2; the slope at 0 is taken as 0, as PyTorch does."""

    kernel: ClassVar[str | None] = "relu"
    slopes: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def value(self, u: Tensor) -> Tensor:
        """max(u, 0)."""
        return torch.relu(u)

    def potential(self, u: Tensor) -> Tensor:
        """max(u, 0)² / 2."""
        return 0.5 * torch.relu(u).square()

    def slope(self, u: Tensor) -> Tensor:
        """1 where u > 0, else 0."""
        return (u > 0).to(u.dtype)

    def mean(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(u + v) / 2 above zero, 0 below, and (larger)² / (2 |v − u|) across the kink, where nothing cancels."""
        above, below, across = (u > 0) & (v > 0), (u <= 0) & (v <= 0), (u > 0) != (v > 0)
        width = torch.where(across, (v - u).abs(), 1)
        share = torch.where(across, torch.maximum(u, v), 0) / width  # of the way that is above zero
        delta = torch.where(above, (u + v) / 2, share * torch.where(across, torch.maximum(u, v), 0) / 2)
        slope = torch.where(above, 0.5, torch.where(v > u, share - share.square() / 2, share.square() / 2))
        return delta, slope.masked_fill(below, 0.0)


@dataclass(frozen=True, repr=False)
class LeakyReLU(Activation):
    """σ(u) = u for u > 0, else a u, with a = `negative_slope`; σ̃(u) = σ(u) u / 2.

    Args:
        negative_slope: a, a finite number; a ≥ 0 keeps σ monotone, which the theory of stability asks for.

    Raises:
        ValueError: if `negative_slope` is negative or not finite.
    """

    negative_slope: float = 0.01
    kernel: ClassVar[str | None] = "leaky_relu"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.negative_slope) and self.negative_slope >= 0):
            raise ValueError(
                f"`negative_slope` must be a finite number >= 0, so that the activation stays monotone; "
                f"got {self.negative_slope}. Use 0.01, or `relu` for 0."
            )

    @property
    def slopes(self) -> tuple[float, float]:
        """(a, 1), or (1, a) for a > 1."""
        return min(self.negative_slope, 1.0), max(self.negative_slope, 1.0)

    def value(self, u: Tensor) -> Tensor:
        """u for u > 0, else a u."""
        return functional.leaky_relu(u, self.negative_slope)

    def potential(self, u: Tensor) -> Tensor:
        """σ(u) u / 2."""
        return 0.5 * u * self.value(u)

    def slope(self, u: Tensor) -> Tensor:
        """1 for u > 0, else a."""
        return torch.full_like(u, self.negative_slope).masked_fill(u > 0, 1.0)

    def mean(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """a times that of the identity, and 1 − a times that of `relu`."""
        delta, slope = relu.mean(u, v)
        a = self.negative_slope
        return a * (u + v) / 2 + (1 - a) * delta, a / 2 + (1 - a) * slope

    def __repr__(self) -> str:
        return f"LeakyReLU(negative_slope={self.negative_slope})"


@dataclass(frozen=True, repr=False)
class Sigmoid(Activation):
    """σ(u) = 1 / (1 + e⁻ᵘ), σ̃(u) = log(1 + eᵘ), σ′(u) = σ(u) σ(−u)."""

    kernel: ClassVar[str | None] = "sigmoid"
    slopes: ClassVar[tuple[float, float]] = (0.0, 0.25)
    increasing: ClassVar[bool] = True

    def value(self, u: Tensor) -> Tensor:
        """1 / (1 + e⁻ᵘ)."""
        return torch.sigmoid(u)

    def potential(self, u: Tensor) -> Tensor:
        """log(1 + eᵘ)."""
        return _log1p_exp(u)

    def slope(self, u: Tensor) -> Tensor:
        """σ(u) σ(−u): unlike σ(1 − σ) this keeps its digits where σ rounds to 1."""
        return torch.sigmoid(u) * torch.sigmoid(-u)


# Coefficients B₂ₖ / (2k + 1)! of the series of the dilogarithm in s = log(1 + e⁻ᵛ) ≤ log 2, k = 1 … 9; the
# first dropped term is below 1e-18 of the sum.
_DILOGARITHM = (
    1 / 36,
    -1 / 3600,
    1 / 211680,
    -1 / 10886400,
    1 / 526901760,
    -691 / 16999766784000,
    1 / 1120863744000,
    -3617 / 181400588328960000,
    43867 / 97072790126247936000,
)


@dataclass(frozen=True, repr=False)
class Softplus(Activation):
    """σ(u) = log(1 + eᵘ), σ̃(u) = −Li₂(−eᵘ) (the dilogarithm), σ′(u) = 1 / (1 + e⁻ᵘ)."""

    kernel: ClassVar[str | None] = "softplus"
    slopes: ClassVar[tuple[float, float]] = (0.0, 1.0)
    increasing: ClassVar[bool] = True

    def value(self, u: Tensor) -> Tensor:
        """log(1 + eᵘ)."""
        return _log1p_exp(u)

    def potential(self, u: Tensor) -> Tensor:
        """−Li₂(−eᵘ) by its series in s = log(1 + e^−|u|), and by Li₂'s inversion formula for u > 0."""
        positive = u > 0
        s = _log1p_exp(torch.where(positive, -u, u))
        square = s.square()
        tail = torch.zeros_like(s)
        for coefficient in reversed(_DILOGARITHM):
            tail = tail * square + coefficient
        series = s + square / 4 + s * square * tail
        return torch.where(positive, math.pi**2 / 6 + u.square() / 2 - series, series)

    def slope(self, u: Tensor) -> Tensor:
        """1 / (1 + e⁻ᵘ)."""
        return torch.sigmoid(u)


@dataclass(frozen=True, repr=False)
class Identity(Activation):
    """σ(u) = u, σ̃(u) = u² / 2: the linear network, a set of coupled oscillators."""

    kernel: ClassVar[str | None] = "identity"
    slopes: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def value(self, u: Tensor) -> Tensor:
        """u itself."""
        return u

    def potential(self, u: Tensor) -> Tensor:
        """u² / 2."""
        return 0.5 * u.square()

    def slope(self, u: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(u)

    def mean(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(u + v) / 2."""
        return (u + v) / 2, torch.full_like(u, 0.5)


tanh = Tanh()
relu = ReLU()
leaky_relu = LeakyReLU()
sigmoid = Sigmoid()
softplus = Softplus()
identity = Identity()

ACTIVATIONS: dict[str, Activation] = {
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "identity": identity,
}


def activation_of(given: Activation | type[Activation] | str) -> Activation:
    """The activation that was given itself, by its class or by its name."""
    remedy = f"Use one of {', '.join(map(repr, ACTIVATIONS))}, or subclass `Activation`: H(y) needs the potential of σ."
    return factor("activation", given, Activation, ACTIVATIONS, remedy)  # type: ignore[type-abstract]
