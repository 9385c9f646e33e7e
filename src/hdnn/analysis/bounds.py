"""How small and how large ‖∂y_N/∂y_j‖ can be, from the factors and weights of a flow alone: no input is needed.

Legend: h step, σ′ the slope of the activation with |σ′| ≤ s, K and b the weights of a layer, W = K Jᵀ (J Kᵀ = I where
W is missing), D = diag σ′(K y + b), S = Kᵀ D K; A = J S the Jacobian of the field. Norms are spectral norms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn.activations import Activation, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from hdnn.analysis.inputs import check_weights
from hdnn.analysis.operators import operator_norms
from hdnn.flow import Flow
from hdnn.hamiltonian import Drive
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, RungeKutta4, StormerVerlet, SymplecticEuler

Slopes = tuple[float, float]
Size = tuple[int, int]

_SLOPES: dict[type[Activation], Slopes] = {
    Tanh: (0.0, 1.0),
    ReLU: (0.0, 1.0),
    Sigmoid: (0.0, 0.25),
    Softplus: (0.0, 1.0),
    Identity: (1.0, 1.0),
}


def lower_bound(flow: Flow, *, slopes: Slopes | None = None) -> float:
    """1.0, below which no norm ‖∂y_N/∂y_j‖ of this flow can fall, at any input, depth or weights.

    It holds for all five presets, for any J, also one per layer, and for every norm with ‖AB‖ ≤ ‖A‖ ‖B‖.

    Proof. No layer F shrinks volume: |det F| ≥ 1.

    - *Forward Euler*, F = I + h J S with σ′ ≥ 0: S is positive semi-definite, so J S has the eigenvalues of the
      skew matrix √S J √S (and A = D K, where J Kᵀ = I, those of √D K √D): ±iω, so det F = Π (1 + h² ω²) ≥ 1.
    - *Symplectic Euler and Störmer-Verlet*: each move adds to one half of the state a function of the other. Its
      Jacobian is triangular with ones on the diagonal, so det F = 1, for any σ.
    - *Implicit midpoint*, F = (I − hA/2)⁻¹ (I + hA/2): det(I + hA/2) = det(I + hA/2)ᵀ = det(I − h S J/2)
      = det(I − h J S/2) = det(I − hA/2) by Sylvester's identity (for D K likewise), so det F = 1, for any σ.

    Hence |det M| ≥ 1 for the product M of the layers, the largest modulus among its n eigenvalues is at least
    |det M|^(1/n) ≥ 1, and no such norm is smaller than that modulus. ∎

    It says that *some* direction of ∂y_N/∂y_j does not vanish. It says nothing of the others: where M J Mᵀ = J with
    the canonical J the singular values come in pairs s, 1/s, so growth along one direction is decay along another.
    `RungeKutta4` has no such bound: at σ = identity and h ω = 1 it multiplies the norm by 0.994 a step.

    Args:
        flow: any flow; its weights do not matter.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.

    Returns:
        1.0.

    Raises:
        ValueError: if the factors do not guarantee the bound; the message says which.

    References:
        Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023 (the bound for H2 and a constant J),
        https://arxiv.org/abs/2105.13205

    Example:
        >>> import hdnn
        >>> lower_bound(hdnn.h1(4, layers=64, step=0.5))
        1.0
    """
    if flow.layers == 0 or flow.integrator.symplectic:
        return 1.0
    name = type(flow.integrator).__name__
    if type(flow.integrator) is not ForwardEuler:
        raise ValueError(
            f"`{name}` does not guarantee ‖∂y_N/∂y_j‖ ≥ 1: a step may shrink volume. Use `ForwardEuler` or a "
            f"symplectic integrator (`SymplecticEuler`, `StormerVerlet`, `ImplicitMidpoint`)."
        )
    smallest, _ = _slope_range(flow.activation, slopes)
    if smallest < 0:
        raise ValueError(
            f"`{name}` guarantees ‖∂y_N/∂y_j‖ ≥ 1 only where σ′ ≥ 0; the slopes of `{flow.activation!r}` reach "
            f"{smallest:g}. Use a monotone activation, or a symplectic integrator, which needs none."
        )
    return 1.0


def upper_bound(flow: Flow, *, slopes: Slopes | None = None, image_size: Size | None = None) -> Tensor:
    """The product of `log_layer_bounds`: no ‖∂y_N/∂y_0‖₂ of this flow exceeds it, at any input.

    Args:
        flow: any flow.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.
        image_size: (H, W) of the images of convolutions, for tighter bounds; None bounds images of any size. See
            `operator_norms`.

    Returns:
        A scalar, differentiable; ∞ where it overflows (`log_upper_bound` does not).

    Raises:
        ValueError: as `log_layer_bounds`.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=16, step=0.05, dtype=torch.float64)
        >>> M = torch.func.jacrev(flow)(torch.randn(4, dtype=torch.float64))
        >>> bool(torch.linalg.matrix_norm(M, 2) <= upper_bound(flow))
        True
    """
    return log_upper_bound(flow, slopes=slopes, image_size=image_size).exp()


def log_upper_bound(flow: Flow, *, slopes: Slopes | None = None, image_size: Size | None = None) -> Tensor:
    """The logarithm of `upper_bound`, differentiable in the weights: a regulariser that keeps gradients from exploding.

    Added to the loss with a small factor, it shrinks the norms of the weights of the layers that may amplify most.

    Args:
        flow: any flow.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.
        image_size: (H, W) of the images of convolutions, for tighter bounds; None bounds images of any size. See
            `operator_norms`.

    Returns:
        A scalar, 0 or more, with gradients to `weight` and `interconnection_weight`.

    Raises:
        ValueError: as `log_layer_bounds`.

    Example:
        >>> import hdnn
        >>> flow = hdnn.h1(4, layers=8, step=0.1)
        >>> log_upper_bound(flow).backward()
        >>> flow.weight.grad.shape
        torch.Size([8, 4, 4])
    """
    return log_layer_bounds(flow, slopes=slopes, image_size=image_size).sum()


def log_layer_bounds(flow: Flow, *, slopes: Slopes | None = None, image_size: Size | None = None) -> Tensor:
    """Upper bounds of log ‖∂y_{j+1}/∂y_j‖₂, layer by layer, from the operator norms of the weights.

    With x = h s ‖W‖ ‖K‖ (at most h s ‖J‖ ‖K‖²; x = h s ‖K‖ where J Kᵀ = I), and x_p, x_q the same for the weights
    that drive p and q:

    - `ForwardEuler`: ‖I + hA‖ ≤ 1 + x.
    - `ImplicitMidpoint`, σ′ ≥ 0: 1 + x at any h. With R = √D K, Woodbury's identity gives
      F = I + h J Rᵀ (I − (h/2) R J Rᵀ)⁻¹ R, where R J Rᵀ is skew and the inverse therefore has norm ≤ 1
      (where J Kᵀ = I, √D takes the place of J Rᵀ, and √D K √D that of R J Rᵀ).
    - `SymplecticEuler`: a move with x has norm ‖[I B; 0 I]‖ = (‖B‖ + √(‖B‖² + 4)) / 2 = exp asinh(‖B‖/2),
      ‖B‖ ≤ x, so asinh(x_p/2) + asinh(x_q/2): below log (1 + x_p)(1 + x_q), and half of it where x is small.
    - `StormerVerlet`: the same for its three moves.
    - `RungeKutta4`: 1 + x + x²/2 + x³/6 + x⁴/24 ≤ eˣ.

    Args:
        flow: any flow.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.
        image_size: (H, W) of the images of convolutions, for tighter bounds; None bounds images of any size. See
            `operator_norms`.

    Returns:
        (N,), differentiable; its sum over the layers j … N − 1 bounds log ‖∂y_N/∂y_j‖₂.

    Raises:
        ValueError: if a weight is not finite, or the activation or integrator is not known here.

    Example:
        >>> import hdnn
        >>> log_layer_bounds(hdnn.ms2(4, layers=8, step=0.1)).shape
        torch.Size([8])
    """
    check_weights(flow)
    smallest, largest = _slope_range(flow.activation, slopes)
    if flow.layers == 0:
        return flow.weight.new_zeros(0)
    fields, scale = flow.fields(), flow.step * max(abs(smallest), abs(largest))
    if flow.integrator.separable_only:
        p = scale * _product_of_norms([field.p for field in fields], image_size)
        q = scale * _product_of_norms([field.q for field in fields], image_size)
    else:
        x = scale * _product_of_norms([field.whole for field in fields if field.whole is not None], image_size)
    integrator = flow.integrator  # its very type: a subclass may step otherwise
    if type(integrator) is ForwardEuler or (type(integrator) is ImplicitMidpoint and smallest >= 0):
        return torch.log1p(x)
    if type(integrator) is SymplecticEuler:
        return torch.asinh(p / 2) + torch.asinh(q / 2)
    if type(integrator) is StormerVerlet:
        twice, once = (p, q) if integrator.first == "p" else (q, p)
        return 2 * torch.asinh(twice / 4) + torch.asinh(once / 2)
    if type(integrator) is RungeKutta4:
        return torch.log1p(x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4))))
    raise ValueError(
        f"No upper bound is known for `{integrator!r}` with slopes from {smallest:g} to {largest:g}. Measure instead: "
        f"`log_norms(flow, y0)`."
    )


def _product_of_norms(drives: Sequence[Drive], image_size: Size | None) -> Tensor:
    """‖W‖ ‖K‖ of every layer: what the drive Wᵀ σ(K y + b) amplifies by where σ′ = 1."""
    K, W = [drive.K for drive in drives], [drive.W for drive in drives if drive.W is not None]
    images = K[0].dim() == 4
    factors = [operator_norms(torch.stack(X), images=images, image_size=image_size) for X in (K, W) if X]
    return math.prod(factors[1:], start=factors[0])


def _slope_range(activation: Activation, slopes: Slopes | None) -> Slopes:
    if slopes is not None:
        if not (all(map(math.isfinite, slopes)) and slopes[0] <= slopes[1]):
            raise ValueError(f"`slopes` must be (smallest, largest), two finite values of σ′; got {slopes}.")
        return slopes
    if type(activation) is LeakyReLU:
        return min(activation.negative_slope, 1.0), max(activation.negative_slope, 1.0)
    if type(activation) in _SLOPES:
        return _SLOPES[type(activation)]
    raise ValueError(
        f"The slopes σ′ of `{activation!r}` are not known here. Say between which values they lie: "
        f"`slopes=(smallest, largest)`."
    )
