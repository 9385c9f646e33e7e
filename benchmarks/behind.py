"""Why the estimators are behind the boosted trees on some tables: one change at a time, on the rows of seed 0.

    python benchmarks/behind.py TABLES --store SCORES.jsonl --output benchmarks/results/DATE-behind.md

The tables are those that `tables.py` found more than three points behind. A change that closes most of the gap names
the reason: pieces too coarse, too few epochs, a network too small, luck of one fit, categories in columns of 0 and 1.
Trees of one split each show what a sum of functions of one column could do. No default is chosen by these numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from threadpoolctl import threadpool_limits

import contenders
import hdnn
import tables
import verdicts
from contenders import COMMAND, ESTIMATOR, TREES, Task
from hdnn.training import tabular
from machine import facts, head, publish, require_folder, say, table

FITS = 5


def changed(task: Task, encoder: Callable[[Task], Any] | None = None, bins: int = tabular.BINS, **chosen: Any) -> Any:
    """The estimator with a change, behind its own encoder or another, whose numbers it then encodes itself."""
    kind = hdnn.HamiltonianClassifier if task.classes else hdnn.HamiltonianRegressor
    model = kind(**{"random_state": task.seed, "encode": encoder is not None, "bins": bins, **chosen})
    return make_pipeline(hdnn.DataFrameEncoder(bins=bins) if encoder is None else encoder(task), model)


def by_target(task: Task) -> Any:
    """Each category as the mean target of its rows, cross-fitted."""
    texts = TargetEncoder(random_state=task.seed)
    return ColumnTransformer(
        [("texts", texts, task.texts())], remainder=SimpleImputer(strategy="median", add_indicator=True)
    )


def mean_of_fits(task: Task) -> float:
    """Score of the mean prediction of fits from different weights and, where rows are held back, different ones."""
    inputs, answers = task.inputs, task.frame[task.target].to_numpy()
    models = [changed(task, random_state=1000 * task.seed + i) for i in range(FITS)]
    for model in models:
        model.fit(inputs.iloc[task.train], answers[task.train])
    ask = "predict_proba" if task.classes else "predict"
    said = np.mean([getattr(model, ask)(inputs.iloc[task.test]) for model in models], axis=0)
    return task.score(models[0].classes_[said.argmax(axis=1)] if task.classes else said)


def scored(build: Callable[[Task], Any], task: Task) -> float:
    """Score of a fresh model."""
    return contenders.fitted(build, task)[0]


def variants() -> dict[str, Callable[[Task], float]]:
    """The changes, by what they are called."""
    known = hdnn.HamiltonianClassifier()
    changes: dict[str, dict[str, Any]] = {
        "as it is": {},
        "no pieces": {"bins": 0},
        "32 pieces": {"bins": 32},
        "4 times the epochs": {"epochs": 4 * known.epochs, "early_stopping": False},
        "a third of the rate": {"learning_rate": known.learning_rate / 3},
        "16 layers, horizon 3.2": {"layers": 16, "horizon": 3.2},
        "256 features": {"features": 256},
        "one column a category": {"encoder": contenders.one_hot},
        "categories by target": {"encoder": by_target},
    }
    own = {name: partial(scored, partial(changed, **chosen)) for name, chosen in changes.items()}
    trees = {
        "trees of one split": partial(scored, partial(contenders.boosted, max_depth=1)),
        TREES: partial(scored, contenders.boosted),
    }
    return {**own, f"mean of {FITS} fits": mean_of_fits, **trees}


def far(folder: Path, store: Path) -> list[dict[str, Any]]:
    """The tables on which one of the doors is behind the boosted trees, over all seeds of the store."""
    entries = [entry for entry in tables.stored(store).values() if entry["part"] == "test"]
    points = verdicts.means(entries, (TREES, COMMAND, ESTIMATOR))
    gap = points[[COMMAND, ESTIMATOR]].sub(points[TREES], axis=0).min(axis=1)
    return [entry for entry in tables.listed(folder) if gap.get(entry["name"], 0.0) < -verdicts.BEHIND]


def measured(folder: Path, chosen: Iterable[dict[str, Any]], seeds: int) -> dict[str, dict[str, float]]:
    """Points of every change on every table, the mean of some seeds."""
    found: dict[str, dict[str, float]] = {}
    with threadpool_limits(1):
        for entry in chosen:
            frame, classes = tables.opened(folder, entry), entry["task"] == "classification"
            tasks = [contenders.task_of(frame, entry["target"], classes, seed) for seed in range(seeds)]
            found[entry["name"]] = {
                name: 100 * statistics.mean(score(task) for task in tasks) for name, score in variants().items()
            }
            say(f"{entry['name']}: {json.dumps(found[entry['name']])}")
    return found


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, help="folder of exported tables")
    parser.add_argument("--store", type=Path, required=True, help="scores of tables.py")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    asked = parser.parse_args()
    require_folder(asked.output)
    known = facts()
    found = measured(asked.tables, far(asked.tables, asked.store), asked.seeds)
    rows = [[name, *(f"{points:.1f}" for points in scores.values())] for name, scores in found.items()]
    lines = [*head("Tables far behind, one change at a time", known), "", *table(["table", *variants()], rows)]
    publish(asked.output, lines, {**known, "points": found})


if __name__ == "__main__":
    main()
