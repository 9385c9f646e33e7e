"""Encoders as plain values: there and back, and strange ones refused in words."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_cases import CLASSES, IMAGE, NUMBERS, TABLE
from hdnn.data import Numeric, TableEncoder, TargetEncoder, encoder_from_dict

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("encoder", [TABLE, IMAGE])
def test_encoders_survive_json(encoder):
    assert encoder_from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


@pytest.mark.parametrize("target", [CLASSES, NUMBERS])
def test_targets_survive_json(target):
    assert TargetEncoder.from_dict(json.loads(json.dumps(target.to_dict()))) == target


def test_numpy_numbers_become_plain():
    encoder = TableEncoder((Numeric("a", np.float32(1), np.float64(2), 3),))
    assert TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


NUMERIC = {"kind": "numeric", "name": "a", "mean": 0.0, "scale": 1.0, "fill": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": math.nan}, "mean of column 'a' must be finite; got nan"),
        ({"mean": "0"}, "mean of column 'a' must be a number; got str '0'"),
        ({"mean": True}, "must be a number; got bool"),
        ({"mean": 10**400}, "must be finite; got inf"),
        ({"scale": 0}, "scale of column 'a' must be finite and above 0"),
        ({"scale": -1}, "above 0"),
        ({"fill": None}, "fill value of column 'a' must be a number"),
        ({"name": ""}, "name of a column must be a text"),
        ({"name": ["a"]}, "name of a column must be a text"),
        ({"kind": "other"}, "Expected the description of kind 'numeric'"),
        ({"more": 1}, "unknown: 'more'"),
    ],
)
def test_changed_columns_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        encoder_from_dict({"kind": "table", "columns": [NUMERIC | change]})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "must be a mapping; got NoneType"),
        ([], "must be a mapping; got list"),
        ({}, "needs exactly the keys kind, columns .missing: kind, columns"),
        ({"kind": "x", "columns": []}, "Expected the description of kind 'table'; got str 'x'"),
        ({"kind": "table", "columns": "ab"}, "columns of a table must be a list"),
        ({"kind": "table", "columns": []}, "at least 1"),
        ({"kind": "table", "columns": [1]}, "a numeric column must be a mapping"),
        ({"kind": "table", "columns": [NUMERIC, NUMERIC]}, "'a' more than once"),
        (
            {"kind": "table", "columns": [{"kind": "categorical", "name": "a", "categories": "xy"}]},
            "categories of a column must be a list",
        ),
        (
            {"kind": "table", "columns": [{"kind": "categorical", "name": "a", "categories": [1]}]},
            "must be a text that is not empty; got int 1",
        ),
        ({"kind": "image"}, "missing: mean, std"),
    ],
)
def test_changed_documents_are_refused(document, message):
    with pytest.raises(ValueError, match=message):
        encoder_from_dict(document)


def test_changed_targets_are_refused():
    with pytest.raises(ValueError, match="kind 'target'; got int 1"):
        TargetEncoder.from_dict(CLASSES.to_dict() | {"kind": 1})
    with pytest.raises(ValueError, match="classes of a target must be a list"):
        TargetEncoder.from_dict(CLASSES.to_dict() | {"classes": "ab"})


def places(document, path=()):
    yield path
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from places(document[key], (*path, key))


@pytest.mark.parametrize("encoder", [TABLE, IMAGE, CLASSES, NUMBERS])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_other_value_anywhere_is_read_or_refused_in_words(encoder, data):
    document = json.loads(json.dumps(encoder.to_dict()))
    *path, last = data.draw(st.sampled_from([place for place in places(document) if place]))
    inner = document
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(json_values)
    read = TargetEncoder.from_dict if isinstance(encoder, TargetEncoder) else encoder_from_dict
    with contextlib.suppress(ValueError):
        json.dumps(read(document).to_dict(), allow_nan=False)
