"""The command line: each command calls one function of the library and shows what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the numbers came out wrong
(training diverged, a backend disagrees with float64), 2 bad input, 130 interrupted.

Annotations of commands are read by Typer at run time, so they are not postponed; heavy imports stand inside the
commands, for `hdnn --help` must not wait for PyTorch.
"""

from hdnn.cli.application import app, main

__all__ = ["app", "main"]
