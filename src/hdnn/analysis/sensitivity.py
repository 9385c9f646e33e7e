"""Backward sensitivities: how the output answers to the state before every layer.

Legend: y_j the state before layer j = 0 … N − 1, y_N the output, L_j = ∂y_{j+1}/∂y_j the Jacobian of a layer,
M_j = ∂y_N/∂y_j = L_{N−1} ⋯ L_{j+1} L_j. The papers' backward sensitivity matrix is φ = M_jᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor

from hdnn.analysis.checks import LIMIT, check_bytes, check_flow, check_products
from hdnn.analysis.jacobians import (
    check_matrices,
    has_closed_form,
    identity,
    jacobians_and_identity,
    joined,
    layer_jacobians,
)
from hdnn.analysis.magnitudes import Order, norms
from hdnn.analysis.precision import in_full
from hdnn.analysis.pullback import Layer, Layers, sample_axes, trace
from hdnn.flow import Flow


@overload
def sensitivities(layers: Flow, y0: Tensor, *, per_pixel: bool = ..., limit: int = ..., **call: Any) -> Tensor: ...
@overload
def sensitivities(
    layers: Iterable[Layer], y0: Tensor, *, per_pixel: bool = ..., limit: int = ..., **call: Any
) -> Tensor | list[Tensor]: ...


@in_full
@torch.no_grad()
def sensitivities(
    layers: Layers, y0: Tensor, *, per_pixel: bool = False, limit: int = LIMIT, **call: Any
) -> Tensor | list[Tensor]:
    """The Jacobian of the output with respect to the state before every layer, per sample.

    M_j[i, k] = ∂y_N[i] / ∂y_j[k], j = 0 … N; M_N = I. One pass of batched products from the last layer to the first,
    never a backward pass per output. The built-in integrators on vectors and on images with kernel_size=1 form the
    Jacobians of all layers at once; k x k convolutions, other integrators and other networks pull the rows of M_{j+1}
    back through each layer together.

    Norms and spectra are those of each sample: the mean over a batch of symplectic matrices is not symplectic, and its
    norm may fall below 1 where that of no sample does. So take `norms` first, `statistics` then. A product of many
    layers loses singular values below the largest one times the rounding (1e-16 in float64, 1e-7 in float32), so
    float64 is advised: `flow.double()`. One that overflows is refused; `log_norms` never overflows.

    Args:
        layers: a flow; or, for comparison, any functions from states to states, such as the layers of an MLP or the
            blocks of a ResNet. Each must map (B, ...) to (B, ...) and treat the samples of a batch independently: batch
            normalisation in training is refused, other couplings of samples give wrong results. Put dropout in
            evaluation mode to see the network that is used.
        y0: the state before the first layer: (..., n) or images (B, n, H, W) for a flow, (B, ...) for functions.
        per_pixel: for flows with kernel_size=1, whose layers do not couple pixels: one n x n matrix per pixel instead
            of one large matrix per image.
        limit: bytes that the result may take.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (N + 1, ..., n, n), detached. States that are images are flattened to D numbers: (N + 1, B, D, D); per pixel
        (N + 1, B, H, W, n, n). Of functions that change the number of features, a list of N + 1 matrices (B, n_N, n_j).

    Raises:
        ValueError: if y0 does not fit, if a weight, a state or a product is not finite, if a layer mixes samples or
            cuts the graph, or if the result exceeds `limit`; the message names what needs no matrices.
        TypeError: if `layers` is neither a flow nor functions.

    References:
        Galimberti, Xu, Ferrari-Trecate, L4DC 2021, lemmas 2-4, https://arxiv.org/abs/2104.13166; Galimberti, Furieri,
        Xu, Ferrari-Trecate, IEEE TAC 2023, https://arxiv.org/abs/2105.13205 (both in the transposed layout, φ = Mᵀ).

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=64, step=0.1, dtype=torch.float64)
        >>> y0 = torch.randn(10, 4, dtype=torch.float64)
        >>> M = sensitivities(flow, y0)
        >>> M.shape, bool((norms(M) >= 1 - 1e-9).all())
        (torch.Size([65, 10, 4, 4]), True)
        >>> mlp = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).double() for _ in range(64)]
        >>> bool((norms(sensitivities(mlp, y0))[0] < 1e-3).all())
        True
    """
    if isinstance(layers, Flow):
        check_flow(layers, y0)
        layers_in_all = len(layers.fields(y0, **call))
        check_matrices("sensitivities", layers, y0, layers_in_all + 1, per_pixel, limit)
        if has_closed_form(layers):
            M = jacobians_and_identity(layers, y0, **call)
            for j in reversed(range(layers_in_all)):
                M[j] = M[j + 1] @ M[j]
            check_products(M)
            return M if per_pixel else joined(layers, M)
    elif per_pixel:
        raise ValueError("`per_pixel` is for flows with kernel_size=1; got a sequence of layers. Leave it out.")
    links, y_N = trace(layers, y0, **call)
    M_N = identity(y_N, sample_axes(layers, y0))
    sizes = [link.before.shape[link.leading :].numel() for link in links]
    check_bytes("sensitivities", [M_N.shape, *((*M_N.shape[:-1], size) for size in sizes)], y0, limit)
    found = [M_N]
    for link in reversed(links):
        found.append(link.pull_rows(found[-1]))
    found.reverse()
    check_products(found)
    return torch.stack(found) if all(size == M_N.shape[-1] for size in sizes) else found


@in_full
@torch.no_grad()
def log_norms(layers: Layers, y0: Tensor, order: Order = 2, *, limit: int = LIMIT, **call: Any) -> Tensor:
    """The logarithm of ‖∂y_N/∂y_j‖ at every depth, per sample, at depths where the norm itself would overflow.

    The product is divided by its size after every layer and the logarithms are added, so that neither overflow nor
    underflow occurs. Divided by (N − j) h it is the rate at which gradients grow.

    Args:
        layers: a flow, or functions from states to states, as for `sensitivities`.
        y0: the state before the first layer, as for `sensitivities`.
        order: which norm: 1, 2, math.inf or "fro"; see `norms`.
        limit: bytes that the Jacobians of all layers of a flow of vectors may take; in other cases one product.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (N + 1, ...), natural logarithms; −inf where the product is zero.

    Raises:
        ValueError: as `sensitivities`, but for the overflow.

    Example:
        >>> shrinking = [lambda y: y / 100] * 200
        >>> log_norms(shrinking, torch.ones(1, 2, dtype=torch.float64))[0]
        tensor([-921.0340], dtype=torch.float64)
    """
    pulls: list[Callable[[Tensor], Tensor]]
    if isinstance(layers, Flow) and layers.space.rank == 1 and has_closed_form(layers):
        R = identity(y0, sample_axes(layers, y0))
        pulls = [partial(_times, L_j) for L_j in layer_jacobians(layers, y0, limit=limit, **call)]
    else:
        links, y_N = trace(layers, y0, **call)
        R = identity(y_N, sample_axes(layers, y0))
        check_bytes("products", [R.shape], y0, limit)
        pulls = [link.pull_rows for link in links]
    scale = R.new_zeros(R.shape[:-2])
    found = [norms(R, order).log()]
    for pull in reversed(pulls):
        R = pull(R)
        size = torch.linalg.matrix_norm(R)
        R = R / torch.where(size > 0, size, 1)[..., None, None]
        scale = scale + size.log()
        found.append(scale + norms(R, order).log())
    return torch.stack(found[::-1])


def _times(L: Tensor, R: Tensor) -> Tensor:
    return R @ L
