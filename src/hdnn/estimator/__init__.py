"""Hamiltonian networks with scikit-learn's interface: of tables and of sequences, their features, an encoder."""

from hdnn.estimator.classifier import HamiltonianClassifier
from hdnn.estimator.features import HamiltonianFeatures
from hdnn.estimator.pieces import PiecewiseLinearEncoder
from hdnn.estimator.regressor import HamiltonianRegressor
from hdnn.estimator.sequences import HamiltonianSequenceClassifier, HamiltonianSequenceRegressor

__all__ = [
    "HamiltonianClassifier",
    "HamiltonianFeatures",
    "HamiltonianRegressor",
    "HamiltonianSequenceClassifier",
    "HamiltonianSequenceRegressor",
    "PiecewiseLinearEncoder",
]
