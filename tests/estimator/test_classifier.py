"""Labels, probabilities and weights of classes."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

import hdnn

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


def test_probabilities_are_the_softmax_of_the_scores():
    model = hdnn.HamiltonianClassifier(epochs=3, random_state=0).fit(X, NAMES)
    scores = model.decision_function(X)
    powers = np.exp(scores)
    np.testing.assert_allclose(model.predict_proba(X), powers / powers.sum(1, keepdims=True), rtol=1e-12)
    assert (model.predict(X) == model.classes_[scores.argmax(1)]).all()
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_two_classes_share_one_score():
    x, y = load_breast_cancer(return_X_y=True)
    words = np.where(y, "benign", "malignant")
    model = hdnn.HamiltonianClassifier(epochs=2, random_state=0).fit(x, words)
    scores = model.decision_function(x)
    assert scores.shape == (569,)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-12)
    assert (model.predict(x) == np.where(scores > 0, "malignant", "benign")).all()
    assert model.score(x, words) > 0.9


def test_labels_of_any_kind():
    for labels in (NAMES, NAMES.astype(object), Y - 7, Y.astype(float) + 1.0, Y):
        model = hdnn.HamiltonianClassifier(epochs=3, random_state=0).fit(X, labels)
        assert model.predict(X).dtype == np.unique(labels).dtype
        assert (model.predict(X) == labels).mean() > 0.6


def test_weights_of_classes_are_weights_of_their_rows():
    weights = {"setosa": 1.0, "virginica": 5.0}
    of_rows = np.array([weights.get(name, 1.0) for name in NAMES])
    by_class = hdnn.HamiltonianClassifier(epochs=2, random_state=0, class_weight=weights).fit(X, NAMES)
    by_row = hdnn.HamiltonianClassifier(epochs=2, random_state=0).fit(X, NAMES, sample_weight=of_rows)
    assert (by_class.predict_proba(X) == by_row.predict_proba(X)).all()


def test_balanced_classes_weigh_the_same_in_sum():
    x, names = X[:70], NAMES[:70]  # 50 and 20
    balanced = hdnn.HamiltonianClassifier(epochs=2, random_state=0, class_weight="balanced").fit(x, names)
    by_row = hdnn.HamiltonianClassifier(epochs=2, random_state=0).fit(
        x, names, sample_weight=np.where(names == "setosa", 1 / 50, 1 / 20)
    )
    np.testing.assert_allclose(balanced.predict_proba(x), by_row.predict_proba(x), rtol=1e-9)


@pytest.mark.parametrize(
    ("class_weight", "error", "words"),
    [
        ("even", ValueError, '"balanced", a dictionary or None'),
        ([1, 2, 3], TypeError, '"balanced", a dictionary or None'),
        ({"rose": 2.0}, ValueError, "none of the classes"),
        ({"setosa": -1.0}, ValueError, "finite and not negative; got -1.0 for 'setosa'"),
        ({"setosa": "two"}, TypeError, "must be a number"),
    ],
)
def test_weights_of_classes_that_make_no_sense(class_weight, error, words):
    with pytest.raises(error, match=words):
        hdnn.HamiltonianClassifier(class_weight=class_weight).fit(X, NAMES)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="one class only, 'setosa'"):
        hdnn.HamiltonianClassifier().fit(X[:50], NAMES[:50])


def test_quantities_are_refused():
    with pytest.raises(ValueError, match="continuous"):
        hdnn.HamiltonianClassifier().fit(X, X[:, 0])


def test_classes_may_come_later_when_they_were_named():
    model = hdnn.HamiltonianClassifier(random_state=0)
    with pytest.raises(ValueError, match="needs `classes`"):
        model.partial_fit(X[:50], NAMES[:50])
    model.partial_fit(X[:50], NAMES[:50], classes=np.unique(NAMES))
    for _ in range(20):
        model.partial_fit(X, NAMES)
    assert model.score(X, NAMES) > 0.9
    with pytest.raises(ValueError, match="must stay as they were"):
        model.partial_fit(X, NAMES, classes=["setosa", "rose"])
    with pytest.raises(ValueError, match="none of the classes"):
        model.partial_fit(X, np.where(Y == 0, "rose", NAMES))
    weighted = hdnn.HamiltonianClassifier(class_weight={"setosa": 2.0}).partial_fit(X, NAMES, classes=np.unique(NAMES))
    with pytest.raises(ValueError, match="none of the classes"):
        weighted.partial_fit(X, np.where(Y == 2, "zinnia", NAMES))


def test_a_warm_start_keeps_its_classes():
    model = hdnn.HamiltonianClassifier(epochs=1, warm_start=True, random_state=0).fit(X, NAMES)
    with pytest.raises(ValueError, match="fit anew"):
        model.fit(X, np.where(Y == 0, "rose", NAMES))


def test_parts_do_not_balance():
    with pytest.raises(ValueError, match="does not see together"):
        hdnn.HamiltonianClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


def test_everything_but_the_model_is_given_by_name() -> None:
    for kind in (hdnn.HamiltonianClassifier, hdnn.HamiltonianFeatures):
        with pytest.raises(TypeError, match="positional"):
            kind("h2", 16)  # type: ignore[misc]
