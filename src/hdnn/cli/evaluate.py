"""Score a trained run: `hdnn evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import DATA, AsJson, MnistFolder, RunFolder, offering, taken
from hdnn.display import shown
from hdnn.doors import in_options
from hdnn.options import FileChoices, flags


@offering((FileChoices, DATA, {}, "as in training"))
def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Table with inputs and target, a .ts file, or a folder of pictures. Default: the test part of the run."
        ),
    ] = None,
    *,
    data_folder: MnistFolder = None,
    as_json: AsJson = False,
    **chosen: Any,
) -> None:
    """Loss and score of a trained run on its test part or on a table with known answers."""
    from hdnn.jobs import evaluate

    choices = FileChoices(**taken(FileChoices, chosen))  # type: ignore[typeddict-item]
    scores = evaluate(
        run,
        data,
        mnist_folder=str(data_folder) if data_folder else None,
        choices=choices,
        announce=lambda text: say(in_options(text, flags(FileChoices))),
    )
    if as_json:
        show(json.dumps(scores))
    else:
        for name, value in scores.items():
            show(f"{name.replace('_', ' ') if name.startswith('rows_') else name}: {shown(name, value)}")
