"""The jobs of the command line as Python functions: train, evaluate, predict, analyze, compare, tune."""

from hdnn.jobs.analyze import Analysis, analyze
from hdnn.jobs.choices import Choices
from hdnn.jobs.comparison import Comparison, compare
from hdnn.jobs.precedents import Precedent, as_file, as_run
from hdnn.jobs.prediction import Prediction, evaluate, predict, predictions
from hdnn.jobs.setups import SETUPS, Setup, image_setup, table_setup
from hdnn.jobs.sources import NAMED, DataSource, Source, load, mnist_folder
from hdnn.jobs.subjects import Subject, choose_subject, trained, untrained
from hdnn.jobs.task import Outcome
from hdnn.jobs.train import resume, train
from hdnn.jobs.tuning import Tuned, tune

__all__ = [
    "NAMED",
    "SETUPS",
    "Analysis",
    "Choices",
    "Comparison",
    "DataSource",
    "Outcome",
    "Precedent",
    "Prediction",
    "Setup",
    "Source",
    "Subject",
    "Tuned",
    "analyze",
    "as_file",
    "as_run",
    "choose_subject",
    "compare",
    "evaluate",
    "image_setup",
    "load",
    "mnist_folder",
    "predict",
    "predictions",
    "resume",
    "table_setup",
    "train",
    "trained",
    "tune",
    "untrained",
]
