"""The three estimators, and what can be asked of each of them."""

import pytest
from sklearn.datasets import load_iris

import hdnn

X, Y = load_iris(return_X_y=True)
KINDS = [hdnn.HamiltonianClassifier, hdnn.HamiltonianRegressor, hdnn.HamiltonianFeatures]
each = pytest.mark.parametrize("kind", KINDS)


def answer(model, x=X):
    return model.transform(x) if isinstance(model, hdnn.HamiltonianFeatures) else model.predict(x)


def scores(model, x=X):
    """Something continuous, so that small differences show."""
    return model.predict_proba(x) if isinstance(model, hdnn.HamiltonianClassifier) else answer(model, x)
