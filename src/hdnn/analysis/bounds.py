"""How small and how large ‖∂y_N/∂y_j‖ can be, from the factors and weights of a flow alone: no input is needed.

Legend: h step, σ′ the slope of the activation with |σ′| ≤ s, K and b the weights of a layer, W = K Jᵀ (J Kᵀ = I where
W is missing), D = diag σ′(K y + b), S = Kᵀ D K; A = J S the Jacobian of the field. Norms are spectral norms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.analysis.checks import check_weights
from hdnn.analysis.precision import check_precision, in_full
from hdnn.flow import Flow
from hdnn.hamiltonian import Drive

Slopes = tuple[float, float]
Size = tuple[int, ...]


def lower_bound(flow: Flow, *, slopes: Slopes | None = None) -> float:
    """1.0, below which no norm ‖∂y_N/∂y_j‖ of this flow can fall, at any input, depth or weights; e^(−γT/2) if damped.

    It holds for all five presets, for any skew J, also one per layer, and for every norm with ‖AB‖ ≤ ‖A‖ ‖B‖. It is
    promised only where every factor states what the proof needs (`Interconnection.skew`, `Activation.slopes`,
    `symplectic` or `expansive` of the `Integrator`), and is refused where one does not: with J − R in the place of J
    norms can fall to 0.

    Proof. No layer F shrinks volume: |det F| ≥ 1.

    - *Forward Euler*, F = I + h J S with σ′ ≥ 0: S is positive semi-definite, so J S has the eigenvalues of the
      skew matrix √S J √S (and A = D K, where J Kᵀ = I, those of √D K √D): ±iω, so det F = Π (1 + h² ω²) ≥ 1.
    - *Symplectic Euler, Störmer-Verlet and every other splitting*: each move adds to one half of the state a function
      of the other. Its Jacobian is triangular with ones on the diagonal, so det F = 1, for any σ.
    - *Implicit midpoint*, F = (I − hA/2)⁻¹ (I + hA/2): det(I + hA/2) = det(I + hA/2)ᵀ = det(I − h S J/2)
      = det(I − h J S/2) = det(I − hA/2) by Sylvester's identity (for D K likewise), so det F = 1, for any σ.

    With `damping` γ of the momenta, a step begins with D = diag(e^(−γh) I, I), and det D = e^(−γhn/2); so what follows
    holds with e^(−γTn/2) in the place of 1, and gives e^(−γT/2).

    Hence |det M| ≥ 1 for the product M of the layers, the largest modulus among its n eigenvalues is at least
    |det M|^(1/n) ≥ 1, and no such norm is smaller than that modulus. ∎

    It says that *some* direction of ∂y_N/∂y_j does not vanish. It says nothing of the others: where M J Mᵀ = J with
    the canonical J the singular values come in pairs s, 1/s, so growth along one direction is decay along another.
    What can be said of every gradient is `gradient_lower_bound`.
    `RungeKutta4` has no such bound: at σ = identity and h ω = 1 it multiplies the norm by 0.994 a step.

    Args:
        flow: any flow; its weights do not matter.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.

    Returns:
        1.0, or e^(−γT/2).

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
    if why_not := _no_lower_bound(flow, slopes):
        raise ValueError(why_not)
    return math.exp(-flow.damping * flow.horizon / 2) if flow.damping else 1.0


def _no_lower_bound(flow: Flow, slopes: Slopes | None) -> str:
    """Which factor does not state what `lower_bound` needs, and what to do; nothing where all do."""
    integrator, name = flow.integrator, type(flow.integrator).__name__
    if not flow.recurrent and flow.layers == 0:
        return ""
    if not flow.interconnection.skew:
        return (
            f"`{flow.interconnection!r}` does not state that J = -Jᵀ (`skew = True`), so nothing is promised: with "
            f"J - R in the place of J norms can fall to 0. Use a skew J, or measure: `log_norms(flow, y0)`."
        )
    if integrator.symplectic or integrator.conformal:
        return ""
    if not integrator.expansive:
        return (
            f"`{name}` does not guarantee ‖∂y_N/∂y_j‖ ≥ 1: a step may shrink volume. Use `ForwardEuler` or a "
            f"symplectic integrator (`ImplicitMidpoint`, or a `Splitting`: `SymplecticEuler`, `StormerVerlet`, "
            f"`Yoshida4`, `Suzuki4`)."
        )
    if flow.hamiltonian.own is not None and not is_convex(flow):
        return (
            f"`{name}` guarantees ‖∂y_N/∂y_j‖ ≥ 1 only where H is convex, which the energy "
            f"`{type(flow.hamiltonian.own).__name__}` does not state (`curvature`). Use a symplectic integrator, which "
            f"needs no such thing."
        )
    smallest, _ = slope_range(flow.activation, slopes)
    if smallest < 0:
        return (
            f"`{name}` guarantees ‖∂y_N/∂y_j‖ ≥ 1 only where σ′ ≥ 0; the slopes of `{flow.activation!r}` reach "
            f"{smallest:g}. Use a monotone activation, or a symplectic integrator, which needs none."
        )
    return ""


