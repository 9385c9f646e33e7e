"""Tables from files: whole, or part by part with the same cells whatever the parts.

Files may come from elsewhere: what they announce is compared with what they hold before memory is taken for it.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from hdnn.data import absent, dialect, parquet, spreadsheets
from hdnn.data.cells import is_text, numbers, require_different
from hdnn.data.dialect import BLANKS, Dialect, Layout
from hdnn.data.frames import spoken

if TYPE_CHECKING:
    import pandas as pd

PART = 2**22
"""Bytes of a part, about: small beside what PyTorch takes, and large beside the cost of starting a part."""

KINDS = ".csv, .tsv, .tab or .txt (each also .gz), .parquet or .xlsx"
"""The endings of tables, in words."""

SHEET = ".xlsx"
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ""}
_UNPACKED_BY = {".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd", ".zip": "unzip", ".7z": "7z x"}
_LONGEST = 2**25  # letters of one row, and what stands in memory for a part: a quote that is never closed has no end
_LEAST_BOUND, _LARGEST_RATIO = 2**28, 100
_MOST_ROWS = 2**16


class Cells(NamedTuple):
    """A table as it stands in its file.

    Args:
        frame: Text cells as they are written, without the blanks around them; others as their file types them.
        notes: What was found about the file that a user should know.
        separator: Of a text table.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    separator: str | None


def cells(path: str | os.PathLike[str], given: Dialect, expected: Collection[str] = ()) -> Cells:
    """Read a table without a decision on what its columns are; see `read_table`, and `parts`."""
    place, own = _require_table(path)
    notes: tuple[str, ...] = ()
    separator = None
    if ending(place) == SHEET:
        frame, notes = spreadsheets.read(place, given, expected)
        frame = spoken(frame)
    elif own is None:
        frame = spoken(parquet.read(place))
        frame.columns = frame.columns.map(str)
    else:
        import pandas as pd

        layout = _layout(place, own, given)
        frame = pd.concat(
            [*_text_parts(place, layout, given.missing, PART, None)] or [pd.DataFrame(columns=layout.names)]
        )
        notes, separator = layout.notes, layout.separator
    require_different(place, list(frame.columns))
    _require_rows(place, len(frame), list(frame.columns))
    return Cells(frame, notes, separator)


def parts(
    path: str | os.PathLike[str],
    needed: Collection[str],
    given: Dialect,
    part: int = PART,
    progress: Callable[[int], None] | None = None,
    plain: Collection[str] = (),
) -> Iterator[pd.DataFrame]:
    """The cells of a table, part by part.

    Args:
        path: As for `read_table`.
        needed: Columns that it should have; of a Parquet file no others are read.
        given: What the user says of it.
        part: Bytes of a part, about.
        progress: Told how many bytes of the file have been read.
        plain: Columns of numbers that are written as programs write them, which are read faster.

    Yields:
        At least one row, at least once; the index counts the rows of the file from 0.
    """
    place, own = _require_table(path)
    if ending(place) == SHEET:
        yield absent.without(cells(path, given, needed).frame, given.also_missing)
        return
    if own is None:
        for frame in parquet.parts(place, needed, part, progress):
            yield absent.without(spoken(frame), given.also_missing)
        return
    layout = _layout(place, own, given, needed)
    count = 0
    for frame in _text_parts(place, layout, given.missing, part, progress, plain):
        count += len(frame)
        yield frame
    _require_rows(place, count, list(layout.names))


def _layout(place: Path, own: str, given: Dialect, expected: Collection[str] = ()) -> Layout:
    with _opened(place) as stream:
        layout = dialect.found(stream, own, place, given, expected)
    require_different(place, layout.names)
    return layout


def _text_parts(
    place: Path,
    layout: Layout,
    missing: tuple[str, ...] | None,
    part: int,
    progress: Callable[[int], None] | None,
    plain: Collection[str] = (),
) -> Iterator[pd.DataFrame]:
    """The rows of a text table; columns that are `plain` as numbers, as long as pandas reads all of their cells so."""
    done = seen = 0
    for numeric in (set(plain) & set(layout.names), set[str]()):
        try:
            for frame, place_in in _chunks(place, layout, missing, part, numeric):
                if len(frame) > done:
                    yield frame.iloc[done:] if done else frame
                    seen += len(frame) - done
                done = max(0, done - len(frame))
                if progress is not None:
                    progress(place_in)
        except (_OtherCells, OverflowError):  # the latter for whole numbers of 400 digits beside others
            done = seen  # from the beginning, for a text cannot be read twice on the way
        else:
            break
    if progress is not None:
        progress(place.stat().st_size)


