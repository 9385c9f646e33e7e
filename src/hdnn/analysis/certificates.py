"""What is certain of every gradient: how small ‖∂L/∂y_j‖ can be beside ‖∂L/∂y_N‖, from the weights, or from one norm.

Legend: L a loss, M_j = ∂y_N/∂y_j with singular values s_1 ≥ … ≥ s_n, F the Jacobian of a layer; h step, σ′ the slope of
the activation with |σ′| ≤ s, W = K Jᵀ, x = h s ‖W‖ ‖K‖ of a layer. As ∂L/∂y_j = M_jᵀ ∂L/∂y_N, no gradient shrinks by
more than the smallest singular value, and some loss has one that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.analysis.bounds import Size, Slopes, gains, is_convex, lower_bound, slope_range, unknown_gains
from hdnn.analysis.checks import check_weights
from hdnn.analysis.precision import check_precision, in_full
from hdnn.flow import Flow


@dataclass(frozen=True, eq=False)
class GradientBound:
    """‖∂L/∂y_j‖₂ ≥ value[j] ‖∂L/∂y_N‖₂ for every loss L: what is certain of gradients.

    Attributes:
        log: the natural logarithms, (N + 1,) for j = 0 … N, or of the shape of the norms that were given; −∞ where
            nothing is certain.
        reason: what the bound rests on, or why there is none.
    """

    log: Tensor
    reason: str

    @property
    def value(self) -> Tensor:
        """The bounds themselves, 0 where nothing is certain; 0 also where they fall below the range of the dtype."""
        return self.log.exp()


@in_full
def gradient_lower_bound(
    flow: Flow, norms: Tensor | None = None, *, slopes: Slopes | None = None, image_size: Size | None = None
) -> GradientBound:
    """How small a gradient can be before every layer, beside that at the output: a bound of s_n(M_j) from below.

    *From the weights*: the product over the layers j … N − 1 of 1 / ‖F⁻¹‖, with ‖F⁻¹‖ bounded by

    - `SymplecticEuler`, `StormerVerlet`, every `Splitting`: the inverse of a shear is the shear back, with the same
      norm. So the bound is 1 / `upper_bound`, for any σ and any J that leaves the halves apart, also one per layer;
      and e^(−γh) a layer less where the momenta are damped.
    - `ForwardEuler`, `ImplicitMidpoint` with J skew and σ′ ≥ 0: ‖F⁻¹‖ ≤ 1 + x for any x. With R = √D K, Woodbury's
      identity gives (I + hA)⁻¹ = I − h J Rᵀ (I + h R J Rᵀ)⁻¹ R, and the inverse of the identity plus a skew matrix has
      norm ≤ 1; likewise for the midpoint, whose inverse is the step with −h, as that of every step that solves is.
    - without these facts: s_n(F) ≥ 1 − x for `ForwardEuler`, (1 − x/2) / (1 + x/2) for `ImplicitMidpoint`, where that
      is positive; `RungeKutta4` always, with s_n(F) ≥ 1 − (x + x²/2 + x³/6 + x⁴/24).

    *From measured norms*, of one input and tighter: if M J Mᵀ = J with a regular J, then M⁻¹ = J Mᵀ J⁻¹ and
    s_n(M) ≥ 1 / (cond J · ‖M‖), an equality for the canonical J; damping puts e^(−γ(T − t_j)) there
    in the place of 1. If only volume is sure not to shrink, as for `ms1`,
    `ms2` and `h1`, the product of the singular values is at least 1, and s_n(M) ≥ ‖M‖^(1 − n).

    The bound is that of the worst direction. It decays with depth for every flow whose ‖M‖ can grow: no flow promises
    that gradients of a certain loss stay large, only that they do not fall faster than this.

    Args:
        flow: any flow.
        norms: ‖M_j‖₂ as `norms(sensitivities(flow, y0))` gives them, (N + 1, ...); None for bounds of any input.
        slopes: (smallest, largest) value of σ′, for an activation that does not state them.
        image_size: (H, W) of images, (L,) of signals, for tighter bounds of convolutions.

    Returns:
        The bounds at every depth and the reason; 0 with the reason where nothing is known. Without `norms` they are
        differentiable in the weights.

    Raises:
        ValueError: if a weight is not finite, or `norms` do not fit the flow.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=16, step=0.05, dtype=torch.float64)
        >>> found = gradient_lower_bound(flow)
        >>> print(found.reason)
        Each move of `SymplecticEuler` is a shear, whose inverse is as large as itself.
        >>> M = hdnn.analysis.sensitivities(flow, torch.randn(10, 4, dtype=torch.float64))
        >>> smallest = hdnn.analysis.singular_values(M)[..., -1]
        >>> bool((smallest >= found.value[:, None]).all())
        True
    """
    check_weights(flow)
    check_precision(flow)
    if flow.recurrent and norms is None:
        raise ValueError(
            "This flow takes as many steps as the inputs of a call have entries, so how far a gradient may shrink "
            "depends on them. Give the `norms` of a call, `norms(sensitivities(flow, y0, inputs=u))`."
        )
    steps = max(0, len(norms) - 1) if norms is not None and flow.recurrent else flow.layers
    layers, reason = _by_weights(flow, steps, slopes, image_size, norms is not None)
    log = torch.cat((layers.flip(0).cumsum(0).flip(0), layers.new_zeros(1)))
    if norms is None:
        return GradientBound(log, reason)
    if norms.shape[:1] != log.shape or not bool((norms > 0).all()):
        raise ValueError(
            f"`norms` must be positive, one for each of the {steps + 1} depths j = 0 … N, (N + 1, ...); got "
            f"{tuple(norms.shape)}. Pass `norms(sensitivities(flow, y0))`."
        )
    log = log.detach().reshape(-1, *[1] * (norms.dim() - 1)).to(norms).expand_as(norms)
    measured, why = _by_norms(flow, norms.detach().log(), slopes)
    both = torch.maximum(log, measured)
    return GradientBound(both, why if bool((measured[0] > log[0]).any()) or log[0].isneginf().any() else reason)


def _by_weights(
    flow: Flow, steps: int, slopes: Slopes | None, image_size: Size | None, measured: bool
) -> tuple[Tensor, str]:
    """The logarithm of a lower bound of the smallest singular value of every layer, (N,), and what it rests on.

    Where norms were measured, it may be nothing: ‖K‖ is not known of edges that come with a call.
    """
    integrator, name = flow.integrator, type(flow.integrator).__name__
    nothing = flow.weight.new_full((steps,), -math.inf)
    if steps == 0:
        return nothing, "A flow without layers is the identity."
    try:
        smallest, _ = slope_range(flow.activation, slopes)
    except ValueError as error:
        if slopes is not None:
            raise
        return nothing, str(error)
    if measured and flow.space.asks:
        return nothing, f"The weights of a flow on `{flow.space!r}` have no norm without what a call brings."
    if reason := unknown_gains(flow):
        return nothing, reason
    x = gains(flow, slopes, image_size)
    monotone = flow.interconnection.skew and smallest >= 0 and is_convex(flow)
    if flow.recurrent:  # one gain, of every step
        x = tuple(gain.expand(steps) for gain in x)
    found = integrator.log_inverse_growth(x, monotone=monotone)
    if found is None:
        return nothing, f"Nothing is known of the inverse of a step of `{name}`. Measure: `singular_values`."
    if flow.damping:
        decay = flow.damping * flow.step
        return -found - decay, f"Each move of `{name}` is a shear, and damping takes at most γh = {decay:.3g} a layer."
    if len(x) > 1:
        return -found, f"Each move of `{name}` is a shear, whose inverse is as large as itself."
    other = integrator.log_inverse_growth(x, monotone=not monotone)
    matters = other is None or not torch.equal(found, other)
    if monotone and matters:
        return -found, "J is skew and σ′ ≥ 0: the inverse of a layer is at most 1 + x large, x = h s ‖W‖ ‖K‖."
    if not (lost := found.isposinf()).any():
        largest = x[0].max().item()
        return -found, f"Every layer of `{name}` is near the identity: x = h s ‖W‖ ‖K‖ is at most {largest:.3g}."
    layer = int(lost.nonzero()[-1])
    missing = ", J is not stated to be skew or σ′ may be negative" if matters else ""
    return -found, (
        f"A step of `{name}` may send a direction to zero: x = h s ‖W‖ ‖K‖ is {x[0][layer].item():.3g} in layer {layer}"
        f"{missing}."
    )


def _by_norms(flow: Flow, log: Tensor, slopes: Slopes | None) -> tuple[Tensor, str]:
    """The same for M_j, from log ‖M_j‖."""
    nothing = torch.full_like(log, -math.inf)
    best, why = nothing, "Nothing follows from the norms: the flow promises to keep neither a regular J nor volume."
    left = torch.arange(len(log) - 1, -1, -1).to(log).reshape(-1, *[1] * (log.dim() - 1))
    decay, c = flow.damping * flow.step * left, "e^(−γ(T − t))" if flow.damping else "1"
    if flow.space.rank == 1 and _keeps_volume(flow, slopes):
        best = (1 - flow.features) * log - flow.features / 2 * decay
        shrinks = "but by its damping" if flow.damping else "volume"
        why = f"No layer shrinks {shrinks}, so that s_n ≥ {'det M · ' if flow.damping else ''}‖M‖^(1 − n)."
    if flow.scales_structure and len(log) > 1 and (condition := _condition(flow)) < math.inf:
        by_J = -math.log(condition) - log - decay
        if bool((by_J[0] >= best[0]).all()):
            kept = "M J Mᵀ = J" if c == "1" else f"M J Mᵀ = {c} J"
            why = f"{kept} with cond J = {condition:.3g}, so that s_n ≥ {c} / (cond J ‖M‖)."
        best = torch.maximum(best, by_J)
    return best, why


def _keeps_volume(flow: Flow, slopes: Slopes | None) -> bool:
    try:
        return lower_bound(flow, slopes=slopes) > 0
    except ValueError:
        return False


def _condition(flow: Flow) -> float:
    """The condition number of the one J that all layers share; infinite where it does not exist."""
    try:
        J = flow.J.detach().double()
    except ValueError:
        return math.inf
    s = torch.linalg.svdvals(J if J.dim() == 2 else J[0])
    return float(s[0] / s[-1]) if s[-1] > torch.finfo(torch.float64).eps * len(s) * s[0] else math.inf
