"""The factors together: energy, gradient and field of one layer.

Legend: H(y) = 1ᵀ σ̃(K y + b), ∂H/∂y = Kᵀ σ(K y + b), field f(y) = J Kᵀ σ(K y + b); y = (p, q), p the first half.
W = K Jᵀ, so that f(y) = Wᵀ σ(K y + b). Nothing here holds parameters or knows a step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.entries import Slot
from hdnn.interconnections import Interconnection
from hdnn.spaces import VECTORS, Space, space_of
from hdnn.structures import Structure

Units = slice | list[int]


class Layer(NamedTuple):
    """The numbers of one layer, or of one half of it: a pytree, which autograd, transforms and exporters can walk.

    Attributes:
        K: (m, n, *taps).
        b: (m,), or (..., m) where inputs drive the layer.
        W: K Jᵀ, of the shape of K; None where J Kᵀ = I.
        damping: γ of the momenta where it is learned, a number; integrators know a fixed one themselves.
    """

    K: Tensor
    b: Tensor
    W: Tensor | None = None
    damping: Tensor | None = None


class Drive:
    """The map y ↦ Wᵀ σ(K y + b) of one layer, or of one half of it.

    Args:
        layer: its numbers.
        space: on which they act.
        activation: σ.
    """

    __slots__ = ("activation", "layer", "space")

    def __init__(self, layer: Layer, space: Space, activation: Activation) -> None:
        self.layer = layer
        self.space = space
        self.activation = activation

    @property
    def rebound(self) -> Callable[[Sequence[Tensor | None], Space], Drive]:
        """Makes the same drive of other numbers, on a space; it holds no tensors."""
        return partial(_rebound, self.activation)

    def __call__(self, y: Tensor) -> Tensor:
        """Wᵀ σ(K y + b)."""
        K, b, W = self.layer[:3]
        z = self.activation.value(self.space.map(K, y, b))
        return z if W is None else self.space.adjoint(W, z)

    def of(self, which: Tensor) -> Drive:
        """That of some samples, rows that have biases of their own."""
        layer = self.layer
        return self if layer.b.dim() == 1 else Drive(layer._replace(b=layer.b[which]), self.space, self.activation)


class Field:
    """The vector field of one layer, f(y) = J Kᵀ σ(K y + b), bound to its weights.

    Calling it gives f(y). Of a separable field, `p` and `q` are its halves as functions of the *other* half:
    p' = field.p(q) and q' = field.q(p).

    Args:
        drives: one, which moves the whole state; or two, which move p and q.
        axis: of the features, −1 for vectors.
    """

    __slots__ = ("axis", "drives")

    def __init__(self, drives: tuple[Drive, ...], axis: int) -> None:
        self.drives = drives
        self.axis = axis

    def __call__(self, y: Tensor) -> Tensor:
        """f(y), of the shape of y."""
        if len(self.drives) == 1:
            return self.drives[0](y)
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

    @property
    def damping(self) -> Tensor | None:
        """γ of the momenta where it is learned."""
        return self.drives[0].layer.damping

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The halves (p, q) of a state."""
        p, q = y.chunk(2, self.axis)
        return p, q

    def join(self, p: Tensor, q: Tensor) -> Tensor:
        """The state (p, q)."""
        return torch.cat((p, q), self.axis)

    def of_positions(self) -> Field:
        """The same field of vectors: the features of one position, where the weights act on each alone.

        Raises:
            ValueError: where they couple positions.
        """
        if self.axis == -1 and not self.drives[0].space.taps:
            return self
        return Field(tuple(_of_positions(drive) for drive in self.drives), -1)

    def of_rows(self, y: Tensor) -> Field:
        """The same field of vectors (S, n), the features of all positions of all samples of y, one a row.

        Raises:
            ValueError: where the weights couple positions.
        """
        fields = self.of_positions()
        if all(drive.layer.b.dim() == 1 for drive in fields.drives):
            return fields
        positions = (1,) * (self.drives[0].space.rank - 1 if self.axis != -1 else 0)
        size = y.movedim(self.axis, -1).shape[:-1]
        return Field(tuple(_of_rows(drive, positions, size) for drive in fields.drives), -1)

    def of(self, which: Tensor) -> Field:
        """That of some samples, rows that have biases of their own."""
        return Field(tuple(drive.of(which) for drive in self.drives), self.axis)

    def jacobian(self, y: Tensor) -> Tensor:
        """A(y) = J Kᵀ diag(σ′(K y + b)) K, per sample.

        Args:
            y: (..., n), the features last, also for the pixels of a pointwise image flow.

        Returns:
            (..., n, n), A[i, k] = ∂f_i / ∂y_k.

        Raises:
            ValueError: for convolutions with more than one tap, which act on whole images.
        """
        drive = self._whole()
        K, b, W = drive.layer[:3]
        scaled = drive.activation.slope(drive.space.map(K, y, b)).unsqueeze(-1) * K
        return scaled if W is None else torch.matmul(W.mT, scaled)

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
        drive = self._whole()
        K, b, W = drive.layer[:3]
        u = drive.space.map(K, y, b)
        of_u = drive.space.map(K.abs(), y.abs(), b.abs())
        of_z = drive.activation.value(u).abs() + drive.activation.slope(u).abs() * of_u
        return of_z if W is None else drive.space.adjoint(W.abs(), of_z)

    def _whole(self) -> Drive:
        """The drive of the whole state, as vectors."""
        if len(self.drives) > 1:
            raise ValueError("This field was bound as two halves; bind it whole to ask for its Jacobian.")
        return self.of_positions().drives[0]

    def _half(self, which: int) -> Drive:
        if len(self.drives) == 1:
            raise ValueError("This field was bound whole; only a separable field has halves p and q.")
        return self.drives[which]