def upper_bound(flow: Flow, *, slopes: Slopes | None = None, image_size: Size | None = None) -> Tensor:
    """The product of `log_layer_bounds`: no ‖∂y_N/∂y_0‖₂ of this flow exceeds it, at any input.

    Args:
        flow: any flow.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.
        image_size: (H, W) of images, (L,) of signals, for tighter bounds of convolutions; None bounds those of any
            size. See `operator_norms`.

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
        image_size: (H, W) of images, (L,) of signals, for tighter bounds of convolutions; None bounds those of any
            size. See `operator_norms`.

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
    of_layers = log_layer_bounds(flow, slopes=slopes, image_size=image_size)
    if flow.recurrent:
        raise ValueError(
            "This flow takes as many steps as the inputs of a call have entries, and its bound grows with them. That "
            "of N steps is `N * log_layer_bounds(flow)` in logarithm, as all of them share their weights."
        )
    return of_layers.sum()


@in_full
def log_layer_bounds(flow: Flow, *, slopes: Slopes | None = None, image_size: Size | None = None) -> Tensor:
    """Upper bounds of log ‖∂y_{j+1}/∂y_j‖₂, layer by layer, from the operator norms of the weights.

    With x = h s ‖W‖ ‖K‖ (at most h s ‖J‖ ‖K‖²; x = h s ‖K‖ where J Kᵀ = I), and x_p, x_q the same for the weights
    that drive p and q:

    - `ForwardEuler`: ‖I + hA‖ ≤ 1 + x.
    - `ImplicitMidpoint`, σ′ ≥ 0 and J skew: 1 + x at any h. With R = √D K, Woodbury's identity gives
      F = I + h J Rᵀ (I − (h/2) R J Rᵀ)⁻¹ R, where R J Rᵀ is skew and the inverse therefore has norm ≤ 1
      (where J Kᵀ = I, √D takes the place of J Rᵀ, and √D K √D that of R J Rᵀ). Else (1 + x/2) / (1 − x/2), for x < 2.
    - `GaussLegendre`: the same with x / (1 − κ x) in the place of x, κ = √3/6 for two stages, where κ x < 1.
    - `DiscreteGradient`, σ′ ≥ 0 and J skew: (1 + x/2)² at any h; else as the midpoint rule.
    - `SymplecticEuler`: a move with x has norm ‖[I B; 0 I]‖ = (‖B‖ + √(‖B‖² + 4)) / 2 = exp asinh(‖B‖/2),
      ‖B‖ ≤ x, so asinh(x_p/2) + asinh(x_q/2): below log (1 + x_p)(1 + x_q), and half of it where x is small.
    - every other `Splitting`, such as `StormerVerlet`: the same for its moves, c x for one of c h, whatever its sign.
      The damping of momenta before them has norm 1.
    - `RungeKutta4`: 1 + x + x²/2 + x³/6 + x⁴/24 ≤ eˣ.
    - any other, what its `log_growth` states.

    Args:
        flow: any flow.
        slopes: (smallest, largest) value of σ′, for an activation that is not built in.
        image_size: (H, W) of images, (L,) of signals, for tighter bounds of convolutions; None bounds those of any
            size. See `operator_norms`.

    Returns:
        (N,), differentiable; its sum over the layers j … N − 1 bounds log ‖∂y_N/∂y_j‖₂. (1,), that of any step, of
        a flow whose inputs say how many there are. Inputs move biases alone, so that bounds hold whatever they are.

    Raises:
        ValueError: if a weight is not finite, the slopes of the activation are not known, or nothing is known of the
            integrator with these slopes and this J.

    Example:
        >>> import hdnn
        >>> log_layer_bounds(hdnn.ms2(4, layers=8, step=0.1)).shape
        torch.Size([8])
    """
    check_weights(flow)
    check_precision(flow)
    smallest, largest = slope_range(flow.activation, slopes)
    if not flow.recurrent and flow.layers == 0:
        return flow.weight.new_zeros(0)
    monotone = smallest >= 0 and flow.interconnection.skew and is_convex(flow)
    found = flow.integrator.log_growth(gains(flow, slopes, image_size), monotone=monotone)
    if found is not None and bool(found.isfinite().all()):
        return found
    of_J = "" if flow.interconnection.skew else ", whose J is not stated to be skew"
    own = flow.hamiltonian.own
    endless = own is not None and own.curvature is not None and not all(map(math.isfinite, own.curvature))
    of_E = ", with an energy whose `curvature` is infinite" if endless else ""
    raise ValueError(
        f"No upper bound is known for `{flow.integrator!r}` with slopes from {smallest:g} to {largest:g}{of_J}{of_E}. "
        f"Measure instead: `log_norms(flow, y0)`."
    )


def is_convex(flow: Flow) -> bool:
    """Whether an energy of one's own, where there is one, has no negative curvature."""
    own = flow.hamiltonian.own
    return own is None or (own.curvature is not None and own.curvature[0] >= 0)


