"""Energies of one's own: a term E(y, t) of H = 1ᵀ σ̃(K y + b) + E(y, t), beside that of the hidden units or alone.

Legend: y states (..., n), t the time of a layer, (p, q) the halves of a state; d = y⁺ − y along a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hdnn.activations import GAUSS
from hdnn.arguments import real, shown, truth

# Lengths of a step above which its mean gradient is put right by the difference of energies.
_FAR = 1e-2


class Term(Protocol):
    """What a drive asks of an energy, or of the part of it that one half of the state has."""

    def gradient(self, y: Tensor, t: float) -> Tensor:
        """∂E/∂y, of the shape of y."""

    def mean(self, y: Tensor, after: Tensor, t: float) -> Tensor:
        """A mean of ∂E/∂y between two states with E(y⁺) − E(y) = meanᵀ (y⁺ − y), the same both ways."""


class Energy(nn.Module, ABC):
    """E(y, t), an energy of one's own: subclass, implement `value`; autograd gives gradients and Hessian products.

    Parameters of the module are parameters of the flow that takes it, `Flow(..., energy=E)`. Time t counts from the
    first layer, and is that of the middle of each layer.

    Attributes:
        curvature: bounds of the eigenvalues of ∂²E/∂y², the lower first, from which those of ‖M‖ follow; infinite
            where there is none, as (0, math.inf) of y⁴. None where they are not known: nothing that rests on them is
            then promised.

    Example:
        >>> import torch, hdnn
        >>> class DoubleWell(hdnn.Energy):
        ...     def value(self, y, t):
        ...         p, q = y.unbind(-1)
        ...         return p**2 / 2 + (q**2 - 1) ** 2 / 4
        >>> flow = hdnn.Flow(2, 100, step=0.1, energy=DoubleWell(), interconnection="canonical",
        ...                  integrator="implicit_midpoint", dtype=torch.float64)
        >>> y = torch.tensor([0.0, 1.2], dtype=torch.float64)
        >>> bool((flow.energy(flow(y)) - flow.energy(y)).abs() < 1e-3), flow.preserves_structure
        (True, True)
    """

    curvature: tuple[float, float] | None = None

    @abstractmethod
    def value(self, y: Tensor, t: float) -> Tensor:
        """E, one number a state, (...); each of its own state alone. The time t is a Python number."""

    def gradient(self, y: Tensor, t: float) -> Tensor:
        """∂E/∂y, of the shape of y: by autograd, unless a subclass knows it."""
        if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
            return self._exported_gradient(y, t)
        found: Tensor = torch.func.grad(lambda x: value_of(self, x, t).sum())(y)
        return found

    def _exported_gradient(self, y: Tensor, t: float) -> Tensor:
        """The same while `torch.export` writes operators down, which `torch.func` inside it cannot do."""
        differentiated = torch.is_grad_enabled()
        with torch.enable_grad():
            x = y if y.requires_grad else y.clone().requires_grad_()  # `detach` would stop gradients of the program
            E = value_of(self, x, t).sum()
        (found,) = torch.autograd.grad(E, x, create_graph=differentiated)
        return found

    def mean(self, y: Tensor, after: Tensor, t: float) -> Tensor:
        """A mean ∇̄E of the gradient between two states, with E(y⁺) − E(y) = ∇̄Eᵀ (y⁺ − y).

        The mean along the straight way by five nodes of Gauss; where the states are far apart, what that misses of the
        difference of energies is added along d, as Gonzalez does.
        """
        d = after - y
        mean = sum((w * self.gradient(y + c * d, t) for w, c in GAUSS), start=torch.zeros_like(y))
        square = (d * d).sum(-1, keepdim=True)
        far = square > _FAR**2
        risen = value_of(self, after, t) - value_of(self, y, t)
        missed = risen.unsqueeze(-1) - (mean * d).sum(-1, keepdim=True)
        return mean + torch.where(far, missed / torch.where(far, square, 1), 0) * d

    def halves(self) -> tuple[Term, Term] | None:
        """(T, V) of a separable energy E = T(p, t) + V(q, t); None of any other."""
        return None

    def forward(self, y: Tensor, t: float = 0.0) -> Tensor:
        """The value."""
        return self.value(y, t)


def value_of(energy: Energy, y: Tensor, t: float) -> Tensor:
    """E(y, t) of states (..., n), (...).

    Raises:
        TypeError: if the energy gives no tensor.
        ValueError: if it does not give one number a state.
    """
    found, states = energy.value(y, t), y.shape[:-1]
    if isinstance(found, Tensor) and found.shape == states:
        return found
    giver = energy.name if isinstance(energy, _Function) else f"{type(energy).__name__}.value"
    spread = isinstance(found, Tensor) and found.shape == (*states, 1)
    remedy = "Take its last axis away: `.squeeze(-1)`." if spread else "Sum over the features alone: `.sum(-1)`."
    raise _misfit(f"`{giver}` must give one number a state, (...) for states (..., n)", states, found, remedy)


def slope_of(term: Term, y: Tensor, t: float) -> Tensor:
    """∂E/∂y, (..., n); errors as for `value_of`."""
    return _like(term.gradient(y, t), y, term, "gradient")


def mean_slope_of(term: Term, y: Tensor, after: Tensor, t: float) -> Tensor:
    """A mean of ∂E/∂y between two states, (..., n); errors as for `value_of`."""
    return _like(term.mean(y, after, t), y, term, "mean")


def _like(found: Tensor, y: Tensor, term: Term, method: str) -> Tensor:
    if isinstance(found, Tensor) and found.shape == y.shape:
        return found
    rule = f"`{type(term).__name__}.{method}` must have the shape of the states, (..., n)"
    raise _misfit(rule, y.shape, found, "Each state has a gradient of its own.")


def _misfit(rule: str, shape: Sequence[int], found: object, remedy: str) -> Exception:
    """The error of what would be spread over numbers of another shape in silence."""
    if not isinstance(found, Tensor):
        return TypeError(f"{rule}; got {shown(found)}.")
    return ValueError(f"{rule}, here {tuple(shape)}; got {tuple(found.shape)}. {remedy}")


def check_curvature(energy: Energy) -> None:
    """Refuse a curvature that is no pair of bounds, the lower first: what is promised of norms would be false.

    Raises:
        TypeError: if a bound is no number.
        ValueError: if there are not two of them in their order, infinite ones where one side has no bound.
    """
    given = energy.curvature
    if given is None:
        return
    rule = f"`{type(energy).__name__}.curvature` must be two bounds of the eigenvalues of the Hessian, the lower first"
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"{rule}, or None; got {shown(given)}.")
    lower, upper = (real("curvature", bound) for bound in given)
    if not lower <= upper:  # nan is in no order
        raise ValueError(f"{rule}; got {shown(given)}.")


class _Function(Energy):
    """What a function of the state says."""

    name = "T or V"  # of pickles that do not say which

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        super().__init__()
        self.function = function
        self.name = name

    def value(self, y: Tensor, t: float) -> Tensor:
        return self.function(y)


class Separable(Energy):
    """E = T(p) + V(q), which steps that move the halves in turn take.

    Args:
        T: of p (..., n/2) to (...), a function or a module; an `Energy` also knows the time.
        V: the same of q.
        curvature: bounds of the eigenvalues of both Hessians, if they are known.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section I.1.3.

    Example:
        >>> import torch, hdnn
        >>> pendulum = hdnn.Separable(lambda p: p.square().sum(-1) / 2, lambda q: -q.cos().sum(-1), curvature=(-1, 1))
        >>> flow = hdnn.Flow(2, 1000, step=0.1, energy=pendulum, interconnection="canonical",
        ...                  integrator="stormer_verlet", dtype=torch.float64)
        >>> y = torch.tensor([0.0, 2.0], dtype=torch.float64)
        >>> bool((flow.energy(flow(y)) - flow.energy(y)).abs() < 1e-2)
        True
    """

    def __init__(
        self,
        T: Callable[[Tensor], Tensor],
        V: Callable[[Tensor], Tensor],
        curvature: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.T, self.V = (
            part if isinstance(part, Energy) else _Function(part, name) for name, part in (("T", T), ("V", V))
        )
        self.curvature = curvature

    def value(self, y: Tensor, t: float) -> Tensor:
        """T(p) + V(q)."""
        p, q = y.chunk(2, -1)
        return value_of(self.T, p, t) + value_of(self.V, q, t)

    def halves(self) -> tuple[Term, Term]:
        """(T, V)."""
        return self.T, self.V


class _Diagonal(NamedTuple):
    """½ yᵀ Q y of one half."""

    Q: Tensor

    def gradient(self, y: Tensor, t: float) -> Tensor:
        return self.Q * y

    def mean(self, y: Tensor, after: Tensor, t: float) -> Tensor:
        return self.Q * ((y + after) / 2)


class Quadratic(Energy):
    """½ yᵀ Q y with Q >= 0 diagonal: springs that hold the state.

    Args:
        Q: its diagonal, (n,). It is copied.
        learned: train Q = g² from there, Q > 0 then.

    Raises:
        ValueError: if Q is no vector, or an entry is negative or not finite, or zero where it shall be learned.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=8, step=0.1, energy=hdnn.Quadratic(torch.ones(4)))
        >>> flow(torch.randn(10, 4)).shape
        torch.Size([10, 4])
    """

    diagonal: Tensor

    def __init__(self, Q: Tensor, *, learned: bool = False) -> None:
        super().__init__()
        self.learned = truth("learned", learned)
        if not isinstance(Q, Tensor) or Q.dim() != 1:
            raise ValueError("`Q` must be the diagonal of a matrix, a tensor (n,). Use torch.full((n,), stiffness).")
        Q = Q.detach().clone()
        if not (Q.isfinite() & (Q >= 0)).all():
            raise ValueError("`Q` must be finite and >= 0, or the energy has no minimum.")
        if learned and not (Q > 0).all():
            raise ValueError("A learned Q = g² starts from Q > 0, for g = 0 has no gradient to leave it by.")
        if learned:
            self.root = nn.Parameter(Q.sqrt())
        else:
            self.register_buffer("diagonal", Q)

    @property
    def Q(self) -> Tensor:
        """The diagonal, (n,)."""
        return self.root.square() if self.learned else self.diagonal

    @property
    def curvature(self) -> tuple[float, float]:  # type: ignore[override]
        """(smallest, largest) entry of Q."""
        Q = self.Q.detach()
        return float(Q.min()), float(Q.max())

    def value(self, y: Tensor, t: float) -> Tensor:
        """½ yᵀ Q y."""
        return (self.Q * y.square()).sum(-1) / 2

    def gradient(self, y: Tensor, t: float) -> Tensor:
        """The product Q y."""
        return self.Q * y

    def mean(self, y: Tensor, after: Tensor, t: float) -> Tensor:
        """The gradient in the middle, Q (y + y⁺) / 2."""
        return self.Q * ((y + after) / 2)

    def halves(self) -> tuple[Term, Term]:
        """The same of p and of q."""
        p, q = self.Q.chunk(2)
        return _Diagonal(p), _Diagonal(q)

    def extra_repr(self) -> str:
        """Its size."""
        return f"{len(self.Q)}{', learned' if self.learned else ''}"
