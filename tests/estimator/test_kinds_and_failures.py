"""Kinds of targets that data frames have of their own, arguments that are no truths, and fits that fail."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import hdnn
from estimator_cases import KINDS, X, Y, answer, each, scores

COLUMNS = ["a", "b", "c", "d"]
SEQUENCES = X.reshape(-1, 2, 2)
EVERY = [
    *((kind, X) for kind in KINDS),
    (hdnn.HamiltonianSequenceClassifier, SEQUENCES),
    (hdnn.HamiltonianSequenceRegressor, SEQUENCES),
]
every = pytest.mark.parametrize(("kind", "x"), EVERY, ids=lambda value: getattr(value, "__name__", ""))


@every
def test_what_failed_is_not_fitted(kind, x):
    model = kind(epochs=1, learning_rate=1e300)
    with pytest.raises(FloatingPointError):
        model.fit(x, Y)
    with pytest.raises(NotFittedError):
        answer(model, x)
    assert not [name for name in vars(model) if name.endswith("_")]


@every
def test_a_fit_that_fails_leaves_the_last_one_and_its_columns(kind, x):
    model = kind(epochs=1, random_state=0).fit(x, Y)
    before = scores(model, x)
    with pytest.raises(FloatingPointError):
        model.set_params(learning_rate=1e300).fit(3 + x[..., :1], Y)
    assert model.n_features_in_ == x.shape[-1]
    np.testing.assert_array_equal(scores(model, x), before)


@each
def test_names_of_a_fit_that_fails_are_forgotten(kind):
    frame = pd.DataFrame(X, columns=COLUMNS)
    model = kind(epochs=1, random_state=0).fit(frame, Y)
    with pytest.raises(FloatingPointError):
        model.set_params(learning_rate=1e300).fit(frame[COLUMNS[::-1]], Y)
    with pytest.raises(ValueError, match="same order as they were in fit"):
        answer(model, frame[COLUMNS[::-1]])


@pytest.mark.parametrize("name", ["standardize", "encode", "shared", "warm_start"])
@pytest.mark.parametrize("value", ["no", None])
@each
def test_texts_are_no_truths(kind, name, value):
    with pytest.raises(TypeError, match=f"`{name}` must be True or False"):
        kind(epochs=1, **{name: value}).fit(X, Y)
    for truth in (np.bool_(False), 0, 1):
        kind(epochs=1, **{name: truth}).fit(X, Y)


def test_texts_are_no_truths_of_pieces():
    with pytest.raises(TypeError, match="`standardize` must be True or False"):
        hdnn.PiecewiseLinearEncoder(standardize="no").fit(X)


@pytest.mark.parametrize(("dtype", "kind"), [("Int64", "i"), ("int64[pyarrow]", "i"), ("UInt8", "u")])
def test_whole_numbers_of_data_frames_are_labels(dtype, kind):
    y = pd.Series(Y).astype(dtype)
    features = hdnn.HamiltonianFeatures(epochs=1).fit(X, y)
    assert features.task_ == "classification"
    model = hdnn.HamiltonianClassifier(epochs=1).fit(X, y)
    assert model.classes_.dtype.kind == model.predict(X).dtype.kind == kind
    with pytest.raises(ValueError, match="Input y contains NaN"):
        hdnn.HamiltonianFeatures(epochs=1).fit(X, y.where(y > 0))


def test_truth_values_of_data_frames_are_labels():
    y = pd.Series(Y > 0).astype("boolean")
    assert hdnn.HamiltonianFeatures(epochs=1).fit(X, y).task_ == "classification"
    model = hdnn.HamiltonianSequenceClassifier(hidden_size=4, epochs=1).fit(SEQUENCES, y)
    assert model.classes_.dtype == bool


def test_columns_of_several_kinds_keep_their_decimals():
    y = pd.DataFrame({"a": pd.Series(Y).astype("Int64"), "b": X[:, 0]})
    model = hdnn.HamiltonianRegressor(epochs=1, random_state=0).fit(X, y)
    whole = hdnn.HamiltonianRegressor(epochs=1, random_state=0).fit(X, np.stack([Y, X[:, 0]], 1))
    np.testing.assert_array_equal(model.predict(X), whole.predict(X))


def test_decimal_numbers_of_data_frames_are_quantities():
    assert hdnn.HamiltonianFeatures(epochs=1).fit(X, pd.Series(Y).astype("Float64")).task_ == "regression"


@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_labels_may_stand_in_a_column():
    y = pd.DataFrame({"y": Y})
    found = hdnn.HamiltonianFeatures(epochs=1, random_state=0).fit(X, y)
    np.testing.assert_array_equal(
        found.transform(X), hdnn.HamiltonianFeatures(epochs=1, random_state=0).fit(X, Y).transform(X)
    )


@pytest.mark.parametrize("labels", [np.where(Y > 0, "a", None), np.where(Y > 0, "a", Y.astype(object))])
def test_labels_need_an_order(labels):
    with pytest.raises(TypeError, match=r"all texts, or all numbers; got .* and str"):
        hdnn.HamiltonianClassifier(epochs=1).fit(X, labels)


def test_labels_of_more_rows_need_an_order():
    model = hdnn.HamiltonianClassifier().partial_fit(X, np.where(Y > 0, "a", "b"), classes=["a", "b"])
    with pytest.raises(TypeError, match="all texts, or all numbers; got NoneType and str"):
        model.partial_fit(X, np.where(Y > 0, "a", None))


@pytest.mark.parametrize("missing", [pd.NA, float("nan")])
@pytest.mark.parametrize("estimator", [hdnn.HamiltonianClassifier, hdnn.HamiltonianRegressor])
def test_texts_of_a_list_that_are_missing_are_no_class(estimator, missing):
    y = [missing if value > 0 else "a" for value in Y]
    with pytest.raises(ValueError, match=rf"Of y {(Y > 0).sum()} of 150 values are missing\. Leave these rows out"):
        estimator(epochs=1).fit(X, y)


@pytest.mark.parametrize("dtype", ["string", object])
@pytest.mark.parametrize(
    ("kind", "x"), [(hdnn.HamiltonianClassifier, X), (hdnn.HamiltonianSequenceClassifier, SEQUENCES)]
)
def test_texts_of_data_frames_that_are_missing_are_counted(kind, x, dtype):
    y = pd.Series(np.where(Y > 0, "a", "b")).astype("string")
    kind(epochs=1).fit(x, y.astype(dtype))
    with pytest.raises(ValueError, match=r"Of y 50 of 150 values are missing\. Leave these rows out"):
        kind(epochs=1).fit(x, y.where(Y > 0).astype(dtype))


def test_the_order_of_targets_in_memory_changes_nothing():
    y = np.random.default_rng(0).normal(size=(150, 3)) + 10
    models = [hdnn.HamiltonianRegressor(epochs=2, random_state=0).fit(X, t) for t in (y, np.asfortranarray(y))]
    np.testing.assert_array_equal(*(model.predict(X) for model in models))


def test_classes_of_features_stay_as_they_were():
    model = hdnn.HamiltonianFeatures(random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"must stay as they were, \[0, 1, 2\]; got \[0, 1, 2, 3\]"):
        model.partial_fit(X, Y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"none of the classes \[0, 1, 2\]: \[3, 4, 5, 6, 7, …\]"):
        model.partial_fit(X, np.arange(150))


@each
def test_the_memory_of_an_optimizer_is_that_of_one(kind):
    options = {"classes": [0, 1, 2]} if kind is hdnn.HamiltonianClassifier else {}
    model = kind(random_state=0, weight_decay=0.0).partial_fit(X, Y, **options)
    model.set_params(optimizer="adam").partial_fit(X, Y)  # whose memory is alike
    with pytest.raises(ValueError, match='which was "adam" in the last call and is "sgd" now'):
        model.set_params(optimizer="sgd").partial_fit(X, Y)
    model.fit(X, Y).partial_fit(X, Y)


def test_encoders_that_fail_keep_their_columns():
    frame = pd.DataFrame(X, columns=COLUMNS)
    pieces = hdnn.PiecewiseLinearEncoder(bins=2).fit(frame)
    with pytest.raises(ValueError, match="one number a row"):
        pieces.fit(frame[COLUMNS[::-1]], sample_weight=np.ones(3))
    cells = hdnn.DataFrameEncoder().fit(frame)
    with pytest.raises(ValueError, match="no column 'e'"):
        cells.set_params(columns=["e"]).fit(frame[COLUMNS[::-1]])
    for encoder in (pieces, cells):
        assert encoder.feature_names_in_.tolist() == COLUMNS


def test_marks_of_missing_values_are_a_list_of_texts():
    frame = pd.DataFrame({"x": [1.0, 9.0, -9.0, 4.0, 5.5] * 8})
    for read in (
        lambda missing: hdnn.DataFrameEncoder(missing=missing).fit(frame),
        lambda missing: hdnn.data.table(frame.assign(y=list("ab") * 20), "y", missing=missing),
    ):
        with pytest.raises(ValueError, match=r"got the text '-9'. Write `missing=\['-9'\]`"):
            read("-9")
        with pytest.raises(TypeError, match=r"as texts; got -9, an int. Write `missing=\['-9'\]`"):
            read([-9])
        read(["-9"])
