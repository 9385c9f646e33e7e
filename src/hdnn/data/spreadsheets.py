"""Tables from .xlsx files, within bounds set by the size of the file; read by openpyxl, which is an extra."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdnn.data.dialect import MOST_COLUMNS, Dialect
from hdnn.data.notation import USUAL_MARKS
from hdnn.names import few

if TYPE_CHECKING:
    import pandas as pd

_LEAST_BOUND, _LARGEST_RATIO = 2**28, 100
_MOST_CELLS = 2**25


def read(place: Path, given: Dialect) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The one sheet that has cells, and what to say of it; formulas are what their program last computed.

    Args:
        place: The file.
        given: What the user says of it: lines to skip, no header, marks of missing values.

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
    rows = rows[given.skip_lines :]
    while rows and not any(cell is not None for cell in rows[0]):
        rows.pop(0)
    if not rows:
        raise ValueError(f"{place} cannot be read as a table: No columns to parse from file.")
    width = max(map(len, rows))
    marks = {"", *(USUAL_MARKS if given.missing is None else given.missing)}
    body = [[None if isinstance(cell, str) and cell.strip() in marks else cell for cell in row] for row in rows]
    head = [] if given.no_header else ["" if cell is None else str(cell).strip() for cell in body.pop(0)]
    if sum(map(bool, head)) == 1 < sum(cell is not None for cell in (body or [[]])[0]):
        raise ValueError(
            f"The first line of {place}, {few(filter(None, head))!r}, looks like a title, not a header. Leave it out "
            f"with `skip_lines={given.skip_lines + 1}`."
        )
    head += [""] * (width - len(head))
    unnamed = [f"column{i + 1}" for i, name in enumerate(head) if not name]
    names = [name or f"column{i + 1}" for i, name in enumerate(head)]
    frame = pd.DataFrame([row + [None] * (width - len(row)) for row in body], columns=names, dtype=object)
    notes = (f"without a name in the header, so called by its place: {few(unnamed)}",)
    return frame.infer_objects(), notes if unnamed and not given.no_header else ()


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
        book = load_workbook(place, read_only=True, data_only=True, keep_links=False)
        try:
            found = {sheet.title: list(_rows(sheet)) for sheet in book.worksheets}
        finally:
            book.close()
    except MemoryError:
        raise
    except Exception as error:  # openpyxl has no class of its own for what is damaged
        raise ValueError(f"{place} cannot be read as a spreadsheet: {' '.join(str(error).split())}") from None
    return {name: rows for name, rows in found.items() if rows}


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
