"""Checks for values that come from a JSON file, which anybody may have written or changed."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def mapping(document: object, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return `document` if it is a mapping with exactly these keys.

    Args:
        document: The value to check.
        what: What it describes, for the message.
        keys: The keys it must have, no more and no fewer.

    Raises:
        ValueError: If it is no mapping, or if keys are missing or unknown.
    """
    if not isinstance(document, dict):
        raise ValueError(f"The description of {what} must be a mapping; got {shown(document)}.")
    missing = [key for key in keys if key not in document]
    unknown = [key for key in document if key not in keys]
    if missing or unknown:
        found = f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(map(repr, unknown)) or 'none'}"
        raise ValueError(f"The description of {what} needs exactly the keys {', '.join(keys)} ({found}).")
    return document


def items(value: object, what: str) -> tuple[Any, ...]:
    """Return the items of a list or tuple, else raise ValueError."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what} must be a list; got {shown(value)}.")
    return tuple(value)


def number(value: object, what: str, *, positive: bool = False) -> float:
    """Return a finite number as a float, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{what} must be a number; got {shown(value)}.")
    try:
        x = float(value)
    except OverflowError:
        x = math.inf
    if not math.isfinite(x) or (positive and x <= 0):
        raise ValueError(f"{what} must be finite{' and above 0' if positive else ''}; got {x!r}.")
    return x


def text(value: object, what: str) -> str:
    """Return a string that is not empty, else raise ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be a text that is not empty; got {shown(value)}.")
    return value


def names(value: object, what: str, *, least: int = 1) -> tuple[str, ...]:
    """Return at least `least` different strings, else raise ValueError."""
    listed = tuple(text(item, f"Each item of {what}") for item in items(value, what))
    if len(listed) < least:
        raise ValueError(f"{what} must hold at least {least}; got {len(listed)}.")
    seen: set[str] = set()
    for item in listed:
        if item in seen:
            raise ValueError(f"{what} must not name anything twice; got {item!r} more than once.")
        seen.add(item)
    return listed


def shown(value: object) -> str:
    """Show type and value of something unexpected, at most about 40 letters of it."""
    written = repr(value)
    return f"{type(value).__name__} {written if len(written) <= 40 else written[:37] + '...'}"
