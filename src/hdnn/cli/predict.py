"""Predict new rows: `hdnn predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hdnn.cli.messages import say
from hdnn.cli.options import OUTPUT, AsJson, RunFolder, option


def predict(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="Table with the run's input columns, or an IDX file of images.")],
    output: Annotated[Path | None, option(OUTPUT, "CSV file to write; default: stdout.", "--output", "-o")] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace the output file.", "--overwrite")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the rows of a table, or the images of an IDX file, with a trained run."""
    from hdnn.files import write_whole
    from hdnn.jobs import predict

    if output is not None and output.is_dir():
        raise IsADirectoryError(f"{output} is a folder. Name the file to write, as in {output / 'predictions.csv'}.")
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; nothing was changed. Choose another --output, or give --overwrite.")
    prediction = predict(run, file)
    frame = prediction.frame
    text = frame.to_json(orient="records") + "\n" if as_json else frame.to_csv(index=False)
    if output is None:
        sys.stdout.write(text)
    else:
        write_whole(output, text)
        say(f"{len(frame)} predictions: {output}")
    if prediction.remarks:
        say(prediction.remarks)
