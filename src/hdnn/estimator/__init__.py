"""Hamiltonian networks with scikit-learn's interface: two kinds, their features, and an encoder of numbers."""

from hdnn.estimator.classifier import HamiltonianClassifier
from hdnn.estimator.features import HamiltonianFeatures
from hdnn.estimator.pieces import PiecewiseLinearEncoder
from hdnn.estimator.regressor import HamiltonianRegressor

__all__ = ["HamiltonianClassifier", "HamiltonianFeatures", "HamiltonianRegressor", "PiecewiseLinearEncoder"]
