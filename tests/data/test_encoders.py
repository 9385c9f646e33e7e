import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_cases import CLASSES, IMAGE, NUMBERS, TABLE, TRAIN
from hdnn.data import (
    Categorical,
    ImageEncoder,
    Numeric,
    TableEncoder,
    TargetEncoder,
)

finite = st.floats(-4e307, 4e307)  # differences of larger ones may be infinite, and are refused in words


def frame(**columns):
    return pd.DataFrame({"age": [1.0], "town": ["Bern"], "vip": [False]} | columns)


# Tables


def test_a_table_is_encoded_column_by_column():
    x = TABLE.encode(TRAIN)
    assert x.dtype == np.float32
    assert x.shape == (4, *TABLE.shape) == (4, 4)
    ages = np.array([20.0, 40, 40, 60])  # the gap is filled by the median
    assert np.allclose(x[:, 0], (ages - 40) / np.std([20, 40, 60]))
    assert x[:, 1:3].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]
    assert (x[:, 3] == 0).all()  # constant in training: scale 1
    assert TABLE.encode(frame(vip=[False]))[0, 3] == -1


def test_only_the_training_part_is_fitted():
    before = TABLE.to_dict()
    TABLE.encode(frame(age=[1e6], town=["Oslo"]))
    assert TABLE.to_dict() == before
    assert TABLE.columns[1].categories == ("Bern", "Lund")
    assert TABLE.text_columns == ("town",)


def test_column_order_and_other_columns_do_not_matter():
    shuffled = TRAIN.assign(more=1)[["more", "vip", "town", "age"]]
    assert np.array_equal(TABLE.encode(shuffled), TABLE.encode(TRAIN))
    assert TABLE.report(shuffled).ignored == ("more",)


def test_the_report_counts_what_was_made_up():
    new = pd.DataFrame({"age": [None, 1.0, None], "town": ["Oslo", " ", "Rome"], "vip": [True, None, False], "more": 1})
    report = TABLE.report(new)
    assert report.rows == 3
    assert dict(report.missing) == {"age": 2, "town": 1, "vip": 1}
    assert dict(report.unseen) == {"town": 2}
    assert report.description == (
        "4 missing values (age 2, town 1, vip 1) filled in; 2 values not in the training part (town 2) "
        "encoded as zeros; columns not used: more"
    )
    assert TABLE.encode(new)[:, 1:3].tolist() == [[0, 0]] * 3
    assert TABLE.report(TRAIN[["age", "town", "vip"]].iloc[:1]).description == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(finite | st.just(math.nan), min_size=1, max_size=20))
def test_any_training_numbers_give_finite_inputs(values):
    if all(map(math.isnan, values)):
        return
    data = pd.DataFrame({"a": values})
    x = TableEncoder.fit(data).encode(data)
    present = x[~np.isnan(values), 0].astype(np.float64)
    assert np.isfinite(x).all()
    numbers = [value / 2 for value in values if not math.isnan(value)]
    near = max(numbers) - min(numbers) <= 1e-9 * max(map(abs, numbers))  # all but the last digits: so is their mean
    assert abs(present.mean()) < 1e-3 or near or np.ptp(present) < 1e-3
    assert present.std() <= 1.001


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=4) | st.none(), min_size=1, max_size=20))
def test_any_training_text_gives_one_hot_rows(values):
    column = pd.Series(values, dtype=object)
    gap = [value is None or not value.strip() for value in values]
    if all(gap):
        with pytest.raises(ValueError, match="no value at all"):
            Categorical.fit("a", column)
        return
    encoder = TableEncoder((Categorical.fit("a", column),))
    x = encoder.encode(pd.DataFrame({"a": column}))
    assert x.sum(axis=1).tolist() == [0.0 if missing else 1.0 for missing in gap]
    assert (x.max(axis=0) == 1).all()
    assert not encoder.report(pd.DataFrame({"a": column})).unseen


@pytest.mark.parametrize(
    "cells",
    [
        [1, 0],
        [1.0, 0.0],
        ["1", " 0 "],
        [True, False],
        pd.array([1, 0], dtype="Int64"),
        pd.array([True, False], dtype="boolean"),
        pd.Categorical([1, 0]),
        np.array([1, 0], dtype=object),
        np.array([1, 0], dtype=np.uint8),
    ],
)
def test_numbers_are_read_however_they_are_stored(cells):
    encoder = TableEncoder((Numeric("a", 0.0, 1.0, 0.0),))
    assert encoder.encode(pd.DataFrame({"a": cells})).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("cells", [[1, 2], [1.0, 2.0, None], ["1", "2", ""], pd.array([1, 2, None], dtype="Int64")])
