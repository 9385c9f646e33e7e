"""Callbacks that record gradients by layer while a network trains.

Legend: y_j the state before layer j = 0 … N − 1, y_N the output, M_j = ∂y_N/∂y_j (per sample); L the objective, θ_j the
parameters of layer j. An iteration is one training step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdnn.analysis import norms, sensitivities
from hdnn.analysis.pullback import Layers
from hdnn.flow import Flow
from hdnn.training.pace import Pace
from hdnn.training.progress import Progress

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class SensitivityRecorder:
    """A callback that records ‖∂y_N/∂y_j‖₂ over the samples of a small fixed batch, by layer and iteration.

    Norms are taken first, sample by sample, then their statistics. The network as it is when the recorder is made
    becomes iteration 0.

    Cost: a record takes as long as 3.4 training steps of h1, 5.3 of h2 (CPU time for 32 samples at nine depths; 64
    layers, 4 features, batches of 125, native backend, one core). With `every=50` training takes a tenth longer. Fewer
    samples save little, but 125 samples at all 65 depths take 15 to 19 steps, most of them for the norms: name the
    `layers` that you will look at.

    Args:
        flow: what is trained: a flow, or the layers of another network, as for `hdnn.analysis.sensitivities`.
        y0: states before the first layer, (B, ...), such as `network.lift(x[:32]).detach()`. They stay as they are,
            also where the lift learns.
        every: iterations from one record to the next.
        layers: which j, from 0 to N; None records up to nine of them, evenly.

    Raises:
        ValueError: if `every` or `layers` make no sense, or as `sensitivities`.
        FloatingPointError: while training, if weights or sensitivities are no longer finite.

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(500, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h2(4, layers=16, horizon=1.0))
        >>> recorder = SensitivityRecorder(network.flow, network.lift(x[:32]), every=5, layers=[0, 8])
        >>> history = hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=5), callbacks=[recorder])
        >>> recorder.iterations
        array([ 0,  5, 10, 15, 20])
        >>> recorder.mean.shape, bool((recorder.minimum > 0.999).all())
        ((5, 2), True)
    """

    def __init__(self, flow: Layers, y0: Tensor, *, every: int = 1, layers: Sequence[int] | None = None) -> None:
        self.every = _interval(every)
        self._flow: Layers = flow if isinstance(flow, Flow) else list(flow)
        self._y0 = y0.detach()
        self._iterations: list[int] = []
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []
        M = sensitivities(self._flow, self._y0, per_pixel=self._pointwise)
        self.layers = _depths(layers, len(M) - 1)
        self._record(0, M)

    @property
    def pace(self) -> Pace:
        """After every so many steps."""
        return Pace(steps=self.every)

    def __call__(self, progress: Progress) -> None:
        """Record, if it is time to."""
        if progress.iteration % self.every:
            return
        try:
            M = sensitivities(self._flow, self._y0, per_pixel=self._pointwise)
        except ValueError as error:
            # The states fitted when the recorder was made, so it is the weights that have changed.
            raise FloatingPointError(f"After iteration {progress.iteration}: {error}") from error
        self._record(progress.iteration, M)

    @property
    def iterations(self) -> Integers:
        """When something was recorded, (R,)."""
        return np.array(self._iterations)

    @property
    def minimum(self) -> Floats:
        """The smallest norm of any sample, (R, len(layers))."""
        return _stacked([row[0] for row in self._rows])

    @property
    def mean(self) -> Floats:
        """The mean norm over the samples, (R, len(layers))."""
        return _stacked([row[1] for row in self._rows])

    @property
    def maximum(self) -> Floats:
        """The largest norm of any sample, (R, len(layers))."""
        return _stacked([row[2] for row in self._rows])

    @property
    def _pointwise(self) -> bool:
        return isinstance(self._flow, Flow) and self._flow.space.rank > 1 and self._flow.space.pointwise

    def _record(self, iteration: int, M: Tensor | list[Tensor]) -> None:
        found = norms(M[list(self.layers)] if isinstance(M, Tensor) else [M[j] for j in self.layers])
        if self._pointwise:
            # The layers couple no pixels: the norm of an image's matrix is the largest of its pixels'.
            found = found.flatten(-2).amax(-1)
        found = found.flatten(1)
        self._iterations.append(iteration)
        self._rows.append((found.amin(1), found.mean(1), found.amax(1)))


class GradientRecorder:
    """A callback that records ‖dL/dθ_j‖₂ by layer and iteration: what the optimizer was given.

    θ_j are weight and bias of layer j of a flow, or all parameters of a layer of another network. The gradients are
    those that the step has left, clipped where the recipe clips, of the last evaluation for L-BFGS; a J that the layers
    share is not counted.

    Cost: no pass of its own; a record takes a tenth of a training step (measured as for `SensitivityRecorder`).

    Args:
        flow: what is trained: a flow, or the modules that are the layers of another network.
        every: iterations from one record to the next.

    Raises:
        ValueError: if `every` makes no sense; while training, if a step leaves no gradient.
        TypeError: if a layer is not a module.

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(500, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h2(4, layers=16, horizon=1.0))
        >>> recorder = GradientRecorder(network.flow)
        >>> history = hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=5), callbacks=[recorder])
        >>> recorder.norms.shape
        (20, 16)
    """

    def __init__(self, flow: Flow | Iterable[nn.Module], *, every: int = 1) -> None:
        self.every = _interval(every)
        self._flow = flow if isinstance(flow, Flow) else _modules(flow)
        self._iterations: list[int] = []
        self._rows: list[Tensor] = []

    @property
    def pace(self) -> Pace:
        """After every so many steps."""
        return Pace(steps=self.every)

    def __call__(self, progress: Progress) -> None:
        """Record, if it is time to."""
        if progress.iteration % self.every == 0:
            self._iterations.append(progress.iteration)
            self._rows.append(_gradient_norms(self._flow))

    @property
    def iterations(self) -> Integers:
        """When something was recorded, (R,)."""
        return np.array(self._iterations, dtype=np.int64)

    @property
    def norms(self) -> Floats:
        """‖dL/dθ_j‖₂, (R, N); (R, 1) where the layers share their weights."""
        return _stacked(self._rows)


def _gradient_norms(flow: Flow | list[nn.Module]) -> Tensor:
    if isinstance(flow, Flow):
        gradients = [p.grad.flatten(1) for p in (flow.weight, flow.bias) if p.grad is not None]
        if gradients:
            found: Tensor = torch.linalg.vector_norm(torch.cat(gradients, 1), dim=1)
            return found
    else:
        layers = [[p.grad.flatten() for p in layer.parameters() if p.grad is not None] for layer in flow]
        if all(layers):
            return torch.stack([torch.linalg.vector_norm(torch.cat(gradients)) for gradients in layers])
    raise ValueError(
        "The step left no gradient in a layer that is watched. Is it frozen, or part of another network than the one "
        "that is trained?"
    )


def _interval(every: int) -> int:
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"`every` counts iterations, so it must be a whole number, at least 1; got {every}.")
    return every


def _depths(layers: Sequence[int] | None, last: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(sorted({round(last * i / 8) for i in range(9)}))
    if not layers or not all(0 <= j <= last for j in layers):
        raise ValueError(f"`layers` must name some of the depths j = 0 to N = {last}; got {list(layers)}.")
    return tuple(layers)


def _modules(layers: Iterable[nn.Module]) -> list[nn.Module]:
    found = list(layers)
    for j, layer in enumerate(found):
        if not isinstance(layer, nn.Module):
            raise TypeError(f"Layer {j} must be a module, for its parameters' gradients; got {type(layer).__name__}.")
    return found


def _stacked(rows: list[Tensor]) -> Floats:
    """Rows of records as one array, moved to the CPU only now: reading while training would wait for the device."""
    if not rows:
        return np.empty((0, 0))
    found: Floats = torch.stack(rows).to("cpu", torch.float64).numpy()
    return found
