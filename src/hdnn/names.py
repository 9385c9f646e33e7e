"""Answers to a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message that names what there is, and the nearest of it first.

    Args:
        kind: what the name should be the name of, as in "model".
        name: what was given.
        known: the names that exist.

    Example:
        >>> unknown("model", "h3", ["h1", "h2", "ms3"])
        "There is no model 'h3'. Did you mean 'h2'? There are: h1, h2, ms3."
    """
    names = list(known)
    # A word of the name, as "moons" for "double-moons", is nearer than any likeness of letters.
    part = [known for known in names if len(name) > 2 and name.lower() in known]
    near = part or difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no {kind} {name!r}.{guess} There are: {', '.join(names)}."
