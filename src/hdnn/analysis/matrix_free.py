"""Sensitivities of large states, such as images: products with M_j and its largest singular values, without the matrix.

Legend: M_j = ∂y_N/∂y_j, y_j the state before layer j = 0 … N − 1, y_N the output; v a tangent of y_j, u a cotangent of
y_N, s singular values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn.analysis.checks import check_products
from hdnn.analysis.precision import in_full
from hdnn.analysis.pullback import Layer, Layers, Link, check_start, listed, sample_axes, trace
from hdnn.flow import Flow

Array = NDArray[np.floating[Any]]


@in_full
@torch.no_grad()
def sensitivity_vector_product(layers: Layers, y0: Tensor, v: Tensor, *, start: int = 0, **call: Any) -> Tensor:
    """The product M_start v, per sample: how the output moves when the state before layer `start` moves along v.

    It costs about four passes through the layers and stores what a backward pass stores.

    Args:
        layers: a flow, or functions from states to states, as for `sensitivities`.
        y0: the state before the first layer.
        v: a tangent of the state before layer `start`, of its shape.
        start: j, from 0 to N.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        The shape of y_N.

    Raises:
        ValueError: if y0 or v does not fit, there is no layer `start`, or a number is not finite.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(8, layers=4, step=0.1, kernel_size=3)
        >>> images = torch.randn(2, 8, 28, 28)
        >>> sensitivity_vector_product(flow, images, torch.ones_like(images)).shape
        torch.Size([2, 8, 28, 28])
    """
    links, y_N = trace(layers, y0, start, **call)
    _check_direction("v", v, links[0].before if links else y_N)
    return _push(links, v.detach())


@overload
def vector_sensitivity_product(layers: Flow, y0: Tensor, u: Tensor, **call: Any) -> Tensor: ...
@overload
def vector_sensitivity_product(
    layers: Iterable[Layer], y0: Tensor, u: Tensor, **call: Any
) -> Tensor | list[Tensor]: ...


@in_full
@torch.no_grad()
def vector_sensitivity_product(layers: Layers, y0: Tensor, u: Tensor, **call: Any) -> Tensor | list[Tensor]:
    """The products uᵀ M_j at every depth, per sample: with u = dL/dy_N these are the gradients dL/dy_j.

    One forward and one backward pass give all depths.

    Args:
        layers: a flow, or functions from states to states, as for `sensitivities`.
        y0: the state before the first layer.
        u: a cotangent of the output, of the shape of y_N.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (N + 1, *shape of y0); of functions that change the number of features, a list of N + 1 tensors.

    Raises:
        ValueError: if y0 or u does not fit, or a number is not finite.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(8, layers=4, step=0.1, kernel_size=3)
        >>> images = torch.randn(2, 8, 28, 28)
        >>> vector_sensitivity_product(flow, images, torch.ones_like(images)).shape
        torch.Size([5, 2, 8, 28, 28])
    """
    links, y_N = trace(layers, y0, **call)
    _check_direction("u", u, y_N)
    products = _pull(links, u.detach())
    return torch.stack(products) if all(product.shape == u.shape for product in products) else products


@in_full
@torch.no_grad()
def largest_singular_values(layers: Layers, y0: Tensor, count: int = 1, *, start: int = 0, **call: Any) -> Tensor:
    """The largest singular values of M_start, per sample, by Lanczos' method; the first is its norm ‖M_start‖₂.

    ARPACK through `scipy.sparse.linalg.svds`, to the precision of the dtype. Each sample is traced once and then costs
    a few dozen products with M and Mᵀ, more where singular values lie close together; memory is that of a backward pass
    of one sample. Use it where the matrix does not fit: below a few hundred numbers a state,
    `singular_values(sensitivities(...))` is faster.

    Args:
        layers: a flow, or functions from states to states, as for `sensitivities`.
        y0: the state before the first layer.
        count: how many, fewer than the numbers in a state.
        start: j, from 0 to N.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (..., count), from largest to smallest.

    Raises:
        ValueError: if y0 does not fit, `count` or `start` is out of range, or a number is not finite.

    References:
        Lehoucq, Sorensen, Yang, ARPACK Users' Guide, SIAM 1998.

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(8, layers=4, step=0.1, kernel_size=3, dtype=torch.float64)
        >>> largest_singular_values(flow, torch.randn(2, 8, 6, 6, dtype=torch.float64), count=3).shape
        torch.Size([2, 3])
    """
    layers = listed(layers)
    check_start(layers, y0)
    leading = sample_axes(layers, y0)
    samples = y0.reshape(-1, *y0.shape[leading:]).unsqueeze(1)
    calls = _of_each(layers, y0, leading, **call)
    found = [_largest(*trace(layers, y, start, **own), count) for y, own in zip(samples, calls, strict=True)]
    return torch.stack(found).reshape(*y0.shape[:leading], count) if found else y0.new_empty(0, count)


def _of_each(layers: Layers, y0: Tensor, leading: int, **call: Any) -> list[Any]:
    """What the call of every sample brings: of the inputs and ports (N, ..., d) its own."""
    samples = y0.shape[:leading].numel()
    driving = {name: u for name in ("inputs", "ports") if (u := call.get(name)) is not None}
    if not driving or not isinstance(layers, Flow):
        return [call] * samples
    layers.fields(y0, **call)  # what does not fit is refused as for all samples
    inside = y0.shape[leading : layers.space.axis]  # nodes, which inputs may tell apart
    own = {name: _by_sample(u, y0.shape[:leading], len(inside)) for name, u in driving.items()}
    return [{**call, **{name: u[:, i : i + 1] for name, u in own.items()}} for i in range(samples)]


def _by_sample(u: Tensor, samples: tuple[int, ...], inside: int) -> Tensor:
    """What drives a flow, (N, ..., d), with one axis of all samples before those inside of a state."""
    u = u.reshape(len(u), *[1] * (len(samples) + inside + 2 - u.dim()), *u.shape[1:])
    u = u.expand(len(u), *samples, *u.shape[1 + len(samples) :])
    return u.flatten(1, len(samples)) if samples else u.unsqueeze(1)


def _largest(links: list[Link], y_N: Tensor, count: int) -> Tensor:
    """The largest singular values (count,) of the product of the links, of one sample (1, *state)."""
    from scipy.sparse.linalg import LinearOperator, svds

    y = links[0].before if links else y_N
    values = min(y.numel(), y_N.numel())
    if not 1 <= count < values:
        raise ValueError(
            f"`count` must lie between 1 and {values - 1}, one less than there are singular values; got {count}. "
            f"`singular_values(sensitivities(...))` finds all of them."
        )

    def product(v: Array) -> Array:
        return _numbers(_push(links, y.new_tensor(v).reshape(y.shape)))

    def transposed(u: Array) -> Array:
        return _numbers(_pull(links, y_N.new_tensor(u).reshape(y_N.shape))[0])

    # A start of our own, as ARPACK's would differ from call to call.
    begin = np.random.default_rng(0).standard_normal(values)
    M = LinearOperator((y_N.numel(), y.numel()), matvec=product, rmatvec=transposed, dtype=_numbers(y).dtype)
    s = svds(M, k=count, v0=begin.astype(M.dtype), return_singular_vectors=False)
    return y.new_tensor(np.sort(s)[::-1].copy())


def _push(links: list[Link], v: Tensor) -> Tensor:
    """The product of all links with v."""
    for link in links:
        v = link.push(v)
    return v


def _pull(links: list[Link], u: Tensor) -> list[Tensor]:
    """The product of uᵀ with the links from each depth on."""
    products = [u]
    for link in reversed(links):
        products.append(link.pull(products[-1]))
    products.reverse()
    check_products(products)
    return products


def _numbers(state: Tensor) -> Array:
    numbers: Array = state.flatten().cpu().numpy()
    return numbers


def _check_direction(name: str, direction: Tensor, state: Tensor) -> None:
    if direction.shape != state.shape or direction.dtype is not state.dtype:
        raise ValueError(
            f"`{name}` must be like the state it belongs to, {tuple(state.shape)} in {state.dtype}; got "
            f"{tuple(direction.shape)} in {direction.dtype}."
        )
