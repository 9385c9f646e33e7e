"""Hamiltonian networks with scikit-learn's interface: a classifier, a regressor, and their features."""

from hdnn.estimator.classifier import HamiltonianClassifier
from hdnn.estimator.features import HamiltonianFeatures
from hdnn.estimator.regressor import HamiltonianRegressor

__all__ = ["HamiltonianClassifier", "HamiltonianFeatures", "HamiltonianRegressor"]
