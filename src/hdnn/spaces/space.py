"""What a state is, and how weights act on it.

Legend: n features, m hidden units, y state, z hidden values, K weights (m, n, *taps), S = J the matrix that drives.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from hdnn.arguments import shown
from hdnn.facts import restated
from hdnn.spaces.rows import Rows


class Space(ABC):
    """What a state is, and how weights K act on it: K y + b, and Kᵀ z exactly.

    To add one, subclass this, state the attributes and implement `taps`, `map` and `adjoint` with
    ⟨K y, z⟩ = ⟨y, Kᵀ z⟩; `transposed` where the weights of Kᵀ are more than K with its first axes swapped.

    Attributes:
        axis: where the features stand in a state, counted from the end.
        rank: how many of the last axes make one state; those before them number samples.
        kernel: the name under which the fused kernels know its states; None runs eagerly.
    """

    axis: ClassVar[int]
    rank: ClassVar[int]
    kernel: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if missing := [f"`{name}`" for name in ("axis", "rank") if not hasattr(cls, name)]:
            raise TypeError(
                f"`{cls.__name__}` does not state {' and '.join(missing)}: `axis`, where the features stand in a state "
                f"counted from the end, and `rank`, how many of the last axes make one state. Vectors (..., n) have "
                f"`axis = -1` and `rank = 1`, images (..., n, H, W) `axis = -3` and `rank = 3`."
            )
        facts = {name: vars(Space)[name] for name in ("pointwise", "norm", "rows")}
        facts |= {"transposes": False, "kernel": None}
        restated(cls, ["map", "adjoint", "taps", "pointwise"], facts)

    @property
    @abstractmethod
    def taps(self) -> tuple[int, ...]:
        """The trailing axes of K, () for vectors and (k, k) for images."""

    @abstractmethod
    def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
        """K y + b.

        Args:
            K: (m, n, *taps).
            y: a state, or many.
            b: (m,); or (..., m), one for each sample; or None.
        """

    @abstractmethod
    def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
        """Kᵀ z, exactly the adjoint of `map`.

        Args:
            K: (m, n, *taps).
            z: like a state, with m features.
        """

    @property
    def pointwise(self) -> bool:
        """Whether the weights act on the features of every position alone, as the matrix `matrix(K)`."""
        return False

    @property
    def transposes(self) -> bool:
        """Whether `transposed(K)` is known to do what Kᵀ does; a graph known at the call may be directed."""
        return False

    @property
    def asks(self) -> tuple[str, ...]:
        """What every call must bring besides a state, by name."""
        return ()

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of one state."""
        return tuple(range(-self.rank, 0))

    def check(self, y: Tensor, features: int) -> None:
        """Refuse what is no state.

        Raises:
            ValueError: if axes are missing, or the features are not n.
        """
        if y.dim() < self.rank or y.shape[self.axis] != features:
            sizes = ", ".join(str(features) if i == self.axis else "size" for i in self.axes)
            raise ValueError(f"Expected a state of shape (..., {sizes}); got {tuple(y.shape)}.")

    def bind(self, y: Tensor | None, **call: Any) -> Space:
        """The space as one call sees it, with what the call brings: checked, once for all layers.

        Raises:
            TypeError: if the call brings what this space does not know.
        """
        for name, value in call.items():
            if value is not None:
                remedy = ", or make the flow with `space=Graph()`" if name.startswith("edge") else ""
                raise TypeError(f"A flow on `{self!r}` takes no `{name}`; got {shown(value)}. Leave it out{remedy}.")
        return self

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """The tensors that a call brought."""
        return ()

    def rebound(self, numbers: tuple[Tensor, ...]) -> Space:
        """The same with other tensors in their place, as differentiation and transforms need it."""
        return self

    def directed(self) -> bool:
        """Whether `transposed(K)` is known not to do what Kᵀ does, so that no K is skew."""
        return False

    def weights(self, rows: int, columns: int) -> tuple[int, ...]:
        """The shape of K with m rows and n columns."""
        return (rows, columns, *self.taps)

    def transposed(self, K: Tensor) -> Tensor:
        """The weights of Kᵀ: `map(transposed(K), z) == adjoint(K, z)`.

        Args:
            K: (..., m, n, *taps).

        Returns:
            (..., n, m, *taps).
        """
        first = -1 - len(self.taps)
        return K.transpose(first, first - 1)

    def turned(self, S: Tensor, K: Tensor) -> Tensor:
        """K Sᵀ, whose adjoint is S Kᵀ: what drives, folded into the weights, once for all layers.

        Args:
            S: (n, n), or (N, n, n).
            K: (N, m, n, *taps).

        Returns:
            The shape of K (leading size N where only S varies by layer).
        """
        if not self.taps:
            return torch.matmul(K, S.mT)
        letters = "abc"[: len(self.taps)]
        if (S.dim(), K.dim()) == (2, 3 + len(self.taps)):  # said in full: ONNX takes no "..." of two lengths
            return torch.einsum(f"ij,nmj{letters}->nmi{letters}", S, K)
        return torch.einsum(f"...ij,...mj{letters}->...mi{letters}", S, K)

    def matrix(self, K: Tensor) -> Tensor:
        """K (..., m, n, *taps) of a pointwise space as (..., m, n).

        Raises:
            ValueError: where the weights couple positions.
        """
        if not self.pointwise:
            raise ValueError(
                f"The weights of `{self!r}` couple all positions of a state, so they are no matrix per position. "
                f"Use an explicit integrator, or on images and signals kernel_size=1."
            )
        return K.reshape(K.shape[: K.dim() - len(self.taps)])

    def norm(self, K: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """‖K‖ or an upper bound of it, (...) for K (..., m, n, *taps).

        Args:
            K: weights.
            size: of the positions of a state, such as (H, W); None for any.

        Raises:
            ValueError: where no bound is known.
        """
        raise ValueError(
            f"No bound of ‖K‖ is known on `{self!r}`. Give the space a method `norm`, or measure: "
            f"`largest_singular_values(flow, y0)`."
        )

    def rows(self, y: Tensor) -> Rows | None:
        """A state as rows of one matrix, on which K is one product, or two; None where nobody says how.

        Args:
            y: a state, or many.
        """
        return None

    @property
    def fixed_taps(self) -> int:
        """How many taps transposition leaves in their place."""
        numbers = torch.arange(math.prod(self.taps), device="cpu").reshape(1, 1, *self.taps)
        return int((self.transposed(numbers) == numbers).sum())
