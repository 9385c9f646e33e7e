"""The five networks of the literature: each a choice of structure, interconnection and integrator.

Legend: layer y⁺ = y + h J Kᵀ σ(K y + b), h step, (p, q) the halves of y. The names h1 and h2 are those of the TAC
paper; the L4DC paper's H1 is `h1` with the canonical J, its H2 is `h1` with `Fixed(upper_ones(n))`.
Arguments that a preset does not describe are those of `Flow`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.activations import Activation, tanh
from hdnn.flow import Backend, Flow, Memory
from hdnn.integrators import ForwardEuler, SymplecticEuler
from hdnn.interconnections import Interconnection, Inverse
from hdnn.spaces import Space
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, OffDiagonal, Skew


def ms1(
    features: int,
    layers: int | None = None,
    *,
    step: float | None = None,
    horizon: float | None = None,
    activation: Activation | type[Activation] | str = tanh,
    space: Space | type[Space] | None = None,
    kernel_size: int | None = None,
    inputs: int | None = None,
    shared: bool = False,
    backend: Backend = "auto",
    memory: Memory | None = None,
    init_std: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """MS1: q⁺ = q + h σ(−K₀ᵀ p + b_q), p⁺ = p + h σ(K₀ q⁺ + b_p). Keeps volume.

    K = [0 K₀; −K₀ᵀ 0], J Kᵀ = I, the second half first. (n/2)² + n free numbers a layer.

    Args:
        features: n, even.
        layers: N.

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
        step=step,
        horizon=horizon,
        structure=BlockSkew(),
        interconnection=Inverse(),
        activation=activation,
        integrator=SymplecticEuler(first="q"),
        space=space,
        kernel_size=kernel_size,
        inputs=inputs,
        shared=shared,
        backend=backend,
        memory=memory,
        init_std=init_std,
        device=device,
        dtype=dtype,
    )


def ms2(
    features: int,
    layers: int | None = None,
    *,
    step: float | None = None,
    horizon: float | None = None,
    activation: Activation | type[Activation] | str = tanh,
    space: Space | type[Space] | None = None,
    kernel_size: int | None = None,
    inputs: int | None = None,
    shared: bool = False,
    backend: Backend = "auto",
    memory: Memory | None = None,
    init_std: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """MS2: y⁺ = y + h σ(K y + b) with K = −Kᵀ. Keeps nothing exactly; ‖∂y_N/∂y_j‖ ≥ 1.

    J Kᵀ = I, forward Euler. n (n − 1) / 2 + n free numbers a layer; odd n is accepted.

    Args:
        features: n.
        layers: N.

    References:
        Haber, Ruthotto, Inverse Problems 34, 2018, https://arxiv.org/abs/1705.03341;
        Chang, Chen, Haber, Chi, AntisymmetricRNN, ICLR 2019, https://arxiv.org/abs/1902.09689

    Example:
        >>> sum(p.numel() for p in ms2(4, layers=1, step=0.1).parameters())
        10
    """
    return Flow(
        features,
        layers,
        step=step,
        horizon=horizon,
        structure=Skew(),
        interconnection=Inverse(),
        activation=activation,
        integrator=ForwardEuler(),
        space=space,
        kernel_size=kernel_size,
        inputs=inputs,
        shared=shared,
        backend=backend,
        memory=memory,
        init_std=init_std,
        device=device,
        dtype=dtype,
    )


def ms3(
    features: int,
    layers: int | None = None,
    *,
    step: float | None = None,
    horizon: float | None = None,
    activation: Activation | type[Activation] | str = tanh,
    space: Space | type[Space] | None = None,
    kernel_size: int | None = None,
    inputs: int | None = None,
    shared: bool = False,
    backend: Backend = "auto",
    memory: Memory | None = None,
    init_std: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """MS3: p⁺ = p + h K₁ᵀ σ(K₁ q + b₁), q⁺ = q − h K₂ᵀ σ(K₂ p⁺ + b₂). Symplectic: M J Mᵀ = J, J canonical.

    K = [0 K₁; K₂ 0], the first half first. n²/2 + n free numbers a layer. The same network as `h2` with the canonical
    J, up to the order of the rows of (K, b).

    Args:
        features: n, even.
        layers: N.

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
        step=step,
        horizon=horizon,
        structure=OffDiagonal(),
        interconnection="canonical",
        activation=activation,
        integrator=SymplecticEuler(first="p"),
        space=space,
        kernel_size=kernel_size,
        inputs=inputs,
        shared=shared,
        backend=backend,
        memory=memory,
        init_std=init_std,
        device=device,
        dtype=dtype,
    )


def h1(
    features: int,
    layers: int | None = None,
    *,
    step: float | None = None,
    horizon: float | None = None,
    interconnection: Interconnection | Tensor | str | None = None,
    activation: Activation | type[Activation] | str = tanh,
    width: int | None = None,
    space: Space | type[Space] | None = None,
    kernel_size: int | None = None,
    inputs: int | None = None,
    shared: bool = False,
    backend: Backend = "auto",
    memory: Memory | None = None,
    init_std: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """H1: y⁺ = y + h J Kᵀ σ(K y + b) with a full K and any skew J. Expressive; keeps nothing exactly.

    Forward Euler. n² + n free numbers a layer (width m: m n + m).

    Args:
        features: n; even with the default J.
        layers: N.
        interconnection: which J, as for `Flow`; None means the canonical one.
        width: m, hidden units a layer; None means n.

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
        step=step,
        horizon=horizon,
        structure=Dense(width),
        interconnection="canonical" if interconnection is None else interconnection,
        activation=activation,
        integrator=ForwardEuler(),
        space=space,
        kernel_size=kernel_size,
        inputs=inputs,
        shared=shared,
        backend=backend,
        memory=memory,
        init_std=init_std,
        device=device,
        dtype=dtype,
    )


def h2(
    features: int,
    layers: int | None = None,
    *,
    step: float | None = None,
    horizon: float | None = None,
    interconnection: Interconnection | Tensor | str | None = None,
    activation: Activation | type[Activation] | str = tanh,
    width: int | None = None,
    space: Space | type[Space] | None = None,
    kernel_size: int | None = None,
    inputs: int | None = None,
    shared: bool = False,
    backend: Backend = "auto",
    memory: Memory | None = None,
    init_std: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
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
        step=step,
        horizon=horizon,
        structure=BlockDiagonal(width),
        interconnection="canonical" if interconnection is None else interconnection,
        activation=activation,
        integrator=SymplecticEuler(first="p"),
        space=space,
        kernel_size=kernel_size,
        inputs=inputs,
        shared=shared,
        backend=backend,
        memory=memory,
        init_std=init_std,
        device=device,
        dtype=dtype,
    )
