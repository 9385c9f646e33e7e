"""What drives a layer of a stage: the map y ↦ Wᵀ σ(K y + b) with something that keeps its numbers in range.

Legend: x the state, or the half of it, that drives; K (m, n, *taps), W = K Jᵀ, z = K x its units, one number a channel
for each of γ (gain), β (b), δ (shift of x) and ε; μ and s² the means and variances of channels over batch and
positions, of the batch while training, running ones in evaluation.

    "units"   W'ᵀ σ(K' x + b'),  K' = D K, W' = D W,  D = γ (s²(K x) + ε)^(−1/2),  b' = β − D μ(K x)
    "batch"   Wᵀ σ(γ normed(K normed(x)) + β), the published block, where normed(x) has its own gain and shift
    "bias"    Wᵀ σ(K (x + δ) + b)
    None      Wᵀ σ(K x + b)

Only "batch" is not the gradient of an energy: its scales do not come again after Kᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.activations import Activation
from hdnn.spaces import Space

Normalization = Literal["units", "batch", "bias"]
EPSILON = 1e-5


class Numbers(NamedTuple):
    """The numbers of one half of a layer, or of all of it; with a leading axis N when stacked.

    Attributes:
        K: (m, n, *taps).
        b: (m,), β or b of the units.
        W: (m, n, *taps), K Jᵀ; None where J Kᵀ = I.
        gain: (m,), γ of the units, where they are normalised.
        input_gain: (n,), γ of what drives, in "batch".
        input_shift: (n,), β of what drives in "batch", δ in "bias".
        mean: (m,), running μ of the units; None takes that of the batch, as for the next three.
        variance: (m,), running s² of the units.
        input_mean: (n,), running μ of what drives, in "batch".
        input_variance: (n,), running s² of what drives, in "batch".
    """

    K: Tensor
    b: Tensor
    W: Tensor | None
    gain: Tensor | None = None
    input_gain: Tensor | None = None
    input_shift: Tensor | None = None
    mean: Tensor | None = None
    variance: Tensor | None = None
    input_mean: Tensor | None = None
    input_variance: Tensor | None = None


class Moments:
    """The means and variances that the drives of a pass have met, in the order of their calls.

    A block that is run again, or undone, for its gradients meets them once more: by then it is closed.
    """

    def __init__(self) -> None:
        self.open = True
        self.seen: list[tuple[int, dict[str, Tensor]]] = []

    def note(self, half: int, found: dict[str, Tensor]) -> None:
        """Remember them, if this is the first time."""
        if self.open:
            self.seen.append((half, found))


class NormalizedDrive:
    """One drive of a layer, as `hdnn.hamiltonian.Drive` is one without normalisation.

    Args:
        numbers: its own.
        space: on which they act.
        activation: σ.
        half: 0 or 1, which half of the state it drives, for `moments`.
        moments: where what was met is noted; None notes nothing.
    """

    __slots__ = ("activation", "half", "layer", "moments", "space")

    def __init__(
        self, numbers: Numbers, space: Space, activation: Activation, half: int = 0, moments: Moments | None = None
    ) -> None:
        self.layer = numbers
        self.space = space
        self.activation = activation
        self.half = half
        self.moments = moments

    @property
    def rebound(self) -> Callable[[Sequence[Tensor | None], Space], NormalizedDrive]:
        """Makes the same drive of other numbers, on a space; it holds no tensors."""
        return partial(_rebound, self.activation, self.half, self.moments)

    def __call__(self, x: Tensor) -> Tensor:
        """What drives the other half, of the shape of x."""
        met: dict[str, Tensor] = {}
        of, axis = self.layer, self.space.axis
        W = of.K if of.W is None else of.W
        if of.input_gain is not None:  # "batch"
            x, of_x = _normalized(x, of.input_gain, of.input_shift, of.input_mean, of.input_variance, axis)
            z = self.space.map(of.K, x)
            u, met = _normalized(z, of.gain, of.b, of.mean, of.variance, axis)
            met |= {f"input_{name}": value for name, value in of_x.items()}
        elif of.gain is not None:  # "units"
            z = self.space.map(of.K, x)
            mean, variance, met = _moments(z, of.mean, of.variance, axis)
            D = of.gain * torch.rsqrt(variance + EPSILON)
            u = torch.addcmul(_channels(of.b - D * mean, axis), z, _channels(D, axis))
            W = W * D.reshape(-1, *[1] * (W.dim() - 1))
        else:
            u = self.space.map(of.K, x if of.input_shift is None else x + _channels(of.input_shift, axis), of.b)
        if self.moments is not None and met:
            self.moments.note(self.half, met)
        return self.space.adjoint(W, self.activation.value(u))


def _rebound(
    activation: Activation, half: int, moments: Moments | None, numbers: Sequence[Tensor | None], space: Space
) -> NormalizedDrive:
    return NormalizedDrive(Numbers(*numbers), space, activation, half, moments)  # type: ignore[arg-type]


def folded(K: Tensor, gain: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """D K and β − D μ with the running numbers: the weights of the plain flow that "units" is in evaluation.

    Args:
        K: (..., m, n, *taps).
        gain: (..., m), γ.
        b: (..., m), β.
        mean: (..., m).
        variance: (..., m).
    """
    D = gain * torch.rsqrt(variance + EPSILON)
    return K * D.reshape(*D.shape, *[1] * (K.dim() - D.dim())), b - D * mean


def _moments(
    z: Tensor, mean: Tensor | None, variance: Tensor | None, axis: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """μ and s², running or of the batch, and what was met of the batch; in full precision."""
    if mean is not None and variance is not None:
        return mean, variance, {}
    others = [i for i in range(z.dim()) if i != z.dim() + axis]
    variance, mean = torch.var_mean(z.float() if z.dtype in _HALF else z, dim=others, correction=0)
    return mean, variance, _met(mean, variance, z)


def _normalized(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, mean: Tensor | None, variance: Tensor | None, axis: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x − μ) (s² + ε)^(−1/2) γ + β, and what was met of the batch."""
    images = x if x.dim() + axis == 1 else x.unsqueeze(0)
    if mean is not None:
        y = functional.batch_norm(images, mean, variance, gain, shift, False, 0.0, EPSILON)
        return y.reshape(x.shape), {}
    y, mean, deviation = torch.native_batch_norm(images, gain, shift, None, None, True, 0.0, EPSILON)
    return y.reshape(x.shape), _met(mean, deviation.detach() ** -2 - EPSILON, x)


def _met(mean: Tensor, variance: Tensor, z: Tensor) -> dict[str, Tensor]:
    """What running moments take up: variances of a population, not of its sample."""
    count = z.numel() // mean.numel()
    return {"mean": mean.detach(), "variance": variance.detach() * (count / max(count - 1, 1))}


def _channels(numbers: Tensor, axis: int) -> Tensor:
    """One number a channel, to be used with states."""
    return numbers.reshape(-1, *[1] * (-axis - 1))


_HALF = (torch.bfloat16, torch.float16)
