"""From sequences to what a network reads: every step as a row of a table, the last one marked.

Legend: s sequences, T steps of the longest, d inputs a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.encoders import TableEncoder

if TYPE_CHECKING:
    import pandas as pd

_MOST = 2**30  # numbers of all sequences as long as the longest: 4 GiB


class Steps(NamedTuple):
    """Sequences as a table of their steps.

    Args:
        frame: one row a step, as they stand in their file.
        order: the places of the rows, sequence after sequence, each by its time.
        lengths: (s,), how many steps each has.
        names: of the sequences; none where they have no names.
    """

    frame: pd.DataFrame
    order: NDArray[np.int64]
    lengths: NDArray[np.int64]
    names: list[str]

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where in `order` each sequence ends, the next one's first step."""
        return np.cumsum(self.lengths)

    def part(self, chosen: NDArray[np.int64]) -> Steps:
        """Some of the sequences."""
        names = [self.names[k] for k in chosen] if self.names else []
        return Steps(self.frame, self.rows(chosen), self.lengths[chosen], names)

    def rows(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the rows of some sequences."""
        ends = self.ends
        return np.concatenate([self.order[ends[k] - self.lengths[k] : ends[k]] for k in chosen])


@dataclass(frozen=True, slots=True)
class SequenceEncoder:
    """Sequences as network inputs (s, T, d + 1): the columns of each step encoded, and a mark.

    The last number of a step is 1 at the last step of a sequence, and 0 elsewhere; behind it stand zeros up to the
    length of the longest.

    Args:
        step: encoder of the columns of a step.
        longest: steps of the longest sequence of the training part; later ones may be longer.
        sequence: the column that names the sequences; "" where they come from a .ts file.
        time: the column that orders the steps, the same.

    Raises:
        ValueError: If there is no step, or only one of the two columns.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"speed": [1.0, 3.0, 2.0]})
        >>> encoder = SequenceEncoder(TableEncoder.fit(frame), longest=2)
        >>> encoder.encode(Steps(frame, np.array([0, 1, 2]), np.array([2, 1]), ["a", "b"])).shape
        (2, 2, 2)
    """

    kind: ClassVar[str] = "sequences"
    step: TableEncoder
    longest: int
    sequence: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        if type(self.longest) is not int or self.longest < 1:
            raise ValueError(f"The longest sequence has at least one step; got {documents.shown(self.longest)}.")
        named = [isinstance(each, str) and bool(each) for each in (self.sequence, self.time)]
        if named[0] != named[1]:
            raise ValueError("Sequences of a table have a column that names them and one that orders their steps.")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a step, in order."""
        return self.step.names

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the longest sequence of the training part, (T, d + 1)."""
        return self.longest, self.step.shape[0] + 1

    def encode(self, steps: Steps, longest: int = 0) -> NDArray[np.float32]:
        """Return the network inputs of sequences.

        Args:
            steps: s sequences.
            longest: T, where others beside them are longer.

        Returns:
            float32 (s, T, d + 1), finite.

        Raises:
            ValueError: As `TableEncoder.encode`, or if one is so long that all of its length exceed the memory.
        """
        s, T = len(steps.lengths), max(int(steps.lengths.max()), longest)
        if s * T * self.shape[1] > _MOST:
            raise ValueError(
                f"{s:,} sequences as long as the longest, {T:,} steps of {self.step.shape[0]} numbers, exceed the "
                f"memory that is taken for them. Cut long sequences into several, or take every second step."
            )
        x = np.zeros((s, T, self.shape[1]), dtype=np.float32)
        inside = np.arange(T) < steps.lengths[:, None]
        x[..., :-1][inside] = self.step.encode(steps.frame)[steps.order]
        x[np.arange(s), steps.lengths - 1, -1] = 1
        return x

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        whose = {"sequence": self.sequence, "time": self.time} if self.sequence else {}
        return {"kind": self.kind, "step": self.step.to_dict(), "longest": self.longest, **whose}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SequenceEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("kind", "step", "longest", "sequence", "time")
        read = documents.mapping({"sequence": "", "time": "", **document}, "an encoder of sequences", keys)
        return cls(TableEncoder.from_dict(read["step"]), *(read[key] for key in keys[2:]))
