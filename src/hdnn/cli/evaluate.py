"""Score a trained run: `hdnn evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hdnn.cli.messages import show
from hdnn.cli.options import AsJson, MnistFolder, RunFolder
from hdnn.display import shown


def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None, typer.Argument(help="Table with inputs and target. Default: the test part of the run.")
    ] = None,
    data_folder: MnistFolder = None,
    as_json: AsJson = False,
) -> None:
    """Loss and score of a trained run on its test part or on a table with known answers."""
    from hdnn.jobs import evaluate

    scores = evaluate(run, data, mnist_folder=str(data_folder) if data_folder else None)
    if as_json:
        show(json.dumps(scores))
    else:
        for name, value in scores.items():
            show(f"{name}: {shown(name, value)}")
