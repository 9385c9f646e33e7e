"""The options that commands share: those of `hdnn.options`, and others as annotated types."""

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from hdnn import options
from hdnn.doors import in_options
from hdnn.options import Entry

F = TypeVar("F", bound=Callable[..., object])

NETWORK, TRAINING, DATA, OUTPUT = "Network", "Training", "Data", "Output"


def option(panel: str | None, help: str, *names: str, default: str | bool = True) -> Any:
    """An option under a heading of the help page.

    Args:
        panel: the heading; None for commands that have few options.
        help: one sentence; brackets stay brackets.
        names: where they do not follow from the parameter.
        default: in words, where it is decided elsewhere; True shows the value that stands in the signature.
    """
    brackets = help.replace("[", "\\[")  # which rich would take for its own
    return typer.Option(*names, help=brackets, rich_help_panel=panel, show_default=default)


def offering(*lists: tuple[type, str, Mapping[str, str], str]) -> Callable[[F], F]:
    """Let a command take the options of `hdnn.options` as its `**chosen`, before its other options.

    Args:
        lists: of each list itself, its heading, the defaults in words by name, and that of all others.
    """

    def decorated(command: F) -> F:
        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        first = next(place for place, each in enumerate(own) if each.kind is each.KEYWORD_ONLY)
        offered = [
            _parameter(entry, panel, defaults.get(entry.name, otherwise))
            for choices, panel, defaults, otherwise in lists
            for entry in options.entries(choices)
        ]
        shown: Any = command
        shown.__signature__ = signature.replace(parameters=[*own[:first], *offered, *own[first:]])
        command.__annotations__.update({each.name: each.annotation for each in offered})
        return command

    return decorated


def _parameter(entry: Entry, panel: str, default: str) -> inspect.Parameter:
    name, kind, _, about = entry
    enumeration: Any = StrEnum
    if get_origin(kind) is Literal:
        kind = enumeration(name, {value: value for value in get_args(kind)})
    elif get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]  # for typer, not for checkers
    off = False if kind is bool else None
    kind = kind if kind is bool else (about.typed or kind) | None
    flag = about.flag or "--" + name.replace("_", "-")
    said = option(panel, in_options(about.text, _flags()), flag, default=default)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=off, annotation=Annotated[kind, said])


def _flags() -> dict[str, str]:
    return options.flags(options.NetworkChoices, options.TrainingChoices, options.RunChoices, options.SourceChoices)


def taken(choices: type, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed of the options of a list, as Python takes it.

    Args:
        choices: the list.
        chosen: what typer made of the command line, by name; None, False and nothing at all were not typed.
    """
    typed = {entry.name: chosen[entry.name] for entry in options.entries(choices)}
    return {
        name: _plain(value) for name, value in typed.items() if value is not None and value is not False and value != []
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return str(value) if isinstance(value, StrEnum | Path) else value


AsJson = Annotated[bool, option(OUTPUT, "Print the result as JSON on stdout.", "--json", default="off")]
RunFolder = Annotated[Path, typer.Argument(help="Folder that `hdnn train` wrote, or pretrained:NAME.")]
MnistFolder = Annotated[
    Path | None, option(DATA, "Where the files of the data set are now.", default="where they were")
]
