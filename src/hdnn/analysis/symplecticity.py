"""Symplecticity: whether M J Mᵀ = J, for a J that is named.

Legend: M[i, k] = ∂y_N[i] / ∂y_0[k], (n, n) per sample; J = −Jᵀ the structure matrix. J is a Poisson matrix, so what a
flow keeps is M J Mᵀ = J; it is Mᵀ J M = J only where J⁻¹ is a multiple of J, as for the canonical one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.analysis.checks import check_vectors, check_weights, skew_matrix
from hdnn.analysis.precision import in_full
from hdnn.analysis.sensitivity import sensitivities
from hdnn.doors import shelled
from hdnn.flow import Flow

# Two J are the same claim when they agree to this share of their size: single precision rounds at 1e-7.
_SAME = 1e-5


@dataclass(frozen=True, eq=False)
class Symplecticity:
    """How well a flow keeps its J at given inputs.

    Attributes:
        J: the structure matrix that was asked about, (n, n).
        M: ∂y_N/∂y_0, (..., n, n).
        absolute: ‖M J Mᵀ − J‖_F, (...).
        relative: the same divided by ‖M‖₂² ‖J‖_F, (...). Rounding alone gives about N times the precision of the
            dtype. Where ‖M‖ is large, a small value says little: read both.
    """

    J: Tensor
    M: Tensor
    absolute: Tensor
    relative: Tensor


@in_full
def symplecticity_residual(M: Tensor, J: Tensor, *, relative: bool = False) -> Tensor:
    """‖M J Mᵀ − J‖_F, per sample.

    Args:
        M: Jacobians of any map, (..., n, n), M[i, k] = ∂y_N[i] / ∂y_0[k].
        J: the skew matrix that the map is said to keep, (n, n).
        relative: divide by ‖M‖₂² ‖J‖_F, the size of the numbers that cancel.

    Returns:
        (...). Take statistics of it, never of M: a mean of symplectic matrices is not symplectic.

    Raises:
        ValueError: if J is not skew, or the sizes do not agree.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., section VII.2 (Poisson maps).

    Example:
        >>> import torch, hdnn
        >>> shear = torch.tensor([[1.0, 0.3], [0.0, 1.0]])
        >>> symplecticity_residual(shear, hdnn.canonical(2))
        tensor(0.)
    """
    if M.dim() < 2 or M.shape[-1] != M.shape[-2]:
        raise ValueError(f"M must hold square matrices, (..., n, n); got {tuple(M.shape)}.")
    J = skew_matrix(J, M.shape[-1]).to(M)
    residual: Tensor = torch.linalg.matrix_norm(M @ J @ M.mT - J)
    if relative:
        residual = residual / (torch.linalg.matrix_norm(M, 2).square() * torch.linalg.matrix_norm(J))
    return residual


@in_full
def check_symplecticity(flow: Flow, y0: Tensor, J: Tensor | None = None) -> Symplecticity:
    """How exactly a flow keeps its J, measured; refused where its factors do not promise to keep it.

    A flow keeps J when all its layers share this skew J, and its integrator is ImplicitMidpoint, or SymplecticEuler or
    StormerVerlet. What is left is rounding.

    Args:
        flow: on vectors.
        y0: inputs, (..., n).
        J: the matrix of the claim; None means `flow.J`. Multiples of `flow.J` are kept with it.

    Returns:
        The residuals, per sample.

    Raises:
        ValueError: if the flow does not keep this J; the message says which factor is to blame. To measure a map
            that promises nothing, pass its Jacobians to `symplecticity_residual`.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=8, step=0.1, dtype=torch.float64)
        >>> kept = check_symplecticity(flow, torch.randn(10, 4, dtype=torch.float64))
        >>> bool((kept.relative < 1e-14).all())
        True
    """
    check_vectors(flow, "`check_symplecticity`")
    check_weights(flow)
    _check_promise(flow)
    J = _kept(flow, J)
    M = sensitivities(flow, y0)[0]
    return Symplecticity(J, M, symplecticity_residual(M, J), symplecticity_residual(M, J, relative=True))


def _check_promise(flow: Flow) -> None:
    """Refuse, with the factor to blame, a flow that keeps no J."""
    if flow.preserves_structure:
        return
    measure = "To measure the residual all the same, use `symplecticity_residual(sensitivities(flow, y0)[0], J)`."
    if not flow.interconnection.skew:
        raise ValueError(
            f"This flow keeps no J: `{flow.interconnection!r}` does not state that J = -Jᵀ (`skew = True`), and J - R "
            f"is not kept. {measure}"
        )
    if not flow.integrator.symplectic:
        raise shelled(
            ValueError(
                f"This flow keeps no J: `{flow.integrator!r}` is not symplectic. Use `ImplicitMidpoint()`, or "
                f"`SymplecticEuler()` or `StormerVerlet()` on a separable field (`h2`, `ms3`). {measure}"
            ),
            "This flow keeps no J, for its integrator is not symplectic; h2 and ms3 keep one.",
        )
    if not flow.interconnection.skew:
        raise ValueError(
            f"This flow keeps no J: `{flow.interconnection!r}` is not skew, so its field is not Hamiltonian. Use a J "
            f"that is, such as `Fixed(canonical(n))`. {measure}"
        )
    if flow.interconnection.is_inverse:
        reason = (
            "J = K⁻ᵀ is another matrix in every layer. Share the weights (`shared=True`)"
            if not flow.shared
            else "J = K⁻ᵀ does not exist for an odd number of features. Use an even one"
        )
        raise ValueError(f"This flow keeps no single J: {reason}, or use `h2` or `ms3`. {measure}")
    raise ValueError(
        f"This flow keeps no single J: `{flow.interconnection!r}` has another J in every layer. "
        f"Give all layers one J. {measure}"
    )


def _kept(flow: Flow, J: Tensor | None) -> Tensor:
    """The J of the claim, a multiple of the one that the flow keeps."""
    if flow.layers == 0 and J is not None:  # the identity keeps every J
        return skew_matrix(J, flow.features)
    own = flow.J.detach()
    own = (own - own.mT) / 2  # K⁻ᵀ is skew up to rounding only
    if J is None:
        return own
    J = skew_matrix(J, flow.features).to(own)
    size = float(torch.linalg.matrix_norm(own)) or 1.0
    multiple = float((J * own).sum()) / size**2
    difference = float(torch.linalg.matrix_norm(J - multiple * own))
    if difference > _SAME * float(torch.linalg.matrix_norm(J)):
        raise ValueError(
            f"This flow keeps its own J, `{flow.interconnection!r}`, and no other: the given J is no multiple of it "
            f"(they differ by {difference:.3g} in norm). Pass `flow.J`, or make the flow with `Fixed(J)`."
        )
    return J
