"""Arguments that have other names now: the old ones are understood for one minor release, with a FutureWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_GOES = "hdnn 0.3"

# The new name of each old one. The papers write α and α_c, but in scikit-learn `alpha` is another regulariser.
RECIPE = {"alpha": "smoothness", "alpha_c": "head_decay", "validation": "validation_fraction"}
ESTIMATOR = {**RECIPE, "patience": "n_iter_no_change"}


def renamed(names: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Let a class understand old names of its arguments, where it is made, read, set and unpickled.

    Old and new name at once are refused, but not where all arguments are given, as `dataclasses.replace` does: there
    the old name is what was asked for.

    Args:
        names: the new name of each old one; attributes are called as the arguments are.

    Example:
        >>> import warnings
        >>> from dataclasses import dataclass
        >>> @renamed({"alpha": "smoothness"})
        ... @dataclass
        ... class Options:
        ...     smoothness: float = 0.0
        >>> with warnings.catch_warnings(record=True) as heard:
        ...     warnings.simplefilter("always")
        ...     Options(alpha=1e-3)
        Options(smoothness=0.001)
        >>> print(heard[0].message)
        `alpha` is called `smoothness` now; the old name goes in hdnn 0.3.
    """

    def decorated(kind: Any) -> Any:
        made, restored = kind.__init__, getattr(kind, "__setstate__", None)

        @functools.wraps(made)
        def __init__(self: Any, *args: Any, **options: Any) -> None:
            replacing = is_dataclass(kind) and {each.name for each in fields(kind) if each.init} <= options.keys()
            made(self, *args, **told(options, names, replacing=replacing))

        def __setstate__(self: Any, state: dict[str, Any]) -> None:
            state = current(state, names)
            if restored is not None:
                restored(self, state)
            else:
                self.__dict__.update(state)

        kind.__init__, kind.__setstate__ = __init__, __setstate__
        for old, new in names.items():
            setattr(kind, old, _other_name(old, new))
        return kind

    return decorated


def current(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What stands under old names under the new ones, as for files of earlier versions; no warning.

    Example:
        >>> current({"alpha": 0.5, "epochs": 3}, RECIPE)
        {'smoothness': 0.5, 'epochs': 3}
    """
    return {names[name] if names.get(name, name) not in values else name: value for name, value in values.items()}


def told(values: Mapping[str, Any], names: Mapping[str, str], *, replacing: bool = False) -> dict[str, Any]:
    """What was given by name, by present names; warns of old ones at the line that called the function that asks.

    Raises:
        TypeError: if something is given by both of its names; with `replacing` the old one counts.
    """
    found = {name: value for name, value in values.items() if name not in names}
    for old in values.keys() & names.keys():
        if names[old] in found and not replacing:
            raise TypeError(f"`{old}` is what `{names[old]}` was called before; got both. Leave `{old}` out.")
        outdated(old, names[old], stacklevel=4)
        found[names[old]] = values[old]
    return found


def outdated(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn of an old name, at the line that called the function that calls this."""
    text = f"`{old}` is called `{new}` now; the old name goes in {_GOES}."
    warnings.warn(text, FutureWarning, stacklevel=stacklevel)


def _other_name(old: str, new: str) -> property:
    def read(self: Any) -> Any:
        outdated(old, new)
        return getattr(self, new)

    def write(self: Any, value: Any) -> None:
        outdated(old, new)
        setattr(self, new, value)

    return property(read, write)
