"""The jobs of the command line as Python functions: train, evaluate, predict."""

from hdnn.jobs.prediction import Prediction, evaluate, predict
from hdnn.jobs.setups import SETUPS, Setup, table_setup
from hdnn.jobs.sources import NAMED, Source, load, mnist_folder
from hdnn.jobs.train import Choices, Outcome, train

__all__ = [
    "NAMED",
    "SETUPS",
    "Choices",
    "Outcome",
    "Prediction",
    "Setup",
    "Source",
    "evaluate",
    "load",
    "mnist_folder",
    "predict",
    "table_setup",
    "train",
]