def _rebound(activation: Activation, numbers: Sequence[Tensor | None], space: Space) -> Drive:
    return Drive(Layer(*numbers), space, activation)  # type: ignore[arg-type]


def _of_positions(drive: Drive) -> Drive:
    K, b, W, damping = drive.layer
    matrix = drive.space.matrix
    return Drive(Layer(matrix(K), b, None if W is None else matrix(W), damping), VECTORS, drive.activation)


def _of_rows(drive: Drive, positions: tuple[int, ...], size: torch.Size) -> Drive:
    """With a bias for every row, those of samples spread over their positions."""
    b = drive.layer.b
    spread = b.reshape(*b.shape[:-1], *positions, b.shape[-1]).expand(*size, b.shape[-1])
    return Drive(drive.layer._replace(b=spread.flatten(0, -2)), drive.space, drive.activation)


@dataclass(frozen=True)
class Hamiltonian:
    """H(y) = 1ᵀ σ̃(K y + b) with its interconnection: everything of a layer but its numbers and its step.

    Args:
        features: n.
        structure: which K.
        interconnection: which J.
        activation: σ.
        space: what a state is.

    Raises:
        ValueError: if the factors do not fit each other.
    """

    features: int
    structure: Structure
    interconnection: Interconnection
    activation: Activation
    space: Space = VECTORS

    def __post_init__(self) -> None:
        if self.interconnection.is_inverse and self.interconnection.skew and not self.structure.skew:
            raise ValueError(
                f"`Inverse` sets J = K⁻ᵀ, skew only if K is; `{self.structure!r}` is not. "
                f"Use `Skew()` or `BlockSkew()`; or `Inverse(skew=False)`, of which nothing is promised."
            )
        # Read here, once: they raise where a factor does not exist for this size, and tracing (torch.compile,
        # torch.export) must meet plain numbers, never values read from a tensor.
        _ = self.hidden, self.units if self.separable else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of hdnn 0.1.0 hold a kernel size in the place of the space."""
        if "kernel_size" in state:
            state = {**state, "space": space_of(None, state["kernel_size"])}
            del state["kernel_size"]
        self.__dict__.update(state)

    @property
    def kernel_size(self) -> int | None:
        """The taps k along each axis of a convolution; None where K is none."""
        return getattr(self.space, "kernel_size", None)

    @cached_property
    def hidden(self) -> int:
        """Number of hidden units m, the rows of K."""
        return self._pattern.shape[0]

    def slots(self, layers: int, stored: int, inputs: int | None, init_std: float | None) -> dict[str, Slot]:
        """What a flow keeps of its factors, by name.

        K ~ N(0, 1/(n taps)) and b ~ N(0, 1/n) where no deviation is given. ‖K‖ of random entries grows like √m + √n
        and with the taps, so that of a wide K is scaled back to what it is at m = n: h ‖K‖², which says how far a layer
        is from the identity, is then the same in all.

        Args:
            layers: N.
            stored: layers that have numbers of their own, 1 where all share them.
            inputs: d, numbers that drive every step; None where nothing does.
            init_std: standard deviation of the initial K and b; None as above.
        """
        n, m = self.features, self.hidden
        wide = min(1.0, 2 * math.sqrt(n) / (math.sqrt(m) + math.sqrt(n)))
        of_K = wide / (math.sqrt(n) * math.sqrt(math.prod(self.space.taps))) if init_std is None else init_std
        of_b = 1 / math.sqrt(n) if init_std is None else init_std
        found = {
            "weight": Slot((stored, *self.structure.free_shape(n, self.space)), of_K),
            "bias": Slot((stored, m), of_b),
        }
        if inputs is not None:
            found["input_weight"] = Slot((stored, m, inputs), 1 / math.sqrt(inputs) if init_std is None else init_std)
        return found | self.interconnection.slots(n, layers)

    @cached_property
    def _pattern(self) -> Tensor:
        return self.structure.pattern(self.features, self.space)

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

    @cached_property
    def off_diagonal(self) -> bool:
        """Whether J is block(X), each half of it leading to the other: so is J = K⁻ᵀ where the halves are separable."""
        J = self.interconnection.pattern(self.features)
        if J is None:
            return self.separable
        p, q = self._halves
        return self.features % 2 == 0 and not (J[p, p].any() or J[q, q].any())

    def energy(self, K: Tensor, b: Tensor, y: Tensor, space: Space | None = None) -> Tensor:
        """H(y) = 1ᵀ σ̃(K y + b).

        Args:
            K: (m, n, *taps).
            b: (m,).
            y: a state, or many.
            space: the space as a call has bound it; None takes it as it is.

        Returns:
            One number a sample.
        """
        space = space or self.space
        return self.activation.potential(space.map(K, y, b)).sum(space.axes)

    def gradient(self, K: Tensor, b: Tensor, y: Tensor, space: Space | None = None) -> Tensor:
        """∂H/∂y = Kᵀ σ(K y + b), of the shape of y."""
        space = space or self.space
        return space.adjoint(K, self.activation.value(space.map(K, y, b)))

    def fields(
        self,
        K: Tensor,
        b: Tensor,
        J: Tensor | None,
        layers: int,
        halves: bool,
        space: Space | None = None,
        damping: Tensor | None = None,
    ) -> list[Field]:
        """The fields of all layers, with J folded into the weights in one product.

        Args:
            K: (N, m, n, *taps); leading size 1 where layers share it.
            b: (N, m) or (1, m); (N, ..., m) where inputs drive the layers.
            J: (n, n), (N, n, n), or None where J Kᵀ = I.
            layers: N.
            halves: bind the two halves instead of the whole; for separable Hamiltonians only.
            space: the space as a call has bound it; None takes it as it is.
            damping: γ of the momenta where it is learned, (1,).
        """
        return self.driven(K, b, self.interconnection.drive(J, K, self.space), layers, halves, space, damping)

    def driven(
        self,
        K: Tensor,
        b: Tensor,
        W: Tensor | None,
        layers: int,
        halves: bool,
        space: Space | None = None,
        damping: Tensor | None = None,
    ) -> list[Field]:
        """As `fields`, from W = K Jᵀ in place of J."""
        parts = [Layer(K, b, W)]
        if halves:
            (p, q), (of_p, of_q) = self._halves, self.units
            parts = [
                Layer(K[:, of_p, q], b[..., of_p], None if W is None else W[:, of_p, p], damping),
                Layer(K[:, of_q, p], b[..., of_q], None if W is None else W[:, of_q, q]),
            ]
        space = space or self.space
        stacks = [zip(*(_per_layer(x, layers) for x in part), strict=True) for part in parts]
        return [
            Field(tuple(Drive(Layer(*numbers), space, self.activation) for numbers in of_layer), self.space.axis)
            for of_layer in zip(*stacks, strict=True)
        ]

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
