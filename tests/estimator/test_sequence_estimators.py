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
