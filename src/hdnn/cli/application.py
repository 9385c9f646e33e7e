"""The application: its commands, and how each error ends it."""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TextIO, get_args

import typer
from typer.core import TyperCommand

from hdnn.cli import processes
from hdnn.cli.analyze import analyze
from hdnn.cli.bench import bench
from hdnn.cli.compare import compare
from hdnn.cli.evaluate import evaluate
from hdnn.cli.export import export
from hdnn.cli.info import info
from hdnn.cli.messages import failed, is_out_of_memory, prepare, say, settled, show
from hdnn.cli.playground import playground
from hdnn.cli.predict import predict
from hdnn.cli.reproduce import reproduce
from hdnn.cli.train import train
from hdnn.cli.tune import tune
from hdnn.doors import in_options
from hdnn.renames import RECIPE, outdated

app = typer.Typer(
    name="hdnn",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (train, tune, predict, evaluate, compare, analyze, export, reproduce, info, bench, playground)


def current_name(word: str) -> str:
    """The name of an option, or its present one where it had another."""
    new = RECIPE.get(word.replace("-", "_"))
    if new is None:
        return word
    new = new.replace("_", "-")
    outdated(f"--{word}", f"--{new}")
    return new


class Command(TyperCommand):
    """A command that refuses an option by its old name and its new one, an empty path, and an option for a value.

    Of one name the last counts, as usual.
    """

    def make_parser(self, ctx: Any) -> Any:
        """The parser of Typer, whose third result tells how often each parameter was met."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parsed(args: list[str]) -> tuple[dict[str, Any], list[str], list[Any]]:
            words = list(args)
            values, rest, met = parse(args=args)
            if not (ctx.resilient_parsing or values.get("help")):
                _require_one_name(met, words)
                _require_paths(met, values, PATHS.get(ctx.command.name, ()))
                _require_values(ctx.command.params, values, words, ctx.help_option_names)
            return values, rest, met

        parser.parse_args = parsed
        return parser


def _require_one_name(met: Sequence[Any], words: Sequence[str]) -> None:
    for each in met:
        name, typed = each.opts[0], {word.partition("=")[0] for word in words}
        old = {f"--{old.replace('_', '-')}" for old, new in RECIPE.items() if new == each.name} & typed
        if old and name in typed:
            raise ValueError(f"{min(old)} is what {name} was called before; got both. Leave {min(old)} out.")


def _require_paths(met: Sequence[Any], values: Mapping[str, Any], paths: Collection[str]) -> None:
    """See that no path is empty, as of a variable that a script never set: it would be the working folder."""
    for each in met:
        value = values.get(each.name)
        if each.name in paths and "" in (value if isinstance(value, list | tuple) else [value]):
            raise ValueError(f"{_shown(each.opts[0])} is empty, so it names no file and no folder. Name one.")


def _require_values(
    parameters: Sequence[Any], values: Mapping[str, Any], words: Collection[str], others: Collection[str]
) -> None:
    """See that no option took the next one for its value, as -o does in `-o --overwrite`."""
    options = [each for each in parameters if each.param_type_name == "option"]
    flags = {flag for each in options for flag in (*each.opts, *each.secondary_opts)} | {*others}
    for each in options:
        value = values.get(each.name)
        for word in value if isinstance(value, list) else [value]:
            if word in flags and word in words:
                raise ValueError(f"{each.opts[0]} has no value: {word}, which follows it, is an option itself.")


def _paths(command: Callable[..., object]) -> set[str]:
    """The parameters of a command that are paths, one or several."""
    kinds = {
        each.name: get_args(each.annotation)[0]
        for each in inspect.signature(command).parameters.values()
        if get_args(each.annotation)
    }
    return {name for name, kind in kinds.items() if Path in (kind, *get_args(kind))}


PATHS = {command.__name__: _paths(command) for command in COMMANDS}
for command in COMMANDS:
    renames = {"token_normalize_func": current_name} if command is train else {}
    app.command(cls=Command, context_settings=renames)(command)

# What Python calls differently.
ALIASES = {"folder": "data_folder", "mnist_folder": "data_folder", "program": "torch"}


def _version(asked: bool) -> None:
    if asked:
        import hdnn

        show(f"hdnn {hdnn.__version__}")
        raise typer.Exit


@app.callback()
def hdnn(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train Hamiltonian deep neural networks and see why they work."""


def main() -> None:
    """Run the command line; bad input ends with one message and exit code 2."""
    try:
        prepare()
        with _signals(), warnings.catch_warnings():
            warnings.showwarning = _warn
            code = app(args=sys.argv[1:] or ["--help"], prog_name="hdnn", standalone_mode=False) or 0
    except SystemExit as end:
        sys.exit(settled(end.code if isinstance(end.code, int) else 2))  # a command has said why
    except BrokenPipeError:
        code = 2  # the reader has seen enough, as in `hdnn predict RUN FILE | head`
    except FloatingPointError as error:
        code = _failed(error, 1, options())
    except (ValueError, OSError, ImportError) as error:
        code = _failed(error, 2, options())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # The class of Typer's own has moved from version to version.
        if not (is_out_of_memory(error) or hasattr(error, "format_message")):
            raise
        code = _failed(error, 2)
    if code == 130 and not processes.follows() and processes.may_say(KeyboardInterrupt()):
        say("Interrupted.")  # not where torchrun has ended this process for the error of another
    sys.exit(settled(code))


def _failed(error: BaseException, code: int, options: Mapping[str, str] | None = None) -> int:
    """The exit code; what went wrong is said by one process alone, where several do the same."""
    processes.give_up(error, code)
    return failed(error, code, options) if processes.may_say(error) else code


def options() -> dict[str, str]:
    """The options of the command that was typed, by the names of its parameters."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    asked = next((commands[word] for word in sys.argv[1:] if word in commands), None)
    found = {} if asked is None else {each.name: _shown(each.opts[0]) for each in asked.params}
    return found | {name: found[own] for name, own in ALIASES.items() if own in found and name not in found}


def _shown(name: str) -> str:
    return name if name.startswith("-") else name.upper()


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning without the place in the source that it comes from."""
    if not processes.follows():
        say(f"Warning: {in_options(message, options())}")


@contextmanager
def _signals() -> Iterator[None]:
    """Take SIGTERM and SIGHUP as Ctrl-C, so that what is half done is put away; who ignores them goes on to."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    taken = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # there is no SIGHUP on Windows
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, interrupt)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            with contextlib.suppress(ValueError):
                signal.signal(number, signal.SIG_DFL)
