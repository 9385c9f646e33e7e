"""Text tables cut into parts of whole rows, so that no more than a part stands in memory.

A row ends at a line end outside of quotes, and a quote opens a field only where the field begins, as in
`pandas.read_csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LONGEST_ROW = 2**24
"""Bytes that one row may have: a quote that is never closed would make the rest of the file one row."""

MOST_COLUMNS = 2**16
"""A text table with more columns than this is refused before it is read: each takes memory, also an empty one."""

_MARK = b"\xef\xbb\xbf"  # the byte order mark with which some programs begin UTF-8
_QUOTED = re.compile(rb'"(?:[^"]++|"")*+"')


def blocks(stream: BinaryIO, separator: str, size: int, place: Path) -> Iterator[bytes]:
    """Cut a text table into its header row and blocks of whole rows.

    Args:
        stream: the file, at its beginning.
        separator: one character between fields.
        size: bytes to read at a time; a block has about as many, or one longer row.
        place: where the file is, for messages.

    Yields:
        The header row, without a byte order mark and empty lines before it; then the rows. Nothing is left out; line
        ends outside of quotes are all written the same way.

    Raises:
        ValueError: if a row is longer than `LONGEST_ROW`, or there are bytes that are no UTF-8 text.
    """
    opening = _opening(separator)
    blank = b" \r\n" if separator == "\t" else b" \t\r\n"
    seen, held, has_header = 0, b"", False
    while piece := stream.read(max(size, len(held))):
        held += piece
        cut = _last_end(held, opening)
        if not cut and len(held) > LONGEST_ROW:
            raise ValueError(
                f"{place} has a row of more than {LONGEST_ROW} bytes (it begins at byte {seen}). Is there a quote that "
                f"is never closed?"
            )
        for place_in, block in _parts(held[:cut], opening, blank, has_header):
            has_header = True
            yield _even(_checked(block, seen + place_in, place), opening)
        seen, held = seen + cut, held[cut:]
    for place_in, block in _parts(held, opening, blank, has_header):
        yield _even(_checked(block, seen + place_in, place), opening)


def _parts(rows: bytes, opening: re.Pattern[bytes], blank: bytes, has_header: bool) -> Iterator[tuple[int, bytes]]:
    """The rows as they are, or before there was a header the header and the rows after it; with their places."""
    start = 0
    if not has_header:
        start = len(_MARK) if rows.startswith(_MARK) else 0
        while start < len(rows):
            header = rows[start : start + _first_end(rows[start:], opening)]
            start += len(header)
            if header.strip(blank):
                yield start - len(header), header
                break
    if start < len(rows):
        yield start, rows[start:]


def _checked(block: bytes, seen: int, place: Path) -> bytes:
    if b"\0" in block:
        raise ValueError(f"{place} holds NUL bytes, so it is no text. Save it as UTF-8 text.")
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{place} is not UTF-8 text (byte {block[error.start]:#04x} at position {seen + error.start}). Save it "
            f"as UTF-8; a spreadsheet calls that 'CSV UTF-8'."
        ) from None
    return block


def _even(block: bytes, opening: re.Pattern[bytes]) -> bytes:
    """The same with newlines for all line ends: pandas swallows an empty field after a bare carriage return."""
    if b"\r" not in block:
        return block
    pieces, done = [], 0
    for start, end in _unquoted(block, opening):
        pieces += [block[done:start], block[start:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n")]
        done = end
    return b"".join([*pieces, block[done:]])


def _opening(separator: str) -> re.Pattern[bytes]:
    """Finds a quote at the beginning of a field."""
    return re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n]|" + re.escape(separator.encode()) + rb')"')


def _unquoted(rows: bytes, opening: re.Pattern[bytes]) -> Iterator[tuple[int, int]]:
    """The stretches outside of quotes; what follows a quote that is not closed belongs to none."""
    start = 0
    while rows.find(b'"', start) >= 0 and (opened := opening.search(rows, start)):
        quote = opened.end() - 1
        yield start, quote
        closed = _QUOTED.match(rows, quote)
        if closed is None:
            return
        start = closed.end()
    yield start, len(rows)


def _last_end(rows: bytes, opening: re.Pattern[bytes]) -> int:
    """Where the last row that is whole ends; 0 if none is."""
    found = 0
    for start, end in _unquoted(rows, opening):
        line_end = rows.rfind(b"\n", start, end)
        if line_end < 0:
            # A carriage return at the very end may be half of a line end.
            line_end = rows.rfind(b"\r", start, min(end, len(rows) - 1))
        found = line_end + 1 or found
    return found


def _first_end(rows: bytes, opening: re.Pattern[bytes]) -> int:
    """Where the first row ends; the length of all if it has no end."""
    for start, end in _unquoted(rows, opening):
        ends = [line_end for mark in (b"\n", b"\r") if (line_end := rows.find(mark, start, end)) >= 0]
        if ends:
            first = min(ends)
            return first + 2 if rows[first : first + 2] == b"\r\n" else first + 1
    return len(rows)
