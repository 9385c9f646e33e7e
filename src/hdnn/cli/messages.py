"""What the command line says beside its results, on stderr."""

from __future__ import annotations

import sys

from hdnn.names import printable


def say(text: str) -> None:
    """Print a message."""
    print(printable(text), file=sys.stderr)


def failed(error: Exception, code: int) -> int:
    """Say in one line what went wrong; returns the exit code."""
    # str() of an OSError made by the system starts with its number; the sentence is in strerror.
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif hasattr(error, "format_message"):
        text = error.format_message()
        text += " See hdnn --help." if text.endswith((".", "?")) else ". See hdnn --help."
    say(f"Error: {' '.join(text.split())}")
    return code
