"""Checks for values that come from a JSON file, which anybody may have written or changed."""

from __future__ import annotations

import json
import math
from numbers import Real
from pathlib import Path
from typing import Any


def read(path: Path, largest: int) -> Any:
    """Read a JSON file, refusing what makes readers disagree: a key twice, NaN, numbers beyond 64 bits.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger, no JSON, or nested too deeply.
    """
    if path.stat().st_size > largest:
        raise ValueError(f"{path} has more than {largest} bytes. Is this the folder of a run?")
    try:
        return json.loads(
            path.read_bytes().decode(), object_pairs_hook=_once, parse_constant=_refused, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(f"{path} is not JSON that can be read: it is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. Is this the folder of a run?") from error


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(written: str) -> float:
    x = float(written)
    if not math.isfinite(x):
        raise ValueError(f"{written[:40]} is beyond numbers of 64 bits")
    return x


def shown(value: object) -> str:
    """Show type and value of something unexpected, at most about 40 letters of it."""
    written = repr(value)
    return f"{type(value).__name__} {written if len(written) <= 40 else written[:37] + '...'}"
