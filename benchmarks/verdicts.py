"""What scores on many tables say: means, ranks, wins with a sign test, and where one method is behind another."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import binomtest

from contenders import COMMAND, ESTIMATOR, TREES
from hdnn.names import count
from machine import head, table

TIE = 0.1
"""Points within which two means of a table are a tie."""

BEHIND = 3.0
"""Points of a table that need an explanation."""

SIZES = ((0, 1000), (1000, 5000), (5000, 10**9))


class Duel(NamedTuple):
    """How often one method was better than another, table by table."""

    wins: int
    ties: int
    losses: int

    @property
    def chance(self) -> float:
        """Two-sided sign test: how likely so uneven a count is where both are as good; ties do not count."""
        decided = self.wins + self.losses
        return float(binomtest(self.wins, decided).pvalue) if decided else 1.0

    def __str__(self) -> str:
        return f"{self.wins} / {self.ties} / {self.losses} (p {self.chance:.2g})"


def means(entries: Iterable[dict[str, Any]], methods: Sequence[str]) -> pd.DataFrame:
    """Mean score in points: a row a table, a column a method; only tables and seeds that every method has."""
    frame = pd.DataFrame(entries)
    wide = frame.pivot(index=["table", "seed"], columns="method", values="score").reindex(columns=list(methods))
    return 100 * wide.dropna().groupby(level="table").mean()


def duel(points: pd.DataFrame, one: str, other: str) -> Duel:
    """One method against another."""
    gap = points[one] - points[other]
    return Duel(int((gap > TIE).sum()), int((gap.abs() <= TIE).sum()), int((gap < -TIE).sum()))


def summary(points: pd.DataFrame) -> list[list[str]]:
    """Mean, median and mean rank of every method; the best has rank 1, and equal ones share theirs."""
    ranks = points.round(6).rank(axis=1, ascending=False).mean()
    return [
        [name, f"{points[name].mean():.2f}", f"{points[name].median():.2f}", f"{ranks[name]:.2f}"] for name in points
    ]


def report(known: dict[str, Any], tables: list[dict[str, Any]], entries: list[dict[str, Any]], part: str) -> list[str]:
    """The whole report in Markdown."""
    facts = {entry["name"]: entry for entry in tables}
    methods = list(dict.fromkeys(entry["method"] for entry in entries))
    points = means(entries, methods)
    seeds = sorted({entry["seed"] for entry in entries})
    ours = [name for name in (COMMAND, ESTIMATOR) if name in points]
    lines = [
        *head("Tables: hdnn at its defaults against scikit-learn's models at theirs", known),
        "",
        f"{len(points)} tables, seeds {', '.join(map(str, seeds))}, {part} rows (a fifth, stratified for classes; the "
        "same for all methods). Accuracy or R² (below 0 counts as 0), in points of 100. Seconds are of one core. A "
        f"tie is within {TIE} points of the means of a table; p is of the two-sided sign test without ties.",
        "",
        *errors(entries),
    ]
    for task in ("classification", "regression"):
        chosen = points[[facts[name]["task"] == task for name in points.index]]
        if len(chosen):
            lines += [f"## {'Accuracy' if task == 'classification' else 'R²'}, {len(chosen)} tables", ""]
            lines += [*table(["method", "mean", "median", "mean rank"], summary(chosen)), ""]
    lines += ["## All tables", "", *table(["method", "mean", "median", "mean rank"], summary(points)), ""]
    for our in ours:
        lines += ["", f"## {our}: wins / ties / losses", ""]
        rows = [
            [name, str(duel(points, our, name)), *(str(duel(part, our, name)) for part in sized(points, facts))]
            for name in points
            if name not in ours
        ]
        lines += table(["against", "all", *(size_words(*size) for size in SIZES)], rows)
        if TREES in points:
            lines += ["", *behind(points, our, facts)]
    lines += ["", "## By size of table: means", "", *by_size(points, facts)]
    lines += ["", "## Seconds of a fit", "", *seconds(entries, methods)]
    lines += ["", "## Every table", "", *every(points, facts)]
    return lines


def size_words(least: int, below: int) -> str:
    """A range of rows."""
    return f"{least} rows and more" if below >= 10**9 else f"below {below} rows" if not least else f"{least} to {below}"


def sized(points: pd.DataFrame, facts: dict[str, Any]) -> list[pd.DataFrame]:
    """The tables of each size."""
    rows = pd.Series({name: facts[name]["rows"] for name in points.index})
    return [points[(rows >= least) & (rows < below)] for least, below in SIZES]


def by_size(points: pd.DataFrame, facts: dict[str, Any]) -> list[str]:
    """Means of the methods by size of table."""
    parts = sized(points, facts)
    titles = [f"{size_words(*size)}, {len(part)} tables" for size, part in zip(SIZES, parts, strict=True)]
    rows = [[name, *(f"{part[name].mean():.2f}" if len(part) else "" for part in parts)] for name in points]
    return table(["method", *titles], rows)


def behind(points: pd.DataFrame, our: str, facts: dict[str, Any]) -> list[str]:
    """Tables on which the boosted trees at their defaults are far ahead."""
    gap = (points[our] - points[TREES]).sort_values()
    far = gap[gap < -BEHIND]
    if far.empty:
        return [f"No table is more than {BEHIND:g} points behind {TREES}."]
    rows = [[name, facts[name]["rows"], f"{points[our][name]:.1f}", f"{value:+.1f}"] for name, value in far.items()]
    return [
        f"{count(len(far), 'table')} more than {BEHIND:g} points behind {TREES}:",
        "",
        *table(["table", "rows", our, "gap"], rows),
    ]


def errors(entries: list[dict[str, Any]]) -> list[str]:
    """Methods that failed, which counts as a score of 0."""
    failed = [entry for entry in entries if "error" in entry]
    lines = [f"- {e['method']} on {e['table']}, seed {e['seed']}: {e['error'].splitlines()[0]}" for e in failed]
    return ["Failed, and counted as 0:", "", *lines, ""] if failed else []


def seconds(entries: list[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """Median, mean and longest time of a fit."""
    rows = []
    for name in methods:
        taken = [entry["seconds"] for entry in entries if entry["method"] == name and "error" not in entry]
        if taken:
            rows.append([name, *(f"{f(taken):.2f}" for f in (statistics.median, statistics.mean, max))])
    return table(["method", "median", "mean", "longest"], rows)


def every(points: pd.DataFrame, facts: dict[str, Any]) -> list[str]:
    """A row for each table; against the boosted trees, whoever of the rest is best."""
    rows = []
    for name, scores in points.iterrows():
        fact = facts[name]
        size = f"{fact['rows']} x {fact['numbers']} + {fact['categories']}"
        kind = f"{fact['classes']} classes" if fact["classes"] else "R²"
        best = scores.max()
        rows.append([name, size, kind, *(f"**{s:.1f}**" if s >= best - 1e-9 else f"{s:.1f}" for s in scores)])
    return table(["table", "rows x numbers + categories", "task", *points], rows)
