"""The first row of a table: whether it holds names, and what to call a column without one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from hdnn.data.notation import DOUBTFUL_MARKS, USUAL_MARKS
from hdnn.names import few

_LEAST_ROWS = 3
# What some programs write below the names: types in one line, and where they are letters, roles in the next.
_TYPES = {"continuous", "discrete", "string", "categorical", "numeric", "time", "float", "integer"}
_LETTERS = {"c", "d", "s", "t", "m"}
_ROLES = {"", "class", "meta", "ignore", "weight", "i"}
_NUMBER = re.compile(r"[-+−]?\d[\d.,' ]*(?:[eE][-+]?\d+)?\s*%?")


def require_names(head: Sequence[str], body: Sequence[Sequence[str]], place: Path) -> None:
    """See that a first row holds names, by the rows below it that are as wide."""
    places = [i for i in range(len(head)) if body and all(_is_number(row[i]) for row in body)]
    if not places or not all(_is_number(head[i]) for i in places):
        return
    # Years, or 0, 1, 2, ... are names that programs write.
    whole = [int(head[i]) for i in places if head[i].isascii() and head[i].isdigit()]
    steps = {after - before for before, after in itertools.pairwise(whole)}
    years = all(1000 <= year < 2200 for year in whole) and all(step > 0 for step in steps)
    if len(whole) == len(places) and (years or whole == [0] or (len(steps) == 1 and steps != {0})):
        return
    raise ValueError(
        f"The first line of {place} looks like data, not like a header: it would call columns {few(head, 4)}. Put a "
        f"line of names above it, or give `no_header=True`, which calls them column1, column2, ..."
    )


def are_types(body: Sequence[Sequence[str]]) -> bool:
    """Whether the first rows name types of columns."""
    if len(body) < 2:
        return False
    first, second = ([field.lower() for field in row] for row in body[:2])
    letters = _LETTERS if _ROLES.issuperset(second) else set()
    return sum(field in _TYPES | letters for field in first) > len(first) / 2


def names_again(body: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds words, perhaps with gaps, where all others hold numbers, in two columns at least."""
    if len(body) < _LEAST_ROWS:
        return False
    absent = {"", *USUAL_MARKS, *DOUBTFUL_MARKS}
    below = [{row[i] for row in body[1:]} - absent for i in range(len(body[0]))]
    words = [body[0][i] for i, cells in enumerate(below) if cells and all(map(_is_number, cells)) and body[0][i]]
    return len(words) > 1 and not any(_is_number(word) or word in absent for word in words)


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field) is not None


def named(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of columns, those without one by their places, and which these are."""
    names, taken = list(header), set(header)
    for i, name in enumerate(header):
        if not name:
            names[i] = next(each for k in itertools.count(1) if (each := _place(i, k)) not in taken)
            taken.add(names[i])
    return names, [name for name, written in zip(names, header, strict=True) if not written]


def _place(i: int, k: int) -> str:
    return f"column{i + 1}" if k == 1 else f"column{i + 1}_{k}"
