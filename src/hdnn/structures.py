"""Structures: from free numbers to the matrix K of a layer.

Legend: n features, m hidden units (rows of K), N layers; u = K y + b. K has the shape (m, n, *taps) of its space:
(m, n) for vectors, (m, n, k, k) for images.
A structure is a linear map from free numbers to K, a zero pattern, and a membership test. Nothing is stored twice:
a skew K is its n (n − 1) / 2 numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hdnn import entries, nodes
from hdnn.arguments import check_width, factor, finite, shown
from hdnn.facts import restated
from hdnn.spaces import VECTORS, Images, Space


class Structure(entries.Factor, ABC):
    """What K looks like: which entries are free, which are tied to each other, which are zero.

    To add one, subclass this and implement `free_shape`, `build`, and `pattern` where K has zeros.

    Attributes:
        skew: whether every member is skew, K = −Kᵀ, so that the interconnection `Inverse` is legitimate.
        indexed: whether `build` reads the index.
        kernel: the name under which the fused kernels know the structure; None runs eagerly.

    Example:
        >>> import torch, hdnn
        >>> class LowRank(Structure):
        ...     def free_shape(self, features, space):
        ...         return (2, features, 1)
        ...     def build(self, free, index):
        ...         return free[:, 0] @ free[:, 1].mT
        >>> flow = hdnn.h1(4, layers=8, step=0.1)
        >>> low = hdnn.Flow(4, 8, step=0.1, structure=LowRank(), interconnection=flow.interconnection,
        ...                 integrator=flow.integrator)
        >>> torch.linalg.matrix_rank(low.K[0]).item()
        1
    """

    indexed: ClassVar[bool] = False
    kernel: ClassVar[str | None] = None
    # How many entries of K each free number fills, where all fill as many and K is linear in them.
    _copies: int | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        restated(
            cls, ["build"], {"skew": False, "_copies": None, "index": Structure.index, "pattern": Structure.pattern}
        )
        restated(cls, ["build", "free_shape", "index", "pattern"], {"kernel": None})

    @property
    def skew(self) -> bool:
        """Whether every member of the structure is skew."""
        return False

    @abstractmethod
    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """The shape of one layer's free numbers.

        Raises:
            ValueError: if the structure does not exist for this number of features.
        """

    @abstractmethod
    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """The matrices K.

        Args:
            free: (N, *free_shape).
            index: what `index(...)` returned, on the device of `free`; None where the structure is not `indexed`.

        Returns:
            (N, m, n, *taps).
        """

    def index(self, features: int, space: Space = VECTORS) -> Tensor | None:
        """Where the free numbers stand in K (see `hdnn.entries`): int64, (m, n, *taps).

        None, unless every entry of K is zero or one free number up to its sign.
        """
        return None

    def pattern(self, features: int, space: Space = VECTORS) -> Tensor:
        """Which entries may be nonzero: boolean, (m, n), never a matter of values.

        Where there is no index and a structure says no more, all of them: nothing is then promised of it.
        """
        index = self.index(features, space)
        if index is None:
            K = self.build(torch.zeros(1, *self.free_shape(features, space), device="cpu"), None)
            return torch.ones(K.shape[1:3], dtype=torch.bool, device="cpu")
        return index != 0 if index.dim() == 2 else (index != 0).flatten(2).any(-1)

    def squares(self, free: Tensor, index: Tensor | None) -> Tensor:
        """Σ_j ‖K_j − K_{j−1}‖_F² over neighbouring layers.

        Args:
            free: (N, *free_shape).
            index: as for `build`.
        """
        if self._copies is None:
            return self.build(free, index).diff(dim=0).square().sum()
        return self._copies * free.diff(dim=0).square().sum()

    @property
    def copies(self) -> int | None:
        """How often each free number counts in `squares`; None where that is no sum of their differences."""
        return self._copies if type(self).squares is Structure.squares else None

    def contains(self, K: Tensor, space: Space | None = None) -> bool:
        r"""Whether K is a member, exactly.

        Args:
            K: (m, n, \*taps) or (N, m, n, \*taps).
            space: that it acts on; None means vectors for up to three axes, images for more.
        """
        if space is None:
            space = VECTORS if K.dim() < 4 else Images(K.shape[-1])
        try:
            index = self.index(K.shape[-1 - len(space.taps)], space)
        except ValueError:  # the structure has no members of this size
            return False
        if index is None:
            raise TypeError(f"`{type(self).__name__}` has no index to look K up in. Implement `contains`.")
        return entries.taken(K.detach().cpu(), index) is not None


@dataclass(frozen=True)
class Dense(Structure):
    """Every entry of K free; with `width=m`, a rectangular K (m, n): more hidden units than features.

    Args:
        width: number of hidden units m; None means m = n. 0 is none at all, for flows with an energy of their own.
    """

    width: int | None = None
    kernel: ClassVar[str | None] = "dense"
    _copies = 1

    def __post_init__(self) -> None:
        if self.width != 0:
            check_width(self.width)

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(m, n), or (m, n, k, k)."""
        return space.weights(features if self.width is None else self.width, features)

    def index(self, features: int, space: Space = VECTORS) -> Tensor:
        """Every entry its own number."""
        return entries.counted(*self.free_shape(features, space))

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """The free numbers are K."""
        return free


