"""Tables from files: whole, or part by part with the same cells whatever the parts.

Files may come from elsewhere: what they announce is compared with what they hold before memory is taken for it.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdnn.data import parquet, rows
from hdnn.data.columns import numbers, require_different

if TYPE_CHECKING:
    import pandas as pd

PART = 2**22
"""Bytes of a part, about: small beside what PyTorch takes, and large beside the cost of starting a part."""

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".parquet": None}


def read_table(path: str | os.PathLike[str], *, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with one header line.

    Args:
        path: A .csv (commas), .tsv (tabs) or .parquet file.
        text: Columns of a .csv or .tsv to read as text even if they look like numbers ("007").

    Returns:
        At least one row; column names are different texts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, not of these formats, or its columns are not told apart by name.
    """
    place, separator = _require_table(path)
    if separator is None:
        frame = parquet.read(place)
    else:
        with place.open("rb") as stream:
            checked = list(rows.blocks(stream, separator, PART, place))
        header = _header(checked[0] if checked else b"", separator, place)
        frame = _parsed(b"".join(checked), separator, place, dict.fromkeys(set(text) & set(header), str))
    frame.columns = frame.columns.map(str)
    require_different(place, list(frame.columns))
    _require_rows(place, len(frame), list(frame.columns))
    return frame


def table_parts(
    path: str | os.PathLike[str],
    *,
    numeric: Collection[str] = (),
    text: Collection[str] = (),
    part: int = PART,
    progress: Callable[[int], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read a table part by part, for tables larger than memory.

    What a cell becomes depends on the cell alone, never on its neighbours, so that parts make no difference.

    Args:
        path: A .csv, .tsv or .parquet file with one header line.
        numeric: Columns to read as numbers; true is 1, false is 0.
        text: Columns to read as text. Other columns are there, but what their cells become may depend on the part.
        part: Bytes of a part, about.
        progress: Told how many bytes of the file have been read.

    Yields:
        At least one row, at least once; the index counts the rows of the file from 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or a cell of a numeric column is no number; rows before it were yielded.
    """
    place, separator = _require_table(path)
    if separator is None:
        yield from parquet.parts(place, {*numeric, *text}, part, progress)
    else:
        yield from _text_parts(place, separator, numeric, text, part, progress)


def _text_parts(
    place: Path,
    separator: str,
    numeric: Collection[str],
    text: Collection[str],
    part: int,
    progress: Callable[[int], None] | None,
) -> Iterator[pd.DataFrame]:
    import pandas as pd

    with place.open("rb") as stream:
        blocks = rows.blocks(stream, separator, part, place)
        header = next(blocks, b"")
        names = _header(header, separator, place)
        texts = dict.fromkeys(set(text) & set(names), str)
        plain = dict.fromkeys(set(numeric) & set(names), "float64")
        count, lines = 0, 0
        for block in blocks:
            frame = _parsed(header + block, separator, place, {**texts, **plain}, lines, count)
            frame.index = pd.RangeIndex(count, count + len(frame))
            for name in plain:
                frame[name] = numbers(name, frame[name])
            count, lines = count + len(frame), lines + block.count(b"\n")
            if len(frame):
                yield frame
            if progress is not None:
                progress(stream.tell())
    _require_rows(place, count, names)


def _parsed(
    content: bytes, separator: str, place: Path, kinds: dict[str, Any], lines: int = 0, count: int = 0
) -> pd.DataFrame:
    """The rows of a text, header first; `lines` and `count` are the lines and rows of the file before it."""
    import pandas as pd

    options: dict[str, Any] = {"sep": separator, "encoding": "utf-8", "low_memory": False}
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
        # Later versions always take the number nearest to what is written, as Python does.
        options["float_precision"] = "round_trip"
    try:
        try:
            frame: pd.DataFrame = pd.read_csv(io.BytesIO(content), dtype=kinds, **options)
        except (ValueError, OverflowError) as error:  # the latter for whole numbers of 400 digits beside "1_000"
            if isinstance(error, pd.errors.ParserError | pd.errors.EmptyDataError) or "float64" not in kinds.values():
                raise
            # Some cell is no plain number: `numbers` knows more kinds, and names the cell that is none.
            frame = pd.read_csv(io.BytesIO(content), dtype=str, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        said = " ".join(str(error).split())
        said = re.sub(r"(?<=in line )\d+", lambda found: str(int(found[0]) + lines), said)
        said = re.sub(r"(?<=starting at row )\d+", lambda found: str(int(found[0]) + count), said)
        raise ValueError(f"{place} cannot be read as a table: {said}") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(
            f"{place} has data rows with more fields than the header, which has {len(frame.columns)}. Name every "
            f"column, and put values that hold the separator into quotes."
        )
    return frame


def _header(row: bytes, separator: str, place: Path) -> list[str]:
    """The column names of a text table, as far as they are written."""
    try:
        names = next(csv.reader(io.StringIO(row.decode(), newline=""), delimiter=separator), [])
    except csv.Error as error:
        raise ValueError(f"{place} cannot be read as a table: {error} in its header.") from None
    if len(names) > rows.MOST_COLUMNS:
        raise ValueError(f"{place} has {len(names)} columns; up to {rows.MOST_COLUMNS} can be read.")
    # Read here because pandas renames a second "a" to "a.1" without a word.
    require_different(place, [name for name in names if name])
    return names


def _require_table(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file and its separator, which Parquet has none of."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"There is no file {place}. A .csv, .tsv or .parquet table was expected there.")
    suffix = place.suffix.lower()
    if suffix not in _SEPARATORS or not place.is_file():
        raise ValueError(f"{place} is no table that can be read. Give a .csv, .tsv or .parquet file.")
    if not place.stat().st_size:
        raise ValueError(f"{place} is empty (0 bytes). It needs a header line and data rows.")
    return place, _SEPARATORS[suffix]


def _require_rows(place: Path, count: int, names: list[str]) -> None:
    if not count:
        raise ValueError(f"{place} has a header ({', '.join(names[:5])}) but no data rows. Add rows.")
