"""Tables from .xlsx files, within bounds set by the size of the file; read by openpyxl, which is an extra."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdnn.data.dialect import MOST_COLUMNS, ROWS, Dialect
from hdnn.data.headers import named, require_names
from hdnn.data.notation import USUAL_MARKS
from hdnn.names import few

if TYPE_CHECKING:
    import pandas as pd

_LEAST_BOUND, _LARGEST_RATIO = 2**28, 100
_MOST_CELLS = 2**25
_FORMULA = re.compile(rb"<(?:\w+:)?f[ />]")


def read(place: Path, given: Dialect, expected: Collection[str] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The one sheet that has cells, and what to say of it; formulas are what their program last computed.

    Args:
        place: The file.
        given: What the user says of it: lines to skip, no header, marks of missing values.
        expected: Names of columns that it is known to have.

    Raises:
        ValueError: If openpyxl is not there, the file is damaged or unpacks to far more than its size makes likely, or
            several sheets have cells.
    """
    import pandas as pd

    sheets = _sheets(place)
    if len(sheets) != 1:
        what = f"{len(sheets)} sheets with cells ({few(sheets)})" if sheets else "no cells"
        raise ValueError(f"{place} has {what}. Save the one that holds the table as CSV, or in a file of its own.")
    ((_, rows),) = sheets.items()
    rows, above = rows[given.skip_lines :], 0
    while rows and not any(cell is not None for cell in rows[0]):
        rows.pop(0)
        above += 1
    if not rows:
        raise ValueError(f"{place} cannot be read as a table: No columns to parse from file.")
    width = max(map(len, rows))
    if width * len(rows) > _MOST_CELLS:  # rows are as long as their last cell, until here
        raise ValueError(
            f"{place} cannot be read as a spreadsheet: its {len(rows)} rows up to column {width} are more than "
            f"{_MOST_CELLS} cells. Remove cells that stand far from the table."
        )
    marks = {"", *(USUAL_MARKS if given.missing is None else given.missing)}
    body = [[None if isinstance(cell, str) and cell.strip() in marks else cell for cell in row] for row in rows]
    head = [] if given.no_header else ["" if cell is None else str(cell).strip() for cell in body.pop(0)]
    if not given.no_header and not set(expected) & set(head):
        _require_header(head, body, place, given.skip_lines + above)
    names, unnamed = named(head + [""] * (width - len(head)))
    frame = pd.DataFrame([row + [None] * (width - len(row)) for row in body], columns=names, dtype=object)
    notes = (f"without a name in the header, so called by its place: {few(unnamed)}",)
    return frame.infer_objects(), notes if unnamed and not given.no_header else ()


def _require_header(head: list[str], body: list[list[Any]], place: Path, skipped: int) -> None:
    """See that the first row holds names: it is neither a title, nor data."""
    below = next((cells for row in body if (cells := [cell for cell in row if cell is not None])), [])
    lone = [i for i, name in enumerate(head) if name]
    # Beside the first column a title stands above names, which are texts; a lone name may stand above anything.
    if len(lone) == 1 < len(below) and (lone == [0] or all(isinstance(cell, str) for cell in below)):
        raise ValueError(
            f"The first line of {place}, {head[lone[0]]!r}, looks like a title, not a header. Leave it out with "
            f"`skip_lines={skipped + 1}`; if it is the header, give the other columns names."
        )
    rows = [["" if cell is None else str(cell) for cell in row] for row in body[:ROWS]]
    width = max(map(len, [head, *rows]))
    wide, *filled = ([*row, *[""] * (width - len(row))] for row in (head, *rows))
    require_names(wide, filled, place)


def _sheets(place: Path) -> dict[str, list[list[Any]]]:
    """The rows of every sheet that has cells."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise ValueError(
            f"{place} is a spreadsheet. Save its sheet as CSV (a spreadsheet calls that 'CSV UTF-8'), or install "
            f"what reads it: pip install 'hdnn[excel]'."
        ) from None
    try:
        with zipfile.ZipFile(place) as packed:
            announced = sum(each.file_size for each in packed.infolist())
        size = place.stat().st_size
        if announced > max(_LEAST_BOUND, _LARGEST_RATIO * size):
            raise ValueError(f"its {size} bytes unpack to {announced}")
        with closing(load_workbook(place, read_only=True, data_only=True, keep_links=False)) as book:
            found = {sheet.title: list(_rows(_unbounded(sheet))) for sheet in book.worksheets}
            if _has_formulas(place):
                with closing(load_workbook(place, read_only=True, keep_links=False)) as formulas:
                    for title in [name for name, rows in found.items() if rows] or found:
                        _require_computed(book[title], _unbounded(formulas[title]))
    except MemoryError:
        raise
    except Exception as error:  # openpyxl has no class of its own for what is damaged
        raise ValueError(f"{place} cannot be read as a spreadsheet: {' '.join(str(error).split())}") from None
    return {name: rows for name, rows in found.items() if rows}


def _unbounded(sheet: Any) -> Any:
    """The same without the size that its file announces: less would be read of it, or empty cells without an end."""
    sheet.reset_dimensions()
    return sheet


def _has_formulas(place: Path) -> bool:
    """Whether a sheet may hold formulas."""
    with zipfile.ZipFile(place) as packed:
        for name in packed.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            with packed.open(name) as stream:
                held = b""
                while piece := stream.read(2**20):
                    if _FORMULA.search(held + piece):
                        return True
                    held = piece[-64:]
    return False


def _require_computed(values: Any, formulas: Any) -> None:
    """See that each formula has the value that its program computed; that of a text may be empty."""
    for row, written in zip(values.iter_rows(), formulas.iter_rows(), strict=False):
        for cell, formula in zip(row, written, strict=False):
            if formula.data_type == "f" and cell.value is None and cell.data_type != "str":
                raise ValueError(
                    f"the formula in {formula.coordinate} was never computed, so it has no value. Open the file in a "
                    f"spreadsheet and save it there, or write values in the place of formulas"
                )


def _rows(sheet: Any) -> Iterator[list[Any]]:
    """The rows of a sheet up to the last that has a cell, without the empty cells at their ends."""
    count, empty = 0, 0
    for row in sheet.iter_rows(values_only=True):
        cells = list(row)
        while cells and cells[-1] is None:
            cells.pop()
        if not cells:
            empty += 1
            continue
        count += len(cells) + empty
        if count > _MOST_CELLS or len(cells) > MOST_COLUMNS:
            raise ValueError(f"it has more than {_MOST_CELLS} cells, or a row of more than {MOST_COLUMNS}")
        yield from itertools.repeat([], empty)
        empty = 0
        yield cells
