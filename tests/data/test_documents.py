"""One reader of plain values: names, types, what is absent, and what nobody should have written."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdnn.data import documents


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int
    share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str
    kind: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = ()
    columns: tuple[str, ...] | None = None
    step: float | None = None
    shared: bool = False
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    anything: Any = None
    rule: str = dataclasses.field(default="new", metadata={"before": "old"})


FULL = Outer(Inner(3), "a", "two", (1, 2), ("x",), 0.25, True, {"deep": [1]}, [None], "new")


def written(value):
    return json.loads(json.dumps(dataclasses.asdict(value)))


def test_what_was_written_comes_back():
    assert documents.record(Outer, written(FULL), "a test") == FULL


def test_absent_names_have_the_default_that_they_had_before_they_existed():
    found = documents.record(Outer, {"inner": {"size": 3}, "name": "a"}, "a test")
    assert found == dataclasses.replace(Outer(Inner(3), "a"), rule="old")


def test_whole_numbers_are_numbers():
    found = documents.record(Outer, {**written(FULL), "step": 1}, "a test").step
    assert (found, type(found)) == (1.0, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nam": "a"}, "a test has 'nam', which this hdnn does not know. Update hdnn."),
        ({"inner": {"size": 3, "shares": 1}}, "`inner` of a test has 'shares', which this hdnn does not know"),
        ({"inner": {}}, "`inner` of a test lacks 'size'. Is it whole?"),
        ({"inner": [3]}, "`inner` of a test must be an object; got list"),
        ({"inner": {"size": True}}, "`size` of `inner` of a test must be a whole number; got bool True."),
        ({"inner": {"size": 3.0}}, "must be a whole number; got float 3.0."),
        ({"name": 3}, "`name` of a test must be a text; got int 3."),
        ({"name": None}, "must be a text; got NoneType"),
        ({"kind": "three"}, "`kind` of a test must be one of one, two; got str 'three'."),
        ({"kind": ["one"]}, "must be one of one, two"),
        ({"sizes": 3}, "`sizes` of a test must be a list; got int 3."),
        ({"sizes": [1, "2"]}, "Each item of `sizes` of a test must be a whole number; got str '2'."),
        ({"columns": "xy"}, "must be a list; got str 'xy'"),
        ({"step": "1"}, "must be a number; got str '1'."),
        ({"step": False}, "must be a number; got bool False."),
        ({"step": 10**400}, "must be finite"),
        ({"step": math.inf}, "must be finite"),
        ({"shared": 1}, "must be true or false; got int 1."),
        ({"more": [1]}, "must be an object; got list"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        documents.record(Outer, {**written(FULL), **change}, "a test")


NAMES = [field.name for field in dataclasses.fields(Outer)]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner)))
@pytest.mark.long
def test_any_document_is_read_or_refused_in_words(document):
    said = ""
    try:
        found = documents.record(Outer, document, "a test")
    except ValueError as error:
        found, said = None, str(error)
    assert isinstance(found, Outer) or "a test" in said