@dataclass(frozen=True)
class Skew(Structure):
    """K = −Kᵀ, as in MS2; a convolution is skew when K[i, j, a, b] = −K[j, i, −a, −b].

    With `shift=s` K = A + s I, A = −Aᵀ, of vectors: s = −γ damps the AntisymmetricRNN. `Inverse(skew=False)` takes it.
    """

    shift: float = 0.0
    indexed: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "skew"
    _copies = 2

    def __post_init__(self) -> None:
        finite("shift", self.shift)

    @property
    def skew(self) -> bool:
        """True without a shift."""
        return self.shift == 0

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(n (n − 1) / 2,), or (n (n k² − 1) / 2,)."""
        if self.shift and space.taps:
            raise ValueError(f"`{self!r}` shifts the diagonal of a matrix, for vectors; got `{space!r}`.")
        return (features * (features * math.prod(space.taps) - space.fixed_taps) // 2,)

    def index(self, features: int, space: Space = VECTORS) -> Tensor | None:
        """Upper entries counted row by row, lower ones their negatives; None with a shift, which is no free number."""
        return None if self.shift else entries.skew(space.transposed(entries.counted(*space.weights(*[features] * 2))))

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """K with the free numbers above the diagonal."""
        return entries.shifted(free, self.shift) if self.shift else entries.place(free, index)


@dataclass(frozen=True)
class BlockSkew(Structure):
    """K = [0 K₀; −K₀ᵀ 0], as in MS1. The free numbers are K₀."""

    indexed: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "block_skew"
    _copies = 2

    @property
    def skew(self) -> bool:
        """True."""
        return True

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(n/2, n/2), or (n/2, n/2, k, k)."""
        half = entries.half(features)
        return space.weights(half, half)

    def index(self, features: int, space: Space = VECTORS) -> Tensor:
        """K₀ row by row."""
        free = entries.counted(*self.free_shape(features, space))
        return entries.two_by_two(None, free, -space.transposed(free), None, axes=(0, 1))

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """[0 K₀; −K₀ᵀ 0]."""
        return entries.place(free.flatten(1), index)


