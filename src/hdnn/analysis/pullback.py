"""The chain rule, one layer after another, without matrices.

Legend: y_j the state before layer j = 0 … N − 1, L_j = ∂y_{j+1}/∂y_j its Jacobian per sample. A layer pulls a cotangent
u of y_{j+1} back to uᵀ L_j, and pushes a tangent v of y_j forward to L_j v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hdnn.analysis.checks import check_flow, check_state, check_states
from hdnn.flow import Flow
from hdnn.modes import evaluating

Layer = Callable[[Tensor], Tensor]
Layers = Flow | Iterable[Layer]


@dataclass(frozen=True, eq=False)
class Link:
    """One layer, differentiated at given states.

    Attributes:
        before: y_j, (*samples, *state).
        after: y_{j+1}.
        leading: how many leading axes number the samples.
        pullback: u ↦ (uᵀ L_j,), from the shape of `after` to that of `before`.
    """

    before: Tensor
    after: Tensor
    leading: int
    pullback: Callable[[Tensor], tuple[Tensor]]

    def pull(self, u: Tensor) -> Tensor:
        """The product uᵀ L_j, from the shape of `after` to that of `before`."""
        return self.pullback(u)[0]

    def push(self, v: Tensor) -> Tensor:
        """The product L_j v, from the shape of `before` to that of `after`.

        The pullback is linear in u, so its own pullback is v ↦ L_j v. Two reverse passes: fewer layers have rules of
        forward mode.
        """
        _, transposed, *_ = torch.func.vjp(self.pull, torch.zeros_like(self.after))
        product: Tensor = transposed(v)[0]
        return product

    def pull_rows(self, rows: Tensor) -> Tensor:
        """Many cotangents of every sample at once: the matrix product of `rows` and L_j, states flattened.

        Args:
            rows: (*samples, T, D'), with D' numbers in a state after the layer.

        Returns:
            (*samples, T, D).
        """
        samples, size = self.before.shape[: self.leading], self.before.shape[self.leading :].numel()
        u = rows.movedim(-2, 0).reshape(rows.shape[-2], *self.after.shape)
        return torch.vmap(self.pull)(u).reshape(len(u), *samples, size).movedim(0, -2)


@torch.no_grad()
def trace(layers: Layers, y: Tensor, start: int = 0, **call: Any) -> tuple[list[Link], Tensor]:
    """The layers from `start` on, each differentiated at the state that reaches it.

    Modules are read in evaluation mode, whatever mode they have, and keep it.

    Args:
        layers: a flow, or functions from states to states.
        y: y_0: (..., n) or images for a flow; (B, ...) for functions, one sample a row.
        start: the first layer to differentiate; those before it only run.
        **call: what a call of the flow brings besides y, such as `edge_index` or `inputs`.

    Returns:
        One link a layer, and y_N.

    Raises:
        ValueError: if y does not fit, there is no layer `start`, or a state or a weight is not finite.
    """
    layers = listed(layers)
    check_start(layers, y)
    links: list[Link] = []
    with evaluating(*modules(layers)):
        steps, leading = functions(layers, y, **call), sample_axes(layers, y)
        if not 0 <= start <= len(steps):
            raise ValueError(f"`start` counts layers from 0 to N = {len(steps)}; got {start}.")
        y = y.detach()
        for j, layer in enumerate(steps):
            if j < start:
                after = layer(y.clone())
            else:
                after, pullback, *_ = torch.func.vjp(partial(watched, layer, j), y)
                links.append(Link(y, after, leading, pullback))
            check_states(after.unsqueeze(0), j + 1)
            y = after
    return links, y


def modules(layers: Layers) -> list[nn.Module]:
    """The layers that are modules, or the flow."""
    parts = [layers] if isinstance(layers, Flow) or not isinstance(layers, Iterable) else layers
    return [part for part in parts if isinstance(part, nn.Module)]


def listed(layers: Layers) -> Layers:
    """Layers that can be gone through more than once."""
    return list(layers) if isinstance(layers, Iterable) and not isinstance(layers, Flow) else layers


def check_start(layers: Layers, y: Tensor) -> None:
    """Refuse a state y_0 that does not fit, and weights of a flow that are not finite."""
    if isinstance(layers, Flow):
        check_flow(layers, y)
        return
    check_state(y)
    if y.dim() < 2:
        raise ValueError(f"Expected states of shape (B, ...), one sample a row; got {tuple(y.shape)}.")


def sample_axes(layers: Layers, y: Tensor) -> int:
    """How many leading axes of a state number the samples."""
    if not isinstance(layers, Flow):
        return 1
    return y.dim() - layers.space.rank


def functions(layers: Layers, y: Tensor | None = None, **call: Any) -> list[Layer]:
    """One function per layer: those given, or the steps of a flow, which run eagerly whatever its backend.

    Raises:
        TypeError: if `layers` is neither a flow nor a sequence of functions.
        ValueError: if a layer mixes the samples of a batch.
    """
    if isinstance(layers, Flow):
        return [partial(layers.integrator.step, field, h=layers.step) for field in layers.fields(y, **call)]
    if any(value is not None for value in call.values()):
        raise TypeError(
            f"Layers that are functions take no {', '.join(map(repr, call))}. Bind it to them, by functools.partial."
        )
    if not isinstance(layers, Iterable):
        raise TypeError(
            f"Expected a `Flow` or a sequence of layers; got {type(layers).__name__}. Of an hdnn network pass the flow "
            f"and the lifted input, `network.flow` and `network.lift(x)`; of another module the list of its layers."
        )
    found: list[Layer] = []
    for j, layer in enumerate(layers):
        if not callable(layer):
            raise TypeError(f"Layer {j} must be a function from states to states; got a {type(layer).__name__}.")
        if isinstance(layer, nn.Module) and any(_mixes_samples(part) for part in layer.modules()):
            raise ValueError(
                f"Layer {j} normalises over the batch and keeps no running statistics, so every output depends on all "
                f"samples and there is no Jacobian per sample. Use another normalisation."
            )
        found.append(_eager(layer) if isinstance(layer, Flow) else layer)
    return found


def _eager(flow: Flow) -> Layer:
    """All steps of a flow as one function. The fused kernels know no second derivative, which `Link.push` needs."""

    def run(y: Tensor) -> Tensor:
        for step in functions(flow):
            y = step(y)
        return y

    return run


def _mixes_samples(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is None


def watched(layer: Layer, number: int, y: Tensor) -> Tensor:
    """The layer, refused where its derivative would be silently wrong."""
    # A copy: a layer may write into its input.
    after = layer(y.clone())
    if not isinstance(after, Tensor):
        raise TypeError(f"Layer {number} must return one tensor; got a {type(after).__name__}.")
    if after.shape[:1] != y.shape[:1]:
        raise ValueError(
            f"Layer {number} must keep one sample a row; it mapped {tuple(y.shape)} to {tuple(after.shape)}."
        )
    if not after.requires_grad:
        raise ValueError(
            f"The output of layer {number} is cut off from its input: a detach() or a no_grad() stands "
            f"between them. Take it out to differentiate the layer."
        )
    return after
