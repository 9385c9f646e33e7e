"""The methods that are compared on tables: each given categories and missing values as a careful user would.

All get the same training and test rows, those of `hdnn train FILE --seed S`. Trees that know categories get them as
categories, all others one column a category; missing numbers are the median and an indicator column, except for
trees that know them. LightGBM takes part where it is installed.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import hdnn
from hdnn import jobs
from hdnn.data import split
from hdnn.jobs.worth import Worth

TREES, PATIENT_TREES, NETWORK = "boosted trees", "boosted trees, early stopping", "perceptron"
COMMAND, ESTIMATOR = "hdnn train", "hdnn estimator"
ALONE = "hdnn estimator, one column a category"
CATEGORIES = 250
"""Most categories of a column of texts, for all methods; the rarest share one. It was 100 where each is a column of its
own until 27 November: on the half for choices, that cost the estimators up to 21 points of a table."""


class Task(NamedTuple):
    """A table, and which of its rows are for training and which for the score."""

    frame: pd.DataFrame
    target: str
    classes: bool
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int

    @property
    def inputs(self) -> pd.DataFrame:
        """All columns but the target."""
        return self.frame.drop(columns=self.target)

    def texts(self) -> list[str]:
        """The columns of categories."""
        return list(self.inputs.select_dtypes(exclude="number"))

    def score(self, said: Any) -> float:
        """Accuracy, or the explained share of the variance, which counts as 0 below 0."""
        truth = self.frame[self.target].to_numpy()[self.test]
        return float(accuracy_score(truth, said)) if self.classes else max(0.0, float(r2_score(truth, said)))


def task_of(frame: pd.DataFrame, target: str, classes: bool, seed: int, *, validation: bool = False) -> Task:
    """The rows of a seed: four fifths and one; for choices, the same once more within the four fifths."""
    train, test = rows_of(frame[target], classes, seed)
    if validation:
        frame = frame.iloc[np.sort(train)].reset_index(drop=True)
        train, test = rows_of(frame[target], classes, seed)
    return Task(frame, target, classes, train, test, seed)


def rows_of(answers: pd.Series, classes: bool, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and test rows as `hdnn train` shares them out."""
    return split(len(answers), seed=seed, labels=answers.to_numpy() if classes else None)


def one_hot(task: Task, categories: int = CATEGORIES) -> Any:
    """Numbers with medians and indicators, a column for each category but the rarest."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True))
    texts = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=categories, sparse_output=False)
    return ColumnTransformer([("texts", texts, task.texts())], remainder=numbers)


def coded(task: Task) -> Any:
    """Categories as numbers, for trees that are told so; numbers as they are. Texts come first."""
    texts = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=CATEGORIES,
    )
    return ColumnTransformer([("texts", texts, task.texts())], remainder="passthrough")


def boosted(task: Task, **chosen: Any) -> Any:
    """scikit-learn's boosted trees, told which columns are categories."""
    kind = HistGradientBoostingClassifier if task.classes else HistGradientBoostingRegressor
    model = kind(random_state=task.seed, categorical_features=list(range(len(task.texts()))) or None, **chosen)
    return make_pipeline(coded(task), model)


def forest(task: Task) -> Any:
    """scikit-learn's forest."""
    kind = RandomForestClassifier if task.classes else RandomForestRegressor
    return make_pipeline(one_hot(task), kind(random_state=task.seed))


def linear(task: Task) -> Any:
    """Logistic or ridge regression on standardised inputs."""
    model = LogisticRegression(max_iter=1000) if task.classes else Ridge()
    return make_pipeline(one_hot(task), StandardScaler(), model)


def perceptron(task: Task) -> Any:
    """scikit-learn's perceptron on standardised inputs, and for numbers with a standardised target."""
    if task.classes:
        return make_pipeline(one_hot(task), StandardScaler(), MLPClassifier(random_state=task.seed))
    model = TransformedTargetRegressor(MLPRegressor(random_state=task.seed), transformer=StandardScaler())
    return make_pipeline(one_hot(task), StandardScaler(), model)


def lightgbm(task: Task) -> Any:
    """LightGBM at its defaults, told which columns are categories."""
    package = importlib.import_module("lightgbm")
    kind = package.LGBMClassifier if task.classes else package.LGBMRegressor
    model = kind(random_state=task.seed, n_jobs=1, verbose=-1, categorical_feature=list(range(len(task.texts()))))
    return make_pipeline(coded(task), model)


def estimator(task: Task) -> Any:
    """The estimators of hdnn behind the encoder of `hdnn train`."""
    kind = hdnn.HamiltonianClassifier if task.classes else hdnn.HamiltonianRegressor
    return make_pipeline(hdnn.DataFrameEncoder(), kind(encode=False, random_state=task.seed))


def estimator_alone(task: Task) -> Any:
    """The estimators of hdnn behind the encoder that forest and perceptron have."""
    kind = hdnn.HamiltonianClassifier if task.classes else hdnn.HamiltonianRegressor
    return make_pipeline(one_hot(task), kind(random_state=task.seed))


def fitted(build: Callable[[Task], Any], task: Task) -> tuple[float, float]:
    """Score of a fresh model, and seconds of processor time of its fit."""
    model, inputs, answers = build(task), task.inputs, task.frame[task.target].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the perceptron's 200 epochs, categories that the training part lacks
        start = time.process_time()
        model.fit(inputs.iloc[task.train], answers[task.train])
        seconds = time.process_time() - start
        return task.score(model.predict(inputs.iloc[task.test])), seconds


def commanded(task: Task) -> tuple[float, float]:
    """What `hdnn train TABLE --target T --task ... --seed S` says of its test part, and its processor time.

    Raises:
        ValueError: if it scores other rows than the other methods.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "table.csv")
        task.frame.to_csv(file, index=False)
        source = jobs.Source(
            str(file), seed=task.seed, target=task.target, task="classification" if task.classes else "regression"
        )
        start = time.process_time()
        # Without what its report says beside the score: trees and a linear model on the same rows, importances.
        with mock.patch.object(Worth, "carry_out", return_value={}):
            outcome = jobs.train(source, {}, Path(folder, "run"), seed=task.seed, threads=1)
        seconds = time.process_time() - start
        test = source.load()
    truth = task.frame[task.target].to_numpy()[task.test]
    known = list(test.target.decode(test.y_test)) if task.classes else None
    if len(test.x_test) != len(truth) or (known is not None and [str(label) for label in known] != list(truth)):
        raise ValueError("`hdnn train` holds back other rows than the benchmark.")
    return outcome.metrics["test_accuracy"] if task.classes else max(0.0, outcome.metrics["test_r2"]), seconds


METHODS: dict[str, Callable[[Task], tuple[float, float]]] = {
    "linear": lambda task: fitted(linear, task),
    "forest": lambda task: fitted(forest, task),
    TREES: lambda task: fitted(boosted, task),
    PATIENT_TREES: lambda task: fitted(lambda task: boosted(task, early_stopping=True), task),
    "LightGBM": lambda task: fitted(lightgbm, task),
    NETWORK: lambda task: fitted(perceptron, task),
    ESTIMATOR: lambda task: fitted(estimator, task),
    ALONE: lambda task: fitted(estimator_alone, task),
    COMMAND: commanded,
}
PEERS = tuple(name for name in METHODS if name not in (ESTIMATOR, ALONE, COMMAND))


def available() -> list[str]:
    """The methods that can run here."""
    return [name for name in METHODS if name != "LightGBM" or importlib.util.find_spec("lightgbm")]
