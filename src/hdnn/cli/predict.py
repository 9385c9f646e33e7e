"""Predict new rows: `hdnn predict`."""

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdnn.cli.messages import say, stream
from hdnn.cli.options import DATA, OUTPUT, AsJson, RunFolder, offering, option, taken
from hdnn.doors import in_options
from hdnn.options import FileChoices, flags

if TYPE_CHECKING:
    import pandas as pd

_OTHERS = {
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".xlsx", ".xls", ".xlsm", ".ods", ".parquet", ".feather", ".arrow"),
    *(".orc", ".pkl", ".npy", ".npz", ".h5", ".db", ".png", ".jpg", ".jpeg"),
}


@offering((FileChoices, DATA, {}, "as in training"))
def predict(
    run: RunFolder,
    file: Annotated[
        Path,
        typer.Argument(
            help="Table with the run's input columns, a .ts file, an IDX file, a picture or a folder of pictures."
        ),
    ],
    *,
    output: Annotated[Path | None, option(OUTPUT, "CSV file to write.", "--output", "-o", default="stdout")] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace the output file.", "--overwrite", default="off")] = False,
    as_json: AsJson = False,
    **chosen: Any,
) -> None:
    """Predict the rows of a table, sequences or images with a trained run; files may exceed the memory."""
    from hdnn.display import Display
    from hdnn.files import require_apart, require_new, writing_whole
    from hdnn.jobs import predictions
    from hdnn.runs import files_of

    if output is not None:
        _require_text(output, as_json=as_json)
        require_apart(output, [file, *files_of(run)])
        require_new(output, overwrite=overwrite)
    rows, remarks = 0, ""
    choices = FileChoices(**taken(FileChoices, chosen))  # type: ignore[typeddict-item]
    with (
        nullcontext(stream) if output is None else writing_whole(output) as write,
        # A bar between the lines of the result would make both unreadable.
        nullcontext() if output is None and sys.stdout.isatty() else Display() as display,
    ):
        total = file.stat().st_size if file.is_file() else 0
        progress = None if display is None else lambda done: display.fetch("predicting", done, total)
        for part in predictions(run, file, progress=progress, choices=choices):
            if as_json:
                # Each part is a list of its own; without brackets they make one.
                write(("," if rows else "[") + _records(part.frame)[1:-1])
            else:
                write(part.frame.to_csv(index=False, header=not rows))
            rows, remarks = rows + len(part.frame), part.remarks
        if as_json:
            write("]\n")
    if output is not None:
        say(f"{rows} predictions: {output}")
    if remarks:
        say(in_options(remarks, flags(FileChoices)))


def _records(frame: "pd.DataFrame") -> str:
    """Rows as a list of JSON, with the digits that CSV has: pandas would cut numbers off behind ten decimals.

    What is infinite or not a number, for which JSON has no words, is null.
    """
    columns = [
        [float(str(x)) for x in column.to_numpy()] if column.dtype == "float32" else column
        for _, column in frame.items()
    ]
    plain = (column if isinstance(column, list) else column.tolist() for column in columns)
    rows = zip(*([None if _is_endless(x) else x for x in column] for column in plain), strict=True)
    return json.dumps([dict(zip(frame.columns, row, strict=True)) for row in rows], separators=(",", ":"))


def _is_endless(x: object) -> bool:
    return isinstance(x, float) and not math.isfinite(x)


def _require_text(output: Path, *, as_json: bool) -> None:
    """See that the name of a file of predictions promises nothing that it will not hold."""
    if (suffix := output.suffix.lower()) in _OTHERS or (suffix == ".json" and not as_json):
        plain = output.with_name(f"{output.name.split('.')[0] or 'predictions'}.csv")
        raise ValueError(
            f"Predictions are written as CSV, with --json as JSON, and {output} is called like a {suffix} file, which "
            f"programs could not read. Give a name such as {plain}."
        )