class _OtherCells(Exception):
    """Some cell is no plain number; `numbers` knows more kinds, and names the cell that is none."""


def _chunks(
    place: Path, layout: Layout, missing: tuple[str, ...] | None, part: int, numeric: Collection[str]
) -> Iterator[tuple[pd.DataFrame, int]]:
    """Rows, and how many bytes have been read."""
    import pandas as pd

    options: dict[str, Any] = {"dtype": {name: "float64" if name in numeric else str for name in layout.names}}
    with _opened(place) as stream:
        letters = _Letters(stream, place, layout)
        width = len(layout.names)  # of a full row there is a letter in each field, or one behind it
        rows, count, reader, is_full = _rows_of(part, max(layout.letters, width)), 0, None, False
        while True:
            letters.taken = 0
            try:
                reader = reader or pd.read_csv(
                    letters,  # type: ignore[call-overload]  # it has `read`
                    sep=r"\s+" if layout.separator == BLANKS else layout.separator,
                    skipinitialspace=True,
                    keep_default_na=missing is None,
                    na_values=["", *(missing or ())],
                    iterator=True,
                    engine="c",
                    **options,
                )
                frame = reader.get_chunk(rows)
            except StopIteration:
                break
            except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
                raise _unreadable(place, error, letters.lines) from None
            except ValueError:
                if numeric and not letters.broken:
                    raise _OtherCells from None
                raise
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError(
                    f"{place} has data rows with more fields than the header, which has {len(frame.columns)}. Name "
                    f"every column, and put values that hold the separator into quotes."
                )
            frame.columns = pd.Index(layout.names)
            if layout.separator == BLANKS and not is_full and frame[layout.names[-1]].isna().any():
                with _opened(place) as again:
                    dialect.require_full_rows(again, layout, place)
                is_full = True
            frame.index = pd.RangeIndex(count, count + len(frame))
            count += len(frame)
            if 8 * count * width > max(_LEAST_BOUND, _LARGEST_RATIO * letters.all):
                raise dialect.short_rows(place, count, width)
            rows = _rows_of(part, max(width, letters.taken // max(1, len(frame)), layout.letters))
            yield frame, letters.place()


def _rows_of(part: int, letters: int) -> int:
    return max(1, min(_MOST_ROWS, part // letters))


def _unreadable(place: Path, error: Exception, lines: int) -> ValueError:
    said = " ".join(str(error).split())
    said = re.sub(r"(?<=in line )\d+", lambda found: str(int(found[0]) + lines), said)
    asked = " Is there a quote that is never closed?" if "EOF inside string" in said else ""
    return ValueError(f"{place} cannot be read as a table: {said}{asked}")


class _Letters:
    """What pandas reads: one line of names, and then the rows as they are."""

    def __init__(self, stream: BinaryIO, place: Path, layout: Layout) -> None:
        self._stream, self._name = stream, place
        self._text = io.TextIOWrapper(stream, encoding=layout.encoding, newline=None)
        for _ in range(layout.lines):
            self._text.readline(_LONGEST)
        self.lines = layout.lines
        """Lines of the file before what pandas takes for the first."""
        if layout.has_header:
            self._pass_header(layout.separator)
        else:
            self.lines -= 1
        head = io.StringIO()
        csv.writer(head, delimiter=layout.separator, lineterminator="\n").writerow(layout.names)
        self._head = head.getvalue()
        self.taken, self.all, self.broken = 0, 0, False
        """Letters that were read since it was set to 0; those read in all."""

    def _pass_header(self, separator: str) -> None:
        def lines() -> Iterator[str]:
            while line := self._text.readline(_LONGEST):
                self.lines += 1
                yield line.removeprefix("\ufeff")

        next(dialect.split_rows(lines(), separator), None)
        self.lines -= 1

    def read(self, size: int = -1) -> str:
        """The next letters; pandas asks for a bounded number of them."""
        if self._head:
            head, self._head = self._head, ""
            return head
        self.broken = True  # until it is not
        text = self._text.read(size)
        self.broken = False
        self.taken, self.all = self.taken + len(text), self.all + len(text)
        if self.taken > 2 * _LONGEST:
            self.broken = True
            raise ValueError(
                f"{self._name} has a row of more than {_LONGEST} letters, or too many long ones. Is there a quote that "
                f"is never closed?"
            )
        return text

    def place(self) -> int:
        """Bytes of the file that have been read, packed as they are there."""
        stream: Any = self._stream
        return int(getattr(stream, "packed", stream).tell())

    def __iter__(self) -> Iterator[str]:  # pandas asks whether there is one
        return iter(self._text)


class _Unpacked(io.BufferedIOBase):
    """A .gz file, up to a bound that is far above what tables are packed by."""

    def __init__(self, packed: BinaryIO, place: Path) -> None:
        self.packed, self._place = packed, place
        self._stream = gzip.GzipFile(fileobj=packed)
        self._bound = max(_LEAST_BOUND, _LARGEST_RATIO * place.stat().st_size)
        self._seen = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            piece = self._stream.read(size if size is not None and size >= 0 else _LEAST_BOUND)
        except Exception as error:  # zlib has its own
            raise ValueError(f"{self._place} cannot be unpacked: {error}. Fetch the file again.") from None
        self._seen += len(piece)
        if self._seen > self._bound:
            raise ValueError(
                f"{self._place} unpacks to more than {self._bound} bytes, {_LARGEST_RATIO} times its size. Unpack it "
                f"yourself if you trust it."
            )
        return piece

    read1 = read


@contextmanager
def _opened(place: Path) -> Iterator[Any]:
    """The bytes of a text table, unpacked."""
    with place.open("rb") as stream:
        yield _Unpacked(stream, place) if place.suffix.lower() == ".gz" else stream


def read_table(
    path: str | os.PathLike[str],
    *,
    text: Sequence[str] = (),
    separator: str | None = None,
    decimal: str | None = None,
    no_header: bool = False,
    skip_lines: int = 0,
    encoding: str | None = None,
    missing: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a table with one header line.

    Args:
        path: A .csv, .tsv, .tab or .txt file, also .gz, a .parquet file, or (with `hdnn[excel]`) an .xlsx file.
        text: Columns of a text table to read as text even if they look like numbers ("007").
        separator: Between fields; found by the first rows if not given.
        decimal: "." or ",", before the decimals of numbers; found by all rows if not given.
        no_header: The first row is data; columns are then called column1, column2, ...
        skip_lines: Lines before the header, such as a title.
        encoding: Of the letters; UTF-8, UTF-16 with its mark, and Latin-1 where it is beyond doubt, if not given.
        missing: What stands for a missing value beside an empty cell; in columns of text these replace the usual marks.

    Returns:
        At least one row; column names are different texts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, not of these formats, or its columns are not told apart by name.
    """
    from hdnn.data import kinds

    marks = absent.listed(missing)
    given = Dialect(separator, decimal, no_header, skip_lines, encoding, marks)
    found = cells(path, given)
    return kinds.typed(absent.without(found.frame, absent.own(marks)), given, found.separator, text)


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
        path: A table for `read_table`, with one header line.
        numeric: Columns to read as numbers, written as programs write them; true is 1, false is 0.
        text: Columns to read as text. Other columns are there, as they stand in the file.
        part: Bytes of a part, about.
        progress: Told how many bytes of the file have been read.

    Yields:
        At least one row, at least once; the index counts the rows of the file from 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or a cell of a numeric column is no number; rows before it were yielded.
    """
    for frame in parts(path, [*numeric, *text], Dialect(), part, progress, numeric):
        for name in set(numeric) & set(frame.columns):
            if is_text(frame[name]) or frame[name].dtype == "float64":
                frame[name] = numbers(name, frame[name])
        yield frame


def _require_table(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file and the separator that its name promises, which Parquet has none of."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"There is no file {place}. A table was expected there: {KINDS}.")
    suffix = ending(place)
    if suffix not in (*_SEPARATORS, ".parquet", SHEET) or not place.is_file():
        packed = f" It is packed: unpack it with `{_UNPACKED_BY[suffix]}`." if suffix in _UNPACKED_BY else ""
        raise ValueError(f"{place} is no table that can be read.{packed} Give a {KINDS} file.")
    if not place.stat().st_size:
        raise ValueError(f"{place} is empty (0 bytes). It needs a header line and data rows.")
    return place, _SEPARATORS.get(suffix)


def ending(path: Path) -> str:
    """The ending that says what a file is, without .gz."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix == ".gz" and inner in _SEPARATORS else suffix


def _require_rows(place: Path, count: int, names: list[str]) -> None:
    if not count:
        raise ValueError(f"{place} has a header ({', '.join(names[:5])}) but no data rows. Add rows.")
