"""scikit-learn's own checks. None is expected to fail.

Few epochs keep them fast; all other arguments are the defaults.
"""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import hdnn


@parametrize_with_checks([hdnn.HamiltonianClassifier(epochs=3)])
def test_classifier(estimator, check):
    check(estimator)


@parametrize_with_checks([hdnn.HamiltonianRegressor(epochs=3)])
def test_regressor(estimator, check):
    check(estimator)


@parametrize_with_checks([hdnn.HamiltonianFeatures(epochs=3)])
def test_features(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([hdnn.HamiltonianClassifier(), hdnn.HamiltonianRegressor(), hdnn.HamiltonianFeatures()])
def test_with_all_defaults(estimator, check):
    check(estimator)
