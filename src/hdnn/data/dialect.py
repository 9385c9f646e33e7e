"""How a text table is written: its letters, its separator, and where its header stands.

What a user says is taken; the rest is found in the first rows where one reading fits them, and asked for in words where
several or none do. `csv.Sniffer` is not used: it guesses by how often letters occur, so that it takes "e" for the
separator of some tables, and its search for quotes takes minutes on hostile ones. Here `csv.reader` splits the first
rows by each separator, and the one by which all of them have as many fields as the header is the separator.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hdnn.data import absent, documents
from hdnn.data.headers import are_types, named, names_again, require_names
from hdnn.names import few

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BLANKS = " "
"""As a separator: any number of blanks and tabs."""

SAMPLE = 2**18
"""Letters of a file by which its layout is found."""

MOST_COLUMNS = 2**16
"""A text table with more columns than this is refused before it is read: each takes memory, also an empty one."""

ROWS = 500
"""First rows by which a layout is found."""

_PIECE = 2**20
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Letters of Western Europe stand alone or in pairs beside plain ones; other lands' encodings have runs of such bytes.
_NOT_LATIN = re.compile(
    rb"[\x80-\xbf\xd7\xf7]|[\xc0-\xff]{3}|(?<![A-Za-z\xc0-\xff])[\xc0-\xff]{1,2}(?![A-Za-z\xc0-\xff])"
)
_SAID = re.compile(r'"?sep=([^\w"])"?', re.IGNORECASE)  # what Excel takes for the separator, above the table


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a user says of a text table; None leaves it to the file.

    Args:
        separator: One letter between fields; a blank stands for any number of blanks and tabs.
        decimal: "." or ",": what stands before the decimals of numbers.
        no_header: The first row is data; columns are called column1, column2, ...
        skip_lines: Lines before the header, such as a title.
        encoding: Of the letters, by its name in Python.
        missing: What stands for a missing value beside an empty cell; in columns of text these replace the usual marks.
        date_format: Of dates, as in "%d/%m/%Y".
        also_missing: Of `missing`, what cells with types stand for as well, which encoders have not learned.

    Raises:
        ValueError: If a value makes no sense.
    """

    separator: str | None = None
    decimal: str | None = None
    no_header: bool = False
    skip_lines: int = 0
    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    date_format: str | None = None
    also_missing: tuple[str, ...] = ()

    def __setstate__(self, state: list[Any]) -> None:
        documents.restore(self, state)

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", absent.listed(self.missing))
        if self.separator is not None:
            # A shell makes a tab hard to type.
            spoken = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "blank": " ", "space": " "}
            object.__setattr__(self, "separator", spoken.get(self.separator, self.separator))
            if len(self.separator) != 1 or self.separator in '"\r\n\0' or self.separator.isalnum():
                raise ValueError(
                    f"`separator` must be one sign between fields, such as ',', ';', 'tab' or '|'; got "
                    f"{self.separator!r}."
                )
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"`decimal` must be '.' or ','; got {self.decimal!r}.")
        if self.decimal is not None and self.decimal == self.separator:
            raise ValueError(f"`decimal` and `separator` are both {self.decimal!r}. Give the one that differs.")
        if isinstance(self.skip_lines, bool) or not 0 <= self.skip_lines <= ROWS:
            raise ValueError(f"`skip_lines` must be a whole number from 0 to {ROWS}; got {self.skip_lines!r}.")
        if self.encoding is not None:
            _require_encoding(self.encoding)
        if self.date_format is not None and "%" not in self.date_format:
            raise ValueError(
                f"`date_format` must say where day, month and year stand, as in '%d/%m/%Y'; got {self.date_format!r}."
            )


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text table is written.

    Args:
        encoding: Of its letters.
        separator: Between its fields.
        names: Of its columns.
        lines: Before the rows begin, as far as they are to be passed over without a look at their fields.
        has_header: Whether the first row after them holds the names.
        letters: Of an average row.
        notes: What was found that a user should know.
    """

    encoding: str
    separator: str
    names: tuple[str, ...]
    lines: int
    has_header: bool
    letters: int
    notes: tuple[str, ...]


def found(stream: BinaryIO, own: str, place: Path, given: Dialect, expected: Collection[str] = ()) -> Layout:
    """Find out how a text table is written.

    Args:
        stream: The file, at its beginning; it is read to its end.
        own: The separator that the name of the file promises; empty if it promises none.
        place: Where the file is, for messages.
        given: What the user says.
        expected: Names of columns that it is known to have.

    Raises:
        ValueError: If it is no text, or what its first rows are is in doubt.
    """
    encoding, notes, sample, is_all = _letters(stream, place, given.encoding)
    lines = sample.splitlines(keepends=True)
    if not is_all and len(lines) > 1:
        lines.pop()  # it may be cut
    above, said = given.skip_lines, given.separator
    line = _SAID.fullmatch(lines[0].rstrip("\r\n")) if lines and not above else None
    if line:
        above, said = 1, said or line[1]
    body = "".join(lines[above:])
    tried = [said] if said else [*SEPARATORS, BLANKS]
    tables = {separator: _rows(body, separator) for separator in tried}
    separator = said or _separator(tables, own, place, set(expected))
    rows = tables[separator]
    if line and line[1] != separator and _shape(_rows(body, line[1])) > _shape(rows):
        raise ValueError(
            f"The first line of {place} says that its columns are separated by {line[1]!r}, but `separator` is "
            f"{separator!r}. Give `separator={line[1]!r}`, or leave it out."
        )
    if not rows and body.strip():
        raise ValueError(
            f"{place} cannot be read as a table: field larger than {csv.field_size_limit()} letters in its header. Is "
            f"there a quote that is never closed?"
        )
    if not rows:
        raise ValueError(f"{place} cannot be read as a table: No columns to parse from file.")
    if len(rows[0]) > MOST_COLUMNS:
        raise ValueError(f"{place} has {len(rows[0])} columns; up to {MOST_COLUMNS} can be read.")
    if separator not in (own or ",", given.separator):
        notes = [f"{SEPARATORS.get(separator, 'blank')}s separate the columns", *notes]
    if given.no_header:
        names = [f"column{i + 1}" for i in range(max(map(len, rows)))]
    else:
        if not set(expected) & set(rows[0]):
            _require_header(rows, body, separator, place, above)
        names, unnamed = named(rows[0])
        if unnamed:
            notes.append(f"without a name in the header, so called by its place: {few(unnamed)}")
    letters = len(body) // max(1, body.count("\n"))
    return Layout(encoding, separator, tuple(names), above, not given.no_header, max(1, letters), tuple(notes))


def short_rows(place: Path, rows: int, width: int) -> ValueError:
    """The error of a table whose rows would take far more memory, filled up to the header, than they have letters."""
    return ValueError(
        f"{place} has {width} names in its header and {rows} or more rows of far fewer fields: filled up they would "
        f"take {8 * rows * width:,} bytes of memory. Leave names without a field out of the header."
    )


def require_full_rows(stream: BinaryIO, layout: Layout, place: Path) -> None:
    """See that no row of a table separated by blanks is short: nobody knows which of its cells is not there.

    Args:
        stream: The file, at its beginning.
        layout: How it is written.
        place: Where it is, for the message.
    """
    text = io.TextIOWrapper(stream, encoding=layout.encoding)
    lines = (line.removeprefix("\ufeff") for line in itertools.islice(text, layout.lines, None))
    try:
        for number, row in enumerate(split_rows(lines, BLANKS), 1 - layout.has_header):
            if number and len(row) < len(layout.names):
                raise ValueError(
                    f"{place}, data row {number}, has {len(row)} of {len(layout.names)} values, and where blanks "
                    f"separate the columns nobody knows which is missing. Write NA in its place."
                )
    finally:
        text.detach()


def split_rows(lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    """The fields of rows of text, blank rows left out; fields without the blanks around them."""
    if separator == BLANKS:
        lines = (line.replace("\t", " ").strip(" \r\n") + "\n" for line in lines)
    for row in csv.reader(lines, delimiter=separator, skipinitialspace=True):
        fields = [field.strip() for field in row]
        if any(fields) or len(fields) > 1:
            yield fields


def _letters(stream: BinaryIO, place: Path, encoding: str | None) -> tuple[str, list[str], str, bool]:
    """The encoding, what to say of it, the first letters, and whether those are all; looks at every byte."""
    first = stream.read(4 * SAMPLE)
    mark = next((mark for mark in _MARKS if first.startswith(mark)), b"")
    used = encoding or _MARKS.get(mark) or "utf-8"
    if used == "utf-8" and (guess := _wide(first[:4])):
        raise ValueError(f"{place} holds NUL bytes; it may be text in {guess}. If so, give `encoding='{guess}'`.")
    wide = codecs.lookup(used).name.startswith(("utf-16", "utf-32"))
    decoder, latin = codecs.getincrementaldecoder(used)(), used == "utf-8"
    piece, held, seen, wrong = first, b"", 0, None
    while piece:
        if not wide and b"\0" in piece:
            raise ValueError(f"{place} holds NUL bytes, so it is no text. Save it as UTF-8 text.")
        following = stream.read(_PIECE)
        if wrong is None:
            try:
                decoder.decode(piece, final=not following)
            except UnicodeError as error:
                start = getattr(error, "start", 0)
                wrong = f"{place} is not {_spoken(used)} text (byte {_byte(error)} at position {max(0, seen + start)})"
        if latin and not piece.isascii():
            latin = _latin(held + piece, max(0, len(held) - 3), final=not following)
        held = piece[-6:]
        seen, piece = seen + len(piece), following
    if wrong is not None and not (used == "utf-8" and latin):
        raise ValueError(
            f"{wrong}. Save it as UTF-8 (a spreadsheet calls that 'CSV UTF-8'), or give its `encoding`, as in "
            f"`encoding='cp1252'`."
        )
    used = used if wrong is None else "latin-1"
    text = codecs.getincrementaldecoder(used)().decode(first)[:SAMPLE].lstrip("\ufeff")
    notes = [f"read as {_spoken(used)}"] if wide or (used == "latin-1" and encoding is None) else []
    return used, notes, text, seen <= len(first) and len(text) < SAMPLE


def _latin(piece: bytes, start: int, *, final: bool) -> bool:
    """Whether all bytes from `start` on may be letters of Western Europe; the last three are seen with what follows."""
    match = _NOT_LATIN.search(piece, start)
    return match is None or (not final and match.start() >= len(piece) - 3)


def _byte(error: UnicodeError) -> str:
    return f"{error.object[error.start]:#04x}" if isinstance(error, UnicodeDecodeError) else "?"


def _spoken(encoding: str) -> str:
    return {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "latin-1": "Latin-1"}.get(encoding, encoding.upper())


def _wide(head: bytes) -> str:
    """The encoding of two bytes a letter that the first letters have, if any."""
    if len(head) == 4 and not head[1] and not head[3] and head[0] and head[2]:
        return "utf-16-le"
    if len(head) == 4 and not head[0] and not head[2] and head[1] and head[3]:
        return "utf-16-be"
    return ""


def _require_encoding(encoding: str) -> None:
    try:
        is_text = codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise ValueError(f"There is no `encoding` {encoding!r}. Give one such as utf-8, latin-1, cp1252 or utf-16.")


def _rows(text: str, separator: str) -> list[list[str]]:
    """The first rows, as far as they can be split; the parser of the whole file names what is wrong below."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        for row in split_rows(iter(io.StringIO(text, newline="")), separator):
            rows.append(row)
            if len(rows) > ROWS:
                break
    return rows


