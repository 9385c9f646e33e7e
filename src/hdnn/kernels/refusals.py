"""What the registered operators refuse: anyone may call them, with tensors that do not fit and codes that lie.

Calls of a flow do not come through here: its plan is made from factors that fit each other, and `calls` checks its
tensors. Legend: as in `calls`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hdnn.kernels.calls import Code

_EULER, _FULL, _BLOCK_SKEW, _IDENTITY, _CANONICAL, _MATRIX = 0, 0, 3, 0, 1, 2


def check(
    y: Tensor, weight: Tensor, bias: Tensor, W: Tensor | None, g: Tensor, flows: int, code: Code, name: str
) -> None:
    """Refuse what the kernels would read or write beyond its end.

    Raises:
        ValueError: if tensors and code are not what a flow would give.
    """
    _check_plan(code.ints, name)
    tensors = [x for x in (y, weight, bias, W, g) if x is not None]
    if y.dtype not in (torch.float32, torch.float64) or any(x.dtype is not y.dtype for x in tensors):
        got = ", ".join(str(x.dtype) for x in tensors)
        raise ValueError(f"hdnn::{name} reads float32 or float64, all tensors alike; got {got}.")
    axes = (4 if code.images else 2) + (flows > 0)
    if flows < 0 or y.dim() != axes or g.shape != y.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(
            f"hdnn::{name} reads states of {axes} axes here: rows by features, two axes of pixels where `images` says "
            f"so, and a first axis of flows where `flows` is not 0; got tensors of shapes {shapes}, flows={flows}."
        )
    if flows and any(x.dim() == 0 or x.shape[0] != flows for x in tensors):
        first = [tuple(x.shape) for x in tensors]
        raise ValueError(f"hdnn::{name} was told of {flows} flows, so every tensor leads with {flows}; got {first}.")


def _check_plan(ints: list[int], name: str) -> None:
    """The integers must be those of a plan: known words, sizes that fit each other, and the counts that follow."""
    if len(ints) != 17 or min(ints) < 0 or not _fits(*ints):
        raise ValueError(
            f"hdnn::{name} was given a plan that no flow has: {ints}. Plans are made by `hdnn.Flow`; call the flow."
        )


def _fits(
    method: int, first: int, structure: int, drive: int, activation: int, n: int, m: int, layers: int, shared: int,
    one_W: int, p: int, of_p: int, q: int, of_q: int, weights: int, biases: int, drives: int,
) -> bool:  # fmt: skip
    stored, half = 1 if shared else layers, n // 2
    free = (m * n, m * half, m * half, half * half)[structure] if structure <= _BLOCK_SKEW else -1
    return (
        (method <= 1 and first <= 1 and drive <= _MATRIX and activation <= 5 and shared <= 1 and one_W <= 1)
        and (n >= 1 and m >= 1 and layers < 1 << 31 and weights == stored * free and biases == stored * m)
        and drives in ({m * n} if one_W else {layers * m * n} if drive == _MATRIX else {0})
        and (drive == _MATRIX or drives == 0)
        and (drive != _CANONICAL or n % 2 == 0)
        and (p + of_p <= m and q + of_q <= m)
        and (_euler_fits(structure, drive, n, m) if method == _EULER else n % 2 == 0 and _halves_fit(
            structure, drive, n, m, of_p, of_q))
    )  # fmt: skip


def _euler_fits(structure: int, drive: int, n: int, m: int) -> bool:
    return structure == _FULL and (drive != _IDENTITY or m == n)


def _halves_fit(structure: int, drive: int, n: int, m: int, of_p: int, of_q: int) -> bool:
    half = n // 2
    if structure == _FULL:
        return drive != _IDENTITY or of_p == of_q == half
    return m % 2 == 0 and drive != _MATRIX and (m == n or (structure != _BLOCK_SKEW and drive != _IDENTITY))
