"""The regularisers α_c R_N + α Σ (R_K + R_b): sums of squares, whose gradients are known without autograd.

Each is a sum of terms f ‖x‖² of the output layer, or f Σ_j ‖x_j − x_{j−1}‖² of numbers x of a flow, layer first. That
is a dozen small operations, and three times as many backward; `weighed` is one step of autograd.

Legend: f a factor, x numbers; d_j = x_j − x_{j−1}, g the gradient of a term's value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.kernels import transforms
from hdnn.training.models import smooth_parts


class Term(NamedTuple):
    """f ‖x‖²; or, `between` layers, f Σ_j ‖x_j − x_{j−1}‖²."""

    factor: float
    x: Tensor
    between: bool

    @property
    def root(self) -> Tensor:
        """What is squared and summed."""
        return self.x[1:] - self.x[:-1] if self.between else self.x


def terms_of(network: Any, smoothness: float, head_decay: float) -> tuple[list[Term], list[Tensor]]:
    """The terms of the regularisers of a model, and what its parts say in their own words, weighed.

    Args:
        network: has a `head` where its decay is not 0.
        smoothness: α.
        head_decay: α_c.
    """
    terms = decays(network.head, head_decay) if head_decay else []
    others: list[Tensor] = []
    for part in smooth_parts(network) if smoothness else ():
        copies = _copies(part)
        if copies is None:
            of_K, of_b = part.smoothness()
            others.append(smoothness * (of_K + of_b))
        else:
            half = smoothness * part.step / 2
            terms += [Term(half * copies, part.weight, True), Term(half, part.bias, True)]
    return terms, others


def decays(head: nn.Module, factor: float) -> list[Term]:
    """α_c R_N = α_c (‖W‖² + ‖μ‖²)."""
    return [Term(factor, p, False) for p in head.parameters()]


def weighed(terms: Sequence[Term], others: Iterable[Tensor] = ()) -> Tensor:
    """The sum of all terms, and of what else there is; there is something."""
    if terms:
        tensors = [term.x for term in terms]
        if _is_plain(tensors):
            value = _WEIGHED([(term.factor, term.between) for term in terms], *tensors)
        else:
            value = value_of(terms)
        others = [value, *others]
    first, *more = others
    return sum(more, first)


def value_of(terms: Sequence[Term]) -> Tensor:
    """The sum of all terms, by operations of PyTorch."""
    first, *others = (term.factor * term.root.square().sum() for term in terms)
    return sum(others, first)


class _Weighed(torch.autograd.Function):
    """The sum of all terms. What backward does can be differentiated and mapped."""

    @staticmethod
    def forward(ctx: Any, how: list[tuple[float, bool]], *tensors: Tensor) -> Tensor:
        """f ‖x‖² and f Σ ‖d_j‖², added up; gradients for g = 1 on the way, from the same differences."""
        ctx.how = how
        ctx.save_for_backward(*tensors)
        ctx.gradients = []
        wanted = ctx.needs_input_grad[1:]
        values = [
            _walked(factor, x, between, ctx.gradients if want else None)
            for (factor, between), x, want in zip(how, tensors, wanted, strict=True)
        ]
        if tensors[0].is_cpu and tensors[0].dtype is torch.float32:  # as exact, and sooner done than in tensors
            return tensors[0].new_tensor(math.fsum(f * s.item() for (f, _), s in zip(how, values, strict=True)))
        first, *others = (f * s for (f, _), s in zip(how, values, strict=True))
        return sum(others, first)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Gradients of the numbers that want them."""
        wanted = ctx.needs_input_grad[1:]
        if not torch.is_grad_enabled() and g.is_cpu and not transforms.batched(g) and g.item() == 1:
            _ = ctx.saved_tensors  # refuses numbers that were changed since
            found = iter(ctx.gradients)
            return (None, *(next(found).clone() if want else None for want in wanted))
        rows = zip(wanted, ctx.how, ctx.saved_tensors, strict=True)
        return (None, *(_pulled(2 * factor * g, x, between) if want else None for want, (factor, between), x in rows))


def _walked(factor: float, x: Tensor, between: bool, gradients: list[Tensor] | None) -> Tensor:
    """‖x‖² or Σ ‖d_j‖²; the gradient of f times it is appended."""
    if not between:
        if gradients is not None:
            gradients.append(x * (2 * factor))
        return x.square().sum()
    if len(x) < 2:
        if gradients is not None:
            gradients.append(torch.zeros_like(x))
        return x.new_zeros(())
    d = x[1:] - x[:-1]
    if gradients is not None:
        to_x = torch.zeros_like(x)
        to_x[1:].add_(d, alpha=2 * factor)
        to_x[:-1].sub_(d, alpha=2 * factor)
        gradients.append(to_x)
    return d.square_().sum()


# Looked up once, and used where nobody watches: it knows neither transforms nor forward mode.
_WEIGHED = transforms.raw_apply(_Weighed)


def _pulled(g: Tensor, x: Tensor, between: bool) -> Tensor:
    """g x, or g (d_j − d_{j+1}), d being zero before the first and after the last."""
    if not between:
        return g * x
    if len(x) < 2:
        return torch.zeros_like(x)
    d = g * (x[1:] - x[:-1])
    return torch.cat((-d[:1], d[:-1] - d[1:], d[-1:]))


def _is_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether tensors have numbers of their own, and PyTorch does nothing but run, and differentiate backward."""
    if torch.compiler.is_compiling() or transforms.transformed() or transforms.watched() or transforms.forward_mode():
        return False
    return all(type(x) in (Tensor, nn.Parameter) for x in tensors) and not transforms.tracing()


def _copies(part: Any) -> int | None:
    """How many entries of K each free number of a flow fills; None where the part measures R_K in another way."""
    of_flow = isinstance(part, Flow) and type(part).smoothness is Flow.smoothness
    return part.structure.copies if of_flow else None
