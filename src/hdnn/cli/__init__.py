"""The command line: each command calls one function of the library and shows what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the numbers came out wrong
(training diverged, a backend disagrees with float64), 2 bad input or no room for the output, 130 interrupted.

Annotations of commands are read by Typer at run time, so they are not postponed; heavy imports stand inside the
commands, for `hdnn --help` must not wait for PyTorch.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line in a process of its own: what `hdnn` starts."""
    import gc
    import signal
    import sys

    # What libraries make as they are imported lives as long as the process: looking through all of it again and again
    # would take a tenth of the time.
    gc.set_threshold(700, 10, 1000)
    try:
        from hdnn.cli.application import main as run

        run()
    except KeyboardInterrupt:  # while it is being imported
        sys.exit(130)
    finally:
        # The exit code stands; a second Ctrl-C must not break into the end of the interpreter.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
