"""The application: its commands, and how each error ends it."""

from __future__ import annotations

import os
import sys

import typer

from hdnn.cli.analyze import analyze
from hdnn.cli.bench import bench
from hdnn.cli.evaluate import evaluate
from hdnn.cli.export import export
from hdnn.cli.info import info
from hdnn.cli.messages import failed, say
from hdnn.cli.predict import predict
from hdnn.cli.reproduce import reproduce
from hdnn.cli.train import train

app = typer.Typer(
    name="hdnn",
    help="Train Hamiltonian deep neural networks and see why they work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, predict, evaluate, analyze, export, reproduce, info, bench):
    app.command()(command)


def main() -> None:
    """Run the command line; bad input ends with one message and exit code 2."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="hdnn", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as in `hdnn predict RUN FILE | head`; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except FloatingPointError as error:
        code = failed(error, 1)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        code = failed(error, 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer's own, for arguments that cannot be read; its class has moved from version to version.
        if not hasattr(error, "format_message"):
            raise
        code = failed(error, 2)
    if code == 130:
        say("Interrupted.")
    sys.exit(code)
