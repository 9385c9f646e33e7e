"""hdnn against trees, a linear model and a perceptron on many tables, all at their defaults, on the same rows.

    python benchmarks/catalogue.py PACKAGES --export TABLES --half unseen
    python benchmarks/tables.py TABLES --store SCORES.jsonl --output benchmarks/results/DATE-tables.md

Choices are made on one half of the tables and only on `--part validation`; the other half is scored once. Every score
is a line of the store, so that a run that was ended goes on, and methods can be added to it one by one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

import contenders
import hdnn
import verdicts
from machine import facts, publish, require_folder, say

Key = tuple[str, int, str, str]


def listed(folder: Path) -> list[dict[str, Any]]:
    """The tables of an exported half, small ones first."""
    index = folder / "index.json"
    if not index.is_file():
        raise SystemExit(
            f"{folder} holds no index.json. Write the tables there: catalogue.py PACKAGES --export {folder}"
        )
    tables: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))
    return sorted(tables, key=lambda table: table["rows"] * (table["numbers"] + table["categories"]))


def opened(folder: Path, table: dict[str, Any]) -> pd.DataFrame:
    """A table as it was exported: empty cells are missing, and so is nothing else."""
    classes = table["task"] == "classification"
    texts = {table["target"]: str} if classes else None
    return pd.read_csv(folder / table["file"], dtype=texts, keep_default_na=False, na_values=[""])


def stored(store: Path) -> dict[Key, dict[str, Any]]:
    """What is known already; the last line may be half of one, where a process was killed."""
    known: dict[Key, dict[str, Any]] = {}
    if store.is_file():
        for line in store.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            known[entry["table"], entry["seed"], entry["method"], entry["part"]] = entry
    return known


def measure(folder: Path, store: Path, seeds: int, methods: Iterable[str], part: str) -> None:
    """Score what the store lacks: all tables of a seed before the next seed, so that an end leaves whole seeds."""
    known = stored(store)
    if store.is_file() and not store.read_bytes().endswith(b"\n"):
        with store.open("a", encoding="utf-8") as file:
            file.write("\n")
    with threadpool_limits(1):
        hdnn.HamiltonianClassifier(epochs=1).fit([[0.0], [1.0]], [0, 1])  # the first optimizer imports much of PyTorch
        for seed in range(seeds):
            for table in listed(folder):
                lacking = [name for name in methods if (table["name"], seed, name, part) not in known]
                if not lacking:
                    continue
                frame, classes = opened(folder, table), table["task"] == "classification"
                task = contenders.task_of(frame, table["target"], classes, seed, validation=part == "validation")
                for name in lacking:
                    entry = {"table": table["name"], "seed": seed, "method": name, "part": part}
                    with store.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({**entry, **scored(name, task)}) + "\n")
            say(f"seed {seed} done")


def scored(method: str, task: contenders.Task) -> dict[str, Any]:
    """Score and seconds; a method that refuses a table or fails on it scores 0 and says why."""
    try:
        score, seconds = contenders.METHODS[method](task)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        return {"score": 0.0, "seconds": 0.0, "error": str(error)}
    return {"score": score, "seconds": round(seconds, 3)}


def main() -> None:
    """Measure what is missing, then report on all that is stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, help="folder of exported tables")
    parser.add_argument("--store", type=Path, required=True, help="file of scores, one JSON a line; gone on with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=contenders.METHODS, default=contenders.available())
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    asked = parser.parse_args()
    require_folder(asked.output)
    require_folder(asked.store)
    measure(asked.tables, asked.store, asked.seeds, asked.methods, asked.part)
    entries = [entry for entry in stored(asked.store).values() if entry["part"] == asked.part]
    known = facts()
    wanted = [entry for entry in entries if entry["seed"] < asked.seeds and entry["method"] in asked.methods]
    tables = listed(asked.tables)
    publish(
        asked.output, verdicts.report(known, tables, wanted, asked.part), {**known, "tables": tables, "scores": wanted}
    )


if __name__ == "__main__":
    main()