def _separator(tables: dict[str, list[list[str]]], own: str, place: Path, expected: set[str]) -> str:
    """The separator by which the first rows have as many fields as the header; `own` where none does better."""
    if expected and (knows := [each for each, rows in tables.items() if rows and expected <= set(rows[0])]):
        return own if own in knows else knows[0]
    shapes = {each: _shape(rows) for each, rows in tables.items()}
    for rank in (3, 2, 1):
        best = [each for each, shape in shapes.items() if shape == rank]
        # Blanks stand in texts too: they separate only where nothing else does.
        if BLANKS in best and (rank == 1 or any(shape for each, shape in shapes.items() if each != BLANKS)):
            best.remove(BLANKS)
        if own in best:
            return own
        if len(best) > 1:
            named = " or ".join(f"{SEPARATORS[each]}s" for each in best)
            raise ValueError(f"The columns of {place} may be separated by {named}. Say which with `separator`.")
        if best:
            return best[0]
    return own or ","


def _shape(rows: Sequence[Sequence[str]]) -> int:
    """How well rows are a table: 3 if all are as wide as the header, 2 if nearly all, 1 below a title, else 0."""
    if not rows:
        return 0
    body = [len(row) for row in rows[1:]] or [len(rows[0])]
    width, times = Counter(body).most_common(1)[0]
    if width < 2:
        return 0
    if len(rows[0]) == width and times == len(body):
        return 3
    if len(rows[0]) > 1 and abs(len(rows[0]) - width) < 2 and times >= 0.9 * len(body):
        return 2
    return 1 if _title(rows) else 0


