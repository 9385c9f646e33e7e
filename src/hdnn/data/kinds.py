"""What each column of a table is: numbers, dates, texts or nothing that can be used; decided by all of its cells.

A decision is beyond doubt, or the column is in doubt and says why, and which option decides it. What was decided
becomes part of the encoders, so that other rows are read by the same decisions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hdnn.data import absent, moments
from hdnn.data.cells import PLAIN, is_text, kind_of, label_of, numbers, row_number
from hdnn.data.dialect import Dialect
from hdnn.data.notation import (
    DOUBTFUL_MARKS,
    TRUTH,
    USUAL_MARKS,
    FloatArray,
    Notation,
    looks_formatted,
    notations,
    shows_decimal,
    tidy,
)
from hdnn.names import count, few

if TYPE_CHECKING:
    import pandas as pd

_EXACT = 2.0**53
_TYPING_ERRORS, _LEAST_NUMBERS = 0.2, 10

FREQUENT = 5
"""Rows that a text has at least to be more than a slip: a word among numbers, or one of very many categories."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column is.

    Args:
        what: "number", "date", "text", or "other" for what cannot be used.
        notation: How its numbers are written.
        format: How its dates are written.
        missing: Marks in it that stand for a missing value, beside the usual ones.
        apart: Words among them that stand in place of a number often enough to be a value of their own.
        values: Of a number: "truth", "whole" or "decimal".
        note: How it is read where that is not plain, in words.
        caution: What a user should look at.
        doubt: Why it cannot be used as it is, and what would help.
    """

    what: Literal["number", "date", "text", "other"]
    notation: Notation = PLAIN
    format: str = moments.TYPED
    missing: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    values: Literal["truth", "whole", "decimal"] = "decimal"
    note: str = ""
    caution: str = ""
    doubt: str = ""

    @property
    def words(self) -> str:
        """What the column is taken for, in words."""
        if self.what == "date" and self.note.startswith("dates"):
            return self.note
        what = {"truth": "true or false", "whole": "whole numbers", "decimal": "numbers"}[self.values]
        return ", ".join(filter(None, [what if self.what == "number" else f"{self.what}s", self.note]))

    def as_answer(self) -> Kind:
        """The kind as that of a target: a word among numbers is no number that a network could give."""
        if not self.apart:
            return self
        missing = tuple(mark for mark in self.missing if mark not in self.apart)
        doubt = (
            f"holds numbers and {few(map(repr, self.apart))}. Give `missing={self.apart[0]!r}` to leave those rows out"
        )
        return replace(self, what="text", missing=missing, apart=(), doubt=doubt)


class _Writing(NamedTuple):
    """What the different texts of a column may be: a kind, or numbers in any of several notations."""

    kind: Kind
    texts: Any
    notations: list[Notation]


def kinds(frame: pd.DataFrame, given: Dialect, separator: str | None = None) -> dict[str, Kind]:
    """Decide what each column is.

    Args:
        frame: The cells, as `hdnn.data.reading.cells` or a user gives them.
        given: What the user says of them.
        separator: Of a text table: in one of commas, a point stands before decimals, unless its cells say otherwise.
    """
    found: dict[str, Kind | _Writing] = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype == object and kind_of(column) == "text":
            column = column.map(label_of, na_action="ignore")  # a mark among numbers makes a column of several types
        found[name] = (
            _written(column, given) if column.dtype.name != "category" and is_text(column) else _typed(column, given)
        )
    decimal = given.decimal or _decimal([each for each in found.values() if isinstance(each, _Writing)])
    return {
        name: _resolved(each, decimal, separator) if isinstance(each, _Writing) else each
        for name, each in found.items()
    }


def _typed(column: pd.Series[Any], given: Dialect) -> Kind:
    """The kind of a column whose cells have types."""
    from pandas.api import types

    marks = absent.own(given.missing)
    if types.is_datetime64_any_dtype(column.dtype):
        return Kind("date", missing=marks)
    kind = kind_of(column.infer_objects())
    if kind == "text":
        return Kind("text", missing=absent.among(column.cat.categories.astype(str), given.missing))
    if kind == "numeric":
        truth = types.is_bool_dtype(column.infer_objects().dtype) or (
            column.dtype == object
            and bool(len(column.dropna()))
            and types.infer_dtype(column, skipna=True) == "boolean"
        )
        x = np.unique(numbers(str(column.name), column, missing=marks))
        x = x[~np.isnan(x)]
        if column.dtype.kind in "iu" and moments.is_compact(x):
            return Kind("date", format="%Y%m%d", missing=marks, note="dates written as %Y%m%d")
        return Kind("number", missing=marks, values="truth" if truth else _values(x))
    words = {cell.strip() for cell in column if isinstance(cell, str)} - {"", *USUAL_MARKS, *marks}
    others = column[[not isinstance(cell, str) for cell in column]]
    if types.infer_dtype(others, skipna=True) in ("date", "datetime") and words <= {*DOUBTFUL_MARKS}:
        note = f"{few(map(repr, sorted(words)))} as missing" if words else ""
        return Kind("date", missing=marks + tuple(sorted(words)), note=note)
    return Kind("other", note=f"{column.dtype}, neither numbers, dates nor text")


def _values(x: FloatArray) -> Literal["whole", "decimal"]:
    x = x[~np.isnan(x)]
    return "whole" if len(x) and bool((x == np.round(x)).all()) and np.abs(x).max() < _EXACT else "decimal"


def _written(column: pd.Series[Any], given: Dialect) -> Kind | _Writing:
    """The kind of a column of texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    distinct = every = pc.unique(pc.drop_null(tidy(column)))
    marks = absent.own(given.missing)
    distinct = distinct.filter(pc.invert(pc.is_in(distinct, pa.array(["", *USUAL_MARKS, *marks], distinct.type))))
    if not len(distinct):
        return Kind("number", missing=marks, note="empty")
    if pc.all(pc.is_in(distinct, pa.array(list(TRUTH), distinct.type))).as_py():
        return Kind("number", missing=marks, values="truth")
    x = PLAIN.read(distinct)
    strange = [text for text in distinct.filter(pa.array(np.isnan(x))).to_pylist() if text.lower().strip("+-") != "nan"]
    if not strange:
        return _plain(distinct, x, marks, given.decimal)
    doubtful = tuple(sorted(text for text in strange if text in DOUBTFUL_MARKS))
    rest = distinct.filter(pc.invert(pc.is_in(distinct, pa.array(doubtful, distinct.type))))
    if len(rest) and len(doubtful) <= max(1, len(rest)):
        read = _read(rest, PLAIN.read(rest), marks + doubtful, given)
        if read is not None:
            return read
    found = _beside_words(column, distinct, strange, marks, given) or _text(column, distinct, strange, given)
    if isinstance(found, Kind) and found.what == "text":
        return replace(found, missing=absent.among(every.to_pylist(), given.missing))
    return found


