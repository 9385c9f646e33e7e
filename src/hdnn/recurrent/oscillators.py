"""Recurrent cells that are no flow: their steps have no J of which M J Mᵀ = J could hold, and nothing is promised.

Legend: n features, y = (z, x) the state, velocities z before positions x; u (N, ..., d) inputs, d_j = V u_j + b.
h step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdnn.entries import half


class Oscillators(nn.Module, ABC):
    """Oscillators that inputs drive: z moves first, then x⁺ = x + h z⁺.

    Args:
        features: n, even: n/2 oscillators.
        inputs: d.
        step: h.
        stiffness: that of the spring which pulls x to 0.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        features: int,
        inputs: int,
        step: float,
        stiffness: float = 0.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.features, self.inputs, self.step, self.stiffness = features, inputs, step, stiffness
        units = half(features)
        self.input_weight = nn.Parameter(torch.empty(units, inputs, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(units, device=device, dtype=dtype))
        self.steps = nn.Parameter(torch.empty(units, device=device, dtype=dtype)) if self.of_units else None
        self.weight = nn.Parameter(torch.empty(self.weight_shape(units), device=device, dtype=dtype))
        self.reset_parameters()

    of_units = False  # whether every unit has a step of its own

    def weight_shape(self, units: int) -> tuple[int, ...]:
        """The shape of the recurrent weights."""
        return (units,)

    def reset_parameters(self) -> None:
        """Draw the numbers anew: V ~ N(0, 1/d), b = 0, and what the cell says."""
        nn.init.normal_(self.input_weight, std=1 / math.sqrt(self.inputs))
        nn.init.zeros_(self.bias)

    def trajectory(self, y: Tensor, *, inputs: Tensor) -> Tensor:
        """The state before the first step and after every step, (N + 1, ..., n), as `Flow.trajectory`."""
        states = [y]
        h = self.step if self.steps is None else self.step * torch.sigmoid(self.steps)
        for d in functional.linear(inputs, self.input_weight, self.bias).unbind(0):
            z, x = states[-1].chunk(2, -1)
            z = z + h * self.force(z, x, d)
            states.append(torch.cat((z, x + h * z), -1))
        return torch.stack(states)

    @abstractmethod
    def force(self, z: Tensor, x: Tensor, d: Tensor) -> Tensor:
        """z' of the velocities."""

    def extra_repr(self) -> str:
        """Sizes and constants."""
        return f"{self.inputs}, {self.features}, step={self.step:g}, stiffness={self.stiffness:g}"


class UnICORNN(Oscillators):
    """z⁺ = z − h ŝ ∘ (tanh(w ∘ x + V u + b) + α x), x⁺ = x + h ŝ ∘ z⁺, with ŝ = sigmoid(c): a step for every unit.

    The units do not see each other within a layer. For w ≠ 0 the force is minus the gradient of
    Σ log cosh(w x + V u + b) / w + α x²/2.

    References:
        Rusch, Mishra, UnICORNN: a recurrent model for learning very long time dependencies, ICML 2021, equation (3),
        https://arxiv.org/abs/2103.05487
    """

    of_units = True

    def reset_parameters(self) -> None:
        """w ~ U(0, 1) and c ~ U(−0.1, 0.1)."""
        super().reset_parameters()
        nn.init.uniform_(self.weight)
        if self.steps is not None:
            nn.init.uniform_(self.steps, -0.1, 0.1)

    def force(self, z: Tensor, x: Tensor, d: Tensor) -> Tensor:
        """−tanh(w ∘ x + d) − α x."""
        return -torch.tanh(self.weight * x + d) - self.stiffness * x


class CoRNN(Oscillators):
    """z⁺ = z + h (tanh(W x + W₂ z + V u + b) − γ x − ε z), x⁺ = x + h z⁺. The force is no gradient.

    Args:
        damping: ε.

    References:
        Rusch, Mishra, Coupled oscillatory recurrent neural network (coRNN), ICLR 2021,
        https://arxiv.org/abs/2010.00951
    """

    def __init__(
        self,
        features: int,
        inputs: int,
        step: float,
        stiffness: float = 1.0,
        damping: float = 1.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(features, inputs, step, stiffness, device=device, dtype=dtype)
        self.damping = damping

    def weight_shape(self, units: int) -> tuple[int, ...]:
        """(W, W₂) side by side, (n/2, n)."""
        return (units, 2 * units)

    def reset_parameters(self) -> None:
        """W and W₂ ~ N(0, 1/n)."""
        super().reset_parameters()
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.features))

    def force(self, z: Tensor, x: Tensor, d: Tensor) -> Tensor:
        """tanh(W x + W₂ z + d) − γ x − ε z."""
        turning = torch.tanh(functional.linear(torch.cat((x, z), -1), self.weight) + d)
        return turning - self.stiffness * x - self.damping * z

    def extra_repr(self) -> str:
        """Sizes and constants."""
        return f"{super().extra_repr()}, damping={self.damping:g}"
