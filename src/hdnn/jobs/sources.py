"""Where data comes from: the names of the built-in sets, or a file of the user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdnn import data as sets
from hdnn import options
from hdnn.data import Dataset, Task, documents
from hdnn.names import unknown
from hdnn.runs import Run

PLANAR = ("swiss-roll", "double-moons", "double-circles")
NAMED = ("digits", "mnist", *PLANAR)
TABLES = (".csv", ".tsv", ".parquet")
_POINTS = 8000


@dataclass(frozen=True)
class Source:
    """A data set by name, or a table by path, and how to read it; plain values.

    Args:
        data: "digits", "mnist", "swiss-roll", "double-moons", "double-circles", or the path of a .csv, .tsv or
            .parquet table.
        seed: of random points and of the split.
        size: points of a planar set; None makes 8000.
        target: the column of a table to predict.
        task: "classification" or "regression" of a table; None decides by the target.
        columns: the input columns of a table; None takes all that can help.
        folder: where the four MNIST files are.
        download: fetch them if they are not there.

    Raises:
        ValueError: if there is no such data set, or an argument is for another kind.
        FileNotFoundError: if there is no such file.
    """

    data: str
    seed: int = 0
    size: int | None = None
    target: str | None = None
    task: Task | None = None
    columns: tuple[str, ...] | None = None
    folder: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.data not in NAMED and not self.is_table:
            raise ValueError(unknown("data set", self.data, NAMED) + " For a table give a .csv, .tsv or .parquet file.")
        if self.is_table and not Path(self.data).exists():
            raise FileNotFoundError(f"There is no file {self.data}. A .csv, .tsv or .parquet table was expected there.")
        if self.is_table and self.target is None:
            raise ValueError(f"A table needs its target column: give --target NAME for {self.data}.")
        if not self.is_table and (self.target, self.task, self.columns) != (None, None, None):
            raise ValueError(f"`target`, `task` and `columns` are for tables; {self.data} has its own.")
        if self.size is not None and self.data not in PLANAR:
            raise ValueError(f"`size` is for {', '.join(PLANAR)}; {self.data} has its own. Leave it out.")
        options.check(options.SourceChoices, vars(self))
        if self.data != "mnist" and (self.folder is not None or self.download):
            raise ValueError(f"`folder` and `download` are for mnist; {self.data} needs neither. Leave them out.")

    @property
    def is_table(self) -> bool:
        """Whether it is a file of the user's."""
        # A folder or file that happens to be called "digits" does not hide the data set of that name.
        return self.data not in NAMED and (Path(self.data).suffix.lower() in TABLES or Path(self.data).exists())

    def located(self) -> Source:
        """The same with full paths, for a run that is evaluated from another folder."""
        return dataclasses.replace(
            self,
            data=str(Path(self.data).absolute()) if self.is_table else self.data,
            folder=None if self.folder is None else str(Path(self.folder).absolute()),
        )


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
        return sets.planar(source.data.replace("-", "_"), _POINTS if source.size is None else source.size, source.seed)
    if source.target is None:
        raise ValueError(f"A table needs its target column: give `target` for {source.data}.")
    return sets.table(source.data, source.target, seed=source.seed, task=source.task, columns=source.columns)


def source_of(run: Run, mnist_folder: str | None = None) -> Source:
    """Where the data of a run came from; they are there, so nothing is downloaded.

    Args:
        run: whose configuration says it.
        mnist_folder: where the MNIST files are now, if they have moved.

    Raises:
        ValueError: if the configuration does not say it, or what it says makes no sense.
        FileNotFoundError: if there is no such file.
    """
    described = dict(run.config.data)
    if "data" not in described:
        raise ValueError(f"The run {run.folder} does not say where its data came from. Give the data as a file.")
    if mnist_folder is not None:
        described["folder"] = mnist_folder
    source = documents.record(Source, described, f"the data of {run.folder}")
    return dataclasses.replace(source, download=False)


def mnist_folder() -> Path:
    """Where MNIST goes when no folder is given: the user's cache."""
    import pooch

    return Path(pooch.os_cache("hdnn")) / "mnist"
