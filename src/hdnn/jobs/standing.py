"""How a run stands beside simple methods, other parts and seeds, in words and tables.

Numbers come from metrics.json, as `worth` found them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hdnn.data import Dataset
from hdnn.names import count
from hdnn.report import Section, Table

CLEAR = 2.0
"""Standard errors that a difference must have, for being more than chance."""

_COLUMNS = 100  # in the table of columns
_SHOWN = 20  # columns in the table of importances
_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "loss": "log loss",
    "calibration_error": "calibration error",
    "r2": "R²",
    "error": "RMS error",
    "absolute_error": "mean absolute error",
}
_CLASSES = ("accuracy", "balanced_accuracy", "roc_auc", "loss", "calibration_error")
_NUMBERS = ("r2", "error", "absolute_error")


def lines(metrics: Mapping[str, Any]) -> list[str]:
    """What a terminal says of it, a line each."""
    score, beside, called = _score(metrics), metrics.get("baselines") or {}, titles(metrics)
    said = [f"{name} {_written(score, beside[key][score])}" for key, name in called.items() if key in beside]
    title = _TITLES[score]
    words = [f"On the same rows, {title} of {', '.join(said)}."] if said else []
    return [*words, *_sentences(metrics)]


def _sentences(metrics: Mapping[str, Any]) -> list[str]:
    """How the network stands, and how its score varies."""
    said = filter(None, [_chance(metrics), compared(metrics), *repeated(metrics)])
    return [text[0].upper() + text[1:] for text in said]


def titles(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What the baselines are called, by their names in metrics.json."""
    classes = _score(metrics) == "accuracy"
    return {
        "trees": "gradient-boosted trees",
        "linear": "logistic regression" if classes else "ridge regression",
        "constant": "the most frequent class" if classes else "the mean",
    }


def _chance(metrics: Mapping[str, Any]) -> str:
    """How far chance goes in the choice of the test rows; of R² that does not follow from the score."""
    share, rows = metrics.get("test_accuracy"), metrics["test_rows"]
    if share is None or "baselines" not in metrics:
        return ""
    if share == 1:  # the formula would say that chance went nowhere
        least = 100 * 0.05 ** (1 / rows)
        sure = f"with 95 % confidence the accuracy is at least {least:.3g} %"
        return f"All of {count(rows, 'test row')} are right: {sure}."
    error = 100 * math.sqrt(share * (1 - share) / rows)
    return f"With {count(rows, 'test row')}, the accuracy has a standard error of {error:.2g} points."


def compared(metrics: Mapping[str, Any]) -> str:
    """How the network stands to the best of the baselines, in words; empty where there is none."""
    score = _score(metrics)
    unit, factor = (" points", 100) if score == "accuracy" else (" of R²", 1)
    beside = metrics.get("baselines") or {}
    if not beside:
        return ""
    best = max(beside, key=lambda name: beside[name][score])
    ahead, error = beside[best]["difference"], beside[best].get("difference_error", math.inf)
    what = titles(metrics)[best]
    if ahead == 0:
        return f"As good as {what}."
    place = "ahead of" if ahead > 0 else "behind"
    clear = "" if abs(ahead) > CLEAR * error else "No clear difference: "
    chance = f", with a standard error of {factor * error:.2g}" if math.isfinite(error) else ""
    return f"{clear}{factor * abs(ahead):.2g}{unit} {place} {what}{chance}."


def repeated(metrics: Mapping[str, Any]) -> list[str]:
    """What folds and seeds found, a sentence each."""
    score = _score(metrics)
    said = []
    for name, of in (("folds", "folds of the training rows, each held out once"), ("seeds", "seeds, on the test rows")):
        found = metrics.get(name) or {}
        if score not in found or found[score]["sd"] is None:
            continue
        mean, sd, error = (_written(score, found[score][each]) for each in ("mean", "sd", "standard_error"))
        lost = f", of which {found['diverged']} diverged" if found["diverged"] else ""
        said.append(f"{_TITLES[score]} {mean} ± {sd} over {found['count']} {of}{lost} (standard error {error}).")
    return said


def section(dataset: Dataset, metrics: Mapping[str, Any]) -> Section | None:
    """The part of a report; None where nothing was found out, as after an interrupt."""
    if "baselines" not in metrics:
        return None
    parts = [_beside(dataset, metrics), *_repeats(metrics), *_columns(metrics)]
    return Section("What the score is worth", parts, "\n\n".join(_sentences(metrics)))