def gains(flow: Flow, slopes: Slopes | None, image_size: Size | None) -> tuple[Tensor, ...]:
    """x = h s ‖W‖ ‖K‖ of every layer, (N,), of each drive: no direction is moved by more in a step of forward Euler.

    With weights a of the units ‖√a W‖ ‖√a K‖; with an energy of curvature c beside them x = h ‖S‖ (s ‖√a K‖² + |c|).

    Raises:
        ValueError: if the curvature of an energy is not known, or J depends on the state.
    """
    own = flow.hamiltonian.own
    if reason := unknown_gains(flow):
        raise ValueError(reason)
    drives = zip(*(field.drives for field in flow.fields()), strict=True)
    s = max(abs(slope) for slope in slope_range(flow.activation, slopes))
    if own is None or own.curvature is None:
        return tuple(flow.step * s * _product_of_norms(of_layers, image_size) for of_layers in drives)
    most = max(map(abs, own.curvature))
    return tuple(flow.step * _beside_units(of_layers, s, most) for of_layers in drives)


def unknown_gains(flow: Flow) -> str:
    """Why nothing is known of how much a step moves; nothing where something is."""
    own = flow.hamiltonian.own
    if flow.interconnection.of_state is None and (own is None or own.curvature is not None):
        return ""
    return (
        "No bound is known of a J(y), nor of an energy that does not state its `curvature`. Measure instead: "
        "`log_norms(flow, y0)`."
    )


def _beside_units(drives: Sequence[Drive], s: float, curvature: float) -> Tensor:
    """‖S‖ (s ‖√a K‖² + |c|) of every layer."""
    S = torch.stack([drive.layer.S for drive in drives if drive.layer.S is not None])
    of_units = torch.stack([_of_units(drive, drive.layer.K) for drive in drives])
    norms = torch.linalg.matrix_norm(of_units, 2) if of_units.shape[1] else of_units.new_zeros(len(of_units))
    found: Tensor = torch.linalg.matrix_norm(S, 2) * (s * norms.square() + curvature)
    return found


def _of_units(drive: Drive, X: Tensor) -> Tensor:
    """√a X, for X with a row for every unit."""
    a = drive.layer.a
    return X if a is None else X * a.sqrt().reshape(-1, *[1] * (X.dim() - 1))


def _product_of_norms(drives: Sequence[Drive], image_size: Size | None) -> Tensor:
    """‖√a W‖ ‖√a K‖ of every layer: what the drive Wᵀ σ(K y + b) amplifies by where σ′ = 1."""
    space = drives[0].space
    of_K = space.norm(torch.stack([_of_units(drive, drive.layer.K) for drive in drives]), image_size)
    W = [_of_units(drive, drive.layer.W) for drive in drives if drive.layer.W is not None]
    if W:
        return of_K * space.norm(torch.stack(W), image_size)
    a = [drive.layer.a for drive in drives if drive.layer.a is not None]
    return of_K * torch.stack(a).amax(1).sqrt() if a else of_K  # W is the identity, so ‖√a W‖² is the largest a


def slope_range(activation: Activation, slopes: Slopes | None) -> Slopes:
    """(smallest, largest) value of σ′: what is given, or what the activation states.

    Raises:
        ValueError: if neither says it, or what is given makes no sense.
    """
    found = activation.slopes if slopes is None else slopes
    if found is None:
        raise ValueError(
            f"The slopes σ′ of `{activation!r}` are not known here. Say between which values they lie: "
            f"`slopes=(smallest, largest)`, or `slopes` of the activation itself."
        )
    if not (all(map(math.isfinite, found)) and found[0] <= found[1]):
        raise ValueError(f"`slopes` must be (smallest, largest), two finite values of σ′; got {found}.")
    return found
