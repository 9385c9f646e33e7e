"""The factors together: energy, gradient and fields of the layers.

Legend: H(y) = aᵀ σ̃(K y + b) + E(y, t), with unit weights a > 0 (1) and an energy E of one's own (none); field
f(y) = S ∂H/∂y + c, S = J or J − R, c = G u; W = K Sᵀ; y = (p, q), p the first half. Nothing here knows a step size.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.energies import Energy, slope_of, value_of
from hdnn.entries import Slot, on_cpu, per_layer
from hdnn.fields import Beyond as Beyond
from hdnn.fields import Drive as Drive
from hdnn.fields import Field as Field
from hdnn.fields import Layer as Layer
from hdnn.interconnections import Interconnection
from hdnn.spaces import VECTORS, Space, space_of
from hdnn.structures import Structure

Units = slice | list[int]


class More(NamedTuple):
    """What layers have beside K, b and W, stacked.

    Attributes:
        damping: γ of the momenta where it is learned, (1,).
        a: (N, m) or (1, m), the weights of the units.
        S: (N, n, n) or (1, n, n), what turns the gradient of an energy of one's own.
        c: (N, n), (1, n) or (N, ..., n), what drives from outside.
        start: the time of the first layer.
        step: the time from one layer to the next.
    """

    damping: Tensor | None = None
    a: Tensor | None = None
    S: Tensor | None = None
    c: Tensor | None = None
    start: float = 0.0
    step: float = 0.0


NOTHING = More()


@dataclass(frozen=True)
class Hamiltonian:
    """H(y) = aᵀ σ̃(K y + b) + E(y, t) with its interconnection: everything of a layer but its numbers and its step.

    Args:
        features: n.
        structure: which K.
        interconnection: which J.
        activation: σ.
        space: what a state is.
        own: E, an energy of one's own; None where the units are all.

    Raises:
        ValueError: if the factors do not fit each other.
    """

    features: int
    structure: Structure
    interconnection: Interconnection
    activation: Activation
    space: Space = VECTORS
    own: Energy | None = None

    def __post_init__(self) -> None:
        if self.interconnection.is_inverse and self.interconnection.skew and not self.structure.skew:
            raise ValueError(
                f"`Inverse` sets J = K⁻ᵀ, skew only if K is; `{self.structure!r}` is not. "
                f"Use `Skew()` or `BlockSkew()`; or `Inverse(skew=False)`, of which nothing is promised."
            )
        if self.own is not None and self.interconnection.is_inverse:
            raise ValueError(
                "An energy of one's own moves the state by J ∂E/∂y, and `Inverse` has J = K⁻ᵀ, which the layer never "
                "computes and which need not exist. Use `Fixed(J)` or `Learned(J)`."
            )
        if self.beyond_units and self.space.rank > 1:
            raise ValueError(
                f"Energies of one's own and a J(y) act on vectors (..., n); this flow acts on `{self.space!r}`. Use "
                f"`Vectors()`."
            )
        if self.own is None and not self.hidden:
            raise ValueError("Without hidden units a flow needs an `energy`. Give one, or a `structure` with units.")
        # Read here, once: they raise where a factor does not exist for this size, and tracing (torch.compile,
        # torch.export) must meet plain numbers, never values read from a tensor.
        _ = self.hidden, self.canonical, self.units if self.separable else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of hdnn 0.1.0 hold a kernel size in the place of the space, and do not say whether J is canonical."""
        if "kernel_size" in state:
            state = {**state, "space": space_of(None, state["kernel_size"])}
            del state["kernel_size"]
        self.__dict__.update(on_cpu(state))
        with suppress(RuntimeError):  # of a J that is loaded without its numbers nothing is known
            _ = self.canonical  # tracing must not read it from a tensor

    @property
    def beyond_units(self) -> bool:
        """Whether a layer is more than its numbers: an energy of one's own, or a J of the state."""
        return self.own is not None or self.interconnection.of_state is not None

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
        if self.features % 2 or self.interconnection.of_state is not None:
            return False
        if self.own is not None and not (self.off_diagonal and self.own.halves()):
            return False
        half = self.features // 2
        coupling = _compose(self._drive_pattern, self._pattern)
        return not (coupling[:half, :half].any() or coupling[half:, half:].any())

    @cached_property
    def off_diagonal(self) -> bool:
        """Whether J is block(X), each half of it leading to the other: so is J = K⁻ᵀ where the halves are separable."""
        J = self.interconnection.pattern(self.features)
        if J is None:
            return self.separable  # with an energy of one's own J is never None
        p, q = self._halves
        return self.features % 2 == 0 and not (J[p, p].any() or J[q, q].any())

    def energy(self, K: Tensor, b: Tensor, y: Tensor, space: Space | None = None, more: More | None = None) -> Tensor:
        """H(y) = aᵀ σ̃(K y + b) + E(y, t).

        Args:
            K: (m, n, *taps).
            b: (m,).
            y: a state, or many.
            space: the space as a call has bound it; None takes it as it is.
            more: what else the layer has, a (m,); and its time in the place of the first.

        Returns:
            One number a sample.
        """
        space, more = space or self.space, more or NOTHING
        of_units = self.activation.potential(space.map(K, y, b))
        if more.a is not None:
            of_units = of_units * more.a.reshape(-1, *[1] * (-1 - space.axis))
        found = of_units.sum(space.axes)
        return found if self.own is None else found + value_of(self.own, y, more.start)

    def gradient(self, K: Tensor, b: Tensor, y: Tensor, space: Space | None = None, more: More | None = None) -> Tensor:
        """∂H/∂y = Kᵀ (a ∘ σ(K y + b)) + ∂E/∂y, of the shape of y; arguments as for `energy`."""
        space, more = space or self.space, more or NOTHING
        z = self.activation.value(space.map(K, y, b))
        if more.a is not None:
            z = z * more.a.reshape(-1, *[1] * (-1 - space.axis))
        found = space.adjoint(K, z)
        return found if self.own is None else found + slope_of(self.own, y, more.start)

    def fields(
        self,
        K: Tensor,
        b: Tensor,
        J: Tensor | None,
        layers: int,
        halves: bool,
        space: Space | None = None,
        more: More | None = None,
    ) -> list[Field]:
        """The fields of all layers, with J folded into the weights in one product.

        Args:
            K: (N, m, n, *taps); leading size 1 where layers share it.
            b: (N, m) or (1, m); (N, ..., m) where inputs drive the layers.
            J: (n, n), (N, n, n), or None where J Kᵀ = I.
            layers: N.
            halves: bind the two halves instead of the whole; for separable Hamiltonians only.
            space: the space as a call has bound it; None takes it as it is.
            more: what else the layers have.
        """
        return self.driven(K, b, self.interconnection.drive(J, K, self.space), layers, halves, space, more)

    def driven(
        self,
        K: Tensor,
        b: Tensor,
        W: Tensor | None,
        layers: int,
        halves: bool,
        space: Space | None = None,
        more: More | None = None,
    ) -> list[Field]:
        """As `fields`, from W = K Jᵀ in place of J."""
        more, space = more or NOTHING, space or self.space
        parts = self.parts(K, b, W, halves, more)
        stacks = [zip(*(per_layer(x, layers) for x in part), strict=True) for part in parts]
        beyond = [self._beyond(more.start + j * more.step, halves) for j in range(layers)]
        return [
            Field(
                tuple(
                    Drive(Layer(*numbers), space, self.activation, own)
                    for numbers, own in zip(of_layer, of_parts, strict=True)
                ),
                self.space.axis,
            )
            for of_layer, of_parts in zip(zip(*stacks, strict=True), beyond, strict=True)
        ]

    def parts(self, K: Tensor, b: Tensor, W: Tensor | None, halves: bool, more: More) -> list[Layer]:
        """What drives the whole, or p and q, stacked over the layers; arguments as for `driven`."""
        a, S, c = more.a, more.S, more.c
        if not halves:
            return [Layer(K, b, W, None, a, S, c)]
        (p, q), (of_p, of_q) = self._halves, self.units
        return [
            Layer(
                K=K[:, of_there, there],
                b=b[..., of_there],
                W=None if W is None else W[:, of_there, here],
                damping=damping,
                a=None if a is None else a[:, of_there],
                S=None if S is None else S[:, here, there],
                c=None if c is None else c[..., here],
            )
            for here, there, of_there, damping in ((p, q, of_p, more.damping), (q, p, of_q, None))
        ]

    def _beyond(self, t: float, halves: bool) -> tuple[Beyond | None, ...]:
        """What the drives of a layer at time t have beside their numbers; what moves p knows V(q), and q T(p)."""
        if not self.beyond_units:
            return (None, None) if halves else (None,)
        parts = self.own.halves() if halves and self.own is not None else None
        if parts is not None:
            T, V = parts
            return Beyond(V, t), Beyond(T, t)
        return (Beyond(self.own, t, self.interconnection.of_state),)

    @property
    def _halves(self) -> tuple[slice, slice]:
        half = self.features // 2
        return slice(0, half), slice(half, None)

    @cached_property
    def units(self) -> tuple[Units, Units]:
        """The hidden units that drive p, and those that drive q."""
        p, q = (self._drive_pattern[half].any(0).nonzero().flatten().tolist() for half in self._halves)
        if not self.hidden:
            return slice(0, 0), slice(0, 0)
        # A half that nothing drives keeps one unit, whose weights on it are zero: convolutions refuse empty weights.
        return _as_slice(p or [0]), _as_slice(q or [0])

    @cached_property
    def canonical(self) -> bool:
        """Whether J is the canonical matrix, which kernels apply without a product."""
        return self.interconnection.is_canonical


def _compose(first: Tensor, second: Tensor) -> Tensor:
    """The pattern of a product. Counts of paths are exact enough in floats, and far faster than in integers."""
    return (first.to(torch.float32) @ second.to(torch.float32)) > 0


def _as_slice(units: list[int]) -> Units:
    """Slices are views; only scattered units are worth an indexed copy."""
    if units[-1] - units[0] + 1 == len(units):
        return slice(units[0], units[-1] + 1)
    return units
