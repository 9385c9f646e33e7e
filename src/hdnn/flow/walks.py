"""Steps made of moves, forward and back by hand: a fraction of the operations that PyTorch's own way takes.

Legend: N layers, R rows of a state with n features, m hidden units; x = (y, 1) a state beside a column of ones, so that
u = K y + b is the product x I with I = (Kᵀ; b), and y + h Wᵀ σ(u) the sum x + σ(u) O with O = (h W, 0). On a graph x
stands beside A x and σ(u) beside Aᵀ σ(u), and I and O have a second half below. g the gradient by a state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.activations import Activation
from hdnn.entries import per_layer
from hdnn.hamiltonian import Layer
from hdnn.integrators import Integrator
from hdnn.spaces.rows import Rows

# Numbers of one kind (states, hidden values) of the layers whose gradients are summed by one product: part of a cache.
_AT_ONCE = 1 << 17
# Numbers of one layer on vectors up to which few operations are the shorter way; beyond, it is few passes over memory.
SMALL = 1 << 13


@dataclass(frozen=True, eq=False)
class Moves:
    """All layers as moves of the whole state, or of its halves in turn, in plain values.

    Args:
        layers: N.
        moves: the part of the state that moves, the one that drives it, and the fraction of a step.
        rows: how states are rows.
        activation: σ.
        decay: e^(−γh), by which the first part is multiplied before every layer.
    """

    layers: int
    moves: tuple[tuple[int, int, float], ...]
    rows: Rows
    activation: Activation
    decay: float

    def start(self, y: Tensor, parts: Sequence[Layer], h: float) -> list[Tensor]:
        """The tensors of a run: every part of the state, then the matrices of what drives each."""
        rows = y.reshape(-1, y.shape[-1])
        ones = rows.new_ones(len(rows), 1)
        tensors = [torch.cat((part, ones), 1) for part in rows.chunk(len(parts), 1)]
        taps = self.rows.taps
        for K, b, W, *_ in parts:
            if W is None:
                W = torch.eye(K.shape[1], dtype=K.dtype, device=K.device)[None]
                W = W if taps == 1 else torch.stack((W, torch.zeros_like(W)), -1)
            into = (K if taps == 1 else K.movedim(-1, 1)).mT
            away = W if taps == 1 else W.movedim(-1, 1)
            b = b[:, None] if taps == 1 else functional.pad(b[:, None, None], (0, 0, 0, 0, 0, taps - 1))
            tensors += [torch.cat((into, b), -2).flatten(1, -2), functional.pad(h * away, (0, 1)).flatten(1, -2)]
        return tensors

    def end(self, parts: Sequence[Tensor], size: torch.Size) -> Tensor:
        """The state of a size, from its parts."""
        return torch.cat([x[:, :-1] for x in parts], 1).reshape(size)

    def run(self, tensors: Sequence[Tensor], kept: list[Tensor] | None = None, *, plain: bool) -> list[Tensor]:
        """The parts of the state after the last layer.

        Args:
            tensors: of `start`.
            kept: where to put what a way back needs: for every span of layers, of what moves each part, all x, on a
                graph beside A x, and all u, move by move.
            plain: whether nobody differentiates, maps or traces these operations.
        """
        states, matrices = self._apart(tensors)
        inward, outward = self._layered(matrices)
        around, back = self.rows.beside(plain) or (None, None)
        value, decays = self.activation.value, self._decays(states[0])
        for first, last in self._spans(tensors):
            seen_by: list[list[tuple[Tensor, Tensor]]] = [[] for _ in states]
            for j in range(first, last):
                if decays is not None:
                    states[0] = states[0] * decays
                for part, seen, fraction in self.moves:
                    x = states[seen] if around is None else around(states[seen])
                    u = torch.mm(x, inward[part][j])
                    z = value(u) if back is None else back(value(u))
                    states[part] = torch.addmm(states[part], z, outward[part, fraction][j])
                    if kept is not None:
                        seen_by[part].append((x, u))
            if kept is not None:
                kept += [_stacked(column) for moves in seen_by for column in zip(*moves, strict=True)]
        return states

    def pull(self, gs: Sequence[Tensor], tensors: Sequence[Tensor], kept: list[Tensor], all: bool) -> list[Any]:
        """The gradients of the tensors of a run from those of its result.

        Args:
            gs: of the parts of the state after the last layer.
            tensors: of the run.
            kept: what it kept.
            all: whether those of the matrices are wanted too.
        """
        states, matrices = self._apart(tensors)
        inward, outward = self._layered([[self._turned(x) for x in of_part] for of_part in matrices])
        around, back = self.rows.beside(True) or (None, None)
        g, decays, sums = list(gs), self._decays(states[0]), [[torch.zeros_like(x) for x in of] for of in matrices]
        for first, last in reversed(self._spans(tensors)):
            columns = [kept.pop() for _ in range(2 * len(states))][::-1]
            seen_by = [columns[2 * part : 2 * part + 2] for part in range(len(states))]
            slopes = [list(self.activation.slope(u).unbind()) for _, u in seen_by]
            found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in states]
            for j in reversed(range(first, last)):
                for part, seen, fraction in reversed(self.moves):
                    here = g[part] if around is None else around(g[part])
                    to_u = torch.mm(here, outward[part, fraction][j]).mul_(slopes[part].pop())
                    g[seen] = torch.addmm(g[seen], to_u if back is None else back(to_u), inward[part][j])
                    if all:
                        found[part].append((to_u, here))
                if decays is not None:
                    g[0] = g[0] * decays
            if all:
                for part, moves in enumerate(found):
                    (x, u), columns = seen_by[part], [_stacked(column[::-1]) for column in zip(*moves, strict=True)]
                    self._add(part, sums[part], slice(first, last), x, u, *columns)
        return [*g, *(x for of_part in sums for x in of_part)]

    def _add(self, part: int, sums: list[Tensor], layers: slice, x: Tensor, u: Tensor, to_u: Tensor, g: Tensor) -> None:
        """Add the gradients of the matrices of some layers, one product of each kind for all of their moves."""
        away = self._turned(torch.bmm(g.mT, self.activation.value(u)))
        fractions = [fraction for moved, _, fraction in self.moves if moved == part]
        if fractions != [1.0]:
            away = away * u.new_tensor(fractions).repeat(layers.stop - layers.start).reshape(-1, 1, 1)
        for total, product in zip(sums, (torch.bmm(x.mT, to_u), away), strict=True):
            of_layers = product.reshape(layers.stop - layers.start, -1, *product.shape[1:]).sum(1)
            if len(total) == 1:
                total += of_layers.sum(0)
            else:
                total[layers] = of_layers

    def _turned(self, x: Tensor) -> Tensor:
        """Both halves of I or of O transposed, one below the other."""
        taps = self.rows.taps
        return x.mT if taps == 1 else x.reshape(len(x), taps, -1, x.shape[2]).mT.flatten(1, 2)

    def _spans(self, tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Layers whose numbers are kept as one, the first of each and the one after its last."""
        widest = max(x.shape[-1] for x in tensors) * len(tensors[0]) * len(self.moves)
        span = max(1, _AT_ONCE // widest)
        return [(first, min(first + span, self.layers)) for first in range(0, self.layers, span)]

    def _apart(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The parts of the state, and I and O of what moves each."""
        parts = 1 + max(move[0] for move in self.moves)
        return list(tensors[:parts]), [list(tensors[i : i + 2]) for i in range(parts, 3 * parts, 2)]

    def _layered(
        self, matrices: list[list[Tensor]]
    ) -> tuple[list[Sequence[Tensor]], dict[tuple[int, float], Sequence[Tensor]]]:
        """I of every part, and O for every fraction of a step, layer by layer."""
        inward = [per_layer(into, self.layers) for into, _ in matrices]
        outward = {
            (part, c): per_layer(matrices[part][1] if c == 1 else c * matrices[part][1], self.layers)
            for part, _, c in self.moves
        }
        return inward, outward

    def _decays(self, x: Tensor) -> Tensor | None:
        """What multiplies the momenta and leaves the column of ones."""
        if self.decay == 1:
            return None
        return torch.cat((x.new_full((x.shape[1] - 1,), self.decay), x.new_ones(1)))


def _stacked(column: tuple[Tensor, ...]) -> Tensor:
    return column[0].unsqueeze(0) if len(column) == 1 else torch.stack(column)


def moves_of(integrator: Integrator, h: float) -> tuple[tuple[tuple[int, int, float], ...], float] | None:
    """The moves of a step, and e^(−γh); None of an integrator that is known by no such steps, or learns γ."""
    if integrator.learn_damping:
        return None
    if integrator.kernel == "euler":
        return ((0, 0, 1.0),), 1.0
    if integrator.kernel != "partitioned":
        return None
    first = 0 if integrator.first == "p" else 1
    parts = [(first + i) % 2 for i in range(len(integrator.fractions))]
    moves = tuple((part, 1 - part, float(c)) for part, c in zip(parts, integrator.fractions, strict=True))
    return moves, math.exp(-integrator.damping * h)
