"""Two doors, Python and the command line: what one calls `batch_size=8` is --batch-size 8 at the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

_QUOTES = "'\""

E = TypeVar("E", bound=BaseException)


def shelled(error: E, text: str) -> E:
    """The same error with other words for the command line, where Python's would not help.

    Args:
        error: told in the words of Python; arguments stand between backticks.
        text: told in the words of the command line.

    Example:
        >>> error = shelled(ValueError("Leave it out with `columns=[...]`."), "Leave it out with --column.")
        >>> str(error), in_options(error, {})
        ('Leave it out with `columns=[...]`.', 'Leave it out with --column.')
    """
    error.shell = text  # type: ignore[attr-defined]
    return error


def in_options(error: BaseException | str, options: Mapping[str, str]) -> str:
    """The words of an error for the command line: those it carries, or its own with options for arguments.

    Args:
        error: in whose message code stands between backticks, as in `layers` or `lift="zeros"`.
        options: by the names of their arguments in Python; a name that is none of them becomes plain words.

    Example:
        >>> in_options(ValueError("`epochs` is 0; use `batch_size=8`."), {"batch_size": "--batch-size"})
        'epochs is 0; use --batch-size 8.'
    """

    def option(span: re.Match[str]) -> str:
        name, equals, value = span[1].partition("=")
        if not re.fullmatch(r"[a-z_]+", name):
            return span[1]
        shown = options.get(name, name.replace("_", " "))
        return f"{shown} {value.strip(_QUOTES)}" if equals and value != "True" else shown

    text: str = getattr(error, "shell", None) or str(error)
    return re.sub(r"`([^`]+)`", option, text)
