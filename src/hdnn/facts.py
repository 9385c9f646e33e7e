"""What a factor of the equation states about itself, and that a factor derived from it does not inherit unseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def restated(cls: type, changed: Iterable[str], facts: Mapping[str, object]) -> None:
    """Take from a class the facts that it inherits about methods which it replaces by its own.

    Args:
        cls: a new subclass.
        changed: the methods that the facts are about.
        facts: what takes their place where the class says nothing itself: that nothing is known.
    """
    own = vars(cls)
    if not own.keys().isdisjoint(changed):
        for name in facts.keys() - own.keys():
            setattr(cls, name, facts[name])
