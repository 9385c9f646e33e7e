"""Checks for values that come from a JSON file, which anybody may have written or changed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {str: "a text", int: "a whole number", bool: "true or false", dict: "an object"}


def read(path: Path, largest: int, what: str = "a file of a run") -> Any:
    """Read a JSON file, refusing what makes readers disagree: a key twice, NaN, numbers beyond 64 bits.

    Args:
        path: The file.
        largest: Bytes that it may have.
        what: It should be, for the message.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger, no JSON, or nested too deeply.
    """
    if path.stat().st_size > largest:
        raise ValueError(f"{path} has more than {largest} bytes, too many for {what}. Is it one?")
    try:
        return json.loads(
            path.read_bytes().decode(), object_pairs_hook=_once, parse_constant=_refused, parse_float=_finite,
            parse_int=_whole,
        )  # fmt: skip
    except RecursionError:
        raise ValueError(f"{path} is not JSON that can be read: it is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. Is it {what}?") from error


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


def record(kind: type[T], document: object, what: str) -> T:
    """A dataclass of plain values from a mapping of its fields by name, so that files can grow.

    Unknown names are refused. A name that is absent has the default of its field; a field whose default was another
    before it existed states that one in its metadata, as in `field(default="new", metadata={"before": "old"})`.

    Args:
        kind: a dataclass whose fields are text, numbers, truth values, choices of text (`Literal`), tuples, mappings,
            other such dataclasses, or None.
        document: from a file, as `read` gives it.
        what: it describes, for the message.

    Raises:
        ValueError: if a name is unknown or missing, or a value is of another type than its field.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Ring:
        ...     nodes: int
        ...     length: float = 1.0
        >>> record(Ring, {"nodes": 5}, "a ring")
        Ring(nodes=5, length=1.0)
    """
    if not isinstance(document, dict):
        raise ValueError(f"The description of {what} must be an object; got {shown(document)}.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown := sorted(document.keys() - known.keys(), key=str):
        raise ValueError(f"The description of {what} has {unknown[0]!r}, which this hdnn does not know. Update hdnn.")
    values = {}
    hints = _hints(cast(type, kind))
    for name, field in known.items():
        if name in document:
            values[name] = _of_type(hints[name], document[name], f"`{name}` of {what}")
        elif "before" in field.metadata:
            values[name] = field.metadata["before"]
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"The description of {what} lacks {name!r}. Is it whole?")
    return kind(**values)


def restore(kept: Any, state: Sequence[Any], **later: Callable[[], Any]) -> None:
    """Give a frozen record with slots the state of a pickle.

    Args:
        kept: The record, without a value yet.
        state: Values of its first fields.
        later: Values of fields that older pickles lack, called when the fields before are there; others get their
            defaults.
    """
    for place, field in enumerate(fields(kept)):
        absent = later.get(field.name, lambda default=field.default: default)
        object.__setattr__(kept, field.name, state[place] if place < len(state) else absent())


@functools.cache  # else every file would have the annotations compiled
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _of_type(hint: Any, value: object, what: str) -> Any:
    """The value of a field of that type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (only,) = (each for each in inner if each is not NoneType)
        return _of_type(only, value, what)
    if is_dataclass(hint):
        return record(cast(type, hint), value, what)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{what} must be one of {', '.join(inner)}; got {shown(value)}.")
        return value
    if origin is tuple:
        return tuple(_of_type(inner[0], item, f"Each item of {what}") for item in items(value, what))
    if hint is float:
        return number(value, what)
    plain = dict if origin is Mapping else hint
    if hint is not Any and type(value) is not plain:
        raise ValueError(f"{what} must be {_WORDS[plain]}; got {shown(value)}.")
    return value


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


def _whole(written: str) -> int:
    if len(written) > 20 or not -(2**63) <= int(written) < 2**64:
        raise ValueError(f"{written[:40]} is beyond numbers of 64 bits")
    return int(written)


def shown(value: object) -> str:
    """Show type and value of something unexpected, at most about 40 letters of it."""
    written = repr(value)
    return f"{type(value).__name__} {written if len(written) <= 40 else written[:37] + '...'}"