def test_categories_are_read_however_they_are_stored(cells):
    encoder = TableEncoder((Categorical("a", ("1", "2")),))
    assert encoder.encode(pd.DataFrame({"a": cells})).tolist() == [[1, 0], [0, 1], [0, 0]][: len(cells)]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["3", "old", "new"], "Column 'age' must hold numbers, but data row 2 holds 'old'"),
        (["3", "1_000", "4"], "data row 2 holds '1_000'"),
        ([3, [1], 4], r"data row 2 holds \[1\]"),
        (pd.to_datetime(["2020-01-01"] * 3), "data row 1 holds Timestamp"),
        (np.array([1, 1j, 1]), "data row 1 holds"),
        ([3, math.inf, -math.inf], "Column 'age', data row 2: the value is infinite"),
        (["3", "inf", "4"], "data row 2: the value is infinite"),
        ([3, 10**400, 4], "data row 2: the value is infinite"),
        ([3, 1e300, 4], r"data row 2: .*1e\+300.* is too far from the training values"),
    ],
)
def test_bad_numbers_are_named(cells, message):
    with pytest.raises(ValueError, match=message):
        TABLE.encode(pd.DataFrame({"age": cells, "town": "Bern", "vip": True}))


def test_absent_columns_are_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"lacks 2 of 3 columns\. 'age' is missing: Did you mean 'Age'"):
        TABLE.encode(pd.DataFrame({"Age": [1], "town": ["Bern"]}))
    with pytest.raises(ValueError, match="There are: x, y"):
        TABLE.report(pd.DataFrame({"x": [1], "y": [1]}))
    with pytest.raises(ValueError, match="2 columns 'age'"):
        TABLE.encode(pd.concat([TRAIN, TRAIN[["age"]]], axis=1))


def test_columns_that_cannot_be_fitted():
    with pytest.raises(ValueError, match="'a' has no value at all in the training part"):
        TableEncoder.fit(pd.DataFrame({"a": [math.nan, math.nan]}))
    with pytest.raises(ValueError, match="'a': object, neither numbers, dates nor text"):
        TableEncoder.fit(pd.DataFrame({"a": [[1], [2]]}))
    with pytest.raises(ValueError, match="'a' holds lists or mappings"):
        TableEncoder((Categorical("a", ("1",)),)).encode(pd.DataFrame({"a": [[1], [2]]}))
    with pytest.raises(ValueError, match="must hold at least 1"):
        TableEncoder(())
    with pytest.raises(ValueError, match="`Moment` or `Categorical`"):
        TableEncoder(("age",))


def test_no_rows_are_no_rows():
    assert TABLE.encode(TRAIN.iloc[:0]).shape == (0, 4)


# Images


def test_images_are_scaled_exactly():
    encoder = ImageEncoder(0.1307, 0.3081, 2, 3, 4)
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4), dtype=np.uint8)
    x = encoder.encode(images)
    assert x.dtype == np.float32
    assert np.allclose(x, (images / 255 - 0.1307) / 0.3081, rtol=1e-6)
    grey = np.zeros((5, 28, 28), np.uint8)
    assert IMAGE.encode(grey).shape == (5, *IMAGE.shape) == (5, 1, 28, 28)


def test_bad_images_teach():
    with pytest.raises(ValueError, match=r"must be bytes \(uint8, 0 to 255\); got float64"):
        IMAGE.encode(np.zeros((1, 28, 28)))
    with pytest.raises(ValueError, match=r"shape \(samples, 1, 28, 28\); got \(samples, 1, 28, 27\)"):
        IMAGE.encode(np.zeros((1, 28, 27), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(samples, 3, 2, 2\); got \(samples, 2, 2\)"):
        ImageEncoder(0.5, 0.5, 3, 2, 2).encode(np.zeros((1, 2, 2), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((math.nan, 1.0), "mean of an image encoder must be finite"),
        ((0.5, 0.0), "std of an image encoder must be finite and above 0"),
        ((0.5, 1.0, 0), "`channels` must be a whole number of at least 1"),
        ((0.5, 1.0, 1, 2.0), "`height` must be a whole number"),
        ((0.5, 1.0, 1, 1, True), "`width` must be a whole number"),
        ((0.5, 1.0, 1, 2**20, 2**20), "exceeds the limit"),
        ((0.5, 1e-300), "beyond 32-bit numbers"),
    ],
)
def test_bad_image_encoders_teach(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(*arguments)


# Targets


def test_classes_sort_by_value_if_they_are_numbers():
    assert TargetEncoder.fit_classes(pd.Series([10, 9, 2.0], name="t")).classes == ("2", "9", "10")
    assert TargetEncoder.fit_classes(pd.Series(["10", "9", "x"], name="t")).classes == ("10", "9", "x")
    assert TargetEncoder.fit_classes(pd.Series([True, False], name="t")).classes == ("False", "True")
    assert TargetEncoder.fit_classes(pd.Series([-0.5, -1.5, 2], name="t")).classes == ("-1.5", "-0.5", "2")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=3).filter(str.strip), min_size=2, max_size=12))
