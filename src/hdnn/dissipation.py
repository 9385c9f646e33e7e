"""Dissipation inside the equation: S = J − R in the place of J.

Legend: n features; J = −Jᵀ an interconnection, R = Rᵀ ≥ 0 the dissipation, L with R = L Lᵀ; H the energy of a layer.

The field y' = (J − R) ∂H/∂y loses energy, dH/dt = −∂Hᵀ R ∂H ≤ 0 at frozen weights. Its steps need not: midpoint steps
let H grow where it is far from quadratic; `DiscreteGradient` is the one method here whose steps keep the balance. What
rests on J = −Jᵀ falls: M J Mᵀ = J, volume, and every lower bound of ‖M‖. Each half of the state drives itself, so no
step that moves the halves in turn applies; for those see `hdnn.damping`, another thing, never mixed with this one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hdnn.arguments import shown, truth
from hdnn.interconnections import Fixed, Interconnection


class Dissipation(Interconnection):
    """S = J − R, with R = Rᵀ ≥ 0 fixed or learned.

    In a flow `flow.J` is S. For steps that move the whole state: `ForwardEuler`, `RungeKutta4`, and those that solve.

    Args:
        interconnection: J, or an interconnection that has one: `Fixed` or `Learned`.
        R: its diagonal (n,), or (n, n), symmetric and positive semi-definite. It is copied.
        learned: train R = L Lᵀ from there, with L diagonal or lower triangular as R was given; R > 0 then.

    Raises:
        TypeError: if R is not a tensor.
        ValueError: if J = K⁻ᵀ, or R is of another size, not symmetric or not positive semi-definite.

    Example:
        >>> import torch, hdnn
        >>> damped = Dissipation(hdnn.canonical(4), torch.full((4,), 0.1))
        >>> flow = hdnn.h1(4, layers=8, step=0.1, interconnection=damped)
        >>> flow.J.diagonal()
        tensor([-0.1000, -0.1000, -0.1000, -0.1000])
    """

    skew = False

    def __init__(self, interconnection: Interconnection | Tensor, R: Tensor, *, learned: bool = False) -> None:
        inner = Fixed(interconnection) if isinstance(interconnection, Tensor) else interconnection
        if inner.is_inverse:
            raise ValueError(
                "`Inverse` has J = K⁻ᵀ, which the layer never computes, and which no dissipation can be taken from. "
                "Use `Fixed(J)` or `Learned(J)`."
            )
        if not isinstance(R, Tensor):
            raise TypeError(f"`R` must be a tensor, (n,) or (n, n); got {shown(R)}. Use torch.full((n,), rate).")
        self.inner = inner
        self.learned = truth("learned", learned)
        self.R = R.detach().to("cpu", torch.float64, copy=True)
        self._check(R)

    def _check(self, given: Tensor) -> None:
        R = self.R
        if R.dim() not in (1, 2) or R.shape[0] != R.shape[-1]:
            raise ValueError(f"`R` must be its diagonal (n,), or (n, n); got {tuple(R.shape)}.")
        if not R.isfinite().all():
            raise ValueError("`R` must be finite; it has NaN or infinite entries.")
        if R.dim() == 2 and not torch.equal(R, R.mT):
            raise ValueError("`R` must be symmetric, R = Rᵀ: a skew part belongs to J. Use `(R + R.mT) / 2`.")
        lowest = float((R if R.dim() == 1 else torch.linalg.eigvalsh(R)).min())
        rounding = float(R.abs().max()) * torch.finfo(given.dtype).eps * len(R) if R.dim() == 2 else 0.0
        if lowest < -rounding:
            raise ValueError(
                f"`R` must be positive semi-definite, R >= 0, or it feeds energy in; its smallest eigenvalue is "
                f"{lowest:g}. Use R = L @ L.mT."
            )
        if self.learned and lowest <= rounding:
            raise ValueError(
                f"A learned R = L Lᵀ starts from R > 0, for L = 0 has no gradient to leave it by; the smallest "
                f"eigenvalue of `R` is {lowest:g}. Add a little to its diagonal."
            )

    @property
    def constant_over_layers(self) -> bool:  # type: ignore[override]
        """Whether one S serves all layers."""
        return self.inner.constant_over_layers

    def free_shape(self, features: int) -> tuple[int, ...]:
        """(free numbers of J and of L,); () where neither is learned."""
        count = math.prod(self.inner.free_shape(features)) if self.inner.free_shape(features) else 0
        count += len(self._free_of_L()) if self.learned else 0
        return (count,) if count else ()

    def initial_free(self) -> Tensor | None:
        """Those of J, then the diagonal of L, or its entries on and below the diagonal."""
        found = [x for x in (self.inner.initial_free(), self._free_of_L() if self.learned else None) if x is not None]
        return torch.cat(found) if found else None

    def constant(self, features: int, layers: int) -> Tensor | None:
        """S where nothing is learned, else what stands for J."""
        self._check_size(features)
        J = self.inner.constant(features, layers)
        return J if self.free_shape(features) or J is None else J - self._full(self.R)

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """J − R."""
        if free is None or constant is None:
            return constant
        split = len(free) - (len(self._free_of_L()) if self.learned else 0)
        J = self.inner.build(free[:split], constant) if split else constant.to(free)
        return None if J is None else J - (self._learned_R(free[split:]) if self.learned else self._full(self.R).to(J))

    def pattern(self, features: int) -> Tensor | None:
        """The nonzero entries of J and R."""
        self._check_size(features)
        of_J = self.inner.pattern(features)
        of_R = self._full(torch.ones_like(self.R) if self.learned else self.R) != 0
        return of_R if of_J is None else of_J | of_R

    def layers(self, start: int, stop: int) -> Interconnection:
        """The same R with the J of the chosen layers."""
        return Dissipation(self.inner.layers(start, stop), self.R, learned=self.learned)

    def refined(self, factor: int) -> Interconnection:
        """The same R with the J of finer layers."""
        return Dissipation(self.inner.refined(factor), self.R, learned=self.learned)

    def _check_size(self, features: int) -> None:
        if len(self.R) != features:
            raise ValueError(
                f"`R` is of {len(self.R)} features, but the flow has {features} features. Both must agree."
            )

    def _free_of_L(self) -> Tensor:
        if self.R.dim() == 1:
            return self.R.sqrt()
        row, column = torch.tril_indices(*self.R.shape, device="cpu")
        L: Tensor = torch.linalg.cholesky(self.R)[row, column]
        return L

    def _learned_R(self, free: Tensor) -> Tensor:
        if self.R.dim() == 1:
            return free.square().diag_embed()
        row, column = torch.tril_indices(*self.R.shape, device=free.device)
        L: Tensor = free.new_zeros(self.R.shape).index_put((row, column), free)
        R: Tensor = L @ L.mT
        return R

    def _full(self, R: Tensor) -> Tensor:
        return R.diag_embed() if R.dim() == 1 else R

    def __repr__(self) -> str:
        kind = "diagonal" if self.R.dim() == 1 else "full"
        return f"Dissipation({self.inner!r}, {kind}{', learned' if self.learned else ''})"