@dataclass(frozen=True)
class OffDiagonal(Structure):
    """K = [0 K₁; K₂ 0], as in MS3. The free numbers are (K₁, K₂)."""

    kernel: ClassVar[str | None] = "off_diagonal"
    _copies = 1

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(2, n/2, n/2), or (2, n/2, n/2, k, k)."""
        half = entries.half(features)
        return (2, *space.weights(half, half))

    def index(self, features: int, space: Space = VECTORS) -> Tensor:
        """K₁ row by row, then K₂."""
        free = entries.counted(1, *self.free_shape(features, space))
        return self.build(free, None).squeeze(0)

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """[0 K₁; K₂ 0]."""
        return entries.two_by_two(None, free[:, 0], free[:, 1], None, axes=(1, 2))


@dataclass(frozen=True)
class BlockDiagonal(Structure):
    """K = blkdiag(K_p, K_q), as in H2. The free numbers are (K_p, K_q).

    Args:
        width: number of hidden units m, even, half of them for p and half for q; None means m = n.
    """

    width: int | None = None
    kernel: ClassVar[str | None] = "block_diagonal"
    _copies = 1

    def __post_init__(self) -> None:
        check_width(self.width)
        if self.width is not None and self.width % 2:
            raise ValueError(
                f"`width` must be even, half of the hidden units for p and half for q; got {self.width}. "
                f"Use {self.width + 1}."
            )

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(2, m/2, n/2), or (2, m/2, n/2, k, k)."""
        half = entries.half(features)
        return (2, *space.weights((self.width or features) // 2, half))

    def index(self, features: int, space: Space = VECTORS) -> Tensor:
        """K_p row by row, then K_q."""
        free = entries.counted(1, *self.free_shape(features, space))
        return self.build(free, None).squeeze(0)

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """blkdiag(K_p, K_q)."""
        return entries.two_by_two(free[:, 0], None, None, free[:, 1], axes=(1, 2))


class Masked(Structure):
    """The members of another structure that are zero outside a mask: sparse, distributed networks.

    Only the free numbers that the mask keeps are stored.

    Args:
        inner: the structure whose entries are kept or dropped.
        mask: boolean or 0/1 tensor, (m, n); for images also (m, n, k, k). Entries that `inner` has as zeros may be
            either. It must treat entries that share a free number alike.

    Raises:
        TypeError: if `mask` is not a tensor.
        ValueError: if the mask has entries other than 0 and 1; when a flow is made, if the mask does not fit the
            size or the symmetry of `inner`, or keeps nothing.

    Example:
        >>> import torch
        >>> ring = torch.eye(4) + torch.eye(4).roll(1, 0) + torch.eye(4).roll(-1, 0)
        >>> Masked(Skew(), ring).free_shape(4)
        (4,)
    """

    indexed: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "masked"

    def __init__(self, inner: Structure, mask: Tensor) -> None:
        if not isinstance(mask, Tensor):
            raise TypeError(f"`mask` must be a tensor of zeros and ones; got {type(mask).__name__}.")
        if not isinstance(inner, Structure):
            raise TypeError(f"`inner` must be a structure such as `Dense()`; got {shown(inner)}.")
        if mask.is_meta:
            raise ValueError('`mask` has no values on the meta device. Make it with device="cpu".')
        if not torch.logical_or(mask == 0, mask == 1).all():
            raise ValueError("`mask` must hold only 0 and 1 (or False and True): it keeps entries, never scales them.")
        self.inner = inner
        self.mask = mask.detach().to("cpu", torch.bool, copy=True)
        self._copies = inner._copies

    @classmethod
    def from_graph(
        cls, adjacency: Tensor, node_size: int, inner: Structure | None = None, *, halves: bool = True
    ) -> Masked:
        """The members of a structure whose nodes act on each other along the edges of a graph alone.

        A unit belongs to a node as a feature does, so K is square. K goes along an edge and Kᵀ back, so that a step
        reaches farther than one edge: `hdnn.analysis.check_topology` counts.

        Args:
            adjacency: (V, V), A[target, source] nonzero for an edge; every node sees itself. Symmetric for a skew K.
            node_size: d, features of a node; n = V d.
            inner: the structure that is masked; None is `BlockDiagonal()`, that of `h2`.
            halves: whether half of a node's features are of p and half of q, as `BlockDiagonal` wants them; False
                gives each node a stretch of the state, for `Dense()` and `Skew()`.

        Example:
            >>> import torch
            >>> ring = torch.eye(8).roll(1, 0) + torch.eye(8).roll(-1, 0)
            >>> Masked.from_graph(ring, node_size=2).free_shape(16)  # 24 of 64 entries of K_p, and as many of K_q
            (48,)
        """
        return cls(inner or BlockDiagonal(), nodes.mask(adjacency, node_size, halves))

    @property
    def skew(self) -> bool:
        """As `inner`."""
        return self.inner.skew

    def free_shape(self, features: int, space: Space = VECTORS) -> tuple[int, ...]:
        """(number of free numbers that the mask keeps,)."""
        return (int(self.index(features, space).abs().max()),)

    def index(self, features: int, space: Space = VECTORS) -> Tensor:
        """The index of `inner`, masked and recounted."""
        index = self.inner.index(features, space)
        if index is None:
            raise ValueError(
                f"A mask drops free numbers, and those of `{type(self.inner).__name__}` have no places in K: it gives "
                f"no `index`. Mask another structure, or write the mask into its `build`."
            )
        mask = self._of_taps(index)
        if mask.shape != index.shape:
            raise ValueError(
                f"The mask must have the shape of K, {tuple(index.shape)}; got {tuple(self.mask.shape)}. "
                f"Rows are hidden units, columns are features."
            )
        kept = entries.masked(index, mask)
        if not kept.any():
            raise ValueError("The mask drops every free entry of K, which leaves nothing to train. Keep some.")
        return kept

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        """K of the kept free numbers."""
        return entries.place(free, index)

    def _of_taps(self, index: Tensor) -> Tensor:
        """The mask of all taps, where it is given for pairs of unit and feature."""
        if index.dim() == 2 or self.mask.shape != index.shape[:2]:
            return self.mask
        return self.mask.reshape(*self.mask.shape, *[1] * (index.dim() - 2)).expand_as(index)

    def __repr__(self) -> str:
        kept, size = int(self.mask.sum()), "x".join(str(length) for length in self.mask.shape)
        return f"Masked({self.inner!r}, {size} mask keeping {kept})"


def structure_of(given: Structure | type[Structure]) -> Structure:
    """The structure that was given itself or by its class."""
    remedy = "Use `Dense()`, `Skew()`, `BlockSkew()`, `OffDiagonal()`, `BlockDiagonal()` or `Masked(inner, mask)`."
    return factor("structure", given, Structure, {}, remedy)  # type: ignore[type-abstract]
