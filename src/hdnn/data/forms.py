"""Numbers that people write with letters or colons among the digits: 3.4M, 1:30:00, 2h 15m.

Each form is one way to write, which all cells of a column have; what it means is beyond doubt, but perhaps for a
factor that all cells share: 1:30 is one and a half of something.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

LETTERS, COLON, COLONS, SPANS = "1.2K", "1:30", "1:30:00", "2h 15m"
FORMS = {
    LETTERS: "K for a thousand, M for a million",
    COLON: "durations such as 1:30",
    COLONS: "durations such as 1:30:00",
    SPANS: "durations with units",
}
"""The forms, and what a column of them is called."""

_SHAPES = {
    LETTERS: r"^(?P<sign>[+-]?)[$€£¥]?(?P<body>[0-9]+(?:\.[0-9]+)?) ?(?P<letter>[kKMB]?)$",
    COLON: r"^[0-9]+:[0-5][0-9](?:\.[0-9]+)?$",
    COLONS: r"^[0-9]+:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?$",
    SPANS: (
        r"^-?(?:[0-9]+(?:\.[0-9]+)? ?(?:days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|[dhms]),? ?)+"
        r"(?:\+?[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)?$"
    ),
}
_EXPONENTS = {"": "", "k": "e3", "K": "e3", "M": "e6", "B": "e9"}
_KNOWN = {"d": "days ", "h": "h ", "m": "min ", "s": "s "}
_UNITS = re.compile(r"(?<=[0-9 ])(day|hour|hr|minute|min|second|sec|[dhms])s?(?![a-z])")


def form_of(texts: Any) -> str:
    """The form that all texts have; empty if there is none, or it is in doubt.

    Args:
        texts: Different ones, as `hdnn.data.notation.tidy` leaves them.

    Example:
        >>> form_of(["950", "1.2K", "3.4M"]), form_of(["12", "12B", "14B"]), form_of(["45 min", "2h 15m"])
        ('1.2K', '', '2h 15m')
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(list(texts), pa.large_string())
    for form, shape in _SHAPES.items():
        if pc.all(pc.match_substring_regex(array, shape, ignore_case=form == SPANS)).as_py() and _is_meant(form, array):
            return form
    return ""


def _is_meant(form: str, texts: Any) -> bool:
    """Whether letters are those of such numbers, and not of houses, sizes or metres."""
    import pyarrow.compute as pc

    if form == LETTERS:  # house numbers have letters, too, but no decimals
        return pc.any(pc.match_substring_regex(texts, r"\.[0-9]+ ?[kKM]$")).as_py() is True
    if form == SPANS:
        units = {unit for text in texts.to_pylist() for unit in _UNITS.findall(text.lower())}
        return (len(units) > 1 and not units <= {"m", "s", "d"}) or bool(pc.any(pc.match_substring(texts, ":")).as_py())
    return True


def numbers_of(form: str, texts: Any) -> NDArray[np.float64]:
    """The numbers of texts, NaN where one is none; durations of units in seconds, others in the last of their fields.

    Args:
        form: One of `FORMS`.
        texts: An Arrow array of texts, as `hdnn.data.notation.tidy` leaves them.

    Example:
        >>> import pyarrow as pa
        >>> numbers_of("1:30", pa.array(["1:30", "25:05", "1:30:00"])).tolist()
        [90.0, 1505.0, nan]
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = pc.match_substring_regex(texts, _SHAPES[form], ignore_case=form == SPANS)
    texts = pc.if_else(fits, texts, None)
    if form == LETTERS:
        parts = pc.extract_regex(texts, _SHAPES[form])
        # With an exponent, the number is the one nearest to what is written.
        joined = [
            None if part is None else part["sign"] + part["body"] + _EXPONENTS[part["letter"]]
            for part in parts.to_pylist()
        ]
        x = pc.cast(pa.array(joined, pa.string()), pa.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(x, dtype=np.float64)
    cells = pd.Series(texts.to_pylist(), dtype=object)
    if form == SPANS:
        return _seconds(cells.map(_short, na_action="ignore"))
    if form == COLON:
        return _seconds(cells.map(lambda text: f"0:{text}" if text.count(":") == 1 else text, na_action="ignore"))
    return _seconds(cells)


def _short(text: str) -> str:
    """Units as pandas knows them."""
    return _UNITS.sub(lambda unit: _KNOWN[unit[1][0]], text.lower())


def _seconds(cells: pd.Series[Any]) -> NDArray[np.float64]:
    import pandas as pd

    spans = pd.to_timedelta(cells, errors="coerce")
    return np.asarray(spans.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan))
