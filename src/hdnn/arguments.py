"""What stands for an argument: plain numbers, and factors of the equation by name, by class or as they are."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TypeVar

from hdnn.names import unknown

T = TypeVar("T")

_SMALL = 2**28  # bytes that any machine has


def whole(name: str, value: object) -> int:
    """A whole number of any kind, NumPy's too.

    Raises:
        TypeError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        remedy = f" Write {int(value)}." if isinstance(value, float) and value.is_integer() else ""
        raise TypeError(f"`{name}` must be a whole number; got {shown(value)}.{remedy}")
    return int(value)


def real(name: str, value: object) -> float:
    """A number of any kind, NumPy's too.

    Raises:
        TypeError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {shown(value)}.")
    return float(value)


def finite(name: str, value: object) -> float:
    """A number that is neither infinite nor NaN.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not finite.
    """
    if not math.isfinite(number := real(name, value)):
        raise ValueError(f"`{name}` must be finite; got {number}.")
    return number


def check_width(width: int | None) -> None:
    """Refuse a number of hidden units that is none."""
    if width is not None and whole("width", width) < 1:
        raise ValueError(f"`width` counts hidden units, so it must be at least 1; got {width}.")


def is_truth(value: object) -> bool:
    """Whether a value is true or false: a truth of Python's or of NumPy's, or 1 or 0."""
    if isinstance(value, Integral):  # as truths of Python are
        return value in (0, 1)
    import numpy as np  # not above: a command that shows its help does without

    return isinstance(value, np.bool_)


def truth(name: str, value: object) -> bool:
    """True or False, from NumPy's and from 1 and 0 as well.

    Raises:
        TypeError: if it is neither: every text that is not empty would count as True.
    """
    if not is_truth(value):
        raise TypeError(f"`{name}` must be True or False; got {shown(value)}.")
    return bool(value)


def shown(value: object) -> str:
    """A value and its type, as in "4.0, a float"; of anything long the type alone.

    Example:
        >>> shown("4"), shown([1] * 100)
        ("'4', a str", 'a list')
    """
    kind = type(value).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    text = repr(value)
    return f"{article} {kind}" if len(text) > 40 or "\n" in text else f"{text}, {article} {kind}"


def require_room(wanted: int, what: str, device: object = None) -> None:
    """Refuse what no memory of this machine can hold, before it is allocated: then the system would end the process.

    Args:
        wanted: bytes on the CPU.
        what: needs them, in words.
        device: where they are wanted; only the CPU is looked at.

    Raises:
        MemoryError: if there is not as much memory in all.
    """
    if wanted < _SMALL or str(device or "cpu") != "cpu":
        return
    there = _memory()
    if wanted > there:
        raise MemoryError(
            f"{what[0].upper()}{what[1:]} wants {_size(wanted)} of memory, and this process can have "
            f"{_size(there)}. Use a smaller size."
        )


def _memory() -> int:
    """Bytes that this process can have, as far as the system tells."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        import resource
    except (AttributeError, ImportError, OSError, ValueError):  # not a POSIX system
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return there if limit == resource.RLIM_INFINITY else min(there, limit)


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves one or more."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.3g} {units[0]}" if size < 1000 else f"{size:,.0f} {units[0]}"


def factor(name: str, given: object, kind: type[T], known: Mapping[str, T], remedy: str) -> T:
    """A factor of the equation from what was given for it: itself, a class that needs no arguments, or a name.

    Args:
        name: of the argument.
        given: what the user gave.
        kind: the class of such factors.
        known: those that have names.
        remedy: the sentence that says what to give.

    Raises:
        TypeError: if it is nothing of that kind.
        ValueError: if the name is unknown.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, type) and issubclass(given, kind):
        try:
            return given()
        except TypeError as error:
            raise TypeError(
                f"`{name}` was given as the class `{given.__name__}`, which needs arguments. {remedy}"
            ) from error
    if isinstance(given, str) and known:
        if given not in known:
            raise ValueError(unknown(name, given, known))
        return known[given]
    raise TypeError(f"`{name}` must be {_article(kind.__name__)} of hdnn; got {shown(given)}. {remedy}")


def _article(noun: str) -> str:
    return f"an `{noun}`" if noun[0] in "AEIOU" else f"a `{noun}`"
