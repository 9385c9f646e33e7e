"""The columns of a table as its reader sees them: what each was taken for, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hdnn.data.kinds import Kind

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES, _LOOKED_AT = 3, 100


class Described(NamedTuple):
    """One column.

    Args:
        name: of it.
        kind: what it was taken for, in words.
        use: "input", "target" or "left out".
        missing: how many values are; None where nobody counted.
        examples: some of its values.
    """

    name: str
    kind: str
    use: str
    missing: int | None
    examples: tuple[str, ...]


def described(
    frame: pd.DataFrame,
    found: Mapping[str, Kind],
    inputs: Collection[str],
    targets: Collection[str],
    missing: Mapping[str, int],
) -> tuple[Described, ...]:
    """Describe all columns of a table, those that are used first.

    Args:
        frame: the table.
        found: what its columns are; others were left out unseen.
        inputs: names of the columns that are used.
        targets: names of those to predict.
        missing: values that are, by input; those that have none may be absent.
    """
    order: Sequence[str] = [*targets, *inputs, *(name for name in frame.columns if name not in (*targets, *inputs))]
    places = np.linspace(0, len(frame) - 1, min(len(frame), _LOOKED_AT)).astype(np.int64)  # files are often sorted
    columns = []
    for name in order:
        use = "target" if name in targets else "input" if name in inputs else "left out"
        kind = found[name].words if name in found else ""
        gaps = missing.get(name, 0) if use == "input" else None
        examples = list(dict.fromkeys(map(str, frame[name].iloc[places].dropna())))[:_EXAMPLES]
        columns.append(Described(name, kind, use, gaps, tuple(examples)))
    return tuple(columns)
