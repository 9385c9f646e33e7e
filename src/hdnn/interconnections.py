"""Interconnections: the skew matrix J of y' = J ∂H/∂y, and how J Kᵀ acts.

Legend: n features, N layers, K weights (m, n); J = −Jᵀ (n, n). The product is folded into the weights once for
all layers: `drive` returns K Jᵀ, whose adjoint is J Kᵀ. State y = (p, q), p the first half.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from hdnn import entries, nodes
from hdnn.arguments import factor, require_room, shown, truth, whole
from hdnn.entries import Slot
from hdnn.facts import restated
from hdnn.names import unknown
from hdnn.spaces import Space


def canonical(features: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """The canonical J = [0 I; −I 0] of Hamiltonian mechanics (J1 of the L4DC paper).

    Args:
        features: n, even.
        device: PyTorch's default where None.
        dtype: PyTorch's default where None.

    Returns:
        (n, n).

    Raises:
        ValueError: if `features` is odd.

    Example:
        >>> canonical(2)
        tensor([[ 0.,  1.],
                [-1.,  0.]])
    """
    half = entries.half(features)
    require_room(2 * features**2 * 4, f"J of {features:,} features", device)
    return block(-torch.eye(half, dtype=dtype, device=device))


def upper_ones(features: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """J2 of the L4DC paper: +1 above the diagonal, −1 below, 0 on it.

    Args:
        features: n, any size.
        device: PyTorch's default where None.
        dtype: PyTorch's default where None.

    Returns:
        (n, n).

    Example:
        >>> upper_ones(3)
        tensor([[ 0.,  1.,  1.],
                [-1.,  0.,  1.],
                [-1., -1.,  0.]])
    """
    features = whole("features", features)
    require_room(2 * features**2 * 4, f"J of {features:,} features", device)
    ones = torch.ones(features, features, dtype=dtype, device=device)
    return ones.triu(1) - ones.tril(-1)


def block(X: Tensor) -> Tensor:
    """J = [0 −Xᵀ; X 0], the interconnection of H2 (TAC paper); canonical is X = −I.

    Args:
        X: (n/2, n/2), or (N, n/2, n/2) for one J per layer.

    Returns:
        (n, n) or (N, n, n), in the dtype and on the device of X.
    """
    if not isinstance(X, Tensor):
        raise TypeError(f"X must be a tensor (n/2, n/2); got {shown(X)}. Use torch.as_tensor(X).")
    return entries.two_by_two(None, -X.mT, X, None, axes=(-2, -1))


class Interconnection(entries.Factor, ABC):
    """Which J a flow has, whether it is trained, and how J Kᵀ acts.

    To add one, subclass this, state the two facts and implement the abstract methods. What a flow promises (M J Mᵀ = J,
    det M = 1, bounds of ‖M‖) is read off the facts of all its factors, so `skew` has no default.

    Attributes:
        constant_over_layers: whether all layers share one J whatever the weights; what a symplectic flow keeps.
        is_inverse: whether J = K⁻ᵀ follows from K, so that J Kᵀ = I.
        is_canonical: whether J is [0 I; −I 0]: kernels then need no product.
        of_state: y ↦ J(y) (..., n, n), where J depends on the state.
    """

    constant_over_layers: bool
    is_inverse: ClassVar[bool] = False
    of_state: Callable[[Tensor], Tensor] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if vars(cls).keys() & {"constant", "build", "drive"} and "skew" not in vars(cls):
            raise TypeError(
                f"`{cls.__name__}` has a J of its own, so it must say whether it is skew, J = -Jᵀ, at all values of "
                f"its numbers: promises rest on it. Write `skew = True`, or `skew = False` for a J - R that dissipates."
            )
        facts = dict.fromkeys(("is_canonical", "is_inverse", "constant_over_layers"), False)
        restated(cls, ["constant", "build", "drive"], facts)

    @property
    @abstractmethod
    def skew(self) -> bool:
        """Whether every member is skew, J = −Jᵀ, whatever its trainable numbers; False for a J − R that dissipates."""

    @property
    def is_canonical(self) -> bool:
        """Whether J is [0 I; −I 0]: kernels then need no product."""
        return False

    def free_shape(self, features: int) -> tuple[int, ...]:
        """The shape of the trainable numbers of one J; () where nothing is trained."""
        return ()

    def initial_free(self) -> Tensor | None:
        """The trainable numbers of the J that training starts from; None where nothing is trained."""
        return None

    def slots(self, features: int, layers: int) -> dict[str, Slot]:
        """What a flow keeps for this interconnection, by name: its trainable numbers, or a constant J, or nothing."""
        start = self.initial_free()
        if start is not None:
            return {"interconnection_weight": Slot(self.free_shape(features), start)}
        J = self.constant(features, layers)
        return {} if J is None else {"interconnection_matrix": Slot(tuple(J.shape), J, trained=False)}

    @abstractmethod
    def constant(self, features: int, layers: int) -> Tensor | None:
        """What does not train: J itself, or the index of a learned J (see `hdnn.entries`), or nothing.

        Raises:
            ValueError: if the interconnection does not fit this number of features or layers.
        """

    @abstractmethod
    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """J (n, n) or (N, n, n) from the trainable numbers and the constant; None where J follows from K."""

    @abstractmethod
    def pattern(self, features: int) -> Tensor | None:
        """Which entries of J may be nonzero, boolean (n, n); None where J Kᵀ = I."""

    @abstractmethod
    def layers(self, start: int, stop: int) -> Interconnection:
        """The interconnection of the layers start … stop − 1."""

    def refined(self, factor: int) -> Interconnection:
        """The interconnection of a flow with `factor` layers in place of each; itself where it does not vary."""
        return self

    def drive(self, J: Tensor | None, K: Tensor, space: Space) -> Tensor | None:
        """K Jᵀ, shape of K (N, m, n, *taps); its adjoint is J Kᵀ. None where J Kᵀ = I."""
        return None if J is None else space.turned(J, K)


class Fixed(Interconnection):
    """A constant J, or one constant J per layer.

    Args:
        J: a skew matrix (n, n), or (N, n, n) with one J per layer. It is copied. In a flow it is a buffer in the
            flow's dtype.

    Raises:
        TypeError: if J is not a tensor.
        ValueError: if J is not square, not finite, or not skew (exactly, entry by entry).

    Example:
        >>> Fixed(canonical(4))
        Fixed(canonical)
    """

    def __init__(self, J: Tensor) -> None:
        if not isinstance(J, Tensor):
            raise TypeError(f"J must be a tensor; got {type(J).__name__}. Use torch.tensor(...) or `canonical(n)`.")
        if J.dim() not in (2, 3) or J.shape[-1] != J.shape[-2]:
            raise ValueError(f"J must have shape (n, n), or (N, n, n) for one per layer; got {tuple(J.shape)}.")
        self.J = J.detach().to("cpu", torch.float64, copy=True)
        if not torch.isfinite(self.J).all():
            raise ValueError("J must be finite; it has NaN or infinite entries.")
        excess = (self.J + self.J.mT).abs()
        if excess.any():
            raise ValueError(
                f"J must be skew, J = -Jᵀ, for the flow to be Hamiltonian; |J + Jᵀ| reaches {float(excess.max()):g}. "
                f"Use its skew part, `(J - J.mT) / 2`."
            )

    skew = True

    @property
    def constant_over_layers(self) -> bool:  # type: ignore[override]
        """Whether one J serves all layers."""
        return self.J.dim() == 2 or bool((self.J[:1] == self.J).all())

    @property
    def is_canonical(self) -> bool:
        """Whether J is [0 I; −I 0]: kernels then need no product."""
        features = self.J.shape[-1]
        if self.J.dim() == 3 or features % 2 or features == 0:
            return False
        return torch.equal(self.J, canonical(features, device="cpu", dtype=self.J.dtype))

    def constant(self, features: int, layers: int) -> Tensor | None:
        """J."""
        self._check_size(features)
        if self.J.dim() == 3 and self.J.shape[0] != layers:
            raise ValueError(
                f"J has one matrix for each of {self.J.shape[0]} layers, but the flow has {layers}. "
                f"Give one (n, n) matrix for all layers, or one for each."
            )
        return self.J

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """The constant."""
        return constant

    def pattern(self, features: int) -> Tensor | None:
        """The nonzero entries of J, in any layer."""
        self._check_size(features)
        return (self.J != 0).reshape(-1, features, features).any(0)

    def layers(self, start: int, stop: int) -> Interconnection:
        """The same J, or those of the chosen layers."""
        return self if self.J.dim() == 2 else Fixed(self.J[start:stop])

    def refined(self, factor: int) -> Interconnection:
        """The same J, or each as often as its layer is divided."""
        return self if self.J.dim() == 2 else Fixed(self.J.repeat_interleave(factor, dim=0))

    def _check_size(self, features: int) -> None:
        if self.J.shape[-1] != features:
            raise ValueError(
                f"J is {self.J.shape[-1]} x {self.J.shape[-1]}, but the flow has {features} features. Both must agree."
            )

    def __repr__(self) -> str:
        if self.is_canonical:
            return "Fixed(canonical)"
        features = self.J.shape[-1]
        if self.J.dim() == 2 and torch.equal(self.J, upper_ones(features, device="cpu", dtype=self.J.dtype)):
            return "Fixed(upper_ones)"
        return f"Fixed({'x'.join(str(length) for length in self.J.shape)} matrix)"


class Inverse(Interconnection):
    """J = K⁻ᵀ, so that J Kᵀ = I and the layer is y' = σ(K y + b) (MS1, MS2). K must be skew for J to be.

    The layer never inverts K, so odd features (a skew K is then singular) are accepted; J is then not defined.
    `skew=False` lets K be any square matrix, as `Skew(shift=-0.1)`: nothing that rests on a skew J is promised.
    """

    constant_over_layers, is_inverse, skew = False, True, True

    def __init__(self, skew: bool = True) -> None:
        self.skew = truth("skew", skew)

    def constant(self, features: int, layers: int) -> Tensor | None:
        """None: nothing is stored."""

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """None: J follows from K."""

    def pattern(self, features: int) -> Tensor | None:
        """None: J Kᵀ = I."""

    def layers(self, start: int, stop: int) -> Interconnection:
        """Itself."""
        return self

    def __repr__(self) -> str:
        return "Inverse()" if self.skew else "Inverse(skew=False)"


class Learned(Interconnection):
    """One trainable J for all layers, skew by construction: only the entries above its diagonal are stored.

    Args:
        initial: the J that training starts from, skew (n, n). It is copied.
        mask: boolean or 0/1 tensor (n, n), symmetric: entries outside it stay zero. For the symplectic steps of
            `h2` use `block(torch.ones(n // 2, n // 2)) != 0`, which leaves X of J = [0 −Xᵀ; X 0] to be learned.

    Raises:
        ValueError: if `initial` is not skew or not zero outside the mask, or the mask is not symmetric.

    Example:
        >>> Learned(canonical(4)).free_shape(4)
        (6,)
    """

    constant_over_layers = True
    skew = True

    def __init__(self, initial: Tensor, mask: Tensor | None = None) -> None:
        start = Fixed(initial).J
        if start.dim() != 2:
            raise ValueError(
                f"`initial` must be one (n, n) matrix, for one J is learned for all layers; got {tuple(initial.shape)}."
            )
        if mask is not None and not isinstance(mask, Tensor):
            raise TypeError(f"`mask` must be a tensor of zeros and ones; got {shown(mask)}.")
        kept = torch.ones_like(start, dtype=torch.bool) if mask is None else mask.detach().cpu() != 0
        if kept.shape != start.shape or not torch.equal(kept, kept.mT):
            raise ValueError(f"`mask` must be a symmetric {tuple(start.shape)} tensor; got {tuple(kept.shape)}.")
        if (start[~kept] != 0).any():
            raise ValueError("`initial` must be zero where `mask` is zero: those entries are never stored.")
        self.initial = start
        self.mask = kept

    @classmethod
    def from_graph(cls, adjacency: Tensor, node_size: int) -> Learned:
        """J = [0 −Xᵀ; X 0] whose X couples nodes along the edges of a graph alone; it starts canonical.

        Args:
            adjacency: (V, V), nonzero where two nodes are neighbours; symmetric, for J acts both ways.
            node_size: d, even: features of a node, half of them of p and half of q.

        Raises:
            ValueError: if the adjacency is not symmetric, or `node_size` is odd.

        Example:
            >>> ring = torch.eye(4).roll(1, 0) + torch.eye(4).roll(-1, 0)
            >>> Learned.from_graph(ring, node_size=2).free_shape(8)  # 12 of the 16 entries of X
            (12,)
        """
        near = nodes.mask(adjacency, node_size)
        if not torch.equal(near, near.mT):
            raise ValueError("J = −Jᵀ acts both ways along an edge, so `adjacency` must be symmetric. Use `A + A.mT`.")
        n = len(near)
        return cls(canonical(n, device="cpu"), near & (block(torch.ones(n // 2, n // 2, device="cpu")) != 0))

    def free_shape(self, features: int) -> tuple[int, ...]:
        """(number of entries above the diagonal that the mask keeps,)."""
        return (int(self._index(features).max()),)

    def constant(self, features: int, layers: int) -> Tensor | None:
        """Where the trainable numbers stand in J."""
        return self._index(features)

    def initial_free(self) -> Tensor:
        """The trainable numbers of the initial J, float64."""
        index = self._index(self.initial.shape[-1])
        upper = index > 0
        return self.initial[upper][index[upper].argsort()]

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        """J from its trainable numbers."""
        if free is None:
            raise ValueError("A learned J needs its trainable numbers; got None.")
        return entries.place(free, constant)

    def pattern(self, features: int) -> Tensor | None:
        """The entries that the mask keeps."""
        return self._index(features) != 0

    def layers(self, start: int, stop: int) -> Interconnection:
        """Itself: all layers share J."""
        return self

    def _index(self, features: int) -> Tensor:
        if features != self.initial.shape[-1]:
            raise ValueError(
                f"`initial` is {self.initial.shape[-1]} x {self.initial.shape[-1]}, but the flow has {features} "
                f"features. Both must agree."
            )
        return entries.masked(entries.skew(entries.counted(features, features).mT), self.mask)

    def __repr__(self) -> str:
        kept, size = int(self.mask.triu(1).sum()), self.initial.shape[-1]
        return f"Learned({size}x{size}, {kept} free)"


INTERCONNECTIONS: dict[str, Callable[..., Tensor]] = {"canonical": canonical, "upper_ones": upper_ones}


def interconnection_of(given: Interconnection | type[Interconnection] | Tensor | str, features: int) -> Interconnection:
    """The interconnection that was given itself, by its class or its name, or as the matrix J, n x n."""
    if isinstance(given, Tensor):
        return Fixed(given)
    if isinstance(given, str) and given in INTERCONNECTIONS:
        return Fixed(INTERCONNECTIONS[given](features, device="cpu"))
    if isinstance(given, str):
        raise ValueError(unknown("interconnection", given, INTERCONNECTIONS))
    remedy = 'Use "canonical", "upper_ones", a skew tensor (n, n), `Fixed(J)`, `Learned(J)` or `Inverse()`.'
    return factor("interconnection", given, Interconnection, {}, remedy)  # type: ignore[type-abstract]
