"""Where data comes from: the names of the built-in sets, or a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdnn import data as sets
from hdnn.data import Dataset, Task
from hdnn.names import unknown

PLANAR = ("swiss-roll", "double-moons", "double-circles")
NAMED = ("digits", "mnist", *PLANAR)
TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Source:
    """A data set by name, or a table by path, and how to read it; plain values.

    Args:
        data: "digits", "mnist", "swiss-roll", "double-moons", "double-circles", or the path of a .csv, .tsv or
            .parquet table.
        seed: of random points and of the split.
        size: points of a planar set.
        target: the column of a table to predict.
        task: "classification" or "regression" of a table; None decides by the target.
        folder: where the four MNIST files are.
        download: fetch them if they are not there.

    Raises:
        ValueError: if there is no such data set, or an argument is for another kind.
        FileNotFoundError: if there is no such file.
    """

    data: str
    seed: int = 0
    size: int = 8000
    target: str | None = None
    task: Task | None = None
    folder: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.data not in NAMED and not self.is_table:
            raise ValueError(unknown("data set", self.data, NAMED) + " For a table give a .csv, .tsv or .parquet file.")
        if self.is_table and not Path(self.data).exists():
            raise FileNotFoundError(f"There is no file {self.data}. A .csv, .tsv or .parquet table was expected there.")
        if self.is_table and self.target is None:
            raise ValueError(f"A table needs its target column: give --target NAME for {self.data}.")
        if not self.is_table and (self.target is not None or self.task is not None):
            raise ValueError(f"`target` and `task` are for tables; {self.data} has its own.")

    @property
    def is_table(self) -> bool:
        """Whether it is a file of the user's."""
        return Path(self.data).suffix.lower() in TABLES or Path(self.data).exists()


def load(source: Source, progress: Callable[[str, int, int], None] | None = None) -> Dataset:
    """Read a data set.

    Args:
        source: which.
        progress: told of downloads: file name, bytes so far, bytes in all.

    Raises:
        OSError: if a file is not there or a download fails.
        ValueError: if a file is damaged or holds what cannot be learned; the message says what and where.
    """
    if source.data == "digits":
        return sets.digits(source.seed)
    if source.data == "mnist":
        return sets.mnist(source.folder or mnist_folder(), source.download, progress)
    if source.data in PLANAR:
        return sets.planar(source.data.replace("-", "_"), source.size, source.seed)
    if source.target is None:
        raise ValueError(f"A table needs its target column: give --target NAME for {source.data}.")
    return sets.table(source.data, source.target, seed=source.seed, task=source.task)


def mnist_folder() -> Path:
    """Where MNIST goes when no folder is given: the user's cache."""
    import pooch

    return Path(pooch.os_cache("hdnn")) / "mnist"