def columns(dataset: Dataset) -> Section | None:
    """What the columns of a table were taken for; None where nobody says."""
    if not dataset.columns:
        return None
    rows = [
        (each.name, each.kind, each.use, each.missing, "\n".join(each.examples)) for each in dataset.columns[:_COLUMNS]
    ]
    more = len(dataset.columns) - len(rows)
    note = "Missing: in all rows. Why a column was left out stands at the top of this page."
    return Section(
        "The columns",
        [Table("As they were read", ("column", "kind", "used as", "missing", "examples"), rows,
               note + (f" And {more} more columns." if more else ""))],
    )  # fmt: skip


def _beside(dataset: Dataset, metrics: Mapping[str, Any]) -> Table:
    beside = metrics["baselines"]
    names = _CLASSES if dataset.classes else _NUMBERS
    called = {name: title for name, title in titles(metrics).items() if name in beside}
    rows = [("the network", *(_rounded(name, metrics.get(f"test_{name}")) for name in names))]
    rows += [(title, *(_rounded(name, beside[key].get(name)) for name in names)) for key, title in called.items()]
    marked = [i for i, key in enumerate(called, start=1) if _is_better(beside[key])]
    notes = [_meaning(dataset, metrics)]
    if marked:
        notes.append("In bold: better than the network by more than two standard errors.")
    for key, reason in (metrics.get("baselines_left_out") or {}).items():
        notes.append(f"Left out: {titles(metrics)[key]}, as {reason}.")
    return Table("Beside simple methods on the same rows", ("", *(_TITLES[name] for name in names)), rows,
                 " ".join(notes), marked)  # fmt: skip


def _is_better(beside: Mapping[str, float]) -> bool:
    return beside["difference"] < -CLEAR * beside.get("difference_error", math.inf)


def _meaning(dataset: Dataset, metrics: Mapping[str, Any]) -> str:
    """Half a sentence on each number."""
    if not dataset.classes:
        return (
            f"R²: the share of the target's variance that is explained, 0 for the mean and 1 at best. The errors are "
            f"in its units; its standard deviation on these rows is {metrics['test_spread']:.4g}."
        )
    classes = len(dataset.classes)
    return (
        f"Balanced accuracy: the share of each class that is found, averaged over the classes; guessing finds "
        f"{1 / classes:.2g}. ROC AUC: how often a row of a class gets a higher probability of it than a row of "
        f"another; guessing gives 0.5. Log loss: minus the mean logarithm of the probability of the true class, 0 at "
        f"best; {math.log(classes):.2g} knows nothing. "
        f"Calibration error: how far the probabilities are from how often they come true."
    )


def _repeats(metrics: Mapping[str, Any]) -> list[Table]:
    names = _CLASSES if _score(metrics) == "accuracy" else _NUMBERS
    tables = []
    for key, title, note in (
        ("folds", "folds", "Each part of the training rows was held out once from a training like this one."),
        ("seeds", "seeds", "Other weights and batches, the same rows; scored on the test rows. The network of the "
                           "first seed is kept, whatever its score."),
    ):  # fmt: skip
        found = metrics.get(key)
        if not found:
            continue
        there = [(name, found[name]) for name in names if name in found]
        shown = ("mean", "sd", "standard_error")
        rows = [(_TITLES[name], *(_rounded(name, each[one]) for one in shown)) for name, each in there]
        lost = f" {found['diverged']} diverged and are left out." if found["diverged"] else ""
        heads = ("", "mean", "standard deviation", "standard error")
        tables.append(Table(f"{found['count']} {title}", heads, rows, note + lost))
    return tables


def _columns(metrics: Mapping[str, Any]) -> list[Table]:
    found = metrics.get("importances")
    if not found:
        return []
    score = _TITLES[_score(metrics)]
    note = (
        f"How far {score} falls on test rows when the column is shuffled, over five shufflings. About 0: the network "
        f"makes no use of it, or other columns say the same."
    )
    if len(found) > _SHOWN:
        note += f" The first {_SHOWN} of {len(found)} columns."
    rows = [(name, round(each["mean"], 4), round(each["sd"], 4)) for name, each in found.items()][:_SHOWN]
    return [Table("What the columns are worth", ("column", f"{score} lost", "standard deviation"), rows, note)]


def _score(metrics: Mapping[str, Any]) -> str:
    return "accuracy" if "test_accuracy" in metrics else "r2"


def _rounded(name: str, value: float | None) -> float | None:
    """To the digits that count; errors are in units of the user's."""
    return value if value is None or name in ("error", "absolute_error") else round(value, 4)


def _written(score: str, value: float) -> str:
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.3f}"
