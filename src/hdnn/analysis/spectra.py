"""The spectrum of A = J Kᵀ D K, the Jacobian of the field, and whether the dynamics frozen at it are marginally stable.

Legend: D = diag σ′(K y + b), R = √D K, S = Kᵀ D K = Rᵀ R; J = −Jᵀ. A = J S has the spectrum of the skew matrix R J Rᵀ,
up to zeros. Where J Kᵀ = I, A = D K: the product in the other order, S J, with K in the place of J and I in that of K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hdnn.analysis.checks import check_undamped, check_undriven, check_vectors, check_weights, skew_matrix
from hdnn.analysis.ranks import rank
from hdnn.flow import Flow

Answer = Literal["yes", "no", "not established"]

# How much larger than the bound by its leading term the rounding of an eigenvalue may be.
_MARGIN = 100.0


@dataclass(frozen=True, eq=False)
class Linearization:
    """A = J Kᵀ D K at given states, kept as its factors: they show what the product hides.

    Args:
        J: skew, (n, n).
        K: (m, n).
        slopes: the diagonal of D, σ′(K y + b), (..., m).
        symmetric_first: A = S J instead of J S. A layer with J Kᵀ = I has A = D K: here J is its K, and K is I.

    Raises:
        ValueError: if J is not skew, a size does not fit, or an entry is not finite.

    Example:
        >>> import torch, hdnn
        >>> Linearization(hdnn.canonical(2), torch.eye(2), torch.tensor([4.0, 1.0])).eigenvalues
        tensor([0.-2.j, 0.+2.j], dtype=torch.complex128)
    """

    J: Tensor
    K: Tensor
    slopes: Tensor
    symmetric_first: bool = False

    def __post_init__(self) -> None:
        if self.K.dim() != 2 or self.slopes.dim() < 1 or self.slopes.shape[-1] != self.K.shape[0]:
            raise ValueError(
                f"K must be (m, n) and slopes (..., m), one slope for each row of K; got {tuple(self.K.shape)} and "
                f"{tuple(self.slopes.shape)}."
            )
        for name, numbers in (("K", self.K), ("slopes", self.slopes)):
            if not torch.isfinite(numbers).all():
                raise ValueError(f"`{name}` has NaN or infinite entries, so A has no spectrum.")
        skew_matrix(self.J, self.K.shape[1])
        for name in ("J", "K", "slopes"):
            object.__setattr__(self, name, getattr(self, name).detach().to("cpu", torch.float64))

    @property
    def definite(self) -> str:
        """The name of the factor that must be positive definite: "S"; "D" of a layer with J Kᵀ = I, A = D K."""
        n = self.K.shape[1]
        return "D" if self.symmetric_first and torch.equal(self.K, torch.eye(n, dtype=self.K.dtype)) else "S"

    @property
    def S(self) -> Tensor:
        """Kᵀ D K, (..., n, n)."""
        return self.K.mT @ (self.slopes.unsqueeze(-1) * self.K)

    @property
    def A(self) -> Tensor:
        """J S, or S J, (..., n, n)."""
        return self.S @ self.J if self.symmetric_first else self.J @ self.S

    @property
    def eigenvalues(self) -> Tensor:
        """The n eigenvalues of A, (..., n) complex128, by imaginary part.

        Where no slope is negative they are those of the skew matrix R J Rᵀ (and zeros), hence exactly imaginary: no
        rounding can push them off the axis. Else they are those of A itself.
        """
        if (self.slopes < 0).any():
            return _sorted(torch.linalg.eigvals(self.A))
        R = self.slopes.sqrt().unsqueeze(-1) * self.K
        if R.shape[-2] > R.shape[-1]:
            R = torch.linalg.qr(R).R  # same RᵀR, no more rows than columns
        frequencies = torch.linalg.eigvalsh(1j * (R @ self.J @ R.mT))
        ω = torch.nn.functional.pad(frequencies, (0, self.K.shape[1] - R.shape[-2])).sort(-1).values
        return torch.complex(torch.zeros_like(ω), ω)


@dataclass(frozen=True, eq=False)
class MarginalStability:
    """Whether exp(t A) stays bounded for all t, in both directions of time, and what the answer rests on.

    Attributes:
        answer: "yes", "no", or "not established".
        reason: one sentence.
        eigenvalues: of A, (n,), complex.
        smallest: the smallest eigenvalue of S, or of D where A = D K.
        conditioning: largest over smallest nonzero eigenvalue of S, or of D; where it is positive definite, exp(t A)
            never exceeds the square root.
        real_part: largest |Re λ| over largest |λ|, from a general eigensolver, which knows nothing of the structure.
        scaled_real_part: the same divided by `conditioning`; rounding alone explains a few times the precision.
        jordan_blocks: how many 2 x 2 Jordan blocks A has at λ = 0; None where the ranks are not clear.
    """

    answer: Answer
    reason: str
    eigenvalues: Tensor
    smallest: float
    conditioning: float
    real_part: float
    scaled_real_part: float
    jordan_blocks: int | None


def linearize(flow: Flow, y: Tensor, layer: int = 0) -> Linearization:
    """A(y) of one layer of a flow, at given states.

    Args:
        flow: on vectors, or with kernel_size=1, whose pixels are vectors; not driven by inputs or ports.
        y: states, features last, (..., n).
        layer: j, counted from 0; negative counts from the end.

    Raises:
        ValueError: if a weight or a state is not finite, y has another size, or a call drives the flow.
        IndexError: if there is no such layer.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h1(4, layers=8, step=0.1)
        >>> linearize(flow, torch.randn(10, 4), layer=3).eigenvalues.shape
        torch.Size([10, 4])
    """
    if not flow.space.pointwise:
        check_vectors(flow, "`linearize`")
    check_weights(flow)
    check_undriven(flow, "linearization")
    check_undamped(flow, "`linearize`")
    if y.dim() < 1 or y.shape[-1] != flow.features:
        raise ValueError(f"Expected states of shape (..., {flow.features}); got {tuple(y.shape)}.")
    if not -flow.layers <= layer < flow.layers:
        raise IndexError(f"The flow has {flow.layers} layers; got layer {layer}.")
    stored = 0 if flow.shared else layer
    K = flow.K[stored].detach().double().flatten(1)
    u = y.detach().to(K) @ K.mT + flow.bias[stored].detach().double()
    slopes = flow.activation.slope(u)
    if flow.activation.increasing:
        slopes = slopes.clamp_min(torch.finfo(slopes.dtype).tiny)  # a zero is rounding
    if flow.interconnection.is_inverse:
        return Linearization(K, torch.eye(flow.features), slopes, symmetric_first=True)
    J = flow.J.detach()
    return Linearization(J if J.dim() == 2 else J[layer], K, slopes)


def marginal_stability(system: Linearization, *, largest_conditioning: float = 1e10) -> MarginalStability:
    """Whether the linear system x' = A x neither grows nor decays, with the evidence.

    With S positive definite, A is similar to the skew matrix √S J √S: yes, with ‖exp(t A)‖ ≤ √cond S. With S singular,
    A = J Rᵀ · R has the nonzero Jordan blocks of the skew matrix R J Rᵀ, which are trivial, and at 0 blocks of size 2
    at most; there are rank(J Rᵀ) − rank(R J Rᵀ) of them. One is enough for exp(t A) to grow like t. Where J Kᵀ = I,
    A = D K, and D takes the place of S: with σ′ > 0 it is definite, and the answer yes, for every skew K, singular
    ones (odd n) included. Ranks are those of the numbers as they are stored, exactly: no rounding makes a matrix that
    is nearly singular a singular one, and where S is so near that nothing is certain, nothing is established.

    It is a statement about A held fixed. Along a trajectory A moves, and M may grow all the same (the counterexample
    of the TAC paper).

    Args:
        system: at one state.
        largest_conditioning: above it, S cannot be told from a singular matrix and nothing is established.

    Raises:
        ValueError: if `system` holds several states.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, lemmas 3 and 4, https://arxiv.org/abs/2104.13166;
        Flanders, Proceedings of the AMS 2, 1951 (the Jordan blocks of XY and YX),
        https://doi.org/10.1090/S0002-9939-1951-0042366-X

    Example:
        >>> import torch, hdnn
        >>> inactive = Linearization(hdnn.canonical(2), torch.eye(2), torch.tensor([1.0, 0.0]))
        >>> marginal_stability(inactive).answer
        'no'
    """
    if system.slopes.dim() > 1:
        raise ValueError(
            f"One state at a time: the slopes have shape {tuple(system.slopes.shape)}. Linearize at y[i], or take the "
            f"`eigenvalues`, which serve batches."
        )
    if (system.slopes < 0).any():
        return _indefinite(system)
    squares = torch.linalg.svdvals(system.slopes.sqrt().unsqueeze(-1) * system.K).square()
    of_S, blocks = _ranks(system)
    nonzero = squares[: of_S or 0]
    conditioning = float(nonzero[0] / nonzero[-1]) if of_S else 1.0 if of_S == 0 else float("inf")
    n = system.K.shape[1]
    real_part = _real_part(torch.linalg.eigvals(system.A))
    answer, reason = _answer(system.definite, of_S, blocks, conditioning, real_part, n, largest_conditioning)
    return MarginalStability(
        answer=answer,
        reason=reason,
        eigenvalues=system.eigenvalues,
        smallest=float(squares[-1]) if len(squares) == n and of_S in (n, None) else 0.0,
        conditioning=conditioning,
        real_part=real_part,
        scaled_real_part=real_part / conditioning,
        jordan_blocks=blocks,
    )


def _answer(
    S: str, of_S: int | None, blocks: int | None, conditioning: float, real_part: float, n: int, largest: float
) -> tuple[Answer, str]:
    if of_S is None or blocks is None:
        return (
            "not established",
            f"{S}, or its product with J, is too close to one of lower rank to tell its rank.",
        )
    if blocks:
        kinds = "a Jordan block" if blocks == 1 else f"{blocks} Jordan blocks"
        return "no", f"{S} is singular, of rank {of_S} of {n}, and A has {kinds} of size 2 at 0: exp(t A) grows like t."
    if conditioning > largest:
        return (
            "not established",
            f"{S} is so ill-conditioned, {conditioning:.1e}, that rounding can make it singular.",
        )
    rounding = _MARGIN * n * torch.finfo(torch.float64).eps * conditioning
    if real_part > rounding:
        return (
            "not established",
            f"The real parts of the computed eigenvalues, {real_part:.1e} of the largest, exceed what rounding and the "
            f"conditioning of {S} explain, {rounding:.1e}.",
        )
    if of_S == n:
        bound = conditioning**0.5
        return "yes", f"{S} is positive definite with conditioning {conditioning:.3g}: ‖exp(t A)‖ ≤ {bound:.3g}."
    return "yes", f"{S} is singular, of rank {of_S} of {n}, but A has no Jordan block at 0."


def _ranks(system: Linearization) -> tuple[int | None, int | None]:
    """The rank of S and the number of Jordan blocks at 0, None where they cannot be told.

    Both depend only on which rows of K are active, not on how active they are.
    """
    V = system.K[system.slopes > 0]
    of_S = rank(V)
    if of_S == V.shape[-1]:  # S is positive definite: whatever the rank of J, no block
        return of_S, 0
    driven = rank(V, system.J.mT, at_most=of_S)
    coupled = rank(V, system.J, V.mT, at_most=None if driven is None else driven - driven % 2)  # skew: of even rank
    return of_S, None if of_S is None or driven is None or coupled is None else driven - coupled


def _indefinite(system: Linearization) -> MarginalStability:
    eigenvalues, vectors = torch.linalg.eig(system.A)
    real_part = _real_part(eigenvalues)
    conditioning = float(torch.linalg.cond(vectors))
    certain = real_part > _MARGIN * len(eigenvalues) * torch.finfo(torch.float64).eps * conditioning
    return MarginalStability(
        answer="no" if certain else "not established",
        reason=(
            f"σ′ < 0 at this state, S is indefinite, and A has an eigenvalue off the imaginary axis: {real_part:.1e}."
            if certain
            else "σ′ < 0 at this state, so S may be indefinite, and nothing keeps the spectrum on the imaginary axis."
        ),
        eigenvalues=_sorted(eigenvalues),
        smallest=float(torch.linalg.eigvalsh(system.S)[0]),
        conditioning=float("inf"),
        real_part=real_part,
        scaled_real_part=0.0,
        jordan_blocks=None,
    )


def _real_part(eigenvalues: Tensor) -> float:
    largest = float(eigenvalues.abs().amax())
    return float(eigenvalues.real.abs().amax()) / largest if largest else 0.0


def _sorted(eigenvalues: Tensor) -> Tensor:
    return eigenvalues.gather(-1, eigenvalues.imag.argsort(-1))