def _title(rows: Sequence[Sequence[str]]) -> int:
    """How many rows stand above the table, nearly all the rest of which has the same, larger number of fields."""
    width, _ = max(Counter(map(len, rows)).items(), key=lambda item: (item[1], item[0]))
    start = next(place for place, row in enumerate(rows) if len(row) >= width)
    body = [len(row) for row in rows[start + 1 :]]
    if width < 2 or not body or body.count(width) < 0.9 * len(body):
        return 0
    return start if all(len(row) <= max(1, width // 2) for row in rows[:start]) else 0


def _lines(text: str, separator: str, rows: int) -> int:
    """How many lines the first rows take, and the blank ones above them."""
    lines = iter(io.StringIO(text, newline=""))
    seen = 0

    def counted() -> Iterator[str]:
        nonlocal seen
        for line in lines:
            seen += 1
            yield line

    for _ in itertools.islice(split_rows(counted(), separator), rows):
        pass
    return seen


def _require_header(rows: Sequence[Sequence[str]], text: str, separator: str, place: Path, skipped: int) -> None:
    """See that the first row holds names: it is neither a title, nor data."""
    if title := _title(rows):
        above = _lines(text, separator, title)
        said = "first line" if above == 1 else f"first {above} lines"
        words = separator.join(rows[0])
        raise ValueError(
            f"The {said} of {place}, {few([words])!r}, {'looks' if above == 1 else 'look'} like a title, not a header: "
            f"the lines below have {len(rows[title])} fields. Leave it out with `skip_lines={skipped + above}`."
        )
    head, body = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if are_types(body):
        raise ValueError(
            f"The second line of {place}, {few([separator.join(body[0])])!r}, looks like types of the columns, not "
            f"like data. Delete it, and what else stands between the names and the data."
        )
    if names_again(body):
        raise ValueError(
            f"The second line of {place}, {few([separator.join(body[0])])!r}, looks like another line of names, or of "
            f"units: below it stand numbers. Delete it; or leave out what is above it with "
            f"`skip_lines={skipped + _lines(text, separator, 1)}`, if it holds the names."
        )
    require_names(head, body, place)
