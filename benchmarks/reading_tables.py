"""Read many tables and say what each of their columns was taken for, as a log to be checked by eye.

python benchmarks/reading_tables.py FOLDER --pattern "ISLP/data/*.csv" ... --output LOG.md
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from hdnn.data import reading
from hdnn.data.dialect import Dialect
from hdnn.data.kinds import Kind, kinds
from hdnn.names import few


def main() -> None:
    """Write the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", nargs="+", default=["**/*.csv"])
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    files = sorted({file for pattern in asked.pattern for file in asked.folder.glob(pattern)})
    lines = ["| table | rows | what it was taken for |", "| --- | --- | --- |"]
    lines += [row(file, asked.folder) for file in files]
    asked.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(file: Path, folder: Path) -> str:
    """A line of the log."""
    name = str(file.relative_to(folder))
    try:
        found = reading.cells(file, Dialect())
        decided = kinds(found.frame, Dialect(), found.separator)
    except ValueError as error:
        return f"| {name} | | refused: {escaped(str(error).replace(str(folder) + '/', ''))} |"
    said = "; ".join([*found.notes, *groups(decided)])
    return f"| {name} | {len(found.frame)} | {escaped(said)} |"


def groups(decided: dict[str, Kind]) -> Iterator[str]:
    """Columns that were taken for the same, a few of them by name."""
    by: dict[str, list[str]] = {}
    for name, kind in decided.items():
        words = "in doubt, refused" if kind.doubt else kind.words + (", pointed at" if kind.caution else "")
        by.setdefault(words, []).append(name)
    for words, names in by.items():
        yield f"**{words}**: {few(names, 6)}"


def escaped(text: str) -> str:
    """A text that keeps within its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