def test_decoding_undoes_encoding_of_classes(labels):
    labels = [label.strip() for label in labels]  # blanks around a label are none of it
    if len(set(labels)) < 2:
        return
    data = pd.DataFrame({"t": pd.Series(labels, dtype=object)})
    target = TargetEncoder.fit_classes(data["t"])
    y = target.encode(data)
    assert y.dtype == np.int64
    assert target.decode(y).tolist() == [label.rstrip("\0") for label in labels]
    assert target.outputs == len(set(labels))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=1, max_size=12))
def test_decoding_undoes_encoding_of_numbers(rows):
    data = pd.DataFrame(rows, columns=["t", "u"])
    target = TargetEncoder.fit_numbers(data)
    y = target.encode(data)
    assert y.shape == (len(rows), 2)
    assert y.dtype == np.float32
    assert np.allclose(target.decode(y), data.to_numpy(), rtol=1e-5, atol=1e-5 * (1 + data.abs().to_numpy().max()))
    assert (target.task, target.outputs) == ("regression", 2)


@pytest.mark.parametrize(
    ("target", "cells", "message"),
    [
        (CLASSES, ["a", "c", "b"], "'t', data row 2: 'c' is none of the 2 classes"),
        (CLASSES, ["a", None, ""], r"'t' is missing in 2 of 3 rows \(first: data row 2"),
        (NUMBERS, [1.0, None, 2.0], "'t' is missing in 1 of 3 rows"),
        (NUMBERS, ["1", "x", "2"], "'t' must hold numbers, but data row 2 holds 'x'"),
        (NUMBERS, [1, math.inf, 2], "data row 2: the value is infinite"),
        (NUMBERS, [1, 2, -1e300], "'t', data row 3: .* too far from the training values"),
    ],
)
def test_bad_targets_are_named(target, cells, message):
    with pytest.raises(ValueError, match=message):
        target.encode(pd.DataFrame({"t": cells, "u": 1.0}))
    with pytest.raises(ValueError, match=r"no target column 't'\. Did you mean 'T'"):
        target.encode(pd.DataFrame({"T": cells}))


@pytest.mark.parametrize(
    ("target", "outputs", "message"),
    [
        (CLASSES, [0, 2], "run from 0 to 1; got 0 to 2"),
        (CLASSES, [-1], "run from 0 to 1"),
        (CLASSES, [0.0], "as whole numbers; got float64"),
        (NUMBERS, [[1.0]], r"shape \(\.\.\., 2\); got \(1, 1\)"),
        (NUMBERS, 1.0, r"got \(\)"),
    ],
)
def test_bad_outputs_teach(target, outputs, message):
    with pytest.raises(ValueError, match=message):
        target.decode(outputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ("t",), "classes": ("a",)}, "only one class, 'a': there is nothing to tell apart"),
        ({"columns": ("t",), "classes": ("a", "a")}, "'a' more than once"),
        ({"columns": ("t", "u"), "classes": ("a", "b")}, "has one column"),
        ({"columns": ("t",), "classes": ("a", "b"), "mean": (1.0,)}, "neither mean nor scale"),
        ({"columns": ("t",)}, "one mean and one scale"),
        ({"columns": ("t",), "mean": (1.0,), "scale": (0.0,)}, "scale of a target must be finite and above 0"),
        ({"columns": ()}, "at least 1"),
    ],
)
def test_bad_target_encoders_teach(arguments, message):
    with pytest.raises(ValueError, match=message):
        TargetEncoder(**arguments)


def test_inputs_have_different_names():
    frame = pd.DataFrame({"a": ["1", "b"] * 5, "a_1": np.arange(10.0), "a_1_2": np.arange(10) % 3.0})
    labels = TableEncoder.fit(frame).labels
    assert labels == ("a_1", "a_b", "a_1_3", "a_1_2")


def test_a_number_far_away_is_shown_as_it_is_written():
    encoder = TableEncoder.fit(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"data row 1: 1e\+300 is too far"):
        encoder.encode(pd.DataFrame({"x": [1e300]}))
