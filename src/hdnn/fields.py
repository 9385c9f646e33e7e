"""The field of one layer, bound to its numbers: what an integrator knows.

Legend: y = (p, q), p the first half; u = K y + b; a > 0 weights of the units (1), E an energy of one's own (none),
c = G u what drives from outside (0); W = K Sᵀ, S = J − R, so that f(y) = S ∂H/∂y + c = Wᵀ (a ∘ σ(u)) + S ∂E/∂y + c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.energies import Term, mean_slope_of, slope_of
from hdnn.spaces import VECTORS, Space


class Layer(NamedTuple):
    """The numbers of one layer, or of one half of it: a pytree, which autograd, transforms and exporters can walk.

    Attributes:
        K: (m, n, *taps).
        b: (m,), or (..., m) where inputs drive the layer.
        W: K Sᵀ, of the shape of K; None where J Kᵀ = I.
        damping: γ of the momenta where it is learned, a number; integrators know a fixed one themselves.
        a: (m,), the weights of the units; None where all are 1.
        S: (n', n), what turns ∂E/∂y into the motion of n' features; None without such an energy.
        c: (n',), or (..., n'), what drives from outside; None where nothing does.
    """

    K: Tensor
    b: Tensor
    W: Tensor | None = None
    damping: Tensor | None = None
    a: Tensor | None = None
    S: Tensor | None = None
    c: Tensor | None = None


class Beyond(NamedTuple):
    """What a layer has beside its numbers: functions that are no tensors.

    Attributes:
        E: an energy of one's own, or the part of it that one half has; None without.
        t: the time of the layer.
        J: of the state, y ↦ J(y) (..., n, n); None where J is constant.
    """

    E: Term | None = None
    t: float = 0.0
    J: Callable[[Tensor], Tensor] | None = None


class Drive:
    """The map y ↦ Wᵀ (a ∘ σ(K y + b)) + S ∂E/∂y + c of one layer, or of one half of it.

    Args:
        layer: its numbers.
        space: on which they act.
        activation: σ.
        beyond: what it has beside them.
    """

    __slots__ = ("activation", "beyond", "layer", "space")

    def __init__(self, layer: Layer, space: Space, activation: Activation, beyond: Beyond | None = None) -> None:
        self.layer = layer
        self.space = space
        self.activation = activation
        self.beyond = beyond

    @property
    def rebound(self) -> Callable[[Sequence[Tensor | None], Space], Drive]:
        """Makes the same drive of other numbers, on a space; it holds no tensors but those of modules beside."""
        return partial(_rebound, self.activation, self.beyond)

    def __call__(self, y: Tensor) -> Tensor:
        """Its value, of the shape of y but for the features that it moves."""
        K, b, W, _, a, _, c = self.layer
        z = self.activation.value(self.space.map(K, y, b))
        if a is not None:
            z = z * self._along(a)
        f = z if W is None else self.space.adjoint(W, z)
        if self.beyond is not None:
            f = self._turned(f, None if self.beyond.E is None else slope_of(self.beyond.E, y, self.beyond.t), y)
        return f if c is None else f + self._along(c)

    def mean(self, y: Tensor, after: Tensor) -> Tensor:
        """S ∇̄H + c, with a mean of ∂H/∂y between two states that keeps the balance of energy; for vectors."""
        K, b, W, _, a, _, c = self.layer
        z, _ = self.activation.mean(self.space.map(K, y, b), self.space.map(K, after, b))
        z = z if a is None else z * a
        f = z if W is None else self.space.adjoint(W, z)
        if self.beyond is not None:
            E, t, _ = self.beyond
            f = self._turned(f, None if E is None else mean_slope_of(E, y, after, t), (y + after) / 2)
        return f if c is None else f + c

    def mean_jacobian(self, y: Tensor, after: Tensor) -> Tensor:
        """The derivative (..., n, n) of `mean` by the second state."""
        K, b, W, _, a, *_ = self.layer
        if self.beyond is not None:
            return derivative(lambda x: self.mean(y, x), after)
        _, slope = self.activation.mean(self.space.map(K, y, b), self.space.map(K, after, b))
        scaled = (slope if a is None else slope * a).unsqueeze(-1) * K
        return scaled if W is None else torch.matmul(W.mT, scaled)

    def _turned(self, f: Tensor, g: Tensor | None, y: Tensor) -> Tensor:
        """S Kᵀ z + S g: with a constant S the first is f already; with J(y) it is Kᵀ z so far."""
        S, J = self.layer.S, None if self.beyond is None else self.beyond.J
        if J is not None:
            return torch.matmul(J(y), (f if g is None else f + g).unsqueeze(-1)).squeeze(-1)
        return f if g is None or S is None else f + torch.matmul(g, S.mT)

    def jacobian(self, y: Tensor) -> Tensor:
        """The derivative (..., n', n) of its value at states (..., n), features last."""
        K, b, W, _, a, *_ = self.layer
        if self.beyond is not None:
            return derivative(self, y)
        slope = self.activation.slope(self.space.map(K, y, b))
        scaled = (slope if a is None else slope * a).unsqueeze(-1) * K
        return scaled if W is None else torch.matmul(W.mT, scaled)

    def magnitude(self, y: Tensor) -> Tensor:
        """The size of the numbers that its value is summed from: rounding moves it by a few units of it."""
        K, b, W, _, a, _, c = self.layer
        u = self.space.map(K, y, b)
        of_u = self.space.map(K.abs(), y.abs(), b.abs())
        of_z = self.activation.value(u).abs() + self.activation.slope(u).abs() * of_u
        of_z = of_z if a is None else of_z * a
        found = of_z if W is None else self.space.adjoint(W.abs(), of_z)
        if self.beyond is not None:
            found = found + self(y).abs() + torch.matmul(self.jacobian(y).abs(), y.abs().unsqueeze(-1)).squeeze(-1)
        return found if c is None else found + c.abs()

    def of(self, which: Tensor) -> Drive:
        """That of some samples, rows that have numbers of their own."""
        b, c = self.layer.b, self.layer.c
        b, c = b if b.dim() == 1 else b[which], c if c is None or c.dim() == 1 else c[which]
        return Drive(self.layer._replace(b=b, c=c), self.space, self.activation, self.beyond)

    def _along(self, numbers: Tensor) -> Tensor:
        """Numbers of features (..., k) as they stand in a state."""
        return numbers.reshape(*numbers.shape, *[1] * (-1 - self.space.axis))


class Field:
    """The vector field of one layer, f(y) = S ∂H/∂y + c, bound to its weights.

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
        positions = (1,) * (-1 - self.axis)
        size = y.movedim(self.axis, -1).shape[:-1]
        return Field(tuple(_of_rows(drive, positions, size) for drive in self.of_positions().drives), -1)

    def of(self, which: Tensor) -> Field:
        """That of some samples, rows that have numbers of their own."""
        return Field(tuple(drive.of(which) for drive in self.drives), self.axis)

    def jacobian(self, y: Tensor) -> Tensor:
        """A(y) = S ∂²H/∂y², which is S Kᵀ diag(a ∘ σ′(K y + b)) K of the units, per sample.

        Args:
            y: (..., n), the features last, also for the pixels of a pointwise image flow.

        Returns:
            (..., n, n), A[i, k] = ∂f_i / ∂y_k.

        Raises:
            ValueError: for convolutions with more than one tap, which act on whole images.
        """
        return self._whole().jacobian(y)

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
        return self._whole().magnitude(y)

    def _whole(self) -> Drive:
        """The drive of the whole state, as vectors."""
        if len(self.drives) > 1:
            raise ValueError("This field was bound as two halves; bind it whole to ask for its Jacobian.")
        return self.of_positions().drives[0]

    def _half(self, which: int) -> Drive:
        if len(self.drives) == 1:
            raise ValueError("This field was bound whole; only a separable field has halves p and q.")
        return self.drives[which]


def _rebound(activation: Activation, beyond: Beyond | None, numbers: Sequence[Tensor | None], space: Space) -> Drive:
    return Drive(Layer(*numbers), space, activation, beyond)  # type: ignore[arg-type]


def derivative(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """∂f/∂y (..., n', n) of a function of states (..., n), each of its own state alone, by autograd."""
    value, pull, *_ = torch.func.vjp(function, y)
    rows = torch.eye(value.shape[-1], dtype=y.dtype, device=y.device)
    cotangents = rows.reshape(len(rows), *[1] * (value.dim() - 1), len(rows)).expand(-1, *value.shape)
    found: Tensor = torch.vmap(pull)(cotangents)[0]
    return found.movedim(0, -2)


def _of_positions(drive: Drive) -> Drive:
    K, _, W, *_ = drive.layer
    matrix = drive.space.matrix
    layer = drive.layer._replace(K=matrix(K), W=None if W is None else matrix(W))
    return Drive(layer, VECTORS, drive.activation, drive.beyond)


def _of_rows(drive: Drive, positions: tuple[int, ...], size: torch.Size) -> Drive:
    """With numbers for every row, where those of samples are spread over their positions."""

    def spread(x: Tensor | None) -> Tensor | None:
        if x is None or x.dim() == 1:
            return x
        return x.reshape(*x.shape[:-1], *positions, x.shape[-1]).expand(*size, x.shape[-1]).flatten(0, -2)

    b = spread(drive.layer.b)
    layer = drive.layer._replace(b=drive.layer.b if b is None else b, c=spread(drive.layer.c))
    return Drive(layer, drive.space, drive.activation, drive.beyond)
