"""A J that depends on the state: y' = J(y) ∂H/∂y, with J(y) = −J(y)ᵀ at every y.

Legend: n features, y state; M = ∂y_N/∂y_0.

The field keeps H, for ∂Hᵀ J(y) ∂H = 0, and so does `DiscreteGradient`, which takes J in the middle of a step. What
rests on one J falls: volume (J = (1 + y₁²) J₀ has a divergence), ‖M‖ ≥ 1, M J Mᵀ = J. M J(y_0) Mᵀ = J(y_N) would hold
of the exact flow of a Poisson J alone, one that satisfies Jacobi's identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdnn import entries
from hdnn.arguments import shown, whole
from hdnn.interconnections import Interconnection


class StateDependent(Interconnection):
    """J(y), skew by construction: a module gives its entries above the diagonal.

    For the steps that move the whole state, on vectors.

    Args:
        module: from states (..., n) to (..., n (n − 1) / 2), the entries above the diagonal, row after row; its
            parameters are parameters of the flow.
        features: n.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VII.2 (Poisson systems).

    Example:
        >>> import torch, hdnn
        >>> J = StateDependent(torch.nn.Linear(3, 3), features=3)
        >>> flow = hdnn.h1(3, layers=8, step=0.1, interconnection=J, integrator="discrete_gradient")
        >>> flow(torch.randn(10, 3)).shape, flow.preserves_structure
        (torch.Size([10, 3]), False)
    """

    skew = False  # as one J
    constant_over_layers = True
    of_state: _Skew

    def __init__(self, module: nn.Module, features: int) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(
                "`module` must be an nn.Module that maps states to the entries of J above its diagonal; got "
                f"{type(module).__name__}."
            )
        self.of_state = _Skew(module, whole("features", features))

    def constant(self, features: int, layers: int) -> Tensor | None:
        """Nothing is stored."""
        if features != self.of_state.features:
            raise ValueError(
                f"J(y) is of {self.of_state.features} features, but the flow has {features}. Both must agree."
            )
        return None

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """None: J depends on the state."""

    def drive(self, J: Tensor | None, K: Tensor, space: object) -> Tensor:
        """K itself: J(y) turns Kᵀ σ where the state is known."""
        return K

    def pattern(self, features: int) -> Tensor:
        """Every entry but those of the diagonal."""
        return ~torch.eye(features, dtype=torch.bool, device="cpu")

    def layers(self, start: int, stop: int) -> Interconnection:
        """Itself."""
        return self

    def __repr__(self) -> str:
        return f"StateDependent({type(self.of_state.module).__name__})"


class _Skew(nn.Module):
    """J(y) from the entries above its diagonal."""

    index: Tensor

    def __init__(self, module: nn.Module, features: int) -> None:
        super().__init__()
        self.module, self.features = module, features
        rows, columns = torch.triu_indices(features, features, 1, device="cpu")
        index = torch.zeros(features, features, dtype=torch.long, device="cpu")
        index[rows, columns] = torch.arange(1, len(rows) + 1, device="cpu")
        self.register_buffer("index", index - index.mT, persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """(..., n, n)."""
        free = self.module(y)
        count = self.features * (self.features - 1) // 2
        if not isinstance(free, Tensor) or free.shape != (*y.shape[:-1], count):
            got = tuple(free.shape) if isinstance(free, Tensor) else shown(free)
            raise ValueError(
                f"The module of J(y) must give the {count} entries above the diagonal, {(*y.shape[:-1], count)} for "
                f"states {tuple(y.shape)}; got {got}."
            )
        return entries.place(free, self.index)
