"""The state after the flow, as a transformer."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import hdnn

X, Y = load_iris(return_X_y=True)


def test_they_are_the_state_that_the_output_layer_sees():
    model = hdnn.HamiltonianFeatures(epochs=2, bins=0, random_state=0).fit(X, Y)
    z = torch.tensor((X - X.mean(0)) / X.std(0))
    with torch.no_grad():
        expected = model.network_.flow(torch.nn.functional.pad(z, (0, 12)))
    np.testing.assert_allclose(model.transform(X), expected.numpy(), rtol=1e-9)
    classifier = hdnn.HamiltonianClassifier(epochs=2, bins=0, random_state=0).fit(X, Y)
    head = classifier.network_.head
    np.testing.assert_allclose(
        classifier.decision_function(X), model.transform(X) @ head.weight.detach().numpy().T + head.bias.tolist()
    )


def test_they_serve_a_linear_model():
    radius = np.linalg.norm(X := np.random.RandomState(0).randn(300, 2), axis=1)
    ring = radius > np.median(radius)
    plain = LogisticRegression().fit(X[:200], ring[:200]).score(X[200:], ring[200:])
    model = make_pipeline(hdnn.HamiltonianFeatures(random_state=0), LogisticRegression())
    assert model.fit(X[:200], ring[:200]).score(X[200:], ring[200:]) > plain + 0.2


def test_names():
    model = hdnn.HamiltonianFeatures(features=6, epochs=1).set_output(transform="pandas").fit(X, Y)
    frame = model.transform(X)
    assert list(frame.columns) == [f"hamiltonianfeatures{i}" for i in range(6)]
    assert frame.shape == (150, 6)


@pytest.mark.parametrize(
    ("task", "y", "found"),
    [
        ("auto", Y, "classification"),
        ("auto", Y.astype(str), "classification"),
        ("auto", Y == 0, "classification"),
        ("auto", Y.astype(float), "regression"),
        ("auto", X[:, :2], "regression"),
        ("regression", Y, "regression"),
        ("classification", Y.astype(float), "classification"),
    ],
)
def test_the_task_follows_from_the_kind_of_targets(task, y, found):
    model = hdnn.HamiltonianFeatures(epochs=1, task=task).fit(X, y)
    assert model.task_ == model.network_.task == found


def test_they_need_targets():
    with pytest.raises(ValueError, match="requires y to be passed"):
        hdnn.HamiltonianFeatures().fit(X, None)
    with pytest.raises(ValueError, match='`task` must be "classification"'):
        hdnn.HamiltonianFeatures(task="ranking").fit(X, Y)