def _beside_words(
    column: pd.Series[Any], distinct: Any, strange: list[str], missing: tuple[str, ...], given: Dialect
) -> _Writing | Kind | None:
    """The kind of numbers among which a few words stand, as `T` for a trace; None if that is not beyond doubt.

    A slip of the pen has a digit in it, or happens once; a word that comes again and again is meant.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    signs = {text for text in strange if text in DOUBTFUL_MARKS}
    words = sorted(text for text in strange if text not in signs and is_word(text))
    rest = distinct.filter(pc.invert(pc.is_in(distinct, pa.array([*words, *signs], distinct.type))))
    if not words or len(words) > _TYPING_ERRORS * len(distinct) or len(rest) < _LEAST_NUMBERS:
        return None
    cells = tidy(column)
    times = [pc.sum(pc.equal(cells, word)).as_py() for word in words]
    if min(times) < FREQUENT:
        return None
    read = _read(rest, PLAIN.read(rest), (*missing, *sorted(signs), *words), given)
    kind = read if isinstance(read, Kind) or read is None else read.kind
    if kind is None or kind.what != "number":
        return None
    said = few(f"{word!r} in {count(n, 'row')}" for word, n in zip(words, times, strict=True))
    caution = (
        f"{said} among numbers: an input of its own says "
        f"where, and the median stands in for the number. If it stands for a missing value, give "
        f"`missing={words[0]!r}`"
    )
    note = ", ".join(
        [*([f"{few(map(repr, sorted(signs)))} as missing"] if signs else []), f"{few(map(repr, words))} apart"]
    )
    kind = replace(kind, apart=tuple(words), note=note, caution=caution)
    return kind if isinstance(read, Kind) or read is None else read._replace(kind=kind)


def is_word(text: str) -> bool:
    """Whether a text has letters, and no digit."""
    return any(sign.isalpha() for sign in text) and not any(sign.isdigit() for sign in text)


def _plain(distinct: Any, x: FloatArray, missing: tuple[str, ...], decimal: str | None) -> Kind | _Writing:
    """The kind of different texts that are all plain numbers."""
    import pyarrow.compute as pc

    if (
        decimal is None
        and moments.is_compact(np.sort(x))
        and pc.all(pc.match_substring_regex(distinct, "^[0-9]{8}$")).as_py()
    ):
        return Kind("date", format="%Y%m%d", missing=missing, note="dates written as %Y%m%d")
    kind = Kind("number", missing=missing, values=_values(x))
    pointed = pc.any(pc.match_substring(distinct, ".")).as_py()
    if not pointed:
        return _Writing(kind, distinct, [PLAIN])
    if decimal != "," and (decimal == "." or shows_decimal(distinct)):
        return _Writing(kind, distinct, [PLAIN])
    return _Writing(kind, distinct, notations(distinct, decimal))


def _read(rest: Any, x: FloatArray, missing: tuple[str, ...], given: Dialect) -> Kind | _Writing | None:
    """The kind of texts that are numbers or dates beside some marks; None if they are neither."""
    note = f"{few(map(repr, missing))} as missing" if missing else ""
    if not np.isnan(x).any():
        found = _plain(rest, x, missing, given.decimal)
        return (
            replace(found, note=note)
            if isinstance(found, Kind)
            else found._replace(kind=replace(found.kind, note=note))
        )
    import pandas as pd

    formats = moments.formats(pd.Series(rest.to_pylist(), dtype=str), given.date_format)
    if len(formats) == 1:
        written = "" if formats[0] == moments.ISO else f"dates written as {formats[0]}"
        return Kind("date", format=formats[0], missing=missing, note=", ".join(filter(None, [written, note])))
    if formats:
        written = " or ".join(formats[:2])
        return Kind(
            "other", note=f"{rest[0].as_py()!r} may be a date written as {written}: say which with `date_format`"
        )
    found_notations = notations(rest, given.decimal)
    return _Writing(Kind("number", missing=missing, note=note), rest, found_notations) if found_notations else None


def _text(column: pd.Series[Any], distinct: Any, strange: list[str], given: Dialect) -> Kind:
    """The kind of a column of texts that are neither all numbers nor all dates."""
    every: list[str] = distinct.to_pylist()
    if len(every) >= _LEAST_NUMBERS:
        wrong = strange if len(strange) <= _TYPING_ERRORS * len(every) else _few_wrong(every, given)
        what = "numbers"
        if not wrong and (nearly := _nearly_dates(every)) is not None:
            what, wrong = f"dates written as {nearly[0]}", [nearly[1]]
        if wrong:
            row = row_number(column, _first(column, wrong[0]))
            return Kind(
                "text",
                doubt=f"holds {what}, except for {wrong[0][:40]!r} in data row {row}. Correct that value or leave it "
                f"empty; if it stands for a missing value, give `missing={wrong[0][:40]!r}`; or leave the column out "
                f"with `without`",
            )
    note = "'?' as missing" if "?" in every and given.missing is None else ""
    if len(every) >= 5 and looks_formatted(every):
        caution = (
            f"looks like numbers written in a way that is in doubt ({few(map(repr, every), 3)}), so it is taken for "
            f"texts. Write plain numbers to have it used as a number"
        )
        return Kind("text", note=note, caution=caution)
    return Kind("text", note=note)


def _few_wrong(every: list[str], given: Dialect) -> list[str]:
    """The few texts that keep a column from being numbers in some notation."""
    import pyarrow as pa

    digits = [text for text in every if any(sign.isdigit() for sign in text)]
    if not (1 - _TYPING_ERRORS) * len(every) <= len(digits) < len(every):
        return []
    if not notations(pa.array(digits, pa.large_string()), given.decimal):
        return []
    return [text for text in every if text not in set(digits)]


def _nearly_dates(every: list[str]) -> tuple[str, str] | None:
    """The format that a few typing errors keep from being that of a column, and the first of them."""
    import pandas as pd

    if sum(any(sign.isdigit() for sign in text) for text in every) < (1 - _TYPING_ERRORS) * len(every):
        return None
    return moments.nearly(pd.Series(every, dtype=str), _TYPING_ERRORS)


def _first(column: pd.Series[Any], text: str) -> int:
    import pyarrow.compute as pc

    return int(pc.index(tidy(column), text).as_py())


def _decimal(columns: list[_Writing]) -> str | None:
    """What stands before decimals in all columns that show it, if it is the same in all of them."""
    shown = set()
    for _, texts, found in columns:
        if found == [PLAIN]:
            shown |= {"."} if shows_decimal(texts) else set()
        elif len({notation.decimal for notation in found}) == 1 and not found[0].form:
            other = "," if found[0].decimal == "." else "."
            shown |= set() if notations(texts, other) else {found[0].decimal}
    return shown.pop() if len(shown) == 1 else None


def _resolved(writing: _Writing, decimal: str | None, separator: str | None) -> Kind:
    """The kind of a column of numbers, by what stands before decimals in the whole table."""
    import pyarrow.compute as pc

    kind, texts, found = writing
    fitting = [notation for notation in found if notation.decimal == decimal] if len(found) > 1 else found
    caution = ""
    pointed = PLAIN in found and pc.all(pc.match_substring(texts, ".")).as_py()
    if len(found) > 1 and decimal is None and separator == "," and pointed:
        fitting = [PLAIN]
        caution = "read with a decimal point; if 1.234 stands for more than 1000 in it, give `decimal=','`"
    if not fitting and not found:
        return replace(
            kind, what="text", doubt=f"holds {texts[0].as_py()!r}, no number with the `decimal` that was given"
        )
    if len(fitting) != 1:
        a, b = (notation.read(texts.slice(0, 1))[0] for notation in found[:2])
        doubt = (
            f"holds {texts[0].as_py()!r}, which may be {a:.10g} or {b:.10g}. Give `decimal='.'` or `decimal=','`: what "
            f"stands before the decimals of its numbers"
        )
        return replace(kind, doubt=doubt)
    notation = fitting[0]
    if notation.is_plain and decimal == "," and not pc.any(pc.match_substring(texts, ".")).as_py():
        notation = Notation(",")  # whole numbers so far, in a table of decimal commas
        return replace(kind, notation=notation)
    note = ", ".join(filter(None, [notation.words, kind.note]))
    caution = "; ".join(filter(None, [kind.caution, caution]))
    return replace(kind, notation=notation, values=_values(notation.read(texts)), note=note, caution=caution)


def typed(frame: pd.DataFrame, given: Dialect, separator: str | None, text: Collection[str] = ()) -> pd.DataFrame:
    """The same table with numbers in place of texts wherever a column is beyond doubt.

    Args:
        frame: The cells.
        given: What the user says of them.
        separator: Of a text table.
        text: Columns that are left as they are.
    """
    import pandas as pd

    found = kinds(frame.drop(columns=[name for name in text if name in frame.columns]), given, separator)
    read = {
        name: _numbers(name, frame[name], kind)
        for name, kind in found.items()
        if kind.what == "number" and not kind.doubt and not kind.apart
    }
    return pd.DataFrame({name: read.get(name, frame[name]) for name in frame.columns}) if read else frame


def _numbers(name: str, column: pd.Series[Any], kind: Kind) -> pd.Series[Any]:
    import pandas as pd

    if not is_text(column):
        return column
    x = pd.Series(numbers(name, column, kind.notation, kind.missing), index=column.index)
    if x.isna().any() or not len(x):
        return x
    if kind.values == "truth":
        return x.astype(bool)
    # Whole numbers that are written with a point stay floats, as pandas has them; long ones keep all their digits.
    return pd.to_numeric(column) if kind.notation.is_plain and column.str.fullmatch(r"\s*[+-]?[0-9]+\s*").all() else x
