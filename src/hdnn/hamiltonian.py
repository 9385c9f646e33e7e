"""The factors together: energy, gradient and field of one layer.

Legend: H(y) = 1ᵀ σ̃(K y + b), ∂H/∂y = Kᵀ σ(K y + b), field f(y) = J Kᵀ σ(K y + b); y = (p, q), p the first half.
W = K Jᵀ, so that f(y) = Wᵀ σ(K y + b). Nothing here holds parameters or knows a step size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hdnn import linear
from hdnn.activations import Activation
from hdnn.interconnections import Interconnection
from hdnn.structures import Structure

Units = slice | list[int]


class Drive:
    """The map y ↦ Wᵀ σ(K y + b) of one layer, or of one half of it.

    Args:
        K: (m, n) or (m, n, k, k).
        W: K Jᵀ, of the shape of K; None where J Kᵀ = I.
        b: (m,).
        activation: σ.
    """

    __slots__ = ("K", "W", "activation", "b")

    def __init__(self, K: Tensor, W: Tensor | None, b: Tensor, activation: Activation) -> None:
        self.K = K
        self.W = W
        self.b = b
        self.activation = activation

    def __call__(self, y: Tensor) -> Tensor:
        """Wᵀ σ(K y + b)."""
        z = self.activation.value(linear.apply(self.K, y, self.b))
        return z if self.W is None else linear.apply_adjoint(self.W, z)


class Field:
    """The vector field of one layer, f(y) = J Kᵀ σ(K y + b), bound to its weights.

    Calling it gives f(y). Of a separable field, `p` and `q` are its halves as functions of the *other* half:
    p' = field.p(q) and q' = field.q(p).

    Args:
        whole: the field of the whole state; None when the halves are given.
        halves: the drives of p and of q, for separable fields.
        axis: the feature axis, −1 for vectors and −3 for images.
    """

    __slots__ = ("axis", "halves", "whole")

    def __init__(self, whole: Drive | None, halves: tuple[Drive, Drive] | None, axis: int) -> None:
        self.whole = whole
        self.halves = halves
        self.axis = axis

    def __call__(self, y: Tensor) -> Tensor:
        """f(y), of the shape of y."""
        if self.whole is not None:
            return self.whole(y)
        p, q = self.split(y)
        return self.join(self.p(q), self.q(p))

    @property
    def p(self) -> Drive:
        """p' as a function of q."""
        return self._half(0)

    @property
    def q(self) -> Drive:
        """q' as a function of p."""
        return self._half(1)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The halves (p, q) of a state."""
        p, q = y.chunk(2, self.axis)
        return p, q

    def join(self, p: Tensor, q: Tensor) -> Tensor:
        """The state (p, q)."""
        return torch.cat((p, q), self.axis)

    def jacobian(self, y: Tensor) -> Tensor:
        """A(y) = J Kᵀ diag(σ′(K y + b)) K, per sample.

        Args:
            y: (..., n), the features last, also for the pixels of a pointwise image flow.

        Returns:
            (..., n, n), A[i, k] = ∂f_i / ∂y_k.

        Raises:
            ValueError: for convolutions with more than one tap, which act on whole images.
        """
        drive = self._matrices()
        scaled = drive.activation.slope(linear.apply(drive.K, y, drive.b)).unsqueeze(-1) * drive.K
        return scaled if drive.W is None else torch.matmul(drive.W.mT, scaled)

    def magnitude(self, y: Tensor) -> Tensor:
        """|W|ᵀ (|σ(u)| + |σ′(u)| (|K| |y| + |b|)) with u = K y + b: the size of the numbers that f(y) is summed from.

        Rounding moves f(y) by a few units of it, however small their sum.

        Args:
            y: (..., n), the features last, as for `jacobian`.

        Returns:
            (..., n).

        Raises:
            ValueError: for convolutions with more than one tap, which act on whole images.
        """
        drive = self._matrices()
        u = linear.apply(drive.K, y, drive.b)
        of_u = linear.apply(drive.K.abs(), y.abs(), drive.b.abs())
        of_z = drive.activation.value(u).abs() + drive.activation.slope(u).abs() * of_u
        return of_z if drive.W is None else linear.apply_adjoint(drive.W.abs(), of_z)

    def _matrices(self) -> Drive:
        """The drive of the whole state, with K and W as matrices."""
        if self.whole is None:
            raise ValueError("This field was bound as two halves; bind it whole to ask for its Jacobian.")
        K, W = self.whole.K, self.whole.W
        if K.dim() == 2:
            return self.whole
        if K.shape[-1] > 1:
            raise ValueError(
                f"A {K.shape[-1]} x {K.shape[-1]} convolution couples all pixels, so its Jacobian is no matrix per "
                f"pixel. Use kernel_size=1, or an explicit integrator."
            )
        return Drive(K[..., 0, 0], None if W is None else W[..., 0, 0], self.whole.b, self.whole.activation)

    def _half(self, which: int) -> Drive:
        if self.halves is None:
            raise ValueError("This field was bound whole; only a separable field has halves p and q.")
        return self.halves[which]


@dataclass(frozen=True)
class Hamiltonian:
    """H(y) = 1ᵀ σ̃(K y + b) with its interconnection: everything of a layer but its numbers and its step.

    Args:
        features: n.
        structure: which K.
        interconnection: which J.
        activation: σ.
        kernel_size: None for vectors, odd k for images.

    Raises:
        ValueError: if the factors do not fit each other.
    """

    features: int
    structure: Structure
    interconnection: Interconnection
    activation: Activation
    kernel_size: int | None = None

    def __post_init__(self) -> None:
        if self.interconnection.is_inverse and not self.structure.skew:
            raise ValueError(
                f"`Inverse` sets J = K⁻ᵀ, skew only if K is; `{self.structure!r}` is not. "
                f"Use `Skew()` or `BlockSkew()`."
            )
        # Read here, once: they raise where a factor does not exist for this size, and tracing (torch.compile,
        # torch.export) must meet plain numbers, never values read from a tensor.
        _ = self.hidden, self.units if self.separable else None

    @property
    def images(self) -> bool:
        """Whether states are images (B, n, H, W)."""
        return self.kernel_size is not None

    @property
    def axis(self) -> int:
        """The feature axis of a state."""
        return -3 if self.images else -1

    @cached_property
    def hidden(self) -> int:
        """Number of hidden units m, the rows of K."""
        return self._pattern.shape[0]

    @cached_property
    def _pattern(self) -> Tensor:
        return self.structure.pattern(self.features, self.kernel_size)

    @cached_property
    def _drive_pattern(self) -> Tensor:
        """Which units may drive which features: pattern(J Kᵀ), (n, m)."""
        J = self.interconnection.pattern(self.features)
        if J is None:
            return torch.eye(self.features, dtype=torch.bool, device="cpu")
        return _compose(J, self._pattern.mT)

    @cached_property
    def separable(self) -> bool:
        """Whether each half of the state is driven by the other half alone.

        It follows from the zero patterns of K and J: both diagonal blocks of pattern(J Kᵀ) · pattern(K) are zero.
        """
        if self.features % 2:
            return False
        half = self.features // 2
        coupling = _compose(self._drive_pattern, self._pattern)
        return not (coupling[:half, :half].any() or coupling[half:, half:].any())

    def energy(self, K: Tensor, b: Tensor, y: Tensor) -> Tensor:
        """H(y) = 1ᵀ σ̃(K y + b).

        Args:
            K: (m, n) or (m, n, k, k).
            b: (m,).
            y: (..., n) or (B, n, H, W).

        Returns:
            (...) or (B,): one number a sample.
        """
        potential = self.activation.potential(linear.apply(K, y, b))
        return potential.sum((-3, -2, -1) if self.images else -1)

    def gradient(self, K: Tensor, b: Tensor, y: Tensor) -> Tensor:
        """∂H/∂y = Kᵀ σ(K y + b), of the shape of y."""
        return linear.apply_adjoint(K, self.activation.value(linear.apply(K, y, b)))

    def fields(self, K: Tensor, b: Tensor, J: Tensor | None, layers: int, halves: bool) -> list[Field]:
        """The fields of all layers, with J folded into the weights in one product.

        Args:
            K: (N, m, n) or (N, m, n, k, k); leading size 1 where layers share it.
            b: (N, m) or (1, m).
            J: (n, n), (N, n, n), or None where J Kᵀ = I.
            layers: N.
            halves: bind the two halves instead of the whole; for separable Hamiltonians only.
        """
        return self.driven(K, b, self.interconnection.drive(J, K, self.images), layers, halves)

    def driven(self, K: Tensor, b: Tensor, W: Tensor | None, layers: int, halves: bool) -> list[Field]:
        """As `fields`, from W = K Jᵀ in place of J."""
        if not halves:
            return [Field(drive, None, self.axis) for drive in self._drives(K, W, b, layers)]
        (p, q), (of_p, of_q) = self._halves, self.units
        drive_p = self._drives(K[:, of_p, q], None if W is None else W[:, of_p, p], b[:, of_p], layers)
        drive_q = self._drives(K[:, of_q, p], None if W is None else W[:, of_q, q], b[:, of_q], layers)
        return [Field(None, pair, self.axis) for pair in zip(drive_p, drive_q, strict=True)]

    def _drives(self, K: Tensor, W: Tensor | None, b: Tensor, layers: int) -> list[Drive]:
        one_per_layer = (_per_layer(x, layers) for x in (K, W, b))
        return [Drive(K_j, W_j, b_j, self.activation) for K_j, W_j, b_j in zip(*one_per_layer, strict=True)]

    @property
    def _halves(self) -> tuple[slice, slice]:
        half = self.features // 2
        return slice(0, half), slice(half, None)

    @cached_property
    def units(self) -> tuple[Units, Units]:
        """The hidden units that drive p, and those that drive q."""
        p, q = (self._drive_pattern[half].any(0).nonzero().flatten().tolist() for half in self._halves)
        # A half that nothing drives keeps one unit, whose weights on it are zero: convolutions refuse empty weights.
        return _as_slice(p or [0]), _as_slice(q or [0])

    @property
    def canonical(self) -> bool:
        """Whether J is the canonical matrix, which kernels apply without a product."""
        return self.interconnection.is_canonical


def _compose(first: Tensor, second: Tensor) -> Tensor:
    """The pattern of a product. Counts of paths are exact enough in floats, and far faster than in integers."""
    return (first.to(torch.float32) @ second.to(torch.float32)) > 0


def _per_layer(stacked: Tensor | None, layers: int) -> Sequence[Tensor | None]:
    if stacked is None:
        return [None] * layers
    parts = stacked.unbind(0)
    return parts if len(parts) == layers else parts * layers


def _as_slice(units: list[int]) -> Units:
    """Slices are views; only scattered units are worth an indexed copy."""
    if units[-1] - units[0] + 1 == len(units):
        return slice(units[0], units[-1] + 1)
    return units
