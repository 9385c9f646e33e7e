"""How numbers are written in a column: as programs write them, or with the separators, signs and units of people.

A notation is a grammar, and reading by it is exact or refused. Which notation a column has follows from all of its
cells; where two notations read them as different numbers, it is in doubt: 1.234 is above 1000 in Berlin.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents
from hdnn.data.forms import FORMS, form_of, numbers_of

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]

USUAL_MARKS = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""What stands for a missing value in any column, as for pandas."""

DOUBTFUL_MARKS = (
    "?", "-", "--", "---", ".", "..", "...", "*", "**", "n.a.", "N.A.", "na", "Na", "nd", "n/d", "N/D", "nil", "NIL",
    "none", "NONE", "Null", "NAN", "missing", "Missing", "MISSING", "unknown", "Unknown", "UNKNOWN", "not available",
    "Not Available", "Not available", "(null)", "\\N", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!",
)  # fmt: skip
"""What stands for a missing value where all other cells of a column are numbers or dates."""

# As files write true and false: a column of nothing else is read as booleans.
TRUTH = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}

_FACTORS = {"%": 0.01, "‰": 0.001}
_CURRENCY_WORDS = """
usd eur gbp chf jpy cny inr aud cad nzd sek nok dkk pln czk huf brl mxn zar krw try rub sgd hkd ils us$ r$ a$ c$ hk$ nz$
s$ kr kr. rs rs. fr fr. sfr sfr. zł kč ft lei
"""
_UNIT_WORDS = """
% ‰ kg g mg µg μg t lb lbs oz km m cm mm µm μm nm mi ft in yd l ml dl cl cc hp bhp ps kw w mw kwh mwh wh v mv kv a ma hz
khz mhz ghz s ms min h hr hrs kb mb gb tb °c °f ° k pa hpa kpa bar psi mmhg mph km/h kmh kph m/s kmpl km/kg km/l mpg nm
rpm m² m2 km² sqft sqm m³ j kj kcal cal mol mmol mmol/l mg/dl ppm db px pt years year yrs yr months month weeks week
days day hours hour minutes minute seconds second
"""
_CURRENCIES = frozenset(_CURRENCY_WORDS.split())
_UNITS = frozenset(_UNIT_WORDS.split())
_PLAIN = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_STRANGE = r"[+-]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
_FORMATTED = re.compile(r"\(?[-+<>~]?[^\w\s]{0,2}[-+]?\d[\d.,' ]*(?:\s?[^\W\d]{1,6}\.?|[%)+*°]|\s?[^\w\s]{1,2})?")
# One of several signs that look the same, and what is meant.
_SAME = {
    **dict.fromkeys("−–﹣－‒", "-"), **dict.fromkeys("\u00a0\u202f\u2009\u2007", " "), **dict.fromkeys("’ʼ´`", "'"),
    "٫": ".", "٬": ",", "＋": "+", "．": ".", "，": ",", "％": "%", "٪": "%",
}  # fmt: skip
_TWINS = {".": (",", "'", " ", ""), ",": (".", "'", " ", "")}


