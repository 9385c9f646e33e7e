"""Which cases of a test are of the fast tier: enough for each value of each parameter, CI runs all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any


def repeated(cases: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the cases that bring no new value: those of most new values are taken first, in their order.

    A value made of named parts, as `families.Factors`, counts by its parts. Two that cannot be hashed differ.
    """
    left = [(number, set(_values(number, case))) for number, case in enumerate(cases)]
    seen: set[Hashable] = set()
    for new in range(max(len(values) for _, values in left), 0, -1):
        rest = []
        for number, values in left:
            if len(values - seen) >= new:
                seen |= values
            else:
                rest.append((number, values))
        left = rest
    return [number for number, _ in left]


def _values(number: int, case: Mapping[str, Any]) -> Iterator[Hashable]:
    for name, value in case.items():
        parts = value._asdict() if hasattr(value, "_asdict") else {"": value}
        for part, each in parts.items():
            try:
                hash(each)
            except TypeError:
                each = f"of case {number}"
            yield name, part, type(each), each
