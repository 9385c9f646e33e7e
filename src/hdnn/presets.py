"""The five networks of the literature: each a choice of structure, interconnection and integrator.

Legend: layer y⁺ = y + h J Kᵀ σ(K y + b), h step, (p, q) the halves of y. The names h1 and h2 are those of the TAC
paper; the L4DC paper's H1 is `h1` with the canonical J, its H2 is `h1` with `Fixed(upper_ones(n))`.
Arguments that a preset does not describe are those of `Flow`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, TypeVar, Unpack, cast

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.doors import shelled
from hdnn.energies import Energy
from hdnn.flow import Backend, Flow, Memory
from hdnn.integrators import INTEGRATORS, ForwardEuler, Integrator, Splitting, SymplecticEuler, integrator_of
from hdnn.interconnections import Interconnection, Inverse
from hdnn.names import hint
from hdnn.spaces import Space
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, OffDiagonal, Skew

F = TypeVar("F", bound=Callable[..., Flow])
Given = Integrator | type[Integrator] | str

_EULER = ForwardEuler()
_FIRST_FIRST, _SECOND_FIRST = SymplecticEuler(first="p"), SymplecticEuler(first="q")


# What a preset does not leave open, and what it is.
_CHOSEN = {
    "ms1": {
        "structure": "`BlockSkew()`",
        "interconnection": "`Inverse()`",
        "width": "as many hidden units as features",
    },
    "ms2": {"structure": "`Skew()`", "interconnection": "`Inverse()`", "width": "as many hidden units as features"},
    "ms3": {
        "structure": "`OffDiagonal()`",
        "interconnection": "the canonical J",
        "width": "as many hidden units as features",
    },
    "h1": {"structure": "`Dense(width)`"},
    "h2": {"structure": "`BlockDiagonal(width)`"},
}


class Options(TypedDict, total=False):
    """What every preset passes on to `Flow`, which says what it means and what it is when left out."""

    step: float | None
    horizon: float | None
    activation: Activation | type[Activation] | str
    space: Space | type[Space] | None
    kernel_size: int | None
    inputs: int | None
    energy: Energy | None
    unit_weights: Tensor | float | None
    learn_unit_weights: bool
    ports: Tensor | int | None
    shared: bool
    backend: Backend
    memory: Memory | None
    init_std: float | None
    device: torch.device | str | None
    dtype: torch.dtype | None


def _preset(made: F) -> F:
    """Let `help` and editors show every keyword that the options of a preset stand for, and refuse others."""
    known = inspect.signature(Flow.__init__).parameters
    signature = inspect.signature(made)
    *own, _ = signature.parameters.values()
    shown = signature.replace(parameters=[*own, *(known[name] for name in Options.__annotations__)])

    @functools.wraps(made)
    def preset(*sizes: Any, **given: Any) -> Flow:
        for name in given:
            if name not in shown.parameters:
                raise TypeError(_refused(made.__name__, name, shown.parameters))
        return made(*sizes, **given)

    spelled: Any = preset
    spelled.__signature__ = shown
    return cast(F, preset)


def _refused(preset: str, option: str, known: Iterable[str]) -> str:
    """The words for an option that a preset does not have."""
    if option in _CHOSEN[preset]:
        return (
            f"`{preset}` takes no `{option}`: it is the flow with {_CHOSEN[preset][option]}. Use a preset that leaves "
            f"it open, or `Flow(..., {'structure' if option == 'width' else option}=...)`."
        )
    if option == "damping":
        return (
            f"`{preset}` takes no `damping`, which is that of the half that a step moves first or second, and its step "
            f"moves the whole state at once. Use `h2`, `ms1` or `ms3`; or lose energy by "
            f"`h1(..., interconnection=Dissipation(J, R))`."
        )
    return f"`{preset}` takes no `{option}`. {hint(option, known)}"


@_preset
def ms1(
    features: int,
    layers: int | None = None,
    *,
    integrator: Given = _SECOND_FIRST,
    damping: float | None = None,
    **options: Unpack[Options],
) -> Flow:
    """MS1: q⁺ = q + h σ(−K₀ᵀ p + b_q), p⁺ = p + h σ(K₀ q⁺ + b_p). Keeps volume.

    K = [0 K₀; −K₀ᵀ 0], J Kᵀ = I, the second half first. (n/2)² + n free numbers a layer.

    Args:
        features: n, even.
        layers: N.
        integrator: or another that fits; its name or class stands for the one that moves q first.
        damping: γ ≥ 0, the rate at which the first half of the state decays; None leaves it to the integrator.
        options: those of `Flow`, which refuses what does not fit.

    References:
        Haber, Ruthotto, Stable architectures for deep neural networks, Inverse Problems 34, 2018,
        https://arxiv.org/abs/1705.03341

    Example:
        >>> sum(p.numel() for p in ms1(4, layers=1, step=0.1).parameters())
        8
    """
    return Flow(
        features,
        layers,
        structure=BlockSkew(),
        interconnection=Inverse(),
        integrator=_damped(_second_first(integrator), damping),
        **options,
    )


@_preset
def ms2(features: int, layers: int | None = None, *, integrator: Given = _EULER, **options: Unpack[Options]) -> Flow:
    """MS2: y⁺ = y + h σ(K y + b) with K = −Kᵀ. Keeps nothing exactly; ‖∂y_N/∂y_j‖ ≥ 1.

    J Kᵀ = I, forward Euler. n (n − 1) / 2 + n free numbers a layer; odd n is accepted.

    Args:
        features: n.
        layers: N.
        integrator: or another that fits, itself, by class or by name.
        options: those of `Flow`, which refuses what does not fit.

    References:
        Haber, Ruthotto, Inverse Problems 34, 2018, https://arxiv.org/abs/1705.03341;
        Chang, Chen, Haber, Chi, AntisymmetricRNN, ICLR 2019, https://arxiv.org/abs/1902.09689

    Example:
        >>> sum(p.numel() for p in ms2(4, layers=1, step=0.1).parameters())
        10
    """
    return Flow(features, layers, structure=Skew(), interconnection=Inverse(), integrator=integrator, **options)


@_preset
def ms3(
    features: int,
    layers: int | None = None,
    *,
    integrator: Given = _FIRST_FIRST,
    damping: float | None = None,
    **options: Unpack[Options],
) -> Flow:
    """MS3: p⁺ = p + h K₁ᵀ σ(K₁ q + b₁), q⁺ = q − h K₂ᵀ σ(K₂ p⁺ + b₂). Symplectic: M J Mᵀ = J, J canonical.

    K = [0 K₁; K₂ 0], the first half first. n²/2 + n free numbers a layer. The same network as `h2` with the canonical
    J, up to the order of the rows of (K, b).

    Args:
        features: n, even.
        layers: N.
        integrator: or another that fits, itself, by class or by name.
        damping: γ ≥ 0, the rate at which the first half of the state decays; None leaves it to the integrator.
        options: those of `Flow`, which refuses what does not fit.

    References:
        Chang et al., Reversible architectures for arbitrarily deep residual neural networks, AAAI 2018,
        https://arxiv.org/abs/1709.03698

    Example:
        >>> sum(p.numel() for p in ms3(4, layers=1, step=0.1).parameters())
        12
    """
    return Flow(
        features,
        layers,
        structure=OffDiagonal(),
        interconnection="canonical",
        integrator=_damped(integrator, damping),
        **options,
    )


@_preset
def h1(
    features: int,
    layers: int | None = None,
    *,
    interconnection: Interconnection | Tensor | str | None = None,
    width: int | None = None,
    integrator: Given = _EULER,
    **options: Unpack[Options],
) -> Flow:
    """H1: y⁺ = y + h J Kᵀ σ(K y + b) with a full K and any skew J. Expressive; keeps nothing exactly.

    Forward Euler. n² + n free numbers a layer (width m: m n + m).

    Args:
        features: n; even with the default J.
        layers: N.
        interconnection: which J, as for `Flow`; None means the canonical one.
        width: m, hidden units a layer; None means n.
        integrator: or another that fits, itself, by class or by name.
        options: those of `Flow`, which refuses what does not fit.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, section 3 (there H1 with J1 and H2 with J2),
        https://arxiv.org/abs/2104.13166; Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023 (H1, any J),
        https://arxiv.org/abs/2105.13205

    Example:
        >>> sum(p.numel() for p in h1(4, layers=1, step=0.1).parameters())
        20
    """
    return Flow(
        features,
        layers,
        structure=Dense(width),
        interconnection="canonical" if interconnection is None else interconnection,
        integrator=integrator,
        **options,
    )


@_preset
def h2(
    features: int,
    layers: int | None = None,
    *,
    interconnection: Interconnection | Tensor | str | None = None,
    width: int | None = None,
    integrator: Given = _FIRST_FIRST,
    damping: float | None = None,
    **options: Unpack[Options],
) -> Flow:
    """H2: p⁺ = p − h Xᵀ K_qᵀ σ(K_q q + b_q), q⁺ = q + h X K_pᵀ σ(K_p p⁺ + b_p). Keeps J: M J Mᵀ = J.

    K = blkdiag(K_p, K_q), J = [0 −Xᵀ; X 0] (canonical is X = −I), symplectic Euler, the first half first.
    n²/2 + n free numbers a layer (width m: m n/2 + m). Not the H2 of the L4DC paper, which is `h1` with
    `Fixed(upper_ones(n))`.

    Args:
        features: n, even.
        layers: N.
        interconnection: which J, as for `Flow`; None means the canonical one. `Fixed(block(X))` sets X.
        width: m, hidden units a layer, even; None means n.
        integrator: or another that fits, itself, by class or by name.
        damping: γ ≥ 0, the rate at which the first half of the state decays; None leaves it to the integrator.
        options: those of `Flow`, which refuses what does not fit.

    References:
        Galimberti, Furieri, Xu, Ferrari-Trecate, Hamiltonian deep neural networks guaranteeing non-vanishing gradients
        by design, IEEE TAC 2023, https://arxiv.org/abs/2105.13205

    Example:
        >>> sum(p.numel() for p in h2(4, layers=1, step=0.1).parameters())
        12
    """
    return Flow(
        features,
        layers,
        structure=BlockDiagonal(width),
        interconnection="canonical" if interconnection is None else interconnection,
        integrator=_damped(integrator, damping),
        **options,
    )


def _damped(integrator: Given, rate: float | None) -> Given:
    """The integrator with a damping of the momenta, where one is asked for."""
    if rate is None:
        return integrator
    found = integrator_of(integrator)
    if not isinstance(found, Splitting):
        raise shelled(
            ValueError(
                f"`damping` is that of the half which a step moves first or second, and `{found!r}` moves the whole "
                f"state at once. Use `SymplecticEuler()` or another `Splitting`."
            ),
            "Damping is that of one half of the state, and this integrator moves the whole state at once. Leave the "
            "integrator out, or use symplectic_euler, stormer_verlet, yoshida4 or suzuki4.",
        )
    if found.damping not in (0, rate):
        raise ValueError(
            f"`damping={rate!r}` and that of `integrator={found!r}` are two answers to one question. Give one of them."
        )
    return dataclasses.replace(found, damping=rate)


def _second_first(integrator: Given) -> Given:
    """The second half of MS1 moves first, also in splittings that are given by name or by class."""
    if isinstance(integrator, type) and issubclass(integrator, Splitting):
        return integrator(first="q")
    named = INTEGRATORS.get(integrator) if isinstance(integrator, str) else None
    return dataclasses.replace(named, first="q") if isinstance(named, Splitting) else integrator
