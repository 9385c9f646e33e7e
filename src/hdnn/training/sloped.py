"""The gradient of a network's objective, found by a native training step that is not taken.

For trainings that native steps cannot take as a whole: penalties come on top, and a loss of the user's in between, by
autograd. Where it is the loss alone that keeps a training from native steps, these do move the network, see `step`.
"""

from __future__ import annotations

import dataclasses
import math
import operator

import torch
from torch import Tensor, nn

from hdnn.kernels import transforms
from hdnn.kernels.slopes import Slope
from hdnn.training import fused, state
from hdnn.training.batches import Batch
from hdnn.training.block import Block
from hdnn.training.objective import Objective
from hdnn.training.optimizers import AnyOptimizer
from hdnn.training.recipe import Recipe
from hdnn.training.standing import Standing


class Sloped:
    """The objective of a network: all but penalties and a loss of the user's natively, and these by autograd.

    Args:
        objective: of a network for which `hdnn.training.fused.why_not` has no words.
        recipe: of which the regularisers count, and how steps are taken where `moves`.
        moves: whether steps along a loss of the user's are taken natively.

    Attributes:
        leads: whether the last step was taken so, and the optimizer lags behind; see `follow`.
    """

    def __init__(self, objective: Objective, recipe: Recipe, *, moves: bool = False) -> None:
        network: nn.Module = objective.network
        self.objective, self.moves, self.leads = objective, moves, False
        self.block = Block([network], recipe, apart=True)
        self.setup = self.block.setup
        self.standing = Standing(network)
        parts = fused.tensors_of(network)
        self.names, self.parameters = list(parts), list[Tensor](parts.values())
        self.trained = [name in self.setup.trains for name in parts]
        self.dtype = self.parameters[0].dtype
        self.slope = Slope(self.setup, self.dtype)
        self.sample: torch.Size | None = None  # what a sample looks like, once one was taken
        self.row, self.gradient = self.block.trainees.parameters[0], self.block.gradient[0]
        self._numbers, self._slopes = self.block.parted(self.row), self.block.parted(self.gradient)

    def pull(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The objective and the outputs on a batch; the parameters are given their gradients.

        None where autograd must follow every operation, and where the objective is no number: whoever looks for what
        went wrong shall meet what autograd meets.
        """
        if not (self._takes(batch) and _is_plain() and self._is_as_it_was()):
            return None
        self._begin()
        if self.objective.loss is None:
            found = self._by_own_loss(batch)
        else:
            said = self._by_loss(batch)
            found = None if said is None else self._pulled(*said)
        if found is not None:
            self._give()
        return found

    def step(self, batch: Batch, optimizer: AnyOptimizer) -> tuple[Tensor, Tensor] | None:
        """The objective and the outputs on a batch, before one step along a loss of the user's.

        None where `pull` must find the gradient, for an optimizer. Where the loss has looked at parameters, too, they
        are given their gradients, as `pull` gives them, and not moved; `moves` is then no more.

        Args:
            batch: inputs, targets and weights.
            optimizer: whose memory is taken over; it knows the rate.
        """
        if not (self.moves and self._takes(batch) and _is_plain() and self._is_as_it_was()):
            return None
        if self._learn != self.trained or not (self.leads or self._take_over(optimizer)):
            return None
        self._begin()
        if (said := self._by_loss(batch)) is None:
            return None
        if any(p.grad is not None for p in self.parameters):
            self.moves = False
            found = self._pulled(*said)
        else:
            found = self._moved(*said, optimizer.param_groups[0]["lr"])
        self._give()
        return found

    def _pulled(self, x: Tensor, loss: Tensor, output: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """The objective and the outputs, from what `_by_loss` says; the gradient is written."""
        return loss + self.slope.pulled(self.row, x, g, self.gradient), output

    def _moved(self, x: Tensor, loss: Tensor, output: Tensor, g: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """The same before a step."""
        transforms.overwrite(self._numbers, self.parameters)  # where the loss has put other numbers
        regularisers = self.slope.move(self.block.trainees, x, g, rate, self.gradient)
        transforms.overwrite(self.parameters, self._numbers)
        return loss + regularisers, output

    def _take_over(self, optimizer: AnyOptimizer) -> bool:
        """Go on with what an optimizer remembers; no where native steps cannot."""
        try:
            self.block.remember(state.memory(optimizer), stacked=False)
        except ValueError:
            self.moves = False
        self.leads = self.moves
        return self.leads

    def follow(self, optimizer: AnyOptimizer) -> None:
        """Let an optimizer remember what native steps do."""
        if self.leads:
            state.remember(optimizer, self.block.memory(stacked=False))
            self.leads = False

    def is_finite(self) -> bool:
        """Whether weights, and what native steps remember, are numbers."""
        return all(bool(x.isfinite().all()) for x in (*self.parameters, self.block.moments))

    def show_gradient(self) -> None:
        """Give the parameters copies of their gradients, as whoever keeps one expects."""
        for p, slope in zip(self.parameters, self._slopes, strict=True):
            if p.grad is slope:
                p.grad = slope.clone()

    def _look_at(self, x: Tensor) -> Tensor:
        """Rows of numbers, of samples of any shape."""
        setup = fused.sighted(self.setup, x.shape[1:])
        if setup.image != self.setup.image:
            self.setup, self.slope = setup, Slope(setup, self.dtype)
        return x.flatten(1)

    def _begin(self) -> None:
        """Bring the block to where the parameters are, which forget their gradients."""
        for name, p in zip(self.names, self.parameters, strict=True):
            # The alternating method freezes the output layer in this step; it keeps the gradient of its own last one.
            if p.requires_grad or not name.startswith("head"):
                p.grad = None
        transforms.overwrite(self._numbers, self.parameters)

    def _give(self) -> None:
        """Add the gradient to what the parameters have of it."""
        for p, slope in zip(self.parameters, self._slopes, strict=True):
            if p.requires_grad:
                if p.grad is not None:
                    slope.add_(p.grad)
                # Fused optimizers want gradients that lie as their parameters do.
                p.grad = slope if p.is_contiguous() else torch.empty_like(p).copy_(slope)

    def _is_as_it_was(self) -> bool:
        """Whether the same parameters stand in the network, none learns that did not, and nobody has come to watch."""
        self._learn = [p.requires_grad for p in self.parameters]
        if self._learn != self.trained and any(map(operator.gt, self._learn, self.trained)):
            return False
        return self.standing.holds() and not transforms.hooked()

    def _by_own_loss(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The objective and the outputs; penalties have left their gradients."""
        x = self._look_at(batch.x)  # type: ignore[arg-type]  # `_takes` has looked at it
        y = batch.y if self.setup.loss == "squares" else batch.y.long()
        loss, output = self.slope.at(self.row, x, y, batch.weight, self.gradient)
        value = _followed(self.objective.penalised(loss))
        return None if value is None else (value, output)

    def _by_loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Rows of numbers, a loss of the user's with penalties, the outputs, and the gradient by these."""
        x = self._look_at(batch.x)  # type: ignore[arg-type]
        output = self.slope.outputs(self.row, x).requires_grad_()
        # A copy, for a loss may write to what it is given.
        loss = self.objective.data_loss(output.clone(), batch.y, batch.weight)
        value = _followed(self.objective.penalised(loss))
        if value is None:
            return None
        g = torch.zeros_like(output) if output.grad is None else output.grad
        return x, value, output.detach(), g

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
    moves = not (own_way or objective.penalties)
    return Sloped(objective, recipe if moves else joint, moves=moves)


def _followed(value: Tensor) -> Tensor | None:
    """What autograd has followed, after it went back; None where it is no number."""
    if not math.isfinite(value.item()):
        return None
    if value.requires_grad:
        transforms.backward(value)
    return value.detach()


def _is_plain() -> bool:
    """Whether PyTorch does nothing but run, and differentiate backward."""
    around = torch.compiler.is_compiling() or transforms.transformed() or transforms.watched()
    return torch.is_grad_enabled() and not (around or transforms.forward_mode() or transforms.autocasting("cpu"))
