"""The gradient of a network's objective, found by a native training step that is not taken.

For trainings that native steps cannot take as a whole: penalties come on top, and a loss of the user's in between, by
autograd.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from hdnn.kernels import transforms
from hdnn.kernels.slopes import Slope
from hdnn.training import fused
from hdnn.training.batches import Batch
from hdnn.training.objective import Objective
from hdnn.training.recipe import Recipe
from hdnn.training.standing import Standing


class Sloped:
    """The objective of a network: all but penalties and a loss of the user's natively, and these by autograd.

    Args:
        objective: of a network for which `hdnn.training.fused.why_not` has no words.
        recipe: of which the regularisers count.
    """

    def __init__(self, objective: Objective, recipe: Recipe) -> None:
        network: nn.Module = objective.network
        self.objective = objective
        self.setup = fused.setup_of(network, recipe)
        self.standing = Standing(network)
        parts = fused.tensors_of(network)
        self.names, self.parameters = list(parts), list(parts.values())
        self.trained = [name in self.setup.trains for name in parts]
        self.sizes, self.shapes = [p.numel() for p in parts.values()], [p.shape for p in parts.values()]
        self.dtype = self.parameters[0].dtype
        self.slope = Slope(self.setup, self.dtype)
        self.sample: torch.Size | None = None  # what a sample looks like, once one was taken

    def _look_at(self, x: Tensor) -> Tensor:
        """Rows of numbers, of samples of any shape."""
        setup = fused.sighted(self.setup, x.shape[1:])
        if setup.image != self.setup.image:
            self.setup, self.slope = setup, Slope(setup, self.dtype)
        return x.flatten(1)

    def pull(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The objective and the outputs on a batch; the parameters are given their gradients.

        None where autograd must follow every operation, and where the objective is no number: whoever looks for what
        went wrong shall meet what autograd meets.
        """
        if not (self._takes(batch) and _is_plain() and self._is_as_it_was()):
            return None
        for name, p in zip(self.names, self.parameters, strict=True):
            # The alternating method freezes the output layer in this step; it keeps the gradient of its own last one.
            if p.requires_grad or not name.startswith("head"):
                p.grad = None
        block = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        found = self._by_own_loss(block, batch) if self.objective.loss is None else self._by_loss(block, batch)
        if found is None:
            return None
        value, output, gradient = found
        parts = torch.split_with_sizes(gradient, self.sizes)
        for p, part, shape in zip(self.parameters, parts, self.shapes, strict=True):
            if p.requires_grad:
                pulled = part.view(shape)
                if not p.is_contiguous():  # fused optimizers want gradients that lie as their parameters do
                    pulled = torch.empty_like(p).copy_(pulled)
                p.grad = pulled if p.grad is None else p.grad + pulled
        return value, output

    def _is_as_it_was(self) -> bool:
        """Whether the same parameters stand in the network, none learns that did not, and nobody has come to watch."""
        if any(p.requires_grad and not trained for p, trained in zip(self.parameters, self.trained, strict=True)):
            return False
        return self.standing.holds() and not transforms.hooked()

    def _by_own_loss(self, block: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor] | None:
        """The objective, the outputs, and the gradient of all but penalties, which have left theirs."""
        x = self._look_at(batch.x)  # type: ignore[arg-type]  # `_takes` has looked at it
        y = batch.y if self.setup.loss == "squares" else batch.y.long()
        loss, output, gradient = self.slope.at(block, x, y, batch.weight)
        value = _followed(self.objective.penalised(loss))
        return None if value is None else (value, output, gradient)

    def _by_loss(self, block: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor] | None:
        """The same with a loss of the user's."""
        x = self._look_at(batch.x)  # type: ignore[arg-type]
        output = self.slope.outputs(block, x).requires_grad_()
        # A copy, for a loss may write to what it is given.
        loss = self.objective.data_loss(output.clone(), batch.y, batch.weight)
        value = _followed(self.objective.penalised(loss))
        if value is None:
            return None
        g = torch.zeros_like(output) if output.grad is None else output.grad
        regularisers, gradient = self.slope.pulled(block, x, g)
        return value + regularisers, output.detach(), gradient

    def _takes(self, batch: Batch) -> bool:
        x, y, weight, _ = batch
        if not isinstance(x, Tensor) or not x.shape[0]:
            return False
        if x.shape[1:] != self.sample:
            if not fused.takes(self.objective.network, x.shape[1:]):
                return False
            self.sample = x.shape[1:]
        given = [x]
        if self.objective.loss is None:
            plain = self.setup.loss == "squares"
            if y.shape != ((len(x), self.setup.outputs) if plain else (len(x),)) or not y.is_cpu:
                return False
            if weight is not None and weight.shape != (len(x),):
                return False
            given += [part for part in (y if plain else None, weight) if part is not None]
        return all(part.dtype is self.dtype and part.is_cpu and not part.requires_grad for part in given)


def sloped_of(objective: Objective, recipe: Recipe) -> Sloped | None:
    """The native way to the gradient, for trainings that native steps could take but for penalties or how they step."""
    joint = dataclasses.replace(recipe, method="joint", optimizer="sgd")
    own_way = recipe.method == "alternating" or recipe.optimizer == "lbfgs"
    kept_from_it = own_way or objective.penalties or objective.loss is not None
    if not kept_from_it or objective.call or fused.why_not(objective.network, joint):
        return None
    return Sloped(objective, joint)


def _followed(value: Tensor) -> Tensor | None:
    """What autograd has followed, after it went back; None where it is no number."""
    if not math.isfinite(value.item()):
        return None
    if value.requires_grad:
        torch.autograd.backward(value)
    return value.detach()


def _is_plain() -> bool:
    """Whether PyTorch does nothing but run, and differentiate backward."""
    around = torch.compiler.is_compiling() or transforms.transformed() or transforms.watched()
    return torch.is_grad_enabled() and not (around or transforms.forward_mode() or transforms.autocasting("cpu"))
