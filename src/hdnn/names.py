"""Answers to a name that is not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MOST_SHOWN = 16


def unknown(kind: str, name: object, known: Iterable[object]) -> str:
    """A message that names what there is, and the nearest of it first.

    Args:
        kind: what the name should be the name of, as in "model".
        name: what was given.
        known: the names that exist.

    Example:
        >>> unknown("model", "h3", ["h1", "h2", "ms3"])
        "There is no model 'h3'. Did you mean 'h2'? There are: h1, h2, ms3."
    """
    return f"There is no {kind} {name!r}. {hint(name, known)}"


def hint(name: object, known: Iterable[object]) -> str:
    """The nearest of the names that exist, if one is near, and the first of all of them.

    Args:
        name: what was given.
        known: the names that exist.

    Example:
        >>> hint("lenght", ["length", "day, month"])
        "Did you mean 'length'? There are: length, 'day, month'."
    """
    given, names = str(name).lower(), [str(each) for each in known]
    lower = {each.lower(): each for each in reversed(names)}
    # A word of the name, as "moons" for "double-moons", is nearer than any likeness of letters.
    part = [each for each in names if len(given) > 2 and given in each.lower()]
    near = part or [lower[each] for each in difflib.get_close_matches(given, lower, n=1, cutoff=0.5)]
    guess = f"Did you mean {near[0]!r}? " if near else ""
    shown = [each if re.fullmatch(r"[\w.-]+", each) else repr(each) for each in names[:_MOST_SHOWN]]
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{guess}There are: {', '.join(shown) or 'none'}{more}."
