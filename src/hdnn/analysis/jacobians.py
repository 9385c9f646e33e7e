"""The Jacobians of all layers at once.

Legend: y_j the state before layer j = 0 … N − 1, L_j = ∂y_{j+1}/∂y_j, f the field and A = J Kᵀ diag(σ′(K y + b)) K its
Jacobian, V tangents, h step, S samples. A pointwise image flow treats every pixel as a sample of its own.

An explicit step commutes with differentiation: the same step along (y, V)' = (f(y), A(y) V), started at V = I, ends at
V = L_j. So `Integrator.step` itself gives the Jacobians, of many layers in one call.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from hdnn.analysis.checks import LIMIT, check_bytes, check_flow, check_states
from hdnn.analysis.precision import in_full
from hdnn.analysis.pullback import sample_axes, trace
from hdnn.flow import Flow
from hdnn.hamiltonian import Drive, Field, Layer
from hdnn.spaces import VECTORS

# Bytes of Jacobians made at a time: small layers share calls, and their tangents, a few times as large, stay in cache.
_WORKSPACE = 2**18


@in_full
@torch.no_grad()
def layer_jacobians(flow: Flow, y0: Tensor, *, per_pixel: bool = False, limit: int = LIMIT, **call: Any) -> Tensor:
    """The Jacobian of every layer along a trajectory, per sample: L_j[i, k] = ∂y_{j+1}[i] / ∂y_j[k].

    Args:
        flow: any flow, on any device.
        y0: (..., n), or images (B, n, H, W).
        per_pixel: for kernel_size=1, whose layers do not couple pixels: one n x n matrix per pixel instead of one large
            matrix per image.
        limit: bytes that the result may take.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        (N, ..., n, n). Of images (N, B, D, D) with D = n H W numbers in a flattened image, or (N, B, H, W, n, n) per
        pixel.

    Raises:
        ValueError: if y0 does not fit the flow, if a weight or a state is not finite, or if the result exceeds `limit`.

    References:
        Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., lemma VI.4.1 (Runge-Kutta methods and
        differentiation commute).

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(4, layers=64, step=0.1)
        >>> layer_jacobians(flow, torch.randn(10, 4)).shape
        torch.Size([64, 10, 4, 4])
    """
    check_flow(flow, y0)
    check_matrices("layer Jacobians", flow, y0, len(flow.fields(y0, **call)), per_pixel, limit)
    if has_closed_form(flow):
        blocks = jacobians_and_identity(flow, y0, **call)[:-1]
        return blocks if per_pixel else joined(flow, blocks)
    links, _ = trace(flow, y0, **call)
    rows = identity(y0, sample_axes(flow, y0))
    return torch.stack([link.pull_rows(rows) for link in links]) if links else rows.new_empty(0, *rows.shape)


def identity(y: Tensor, leading: int) -> Tensor:
    """The identity matrix of every sample, (..., D, D), for states of D numbers after so many leading axes of y."""
    size = y.shape[leading:].numel()
    return torch.eye(size, dtype=y.dtype, device=y.device).expand(*y.shape[:leading], size, size)


def has_closed_form(flow: Flow) -> bool:
    """Whether `jacobians_and_identity` knows the factors, layers couple no positions, and no sample drives them."""
    factors = flow.integrator.has_jacobian and not flow.hamiltonian.beyond_units
    return factors and flow.space.pointwise and flow.inputs is None and flow.ports is None


def check_matrices(what: str, flow: Flow, y0: Tensor, count: int, per_pixel: bool, limit: int) -> None:
    """Refuse more matrices than `limit` allows, and matrices of pixels where there are none."""
    pointwise = flow.space.rank > 1 and has_closed_form(flow)
    if per_pixel and not pointwise:
        raise ValueError(
            f"`per_pixel` is for images with kernel_size=1 and the integrators of hdnn; got "
            f"`{flow.space!r}` and `{flow.integrator!r}`. Leave it out."
        )
    leading = sample_axes(flow, y0)
    size = y0.shape[leading:].numel()
    shape = (*y0.shape, flow.features) if per_pixel else (*y0.shape[:leading], size, size)
    remedy = "Layers of this flow couple no pixels: per_pixel=True gives one small matrix per pixel. "
    check_bytes(what, [shape] * count, y0, limit, remedy if pointwise and not per_pixel else "")


def jacobians_and_identity(flow: Flow, y0: Tensor, **call: Any) -> Tensor:
    """L_j for j = 0 … N − 1 and the identity after them: (N + 1, ..., n, n), per pixel for images.

    The last place is for dy_N/dy_N, so that the products dy_N/dy_j can be formed in place.
    """
    ys = flow.trajectory(y0, **call).movedim(flow.space.axis, -1)
    check_states(ys)
    n, fields = flow.features, flow.fields(y0, **call)
    samples = ys.reshape(len(ys), -1, n)
    found = torch.eye(n, dtype=y0.dtype, device=y0.device).repeat(*samples.shape[:2], 1, 1)
    many = max(1, _WORKSPACE // max(1, found[0].nbytes))
    for start in range(0, len(fields), many):
        stop = min(start + many, len(fields))
        found[start:stop] = _jacobians(flow, _stacked(fields[start:stop]), samples[start : stop + 1])
    return found.reshape(*ys.shape[:-1], n, n)


def _jacobians(flow: Flow, field: Field, ys: Tensor) -> Tensor:
    """L_j of neighbouring layers, (N, S, n, n), from the states before and after them."""
    h = flow.step
    if flow.integrator.explicit:
        return _tangents(flow.integrator.step(field, _with_identity(ys[:-1]), h))
    found = flow.integrator.jacobian(lambda y: _tangents(field(_with_identity(y))), ys[:-1], ys[1:], h)
    return cast(Tensor, found)  # `has_closed_form` has been asked


def _with_identity(y: Tensor) -> Tensor:
    """States (N, S, n) as (N, n, 1 + n, S) with the tangents that they start with: y, then ∂y/∂y_k = e_k for every k.

    The samples stand last, because all else is short.
    """
    layers, samples, n = y.shape
    eye = torch.eye(n, dtype=y.dtype, device=y.device)
    return torch.cat((y.mT.unsqueeze(2), eye.unsqueeze(-1).expand(layers, n, n, samples)), 2)


def _tangents(states: Tensor) -> Tensor:
    """The matrices [i, k] of ∂y_i/∂y_k, (N, S, n, n), from states with their tangents."""
    return states[:, :, 1:].movedim(-1, 1)


class _Variation(Drive):
    """The drive of states with their tangents, of several layers at once: (y, V) ↦ (f(y), A(y) V).

    K and W are (N, m, n), b is (N, m); states are (N, n, 1 + n, S), as `_with_identity` makes them.
    """

    __slots__ = ()

    def __call__(self, y: Tensor) -> Tensor:
        """(N, n', 1 + n, S)."""
        K, b, W, _, a, *_ = self.layer
        U = _times(K, y)
        u = U[:, :, :1] + b[:, :, None, None]
        z = torch.cat((self.activation.value(u), self.activation.slope(u) * U[:, :, 1:]), 2)
        z = z if a is None else z * a[:, :, None, None]
        return z if W is None else _times(W.mT, z)


def _times(matrices: Tensor, y: Tensor) -> Tensor:
    """The matrix (N, m, n) of every layer times its states and tangents (N, n, 1 + n, S)."""
    return torch.bmm(matrices, y.flatten(2)).reshape(*matrices.shape[:2], *y.shape[2:])


def _stacked(fields: list[Field]) -> Field:
    """The fields of several layers as one, for states with their tangents."""
    drives = zip(*(field.of_positions().drives for field in fields), strict=True)
    return Field(tuple(_variation(of_layers) for of_layers in drives), 1)


def _variation(drives: tuple[Drive, ...]) -> _Variation:
    Ks, bs, Ws, dampings, weights, *_ = zip(*(drive.layer for drive in drives), strict=True)
    W, a = (None if xs[0] is None else torch.stack(xs) for xs in (Ws, weights))
    return _Variation(Layer(torch.stack(Ks), torch.stack(bs), W, dampings[0], a), VECTORS, drives[0].activation)


def joined(flow: Flow, blocks: Tensor) -> Tensor:
    """One matrix per state from one per position: (..., *size, n, n) to (..., n size, n size)."""
    positions = flow.space.rank - 1
    if not positions:
        return blocks
    n, size = blocks.shape[-1], blocks.shape[-2 - positions : -2].numel()
    whole = blocks.new_zeros(*blocks.shape[: -2 - positions], n, size, n, size)
    whole.diagonal(dim1=-3, dim2=-1).copy_(blocks.flatten(-2 - positions, -3).movedim(-3, -1))
    return whole.reshape(*whole.shape[:-4], n * size, n * size)
