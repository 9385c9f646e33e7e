"""What a step of length h along y' = f(y) is to a flow, and the steps that move the halves of a state in turn.

Legend: y state, y⁺ the state after a step, F = ∂y⁺/∂y, (p, q) halves of a state, h step size, c the fraction of h that
a move takes, f field of the layer with the Jacobian A; x = h s ‖W‖ ‖K‖ the gain of a drive of f, where σ′ is at most s.
An integrator knows a `Field` only: not the axis of the features, not the structure of the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hdnn import damping
from hdnn.doors import shelled
from hdnn.facts import restated
from hdnn.hamiltonian import Field

Half = Literal["p", "q"]
Gains = tuple[Tensor, ...]

# How far the sum of the moves of a half may be from one step.
_OFF = 1e-9


class Integrator(ABC):
    """One step of a flow. To add one: subclass, state the attributes, implement `step` and `inverse`.

    What it does not state is taken to be false or unknown: the flow works all the same, and promises less. A subclass
    with a `step` of its own inherits none of these facts but `order` and `separable_only`.

    Attributes:
        order: the global error is O(h^order) for smooth activations.
        separable_only: whether the field must be separable (each half of the state driven by the other half).
        symplectic: whether a step with a constant skew J keeps it, M J Mᵀ = J, where the integrator applies.
        reversible: whether `inverse` undoes a step but for rounding, as `memory="reverse"` needs.
        exact: whether there are steps on a grid, `exact_step`, which are undone to the bit.
        explicit: whether a step is made of sums and values of the field alone: it then commutes with differentiation,
            and gives the Jacobians of all layers at once.
        conformal: whether a step with J = block(X) keeps it but for the damping γ of the momenta, F J Fᵀ = e^(−γh) J.
        expansive: whether no step shrinks volume, |det F| ≥ 1, where J is skew and σ′ ≥ 0.
        traceable: whether a step is one fixed sequence of operators, as exported programs need.
        damping: γ ≥ 0, at which rate p decays before every step; 0 where nothing is damped.
        learn_damping: whether γ is a parameter of the flow, which starts from `damping`.
        kernel: the name under which fused kernels know the method, None where they do not.
        midpoint: whether a step is y⁺ = y + h f((y + y⁺) / 2), solved as `ImplicitMidpoint` does.
        first: the half of a state that moves first; "" where the whole moves.
    """

    order: ClassVar[int]
    first: str = ""
    damping: float = 0.0
    learn_damping: bool = False
    separable_only: ClassVar[bool] = False
    symplectic: ClassVar[bool] = False
    conformal: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    explicit: ClassVar[bool] = False
    expansive: ClassVar[bool] = False
    traceable: ClassVar[bool] = True
    kernel: ClassVar[str | None] = None
    midpoint: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        restated(cls, ["step"], {name: vars(Integrator)[name] for name in _OF_STEPS})

    @property
    def fractions(self) -> tuple[float, ...]:
        """What part of a step each move of a half takes, in turn; () where the whole moves."""
        return ()

    @property
    def reversible(self) -> bool:
        """Whether `inverse` undoes a step; what moves one half by the other is undone move by move."""
        return self.separable_only

    @property
    def has_jacobian(self) -> bool:
        """Whether the Jacobian of a step is known without differentiating it."""
        return self.explicit or type(self).jacobian is not Integrator.jacobian

    @abstractmethod
    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The state one step later, of the shape of y."""

    def steps(self, fields: Iterable[Field], y: Tensor, h: float) -> Tensor:
        """The state after a step in each field, to the bit that of `step` after `step`."""
        for field in fields:
            y = self.step(field, y, h)
        return y

    def steps_apart(self, fields: Iterable[Field], p: Tensor, q: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """As `steps`, of a state in two pieces, where each half is driven by the other."""
        fields = list(fields)
        return fields[0].split(self.steps(fields, fields[0].join(p, q), h)) if fields else (p, q)

    @abstractmethod
    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The state one step earlier: step(inverse(y)) = y.

        Raises:
            ValueError: if the step has no explicit inverse.
        """

    def exact_step(self, field: Field, y: Tensor, h: float, kind: torch.dtype, *, back: bool = False) -> Tensor:
        """A step, or a step back, of states in float64 on a grid, where sums have no rounding: undone to the bit.

        Args:
            field: that takes states of `kind`, and answers in any.
            y: on the grid.
            h: step size.
            kind: of numbers, in which the field is computed.
            back: undo a step.

        Raises:
            NotImplementedError: unless the integrator is `exact`.
        """
        raise NotImplementedError(f"`{self!r}` has no steps on a grid.")

    def jacobian(self, A: Callable[[Tensor], Tensor], y: Tensor, after: Tensor, h: float) -> Tensor | None:
        """F in closed form, for steps that are not explicit; None where nothing is known.

        Args:
            A: from states (..., n) to the Jacobians (..., n, n) of the field.
            y: (..., n), before the step.
            after: (..., n), after it.
            h: step size.
        """
        return None

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor | None:
        """An upper bound of log ‖F‖₂ for every state, ∞ in layers that have none; None where nothing is known.

        Args:
            x: the gains of the drives, each (N,): of the whole field, or of what moves p and q.
            monotone: whether J is skew and σ′ ≥ 0.
        """
        return None

    def log_inverse_growth(self, x: Gains, *, monotone: bool) -> Tensor | None:
        """The same for log ‖F⁻¹‖₂; ∞ where F may send a direction to zero."""
        return None


_OF_STEPS = (
    "steps",
    "steps_apart",
    "exact",
    "symplectic",
    "conformal",
    "reversible",
    "explicit",
    "expansive",
    "traceable",
    "kernel",
    "midpoint",
    "jacobian",
    "log_growth",
    "log_inverse_growth",
)


def log_of_inverse(kept: Tensor) -> Tensor:
    """−log of a lower bound of the smallest singular value; ∞ where it is not positive."""
    # There, neither the number nor its gradient may reach the logarithm.
    return torch.where(kept > 0, -torch.where(kept > 0, kept, 1).log(), torch.inf)


@dataclass(frozen=True)
class Splitting(Integrator):
    """The halves of the state move in turn, each by the other, for fractions of the step.

    p ← p + c₁ h f_p(q), q ← q + c₂ h f_q(p), p ← p + c₃ h f_p(q), …, or q first. Every move is a shear, so whatever the
    fractions are, the step is explicit, has an explicit inverse, keeps volume always and a constant J exactly. To add
    one: subclass, state `order` and `fractions`.

    With `damping` the momenta decay first, p ← e^(−γh) p: see `hdnn.damping`. `order` is that of the undamped step; a
    damped one has order 1.

    Args:
        first: the half that moves first.
        damping: γ ≥ 0, the rate at which p decays.
        learn_damping: make γ a parameter of the flow, which starts from `damping`.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section II.5.
    """

    first: Half = "p"
    damping: float = 0.0
    learn_damping: bool = False
    separable_only: ClassVar[bool] = True
    conformal: ClassVar[bool] = True
    explicit: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "partitioned"

    def __post_init__(self) -> None:
        if self.first not in ("p", "q"):
            raise ValueError(f'`first` must be "p" or "q", the half of the state that moves first; got {self.first!r}.')
        object.__setattr__(self, "damping", damping.checked(self.damping, self.learn_damping))
        for half, moves in (("first", self.fractions[::2]), ("second", self.fractions[1::2])):
            if not abs(sum(moves) - 1) < _OFF:
                raise ValueError(
                    f"The moves of either half must make one step: `fractions` of the {half} half of "
                    f"`{type(self).__name__}` sum to {sum(moves):.6g}, not 1; got {self.fractions}."
                )

    @property
    @abstractmethod
    def fractions(self) -> tuple[float, ...]:
        """What part of h each move takes, in turn; those of either half sum to 1."""

    @property
    def symplectic(self) -> bool:  # type: ignore[override]
        """Whether nothing is damped."""
        return self.damping == 0

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The momenta decay, then move after move."""
        return self.steps([field], y, h)

    def steps(self, fields: Iterable[Field], y: Tensor, h: float) -> Tensor:
        """The halves are cut once and joined once, for all steps."""
        fields = list(fields)
        if not fields:
            return y
        p, q = (packed(half) for half in fields[0].split(y))
        return fields[-1].join(*self.steps_apart(fields, p, q, h))

    def steps_apart(self, fields: Iterable[Field], p: Tensor, q: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """Move after move."""
        for field in fields:
            p, q = _walked(self._moves(), field, self._decayed(field, p, h), q, h)
        return p, q

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        """The same moves undone in reverse order, then the decay."""
        p, q = _walked(self._moves()[::-1], field, *field.split(y), -h)
        return field.join(self._decayed(field, p, -h), q)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether nothing is damped: what decays loses digits that no way back finds."""
        return not (self.damping or self.learn_damping)

    def exact_step(self, field: Field, y: Tensor, h: float, kind: torch.dtype, *, back: bool = False) -> Tensor:
        """Every move rounded to the grid before it is added, or subtracted on the way back."""
        p, q = field.split(y)
        for half, fraction in self._moves()[::-1] if back else self._moves():
            f = field.p(q.to(kind)) if half == "p" else field.q(p.to(kind))
            move = on_grid((-fraction * h if back else fraction * h) * f.to(y.dtype))
            p, q = (p + move, q) if half == "p" else (p, q + move)
        return field.join(p, q)

    def log_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """The norm of a shear is ‖[I B; 0 I]‖ = exp asinh(‖B‖/2): Σ asinh(|c| x/2) over the moves of c h."""
        counted = Counter((half, abs(fraction)) for half, fraction in self._moves())
        of = {"p": x[0], "q": x[1]}
        parts = [count * torch.asinh(fraction * of[half] / 2) for (half, fraction), count in counted.items()]
        return sum(parts[1:], start=parts[0])

    def log_inverse_growth(self, x: Gains, *, monotone: bool) -> Tensor:
        """A shear back is as large as the shear."""
        return self.log_growth(x, monotone=monotone)

    def _decayed(self, field: Field, p: Tensor, h: float) -> Tensor:
        rate = field.damping if self.learn_damping else self.damping
        return damping.decayed(p, rate, h) if self.damping else p

    def __repr__(self) -> str:
        return f"{type(self).__name__}(first={self.first!r}{damping.described(self.damping, self.learn_damping)})"

    def _moves(self) -> list[tuple[str, float]]:
        """The half that moves and its fraction of h, move by move."""
        halves = "pq" if self.first == "p" else "qp"
        return [(halves[i % 2], fraction) for i, fraction in enumerate(self.fractions)]


def packed(half: Tensor) -> Tensor:
    """In one piece, where it is cut from images with their channels innermost: sums and norms are faster on it."""
    if torch.compiler.is_compiling():
        return half  # a compiler lays out what it makes itself, and under its transforms strides cannot be asked for
    cut = half.dim() == 4 and half.stride(1) == 1 and not half.is_contiguous(memory_format=torch.channels_last)
    return half.clone() if cut else half


def _walked(moves: Iterable[tuple[str, float]], field: Field, p: Tensor, q: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """The halves after their moves, each for a fraction of h."""
    for half, fraction in moves:
        if half == "p":
            p = moved(p, field.p(q), fraction * h)
        else:
            q = moved(q, field.q(p), fraction * h)
    return p, q


_GRID = 2.0**-34


def on_grid(x: Tensor) -> Tensor:
    """The nearest multiple of 2⁻³⁴, float64: sums of such numbers are exact below 2¹⁹. Its derivative is taken as 1."""
    rounded = torch.round(x.detach() / _GRID) * _GRID
    return x + (rounded - x.detach()) if x.requires_grad else rounded


def no_inverse(name: str) -> ValueError:
    """The words of a step that cannot be undone."""
    reason = "has no explicit inverse: undoing it means solving for the state before the step."
    return shelled(
        ValueError(
            f"`{name}` {reason} Use `SymplecticEuler`, `StormerVerlet`, `Yoshida4` or `Suzuki4` (`h2`, `ms1`, `ms3`), "
            f"`ImplicitMidpoint` or `GaussLegendre`."
        ),
        f"The integrator {reason} Those of h2, ms1 and ms3 have one.",
    )


def moved(y: Tensor, f: Tensor, h: float) -> Tensor:
    """y + h f, in compiled functions as a difference, to the bit the same: its gradient takes one more pass over f.

    Inductor of PyTorch 2.13 makes `addmm` of a sum with a product and forgets h.
    """
    if torch.compiler.is_compiling():
        return torch.sub(y, f, alpha=-h)
    return torch.add(y, f, alpha=h)
