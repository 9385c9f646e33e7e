"""Estimators of sequences: arrays of three axes, of two, lists of several lengths; what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import hdnn

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 8, 2))
NAMES = np.array(["down", "flat", "up"])
Y = NAMES[np.digitize(X[:, :, 0].sum(1), [-1, 1])]
SMALL = {"hidden_size": 8, "epochs": 60, "learning_rate": 0.03, "random_state": 0, "dtype": "float64", "horizon": 3.0}


def classifier(**options):
    return hdnn.HamiltonianSequenceClassifier(**{**SMALL, **options})


def test_classes():
    model = classifier().fit(X, Y)
    assert model.score(X, Y) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    assert model.classes_.tolist() == NAMES.tolist()
    assert model.n_features_in_ == 2
    assert set(model.predict(X)) <= set(NAMES)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(classifier().fit(X, Y).decision_function(X), model.decision_function(X))


def test_two_classes_and_one_number_a_step():
    y = X[:, :, 0].sum(1) > 0
    model = classifier().fit(X[:, :, 0], y)
    assert model.decision_function(X[:, :, 0]).shape == (60,)
    assert model.score(X[:, :, 0], y) > 0.9


def test_numbers():
    y = 50 + 10 * X[:, :, 0].sum(1)
    model = hdnn.HamiltonianSequenceRegressor(**SMALL).fit(X, y)
    assert model.score(X, y) > 0.9


def test_padding_changes_nothing():
    sequences = [row[: 3 + i % 6] for i, row in enumerate(X)]
    model = classifier(epochs=5).fit(sequences, Y)
    alone = np.concatenate([model.decision_function([row]) for row in sequences])
    np.testing.assert_allclose(model.decision_function(sequences), alone, atol=1e-12)
    longer = model.decision_function([sequences[0], np.zeros((30, 2))])
    np.testing.assert_allclose(longer[0], alone[0], atol=1e-12)


def test_weights_of_sequences():
    weight = np.where(Y == "flat", 0.0, 1.0)
    model = classifier().fit(X, Y, sample_weight=weight)
    assert (model.predict(X) == "flat").sum() < (classifier().fit(X, Y).predict(X) == "flat").sum()


def test_sequences_of_weight_zero_take_no_part():
    y = 50 + 10 * X[:, :, 0].sum(1)
    weight = np.where(np.arange(60) < 20, 0.0, 3.0)
    for kind, t in ((hdnn.HamiltonianSequenceRegressor, y), (hdnn.HamiltonianSequenceClassifier, Y)):
        given = kind(hidden_size=4, epochs=2, random_state=0).fit(np.where(weight[:, None, None] > 0, X, 99), t, weight)
        rest = kind(hidden_size=4, epochs=2, random_state=0).fit(X[20:], t[20:])
        np.testing.assert_allclose(given.mean_, rest.mean_)
        np.testing.assert_array_equal(given.network_.head.weight.detach(), rest.network_.head.weight.detach())
    only = hdnn.HamiltonianSequenceClassifier(hidden_size=4, epochs=1).fit(X, Y, np.where(Y == "flat", 0.0, 1.0))
    assert only.classes_.tolist() == ["down", "up"]


def test_weights_count_in_scales():
    twice = np.where(np.arange(60) < 20, 2.0, 1.0)
    model = classifier(epochs=1).fit(X, Y, twice)
    again = classifier(epochs=1).fit(np.concatenate([X, X[:20]]), np.concatenate([Y, Y[:20]]))
    np.testing.assert_allclose(model.mean_, again.mean_)
    np.testing.assert_allclose(model.scale_, again.scale_)


def test_constant_numbers_are_not_blown_up():
    constant = np.concatenate([X, np.full((60, 8, 1), 0.1)], axis=2)
    assert classifier(epochs=1).fit(constant, Y).scale_[2] == 1


def test_columns_of_sequences_keep_their_order():
    frames = [pd.DataFrame(row, columns=["a", "b"]) for row in X]
    model = classifier(epochs=1).fit(frames, Y)
    np.testing.assert_array_equal(model.predict_proba(frames), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"were \['a', 'b'\] in `fit`; got \['b', 'a'\]"):
        model.predict([frame[["b", "a"]] for frame in frames])


def test_names_are_compared_where_there_are_some():
    mixed = [pd.DataFrame(row, columns=["a", "b"]) if i % 3 == 1 else row for i, row in enumerate(X)]
    model = classifier(epochs=1).fit(mixed, Y)
    np.testing.assert_array_equal(model.predict_proba(mixed), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"of sequence 1 are \['a', 'b'\], those of sequence 7 \['b', 'a'\]"):
        model.predict([*mixed[:7], mixed[7][["b", "a"]]])
    with pytest.raises(ValueError, match=r"were \['a', 'b'\] in `fit`"):
        model.predict([X[0], mixed[1][["b", "a"]]])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"class_weight": dict.fromkeys(NAMES.tolist(), 0.0)}, "have weight 0, so there is nothing to learn"),
        ({"horizon": 0}, "`horizon` must be a positive"),
        ({"n_iter_no_change": 0}, "`n_iter_no_change` must be a whole number"),
    ],
)
def test_arguments_are_refused_by_their_names(chosen, message):
    with pytest.raises(ValueError, match=message):
        classifier(**chosen).fit(X, Y)


def test_targets_that_are_no_numbers_are_named():
    y = np.where(Y == "flat", np.nan, 1.0)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        hdnn.HamiltonianSequenceRegressor(epochs=1).fit(X, y)


@pytest.mark.parametrize("model", ["ms2", "unicornn"])
def test_other_models_under_cross_validation(model):
    scores = cross_val_score(clone(classifier(model=model, epochs=20)), X, Y, cv=2)
    assert scores.mean() > 0.5


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.where(X > 2, np.nan, X), "missing or infinite"),
        ([], "empty X"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], "as many numbers"),
        ([["a", "b"]], "no number"),
        (np.zeros((60, 0, 2)), "at least one step"),
        (np.zeros((60, 8, 2, 2)), r"X.transpose\(0, 2, 1\)"),
        (X[:-1], "59 sequences, and y 60"),
        (X + 1j, "complex"),
        ([pd.DataFrame(row, columns=[*names]) for row, names in zip(X, ["ab", "ba"] * 30, strict=True)], "one order"),
    ],
)
def test_what_is_no_sequence(x, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(x, Y)


def test_other_sequences_than_learned():
    model = classifier(epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="2 numbers a step in `fit`; got 1"):
        model.predict(X[:, :, 0])


def test_a_data_frame_is_no_list_of_sequences():
    frame = pd.DataFrame({"run": [0, 0, 1, 1], "x": [0.0, 1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match=r"X is a data frame.*X\.to_numpy\(\).*X\.groupby\(name\)"):
        hdnn.HamiltonianSequenceClassifier().fit(frame, [0, 0, 1, 1])


def test_numbers_of_numpy_are_numbers():
    model = classifier(epochs=np.int64(2), batch_size=np.int32(16), clip=np.float32(1)).fit(X, Y)
    assert model.n_iter_ == 2
