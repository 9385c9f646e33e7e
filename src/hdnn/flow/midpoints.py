"""Implicit midpoint steps of vectors, solved without autograd, their gradients by the implicit function theorem.

Legend: S samples, N layers, y state, h step, d = m − y the way to the midpoint m, u = K m + b, D = diag σ′(u);
P = (h/2) Wᵀ D K, so that I − P is the matrix of Newton's method; g the gradient by a state, ū that by u.

With y⁺ = y + F(m) and m = (y + y⁺) / 2, dy⁺ = (I − P)⁻¹ ((I + P) dy + dF): for v = (I − P)⁻ᵀ g the gradient by y is
2 v − g, and those by weights are those of ⟨F(m), v⟩.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdnn.activations import Activation
from hdnn.entries import per_layer
from hdnn.fields import Drive, Field, Layer
from hdnn.spaces import VECTORS

# Steps along one matrix after which the slower solver takes over.
_ROUNDS = 12
# A step that leaves more of the residual than this is followed by one along a new matrix.
_POOR = 0.1
# Numbers of all matrices that are inverted at once.
_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Midpoints:
    """All layers, in plain values.

    Args:
        layers: N.
        h: the step.
        integrator: which knows the tolerance, and what to do and to say where these steps do not arrive.
        activation: σ.
    """

    layers: int
    h: float
    integrator: Any
    activation: Activation

    def run(self, tensors: Sequence[Tensor], kept: list[Tensor] | None = None, *, plain: bool) -> list[Tensor]:
        """The states (S, n) after the last layer, from y (S, n), K, b and, if there is one, W.

        Args:
            tensors: those.
            kept: where to put the midpoints and the u of every span of layers.
            plain: whether nobody differentiates, maps or traces these operations.

        Raises:
            RuntimeError: as the integrator does.
        """
        y, K, b, W = self._named(tensors)
        half = None if W is None else (self.h / 2) * W
        layers = list(zip(*(per_layer(x, self.layers) for x in (K, b, W, half)), strict=True))
        for first, last in self._spans(y, K):
            found: list[tuple[Tensor, Tensor]] = []
            for layer in layers[first:last]:
                if not plain:
                    y = self.integrator.step(self._field(*layer[:3]), y, self.h)
                    continue
                d, u = self._way(y, *layer)
                if kept is not None:
                    found.append((y + d, u))
                y = torch.add(y, d, alpha=2)
            if kept is not None:
                kept += [torch.stack(column) for column in zip(*found, strict=True)]
        return [y]

    def _way(self, y: Tensor, K: Tensor, b: Tensor, W: Tensor | None, half: Tensor | None) -> tuple[Tensor, Tensor]:
        """d and u of one layer: steps of Newton's method that keep their matrix while it serves."""
        start, to_u = torch.addmm(b, y, K.mT), K.mT
        z = self.activation.value(start)
        d = (self.h / 2) * z if half is None else torch.mm(z, half)
        least, inverse = torch.inf, None
        floor = 4 * torch.finfo(y.dtype).eps * float(d.abs().amax())
        for _ in range(min(_ROUNDS, self.integrator.iterations)):
            u = torch.addmm(start, d, to_u)
            z = self.activation.value(u)
            r = torch.sub(d, z, alpha=self.h / 2) if half is None else torch.addmm(d, z, half, alpha=-1)
            size = float(r.abs().amax())
            if not size < least:  # nothing is gained any more, or NaN
                break
            best, poor, least = (d, u, r), size > _POOR * least, size
            if size <= floor:
                break
            if inverse is None or poor:
                inverse = torch.linalg.inv_ex(self._system(u, K, half)).inverse
            d = d - torch.bmm(inverse, r.unsqueeze(-1)).squeeze(-1)
        if least < torch.inf and self.integrator.accepts(y + best[0], best[2]):
            return best[0], best[1]
        d = self.integrator.solution(self._field(K, b, W), y, self.h) - y
        for _ in range(2):  # from the tolerance to rounding
            u = torch.addmm(start, d, to_u)
            r = d - (self.h / 2) * self._field(K, b, W)(y + d)
            d = d - torch.linalg.solve(self._system(u, K, half), r.unsqueeze(-1)).squeeze(-1)
        return d, torch.addmm(start, d, to_u)

    def pull(self, gs: Sequence[Tensor], tensors: Sequence[Tensor], kept: list[Tensor], all: bool) -> list[Any]:
        """The gradients of y, K, b and W from that of the result.

        Args:
            gs: that one.
            tensors: of the run.
            kept: what it kept.
            all: whether those of the weights are wanted too.
        """
        _, K, _, W = self._named(tensors)
        half = None if W is None else (self.h / 2) * W
        found = [torch.zeros_like(x) for x in tensors[1:]]
        g = gs[0].unsqueeze(-1)
        for first, last in reversed(self._spans(gs[0], K)):
            of, u, middles = slice(first, last), kept.pop(), kept.pop()
            K_of = K if len(K) == 1 else K[of]
            half_of = half if half is None or len(half) == 1 else half[of]
            slope = self.activation.slope(u)
            inverse = torch.linalg.inv_ex(self._system(u, K_of, half_of, slope)).inverse
            turned = (2 * inverse).mT.contiguous()
            turned.diagonal(dim1=-2, dim2=-1).sub_(1)
            along = [g]
            for each in reversed(turned.unbind()):
                g = torch.bmm(each, g)
                along.append(g)
            if not all:
                continue
            ends = torch.stack(along[::-1]).squeeze(-1)
            v = (ends[1:] + ends[:-1]) / 2
            to_u = self.h * v if half_of is None else 2 * torch.matmul(v, half_of.mT)
            to_u = to_u * slope
            terms = [torch.bmm(to_u.mT, middles), to_u.sum(1)]
            terms += [] if W is None else [torch.bmm((self.h * self.activation.value(u)).mT, v)]
            for total, term in zip(found, terms, strict=True):
                if len(total) == 1:
                    total += term.sum(0)
                else:
                    total[of] = term
        return [g.squeeze(-1), *found]

    def _system(self, u: Tensor, K: Tensor, half: Tensor | None, slope: Tensor | None = None) -> Tensor:
        """I − P, (..., S, n, n)."""
        slope = self.activation.slope(u) if slope is None else slope
        scaled = slope.unsqueeze(-1) * (K.unsqueeze(-3) if K.dim() > 2 else K)
        if half is None:
            P = (self.h / 2) * scaled
        else:
            P = torch.matmul(half.mT.unsqueeze(-3) if half.dim() > 2 else half.mT, scaled)
        P.neg_()
        P.diagonal(dim1=-2, dim2=-1).add_(1)
        return P

    def _spans(self, y: Tensor, K: Tensor) -> list[tuple[int, int]]:
        """Layers whose matrices are inverted at once, the first of each and the one after its last."""
        span = max(1, _AT_ONCE // (len(y) * K[0].numel()))
        return [(first, min(first + span, self.layers)) for first in range(0, self.layers, span)]

    def _field(self, K: Tensor, b: Tensor, W: Tensor | None) -> Field:
        return Field((Drive(Layer(K, b, W), VECTORS, self.activation),), -1)

    def _named(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        y, K, b, *W = tensors
        return y, K, b, W[0] if W else None
