"""Lay runs side by side: `hdnn compare`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdnn.cli.messages import draw, say, show
from hdnn.cli.options import OUTPUT, AsJson, option
from hdnn.display import shown
from hdnn.names import few, printable

if TYPE_CHECKING:
    from hdnn.jobs import Comparison

# Results have many numbers; a terminal shows what decides.
_SHOWN = (
    *("test_accuracy", "test_balanced_accuracy", "test_r2", "test_error", "test_absolute_error", "test_loss"),
    *("train_accuracy", "train_r2", "train_error", "epochs", "start_epochs", "seconds", "parameters", "test_rows"),
)

_LONGEST = 60  # letters of a choice; of a long path the end says more


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `hdnn train` wrote, two at least.")],
    figure: Annotated[
        Path | None, option(OUTPUT, "Figure of all curves of training to write, .png or .svg.", default="none")
    ] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace the figure.", "--overwrite", default="off")] = False,
    as_json: AsJson = False,
) -> None:
    """Show in which choices runs differ, and how they came out; the best score on test rows has a star."""
    from hdnn.jobs import compare

    found = compare(runs)
    if figure is not None:
        found.draw(figure, overwrite=overwrite)
    for remark in found.remarks:
        say(f"Note: {remark}")
    if as_json:
        drawn = {} if figure is None else {"figure": str(figure)}
        parts = {"choices": found.choices, "results": _plain(found), "best": found.best}
        show(json.dumps({"runs": found.runs, **parts, "remarks": found.remarks, **drawn}))
        return
    draw(_table(found))
    if figure is not None:
        show(f"Figure: {figure}")


def _plain(found: "Comparison") -> dict[str, list[float | None]]:
    """Numbers that JSON can say."""
    return {
        name: [None if value is None or not math.isfinite(value) else value for value in row]
        for name, row in found.results.items()
    }


def _table(found: "Comparison") -> Any:
    """What differs above, the results below."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for run in found.runs:
        table.add_column(Text(printable(run)), overflow="fold", justify="right")
    for name, row in found.choices.items():
        table.add_row(Text(printable(name.replace("_", " "))), *[Text(printable(_choice(value))) for value in row])
    if not found.choices:
        table.add_row("no choice differs")
    table.add_row()
    for name in _SHOWN:
        if name in found.results:
            marks = [" *" if i in found.best.get(name, ()) else "" for i in range(len(found.runs))]
            cells = [_result(name, value) + mark for value, mark in zip(found.results[name], marks, strict=True)]
            told = f"{name} trained" if name in found.choices else name  # epochs are chosen, and how many came of it
            table.add_row(told.replace("_", " "), *cells)
    return table


def _choice(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return few([str(item) for item in value]) or "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 3]}…{text[-_LONGEST * 2 // 3 :]}"


def _result(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else shown(name, value)
