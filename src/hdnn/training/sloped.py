"""The gradient of a `Network`'s objective, found by a native training step that is not taken.

For trainings that native steps cannot take as a whole, as those with penalties: these come on top, by autograd.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.kernels import transforms
from hdnn.kernels.slopes import Slope
from hdnn.networks import Network
from hdnn.training import fused
from hdnn.training.batches import Batch
from hdnn.training.objective import Objective
from hdnn.training.recipe import Recipe


class Sloped:
    """The objective of a network without penalties.

    Args:
        network: for which `hdnn.training.fused.why_not` has no words.
        recipe: of which the regularisers count.
    """

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.setup = fused.setup_of(network, recipe)
        parts = fused.tensors_of(network)
        self.parameters: list[nn.Parameter] = list(parts.values())
        self.trained = [name in self.setup.trains for name in parts]
        self.sizes, self.shapes = [p.numel() for p in parts.values()], [p.shape for p in parts.values()]
        self.dtype = self.parameters[0].dtype
        self.slope = Slope(self.setup, self.dtype)

    def pull(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The objective and the outputs on a batch; the parameters are given their gradients.

        None where autograd must follow every operation, and where the objective is no number: whoever looks for what
        went wrong shall meet what autograd meets.
        """
        known = zip(self.parameters, self.trained, strict=True)
        if not (self._takes(batch) and _is_plain()) or any(p.requires_grad and not trained for p, trained in known):
            return None
        y = batch.y if self.setup.loss == "squares" else batch.y.long()
        x: Any = batch.x
        block = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        loss, output, gradient = self.slope.at(block, x, y, batch.weight)
        if not math.isfinite(loss.item()):
            return None
        parts = torch.split_with_sizes(gradient, self.sizes)
        for p, part, shape in zip(self.parameters, parts, self.shapes, strict=True):
            if p.requires_grad:
                p.grad = part.view(shape)
        return loss, output

    def _takes(self, batch: Batch) -> bool:
        x, y, weight = batch
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != self.setup.inputs or not len(x):
            return False
        given = [x, *([y] if self.setup.loss == "squares" else []), *([] if weight is None else [weight])]
        if any(part.dtype is not self.dtype or not part.is_cpu or part.requires_grad for part in given):
            return False
        shape = (len(x), self.setup.outputs) if self.setup.loss == "squares" else (len(x),)
        return y.is_cpu and y.shape == shape and (weight is None or weight.shape == (len(x),))


def sloped_of(objective: Objective, recipe: Recipe) -> Sloped | None:
    """The native way to the gradient, for trainings that native steps could take but for penalties or how they step."""
    joint = dataclasses.replace(recipe, method="joint", optimizer="sgd")
    kept_from_it = objective.penalties or recipe.method == "alternating" or recipe.optimizer == "lbfgs"
    network = objective.network
    if not kept_from_it or objective.loss is not None or objective.call or fused.why_not(network, joint):
        return None
    return Sloped(network, joint)


def _is_plain() -> bool:
    """Whether PyTorch does nothing but run, and differentiate backward."""
    around = torch.compiler.is_compiling() or transforms.transformed() or transforms.watched()
    return torch.is_grad_enabled() and not (around or transforms.forward_mode() or transforms.autocasting("cpu"))
