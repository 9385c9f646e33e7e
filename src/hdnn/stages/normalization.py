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

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.activations import Activation
from hdnn.kernels.transforms import forward_mode
from hdnn.ranks import share, var_mean
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
    """The means μ and the r = (s² + ε)^(−1/2) that the drives of a pass have met, in the order of their calls.

    A block that is run again, or undone, for its gradients meets them once more: by then it is closed. They are written
    into tensors that were there before the pass, for small ones made between large ones would stand in the way of those
    to come, and the process would grow with the depth.

    Args:
        calls: how many of a drive there will be at most.
        running: what they will move, of each half by name, (N, size) each.
    """

    def __init__(self, calls: int, running: Sequence[Mapping[str, Tensor]]) -> None:
        self.open = any(running)
        self.met = [
            {name: [x.new_empty(x.shape[1]) for _ in range(calls)] for name, x in of_half.items()}
            for of_half in running
        ]
        self.calls = [0] * len(self.met)
        self.count: Tensor | int = 0

    def note(self, half: int, found: Mapping[str, Tensor], count: Tensor | int) -> None:
        """Remember them, if this is the first time.

        Args:
            half: whose drive has met them.
            found: by the names of what they move; r where that is a variance.
            count: of how many numbers a channel they are.
        """
        if self.open:
            for name, value in found.items():
                self.met[half][name][self.calls[half]].copy_(value.detach())
            self.calls[half] += 1
            self.count = count

    def last(self, half: int, name: str, layers: int) -> Tensor:
        """What the last call of a drive in every layer has met, (layers, size); of s² that of a population."""
        calls = self.calls[half] // layers
        found = torch.stack(self.met[half][name][calls - 1 : calls * layers : calls])
        if not name.endswith("variance"):
            return found
        more = (self.count - 1).clamp_min(1) if isinstance(self.count, Tensor) else max(self.count - 1, 1)
        return (found**-2 - EPSILON) * (self.count / more)


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
        count: Tensor | int = 0
        of, axis, W = self.layer, self.space.axis, self.layer.W
        if of.input_gain is not None:  # "batch"
            x, of_x, _ = _normalized(x, of.input_gain, of.input_shift, of.input_mean, of.input_variance, axis)
            z = self.space.map(of.K, x)
            u, met, count = _normalized(z, of.gain, of.b, of.mean, of.variance, axis)
            met |= {f"input_{name}": value for name, value in of_x.items()}
        elif of.gain is not None:  # "units"
            z = self.space.map(of.K, x)
            u, scale, met, count = _scaled(z, of.gain, of.b, of.mean, of.variance, axis)
            D = of.gain * scale
            W = None if W is None else W * D.reshape(-1, *[1] * (W.dim() - 1))
        else:
            u = self.space.map(of.K, x if of.input_shift is None else x + _channels(of.input_shift, axis), of.b)
        if self.moments is not None and met:
            self.moments.note(self.half, met, count)
        of_units = self.activation.value(u)
        return of_units if W is None else self.space.adjoint(W, of_units)


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


def _scaled(
    z: Tensor, gain: Tensor, shift: Tensor, mean: Tensor | None, variance: Tensor | None, axis: int
) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor | int]:
    """(z − μ) r γ + β, r = (s² + ε)^(−1/2) to be differentiated, what was met of the batch, and of how many numbers."""
    if mean is not None and variance is not None:
        r = torch.rsqrt(variance + EPSILON)
        return torch.addcmul(_channels(shift - gain * r * mean, axis), z, _channels(gain * r, axis)), r, {}, 0
    images = z if z.dim() + axis == 1 else z.unsqueeze(0)
    if share() is not None or torch.compiler.is_compiling() or forward_mode():
        u, mean, r, count = _composed(images, gain, shift, axis)
    else:
        (u, mean, r), count = _applied(images, gain, shift), z.numel() // len(gain)
    return u if images is z else u.squeeze(0), r, {"mean": mean, "variance": r}, count


def _composed(z: Tensor, gain: Tensor, shift: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor | int]:
    """(z − μ) r γ + β, μ, r, and of how many numbers a channel, by operations that PyTorch can follow."""
    variance, mean, count = var_mean(z)
    r = torch.rsqrt(variance + EPSILON)
    u = torch.addcmul(_channels(shift - gain * r * mean, axis), z, _channels(gain * r, axis))
    return u, mean, r, count


class _Normalize(torch.autograd.Function):
    """(z − μ) r γ + β, μ and r of a batch (B, c, ...); derivatives by μ and r too, which batch norm leaves out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In one pass of PyTorch's own."""
        return torch.native_batch_norm(z, gain, shift, None, None, True, 0.0, EPSILON)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """What backward reads; μ and r are outputs, so that second derivatives find their way through them."""
        z, gain, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, gain, *output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, of_mean: Tensor | None, of_r: Tensor | None) -> Any:
        """Batch norm's own, and ∂μ/∂z = 1/M, ∂r/∂z = −r³ (z − μ)/M, M numbers a channel."""
        z, gain, mean, r = ctx.saved_tensors
        count = z.numel() // mean.numel()
        of_z = of_gain = of_shift = None
        if g is not None:  # its own second derivatives know how μ and r depend on z
            of_z, of_gain, of_shift = torch.ops.aten.native_batch_norm_backward(
                g, z, gain, None, None, mean.detach(), r.detach(), True, EPSILON, [True, True, True]
            )
        shape = (-1, *[1] * (z.dim() - 2))
        more = None if of_mean is None else of_mean / count
        if of_r is not None:
            slope = -of_r * r**3 / count
            more = -slope * mean if more is None else more - slope * mean
            scaled = (z * slope.reshape(shape).to(z.dtype)) if of_z is None else None
            of_z = scaled if of_z is None else torch.addcmul(of_z, z, slope.reshape(shape).to(z.dtype))
        if more is not None:
            constant = more.reshape(shape).to(z.dtype)
            of_z = constant.expand_as(z) if of_z is None else of_z + constant
        return of_z, of_gain, of_shift


def _applied(z: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _Normalize.apply(z, gain, shift)  # type: ignore[no-untyped-call, no-any-return]


def _normalized(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, mean: Tensor | None, variance: Tensor | None, axis: int
) -> tuple[Tensor, dict[str, Tensor], Tensor | int]:
    """(x − μ) (s² + ε)^(−1/2) γ + β, what was met of the batch, and of how many numbers."""
    images = x if x.dim() + axis == 1 else x.unsqueeze(0)
    if mean is not None:
        y = functional.batch_norm(images, mean, variance, gain, shift, False, 0.0, EPSILON)
        return y if images is x else y.squeeze(0), {}, 0
    if share() is not None and gain is not None and shift is not None:
        y, mean, r, count = _composed(images, gain, shift, axis)
    else:
        y, mean, r = torch.native_batch_norm(images, gain, shift, None, None, True, 0.0, EPSILON)
        count = x.numel() // len(mean)
    return y if images is x else y.squeeze(0), {"mean": mean, "variance": r}, count


def _channels(numbers: Tensor, axis: int) -> Tensor:
    """One number a channel, to be used with states."""
    return numbers.reshape(-1, *[1] * (-axis - 1))
