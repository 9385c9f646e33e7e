"""Names that others gave: one that is not known, one that cannot be shown as it is, more than anyone reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

_MOST_SHOWN = 16
_LONGEST_SHOWN = 60


def unknown(
    kind: str, name: object, known: Iterable[object], also: Mapping[str, Iterable[object]] | None = None
) -> str:
    """A message that names what there is, and the nearest of it first.

    Args:
        kind: what the name should be the name of, as in "model".
        name: what was given.
        known: the names that exist.
        also: names that exist for some uses alone, by the use.

    Example:
        >>> unknown("model", "h3", ["h1", "h2", "ms3"])
        "There is no model 'h3'. Did you mean 'h2'? There are: h1, h2, ms3."
        >>> unknown("model", "conv", ["h1", "h2"], {"images": ["convnet"]})
        "There is no model 'conv'. Did you mean 'convnet'? There are: h1, h2; for images also convnet."
    """
    return f"There is no {kind} {name!r}. {hint(name, known, also)}"


def hint(name: object, known: Iterable[object], also: Mapping[str, Iterable[object]] | None = None) -> str:
    """The nearest of the names that exist, if one is near, and the first of all of them.

    Args:
        name: what was given.
        known: the names that exist.
        also: names that exist for some uses alone, by the use.

    Example:
        >>> hint("lenght", ["length", "day, month"])
        "Did you mean 'length'? There are: length, 'day, month'."
    """
    given, names = str(name).lower(), [str(each) for each in known]
    uses = {use: [str(each) for each in theirs] for use, theirs in (also or {}).items()}
    every = [*names, *(each for theirs in uses.values() for each in theirs)]
    lower = {each.lower(): each for each in reversed(every)}
    # A word of the name, as "moons" for "double-moons", is nearer than any likeness of letters.
    part = [each for each in every if len(given) > 2 and given in each.lower()]
    near = part or [lower[each] for each in difflib.get_close_matches(given, lower, n=1, cutoff=0.5)]
    guess = f"Did you mean {near[0]!r}? " if near else ""
    shown = [each if re.fullmatch(r"[\w.-]+", each) else repr(each) for each in names[:_MOST_SHOWN]]
    apart = "".join(f"; for {use} also {few(theirs, _MOST_SHOWN)}" for use, theirs in uses.items())
    return f"{guess}There are: {few([*shown, *names[_MOST_SHOWN:]], _MOST_SHOWN) or 'none'}{apart}."


def printable(text: str) -> str:
    r"""Text without what a terminal or a browser would obey: names in files from elsewhere can hold such characters.

    Example:
        >>> printable("bell\x07")
        'bell\\x07'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def few(names: Iterable[str], most: int = 8) -> str:
    """The first of many names, long ones cut, and how many more there are.

    Example:
        >>> few(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    listed = list(names)
    shown = [name if len(name) <= _LONGEST_SHOWN else name[: _LONGEST_SHOWN - 1] + "…" for name in listed[:most]]
    return ", ".join(shown) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def different(names: Sequence[str]) -> list[str]:
    """Names that all differ: one that another has already is given a number that is free.

    Example:
        >>> different(["a_1", "a_b", "a_1", "a_1_2"])
        ['a_1', 'a_b', 'a_1_3', 'a_1_2']
    """
    if len(set(names)) == len(names):
        return list(names)
    taken, seen, found = set(names), set[str](), list[str]()
    for name in names:
        chosen, number = name, 1
        while chosen in seen or (number > 1 and chosen in taken):
            number += 1
            chosen = f"{name}_{number}"
        seen.add(chosen)
        found.append(chosen)
    return found


def count(number: int, noun: str) -> str:
    """A number of things in words, as in "1 epoch", "2 epochs" and "3 classes"."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
