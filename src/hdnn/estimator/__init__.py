"""Hamiltonian networks with scikit-learn's interface: of tables and of sequences, their features, encoders."""

from hdnn.estimator.classifier import HamiltonianClassifier
from hdnn.estimator.features import HamiltonianFeatures
from hdnn.estimator.frames import DataFrameEncoder
from hdnn.estimator.pieces import PiecewiseLinearEncoder
from hdnn.estimator.regressor import HamiltonianRegressor
from hdnn.estimator.sequences import HamiltonianSequenceClassifier, HamiltonianSequenceRegressor

__all__ = [
    "DataFrameEncoder",
    "HamiltonianClassifier",
    "HamiltonianFeatures",
    "HamiltonianRegressor",
    "HamiltonianSequenceClassifier",
    "HamiltonianSequenceRegressor",
    "PiecewiseLinearEncoder",
]
