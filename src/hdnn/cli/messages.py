"""All that the command line prints: results on stdout, the rest on stderr, nothing that a terminal would obey."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hdnn.doors import in_options
from hdnn.names import few, printable

_LOST = "What the command wrote to files is whole."
_NO_MEMORY = "The memory does not suffice for this. Use fewer features, layers or rows, or smaller batches."


def say(text: str) -> None:
    """Print a message on stderr, if there is anybody to hear it."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
        print(printable(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result on stdout.

    Raises:
        OSError: if stdout is closed or full.
    """
    _written(lambda: print(printable(text), flush=True))


def draw(table: Any) -> None:
    """Print a table of rich on stdout.

    Raises:
        OSError: if stdout is closed or full.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # rich would end the process by itself where nobody reads
        console.print(table)
    _written(lambda: print(captured.get(), end="", flush=True))


def stream(text: str) -> None:
    """Print a piece of a long result: to a terminal as `show`, elsewhere letter by letter as it is.

    Raises:
        BrokenPipeError: if the reader has seen enough, which is no fault.
        OSError: if stdout is full.
    """
    try:
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _lost(error) from error


def prepare() -> None:
    """Make ready to print: what the letters of a terminal cannot show is spelled out.

    Raises:
        OSError: if stdout is closed: files that are opened would get its number, and what is printed would go to them.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    if sys.stdout is None:
        raise OSError(
            "stdout is closed, so results could not be shown; nothing was done. Open it, or send it to a file."
        )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def settled(code: int) -> int:
    """The exit code, once all that was printed has left; what cannot leave is dropped, for Python would try again."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == 0 and not isinstance(error, BrokenPipeError):
            say(f"Error: {_lost(error)}")
        return code or 2
    return code


def failed(error: BaseException, code: int, options: Mapping[str, str] | None = None) -> int:
    """Say in one line what went wrong, in the words of the command line; returns the exit code.

    Args:
        error: what was raised.
        code: for the process.
        options: of the command by the names of its parameters in Python, as {"batch_size": "--batch-size"}.
    """
    say(f"Error: {' '.join(_reason(error, options or {}).split())}")
    return code


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory or threads ran out: PyTorch and Python have no class of their own for most of it."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "can't start new thread")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error).lower() for part in words)
    )


def _reason(error: BaseException, options: Mapping[str, str]) -> str:
    if is_out_of_memory(error):
        # Ours has words; numpy's and PyTorch's name bytes, Python's nothing.
        return str(error) if type(error) is MemoryError and "GiB" in str(error) else _NO_MEMORY
    if isinstance(error, OSError) and error.strerror is not None:
        # str() of an OSError made by the system starts with its number; the sentence is in strerror.
        return f"{few([str(error.filename)])}: {error.strerror}" if error.filename else error.strerror
    if hasattr(error, "format_message"):  # Typer's own, for arguments that cannot be read
        text: str = error.format_message()
        command = getattr(getattr(error, "ctx", None), "command_path", "hdnn")
        return f"{text}{'' if text.endswith(('.', '?')) else '.'} See {command} --help."
    return in_options(error, options)


def _written(write: Callable[[], None]) -> None:
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        raise _lost(error) from error


def _lost(error: OSError) -> OSError:
    if error.errno == errno.EPIPE:
        return OSError(f"stdout was closed before all was shown. {_LOST}")
    return OSError(f"stdout cannot be written: {error.strerror or error}. {_LOST}")
