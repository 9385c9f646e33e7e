"""The ODE that a flow discretises, y' = J Kᵀ(t) σ(K(t) y + b(t)), with weights that may depend on time in any way.

Legend: K (m, n), b (m,), J = −Jᵀ (n, n), T horizon, h step, N layers, T = N h; A(y, t) = J Kᵀ D K the Jacobian of the
field, D = diag σ′(K y + b).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.activations import Activation, tanh
from hdnn.analysis.checks import check_undamped, check_undriven, check_vectors, check_weights, skew_matrix
from hdnn.flow import Flow
from hdnn.hamiltonian import Drive, Field, Layer
from hdnn.spaces import VECTORS

Weights = Callable[[float], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class HamiltonianODE:
    """y' = J Kᵀ(t) σ(K(t) y + b(t)) for 0 ≤ t ≤ T. Made by `piecewise`, `varying` or `of`.

    Attributes:
        field: t ↦ the field at that time, float64: `field(t)(y)` is y', `field(t).jacobian(y)` is A(y, t).
        features: n.
        horizon: T.
        jumps: the times where K, b or J is not smooth, ascending; a field at a jump is the one after it.
        J: the matrix that M keeps, (n, n); None where it varies with t, or where J Kᵀ = I.
    """

    field: Callable[[float], Field]
    features: int
    horizon: float
    jumps: tuple[float, ...] = ()
    J: Tensor | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.horizon) and self.horizon > 0):
            raise ValueError(f"`horizon` must be a positive, finite time; got {self.horizon}.")
        outside = [t for t in self.jumps if not 0 < t < self.horizon]
        if outside:
            raise ValueError(f"Jumps must lie between 0 and the horizon {self.horizon:g}; got {outside[0]:g}.")

    @classmethod
    def piecewise(
        cls, K: Tensor, b: Tensor, J: Tensor | None, horizon: float, activation: Activation = tanh
    ) -> HamiltonianODE:
        """Weights that are constant, or constant on N pieces of equal length.

        Args:
            K: (m, n), or (N, m, n).
            b: (m,), or (N, m).
            J: skew, (n, n), or (N, n, n); None where J Kᵀ = I (the field is then σ(K y + b)).
            horizon: T > 0.
            activation: σ.

        Raises:
            ValueError: if sizes do not fit, J is not skew, or an entry is not finite.

        Example:
            >>> import torch, hdnn
            >>> ode = HamiltonianODE.piecewise(torch.eye(2), torch.zeros(2), hdnn.canonical(2), horizon=6.0)
            >>> ode.field(0.0)(torch.zeros(2, dtype=torch.float64))
            tensor([0., 0.], dtype=torch.float64)
        """
        Ks, bs = K if K.dim() == 3 else K.unsqueeze(0), b if b.dim() == 2 else b.unsqueeze(0)
        Js = None if J is None else J if J.dim() == 3 else J.unsqueeze(0)
        counts = [len(x) for x in (Ks, bs, Js) if x is not None]
        pieces = max(counts)
        if not all(count in (1, pieces) for count in counts):
            raise ValueError(f"K, b and J must have one entry, or one for each of the pieces; they have {counts}.")
        fields = [
            _field(Ks[i % len(Ks)], bs[i % len(bs)], None if Js is None else Js[i % len(Js)], activation)
            for i in range(pieces)
        ]
        jumps = tuple(piece * (horizon / pieces) for piece in range(1, pieces))
        kept = None if Js is None or len(Js) > 1 else Js[0]
        return cls(lambda t: fields[bisect.bisect_right(jumps, t)], K.shape[-1], horizon, jumps, kept)

    @classmethod
    def varying(
        cls,
        weights: Weights,
        J: Tensor | None,
        horizon: float,
        activation: Activation = tanh,
        jumps: Sequence[float] = (),
    ) -> HamiltonianODE:
        """Weights that are any functions of time, read wherever the stages of the solver lie.

        Args:
            weights: t ↦ (K, b), K (m, n) and b (m,). At a jump it gives the values after it.
            J: skew, (n, n); None where J Kᵀ = I.
            horizon: T > 0.
            activation: σ.
            jumps: the times where K or b is not smooth. No step of the solver straddles one.

        Raises:
            ValueError: if sizes do not fit, J is not skew, or an entry is not finite.

        Example:
            >>> import torch, hdnn
            >>> turning = lambda t: (math.cos(t) * torch.eye(2), torch.ones(2))
            >>> HamiltonianODE.varying(turning, hdnn.canonical(2), horizon=6.0).features
            2
        """
        K, _ = weights(0.0)
        ode = cls(
            lambda t: _field(*weights(t), J, activation, t), K.shape[-1], horizon, tuple(sorted(map(float, jumps))), J
        )
        ode.field(0.0)
        return ode

    @classmethod
    def of(cls, flow: Flow) -> HamiltonianODE:
        """The ODE that a flow discretises: the weights of layer j for j h ≤ t < (j + 1) h, T = N h.

        Raises:
            ValueError: for a flow on images, without layers, driven by inputs or ports, or with weights that are not
                finite.
        """
        check_vectors(flow, "The continuous system")
        check_weights(flow)
        if flow.layers == 0:
            raise ValueError("A flow without layers takes no time, so no ODE stands behind it; got layers=0.")
        check_undriven(flow, "continuous system")
        check_undamped(flow, "The continuous system")
        J = None if flow.interconnection.is_inverse else flow.J
        return cls.piecewise(flow.K, flow.bias, J, flow.horizon, flow.activation)


def _field(K: Tensor, b: Tensor, J: Tensor | None, activation: Activation, t: float | None = None) -> Field:
    """The field of these weights, in float64; t is for messages."""
    K, b = (x.detach().to("cpu", torch.float64) for x in (K, b))
    when = "" if t is None else f" at t = {t:g}"
    if K.dim() != 2 or b.shape != K.shape[:1]:
        raise ValueError(f"K must be (m, n) and b (m,); got {tuple(K.shape)} and {tuple(b.shape)}{when}.")
    if not (torch.isfinite(K).all() and torch.isfinite(b).all()):
        raise ValueError(f"K or b has NaN or infinite entries{when}.")
    if J is None and K.shape[0] != K.shape[1]:
        raise ValueError(f"J Kᵀ = I needs a square K; got {tuple(K.shape)}{when}. Pass a skew J.")
    W = None if J is None else K @ skew_matrix(J, K.shape[1]).to(K).mT
    return Field((Drive(Layer(K, b, W), VECTORS, activation),), -1)
