"""The estimators against scikit-learn's perceptrons, all at their defaults, under the same cross-validation.

    python benchmarks/estimators.py --output benchmarks/results/DATE-estimators.md   # about four minutes of one core

Accuracy (R² for diabetes) over 5 repetitions of 5 folds, and the processor time of a fit. The perceptron is measured
on the tables as they are and behind a `StandardScaler`; the estimators of hdnn get the tables as they are and
standardize inside. Time to the perceptron's score: the shortest training, of 5, 10, 20 or 40 epochs, whose mean
score over the folds of the first repetition is at least the perceptron's final one there.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import hdnn
from machine import facts, head, publish, require_folder, say, table

SETS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}
OURS, RAW, SCALED = "hdnn", "perceptron", "perceptron, scaled"
SHORTER = (5, 10, 20, 40)
FOLDS = 5


def contender(name: str, task: str, seed: int, epochs: int | None = None) -> Any:
    """A fresh model at its defaults, but for the epochs where they are given."""
    if name == OURS:
        kind = hdnn.HamiltonianRegressor if task == "regression" else hdnn.HamiltonianClassifier
        return kind(random_state=seed) if epochs is None else kind(random_state=seed, epochs=epochs)
    mlp = (MLPRegressor if task == "regression" else MLPClassifier)(random_state=seed)
    return make_pipeline(StandardScaler(), mlp) if name == SCALED else mlp


def fitted(model: Any, X: Any, y: Any, train: Any, test: Any) -> tuple[float, float]:
    """Score on the test fold, and seconds of processor time of the fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the perceptron's default is 200 epochs, converged or not
        start = time.process_time()
        model.fit(X[train], y[train])
        seconds = time.process_time() - start
    return float(model.score(X[test], y[test])), seconds


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All models on all folds of a data set, in turns."""
    X, y = SETS[name](return_X_y=True)
    task = "regression" if name == "diabetes" else "classification"
    splitter = (RepeatedKFold if task == "regression" else RepeatedStratifiedKFold)(
        n_splits=FOLDS, n_repeats=repeats, random_state=0
    )
    folds = list(splitter.split(X, y))
    found: dict[str, Any] = {model: {"scores": [], "seconds": []} for model in (OURS, RAW, SCALED)}
    with threadpool_limits(1):
        contender(OURS, task, 0, epochs=1).fit(X, y)  # the first optimizer imports much of PyTorch
        for i, (train, test) in enumerate(folds):
            for model, results in found.items():
                score, seconds = fitted(contender(model, task, i), X, y, train, test)
                results["scores"].append(score)
                results["seconds"].append(seconds)
        shorter = {}
        for epochs in SHORTER:
            runs = [fitted(contender(OURS, task, i, epochs), X, y, *folds[i]) for i in range(FOLDS)]
            shorter[epochs] = {"scores": [run[0] for run in runs], "seconds": [run[1] for run in runs]}
    say(f"{name} done")
    return {"rows": X.shape[0], "columns": X.shape[1], "models": found, "shorter": shorter}


def spread(results: dict[str, Any]) -> str:
    """Mean ± standard deviation of scores over folds, and the median of seconds."""
    scores = results["scores"]
    return (
        f"{statistics.mean(scores):.4f} ± {statistics.stdev(scores):.4f}, {statistics.median(results['seconds']):.2f} s"
    )


def time_to(result: dict[str, Any], model: str) -> str:
    """The shortest training that reaches a perceptron's score, and the time of both."""
    first = {key: result["models"][model][key][:FOLDS] for key in ("scores", "seconds")}
    goal, theirs = statistics.mean(first["scores"]), statistics.median(first["seconds"])
    for epochs, runs in result["shorter"].items():
        if statistics.mean(runs["scores"]) >= goal:
            ours = statistics.median(runs["seconds"])
            return f"{epochs} epochs, {ours:.2f} s against {theirs:.2f} s: {theirs / ours:.1f} times as fast"
    return f"not reached in {SHORTER[-1]} epochs"


def report(known: dict[str, Any], results: dict[str, Any], repeats: int) -> list[str]:
    """The whole report in Markdown."""
    lines = [
        *head("Estimators at their defaults", known),
        "",
        f"Accuracy (R² for diabetes), mean ± standard deviation over {repeats} x {FOLDS} folds; median processor time "
        "of a fit on one thread. Fits in turns; the first optimizer of a process, which imports much of PyTorch, is "
        "made before.",
        "",
    ]
    rows, races = [], []
    for name, result in results.items():
        models = result["models"]
        best = max((RAW, SCALED), key=lambda model: np.mean(models[model]["scores"]))
        gap = np.subtract(models[OURS]["scores"], models[best]["scores"])
        row = [f"{name}, {result['rows']} x {result['columns']}", *(spread(found) for found in models.values())]
        rows.append([*row, f"{gap.mean():+.4f} ± {gap.std(ddof=1):.4f}"])
        races.append([name, time_to(result, RAW), time_to(result, SCALED)])
    lines += table(["data", *results["iris"]["models"], "hdnn less the better of the two, fold by fold"], rows)
    lines += ["", "## Time to the perceptron's score", "", *table(["data", RAW, SCALED], races)]
    return lines


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of the cross-validation")
    parser.add_argument("--jobs", type=int, default=1, help="data sets measured at once")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    require_folder(chosen.output)
    known = facts()
    found = joblib.Parallel(n_jobs=chosen.jobs)(joblib.delayed(measure)(name, chosen.repeats) for name in SETS)
    results = dict(zip(SETS, found, strict=True))
    publish(chosen.output, report(known, results, chosen.repeats), {**known, "repeats": chosen.repeats, **results})


if __name__ == "__main__":
    main()