@dataclass(frozen=True, slots=True)
class Notation:
    """How the numbers of a column are written.

    Args:
        decimal: "." or ",".
        thousands: Between groups of digits: ".", ",", "'", a blank, or nothing.
        prefix: Before every number, as a currency.
        suffix: Behind every number, as a unit; "%" makes 12 % the number 0.12.
        form: Of numbers with letters or colons among their digits, see `FORMS`; the rest then says nothing.

    Example:
        >>> Notation(",", ".", suffix="€").read(["1.234,50 €", "12 €", "1.234.5"]).tolist()
        [1234.5, 12.0, nan]
    """

    decimal: str = "."
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""
    form: str = ""

    def __post_init__(self) -> None:
        if self.decimal not in _TWINS or self.thousands not in _TWINS[self.decimal]:
            raise ValueError(
                f"Numbers cannot be written with {documents.shown(self.decimal)} before their decimals and "
                f"{documents.shown(self.thousands)} between thousands."
            )
        if not all(isinstance(affix, str) and len(affix) <= 20 for affix in (self.prefix, self.suffix)):
            raise ValueError("What stands before and behind the numbers of a column must be a short text.")
        if self.form not in ("", *FORMS):
            raise ValueError(f"Numbers cannot have the form {documents.shown(self.form)}. Update hdnn.")

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as programs write them."""
        return self == Notation()

    @property
    def words(self) -> str:
        """How numbers are written, in words; empty for the plain notation."""
        if self.form:
            return FORMS[self.form]
        names = {",": "commas", ".": "points", "'": "apostrophes", " ": "blanks"}
        parts = ["decimal comma"] if self.decimal == "," else []
        parts += [f"{names[self.thousands]} between thousands"] if self.thousands else []
        parts += [f"{affix!r}" for affix in (self.prefix, self.suffix) if affix and affix not in _FACTORS]
        parts += [f"{self.suffix} as a share" for _ in _FACTORS if self.suffix == _]
        return ", ".join(parts)

    def read(self, written: Any) -> FloatArray:
        """The numbers of texts, NaN where one is none.

        Args:
            written: Texts, as `tidy` leaves them.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = (
            written if isinstance(written, pa.Array | pa.ChunkedArray) else pa.array(list(written), pa.large_string())
        )
        if self.form:
            return numbers_of(self.form, texts)
        if self.is_plain:
            fits = pc.match_substring_regex(texts, f"^(?:{_PLAIN}|{_STRANGE})$")
            bodies = pc.if_else(fits, texts, None)
        else:
            parts = pc.extract_regex(texts, self._pattern())
            body = pc.struct_field(parts, "body")
            if self.thousands:
                body = pc.replace_substring(body, self.thousands, "")
            if self.decimal != ".":
                body = pc.replace_substring(body, self.decimal, ".")
            nothing, sign = (pa.scalar(text, body.type) for text in ("", "-"))
            signs = pc.binary_join_element_wise(*(pc.struct_field(parts, each) for each in "ab"), nothing)
            bodies = pc.if_else(pc.equal(signs, sign), pc.binary_join_element_wise(sign, body, nothing), body)
        x: FloatArray = pc.cast(bodies, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
        # Dividing gives the number nearest to what is meant: 29 % is 0.29, and 29 * 0.01 is not.
        return x / round(1 / _FACTORS[self.suffix]) if self.suffix in _FACTORS else x

    def _pattern(self) -> str:
        T, D = re.escape(self.thousands), re.escape(self.decimal)
        groups = [rf"[1-9][0-9]{{0,2}}(?:{T}[0-9]{{3}})+"] if T else []
        groups += [r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"] if T == "," else []
        body = rf"(?:(?:{'|'.join([*groups, '[0-9]+'])})(?:{D}[0-9]*)?|{D}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        prefix, suffix = re.escape(self.prefix), re.escape(self.suffix)
        return rf"^(?P<a>[+-]?) *{prefix} *(?P<b>[+-]?)(?P<body>{body}) *{suffix}$"

    def to_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("decimal", "thousands", "prefix", "suffix")}
        return plain | ({"form": self.form} if self.form else {})

    @classmethod
    def from_dict(cls, document: object) -> Notation:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("decimal", "thousands", "prefix", "suffix", "form")
        document = {"form": "", **document} if isinstance(document, dict) else document
        values = documents.mapping(document, "how numbers are written", keys)
        if not all(isinstance(value, str) for value in values.values()):
            raise ValueError("How numbers are written is described by texts.")
        return cls(**values)


def plain(cells: pd.Series[Any]) -> FloatArray | None:
    """The numbers of a column of texts that all are plain numbers, or missing; None if one is not.

    This is what `Notation().read` gives, without a look at the letters.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        x: FloatArray = pc.cast(_array(cells), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return x


def _array(cells: pd.Series[Any]) -> Any:
    import pyarrow as pa

    texts = pa.array(cells, from_pandas=True)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts if pa.types.is_large_string(texts.type) else texts.cast(pa.large_string())


def tidy(cells: pd.Series[Any]) -> Any:
    """The texts of a column as an Arrow array: blanks around them gone, digits and signs of all lands made alike."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(_array(cells))
    if pc.all(pc.string_is_ascii(texts)).as_py() is not False:
        return texts
    coded = texts.dictionary_encode()
    same = pa.array([None if text is None else alike(text) for text in coded.dictionary.to_pylist()], pa.large_string())
    return same.take(coded.indices)


def alike(text: str) -> str:
    """A text whose digits and signs are those of ASCII where they mean the same."""
    if text.isascii():
        return text
    return "".join(
        _SAME.get(sign) or (str(unicodedata.decimal(sign)) if sign.isdecimal() and not sign.isascii() else sign)
        for sign in text
    ).strip()


def notations(texts: Any, decimal: str | None = None) -> list[Notation]:
    """The notations by which every text is a number, one for each way to read them: none, one, or several in doubt.

    Args:
        texts: At least one text, as `tidy` leaves them; none is missing.
        decimal: "." or "," where that is known.
    """
    if form := form_of(texts):
        return [] if np.isnan(numbers_of(form, texts)).any() else [Notation(form=form)]
    first = texts[0].as_py()
    prefix, suffix = _affixes(first)
    if not (_is_known(prefix, _CURRENCIES) and _is_known(suffix, _UNITS | _CURRENCIES)):
        return []
    found: list[tuple[Notation, FloatArray]] = []
    for notation in _candidates(prefix, suffix, decimal):
        x = notation.read(texts)
        if not np.isnan(x).any() and not any(np.array_equal(x, other) for _, other in found):
            found.append((notation, x))
    return [notation for notation, _ in found]


def _candidates(prefix: str, suffix: str, decimal: str | None) -> list[Notation]:
    pairs = [(".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
    return [Notation(D, T, prefix, suffix) for D, T in pairs if decimal in (None, D)]


def _affixes(text: str) -> tuple[str, str]:
    """What stands before and behind the digits of a text, but for signs."""
    found = re.match(r"[+-]?\s*([^0-9]*?)\s*[+-]?[.,]?[0-9]", text)
    tail = re.search(r"[0-9][.,]?([^0-9]*)$", text)
    if found is None or tail is None:
        squared = re.search(r"[0-9]\s*(m2)$", text)
        return (found[1] if found else "", squared[1] if squared else "?")
    return found[1].strip(), tail[1].strip()


def _is_known(affix: str, words: Collection[str]) -> bool:
    return not affix or affix.casefold() in words or (len(affix) == 1 and unicodedata.category(affix) == "Sc")


def shows_decimal(texts: Any) -> bool:
    """Whether plain numbers hold a point that no land writes between thousands, as in 0.5 or 12.25.

    Args:
        texts: As `tidy` leaves them.
    """
    import pyarrow.compute as pc

    pointed = pc.match_substring(texts, ".")
    grouped = pc.match_substring_regex(texts, r"^[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+$")
    return bool(pc.any(pc.and_(pointed, pc.invert(grouped))).as_py())


def looks_formatted(texts: Iterable[str]) -> bool:
    """Whether nearly all texts are a number with something of a few letters before or behind it.

    Example:
        >>> looks_formatted(["5 kg", "300 g", "1.5 kg"]), looks_formatted(["A4", "B12 left", "none"])
        (True, False)
    """
    shapes = [_FORMATTED.fullmatch(each) for each in texts]
    return bool(shapes) and sum(shape is not None for shape in shapes) >= 0.9 * len(shapes)
