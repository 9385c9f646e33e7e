"""The features of all layers, seen from one common pair (or triple) of axes.

Y (N+1, B, n) the states after every layer · m (n,) their mean over layers and samples
A (count, n) orthonormal rows, the directions of largest variance over all layers together
C = (Y - m) Aᵀ (N+1, B, count) the coordinates
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

# Features up to which a matrix is taken apart; for more, directions iterated beside those wanted, and how often.
_MATRIX, _SPARE, _ITERATIONS = 1000, 10, 7


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """States of every layer in one common frame: `coordinates = (states - mean) @ axes.T`.

    Attributes:
        coordinates: the states seen from the axes, (N+1, B, count).
        explained: share of the total variance that each axis carries, between 0 and 1, (count,).
        mean: the origin of the frame, (n,).
        axes: orthonormal rows, (count, n).
    """

    coordinates: NDArray[np.float64]
    explained: NDArray[np.float64]
    mean: NDArray[np.float64]
    axes: NDArray[np.float64]


def principal_components(states: ArrayLike | torch.Tensor, count: int = 2) -> PrincipalComponents:
    """Project the states of all layers on the `count` directions in which they vary most.

    The frame is fitted to all layers together, so what moves from layer to layer is the features and not
    the frame. The sign of an axis is free; here its entry of largest magnitude is positive. States that
    already have `count` features are returned as they are (mean 0, axes the unit vectors), so that a planar
    flow is seen in its own plane; `explained` is then the share of each feature.

    Args:
        states: the state after every layer, y0 first, as `flow.trajectory` returns it: (N+1, B, n), or
            (N+1, B, n, H, W) for images, which are flattened to n·H·W features.
        count: how many components, from 1 to the number of features.

    Returns:
        The coordinates (N+1, B, count) with the frame they are taken in.

    Raises:
        ValueError: for states of another shape, not finite, or fewer (or fewer features) than `count`.

    Example:
        >>> import numpy as np
        >>> states = np.random.default_rng(0).normal(size=(65, 100, 8)) * [9, 3, 1, 1, 1, 1, 1, 1]
        >>> components = principal_components(states)
        >>> components.coordinates.shape, components.explained.round(1).tolist()
        ((65, 100, 2), [0.8, 0.1])
    """
    Y = _matrix_per_layer(states)
    layers, samples, n = Y.shape
    if not 1 <= count <= n:
        raise ValueError(
            f"`count` must lie between 1 and the number of features; got count={count} for states with {n} "
            f"feature{'s' if n > 1 else ''}. Ask for fewer components, or lift the input to more features."
        )
    if layers * samples < count:
        raise ValueError(f"{count} components need at least {count} states; got {layers} layers of {samples} samples.")
    broken = ~np.isfinite(Y).all(axis=(1, 2))
    if broken.any():
        raise ValueError(
            f"The states are not finite from layer {int(broken.argmax())} on, so they have no directions of "
            "largest variance. Pass the layers before, or look for a smaller step size."
        )
    flat = Y.reshape(-1, n)
    if count == n or np.ptp(flat, axis=0).max() == 0:  # nothing to reduce, or no direction to prefer
        mean, axes, variance = np.zeros(n), np.eye(count, n), flat.var(axis=0).sum()
    else:
        mean = flat.mean(axis=0)
        flat -= mean  # in place, as are the axes found: states of images fill much of the memory
        axes, variance = _axes(flat, count), np.vdot(flat, flat) / len(flat)
    C = flat @ axes.T
    explained = C.var(axis=0) / variance if variance > 0 else np.zeros(count)
    return PrincipalComponents(C.reshape(layers, samples, count), explained, mean, axes)


def _axes(centred: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Axes (count, n) of centred states (samples, n), with the sign of every axis fixed."""
    import torch  # NumPy's decompositions would wake all processors for a small matrix

    A = torch.from_numpy(centred)
    samples, n = A.shape
    if n > _MATRIX:
        # Subspace iteration (Halko, Martinsson, Tropp 2011), to about the precision of a figure; always the same start.
        start = torch.from_numpy(np.random.default_rng(0).standard_normal((n, min(count + _SPARE, samples))))
        Q = torch.linalg.qr(start).Q
        for _ in range(_ITERATIONS):
            Q = torch.linalg.qr(A.T @ (A @ Q)).Q
        V = Q @ torch.linalg.svd(A @ Q, full_matrices=False).Vh.T
    elif n > samples:
        V = torch.linalg.svd(A, full_matrices=False).Vh.T
    else:
        V = torch.linalg.eigh(A.T @ A).eigenvectors.flip(1)
    axes: NDArray[np.float64] = V[:, :count].T.numpy()
    largest = np.abs(axes).argmax(axis=1)
    fixed: NDArray[np.float64] = axes * np.sign(axes[np.arange(count), largest])[:, None]
    return fixed


def _copied(states: torch.Tensor) -> NDArray[np.float64]:
    import torch

    numbers: NDArray[np.float64] = states.to("cpu", torch.float64, copy=True).numpy()
    return numbers


def _matrix_per_layer(states: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """A copy of the states as numbers (N+1, B, n), images flattened."""
    detach = getattr(states, "detach", None)  # tensors have it; asking so needs no torch
    Y = np.array(states, dtype=np.float64) if detach is None else _copied(detach())
    if Y.ndim not in (3, 5) or 0 in Y.shape:
        raise ValueError(
            "Expected the states of every layer, of shape (layers + 1, samples, features) or "
            f"(layers + 1, samples, channels, height, width); got {Y.shape}. `flow.trajectory(y0)` returns "
            "them for a batch y0."
        )
    return Y.reshape(Y.shape[0], Y.shape[1], -1)
