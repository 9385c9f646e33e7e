"""Where data comes from: the names of the built-in sets, or a file or folder of the user's."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hdnn import data as sets
from hdnn import options
from hdnn.data import Dataset, Task, documents
from hdnn.data.cifar import without_archive
from hdnn.data.dialect import Dialect
from hdnn.data.images import is_idx_folder
from hdnn.data.reading import KINDS
from hdnn.data.tables import table_again
from hdnn.doors import shelled
from hdnn.jobs.setups import SETUPS, Setup, image_setup, sequence_setup, table_setup
from hdnn.names import unknown
from hdnn.ranks import first_alone
from hdnn.runs import Run
from hdnn.training.tabular import BINS

Progress = Callable[[str, int, int], None]
PLANAR = ("swiss-roll", "double-moons", "double-circles")
PUBLISHED = ("mnist", "fashion-mnist", "cifar10")
NAMED = ("digits", *PUBLISHED, *PLANAR)
TABLES = (".csv", ".tsv", ".tab", ".txt", ".gz", ".parquet", ".xlsx")
_POINTS = 8000


class DataSource(ABC):
    """Where the data of a job come from. To add one, subclass this and implement `load`."""

    @property
    def name(self) -> str:
        """What to call it."""
        return type(self).__name__

    @abstractmethod
    def load(self, progress: Progress | None = None) -> Dataset:
        """Read it: training and test part, with the encoders that made them.

        Args:
            progress: told of downloads: file name, bytes so far, bytes in all.
        """

    def setup(self, dataset: Dataset) -> Setup:
        """The network and the recipe that suit the data where the user chooses none.

        Raises:
            ValueError: for images, of which nobody knows what suits them.
        """
        if len(dataset.inputs) == 2:
            return sequence_setup(dataset.inputs, len(dataset.x_train))
        if len(dataset.inputs) > 1:
            raise ValueError(f"Nobody knows which network suits the images of {self.name}. Implement `setup`.")
        return table_setup(dataset.inputs[0], len(dataset.x_train))

    def described(self) -> dict[str, Any]:
        """Plain values for the configuration of a run."""
        return {"data": self.name, "own": True}


class _Kind(NamedTuple):
    """One kind of built-in source: which choices are its own, and how it is read."""

    takes: tuple[str, ...]
    load: Callable[[Source, Progress | None], Dataset]


def _planar(source: Source, progress: Progress | None) -> Dataset:
    size = _POINTS if source.size is None else source.size
    return sets.planar(source.data.replace("-", "_"), size, source.seed)


def _table(source: Source, progress: Progress | None) -> Dataset:
    if source.target is None:
        raise ValueError(f"A table needs its target column: give `target` for {source.data}.")
    chosen = {name: getattr(source, name) for name in (*_TABLE.takes, "seed") if name != "target"}
    return sets.table(source.data, source.target, **{**chosen, "without": source.without or ()})


def _steps(source: Source, progress: Progress | None) -> Dataset:
    if source.target is None or source.sequence is None or source.time is None:
        raise ValueError(f"Sequences of {source.data} need `target`, `sequence` and `time`: give the three columns.")
    return sets.sequences(
        source.data, source.target, sequence=source.sequence, time=source.time, seed=source.seed, task=source.task,
        columns=source.columns, without=source.without or (), dialect=source.dialect,
    )  # fmt: skip


def _folder(source: Source, progress: Progress | None) -> Dataset:
    if is_idx_folder(Path(source.data)):
        if source.image_size is not None:
            raise ValueError(
                f"`image_size` is for folders of pictures; {source.data} holds IDX files, whose images keep their "
                f"size. Leave it out."
            )
        return sets.idx_images(source.data, source.seed)
    return sets.pictures(source.data, seed=source.seed, image_size=source.image_size)


_FILE = ("separator", "decimal", "no_header", "skip_lines", "encoding", "missing", "date_format")
_TABLE = _Kind(("target", "task", "columns", "without", "bins", *_FILE), _table)
_STEPS = _Kind(("sequence", "time", "target", "task", "columns", "without", *_FILE), _steps)
_SERIES = _Kind((), lambda source, progress: sets.time_series(source.data, seed=source.seed))
_FETCHED = ("folder", "download")
_FOLDER = _Kind(("image_size",), _folder)
_KINDS = {
    "digits": _Kind((), lambda source, progress: sets.digits(source.seed)),
    "mnist": _Kind(_FETCHED, lambda of, progress: sets.mnist(_place(of), of.download, progress, in_bytes=True)),
    "fashion-mnist": _Kind(_FETCHED, lambda of, progress: sets.fashion_mnist(_place(of), of.download, progress)),
    "cifar10": _Kind(_FETCHED, lambda of, progress: sets.cifar10(_place(of), of.download, progress)),
    **dict.fromkeys(PLANAR, _Kind(("size",), _planar)),
}


@dataclass(frozen=True)
class Source(DataSource):
    """A data set by name, or a table or folder of images by path, and how to read it; plain values.

    Args:
        data: "digits", "mnist", "fashion-mnist", "cifar10", "swiss-roll", "double-moons", "double-circles"; the path of
            a table: .csv, .tsv, .tab or .txt (also .gz), .parquet or .xlsx; that of a .ts file of sequences, see
            `hdnn.data.time_series`; or that of a folder of pictures, see `hdnn.data.pictures`, or of IDX files, see
            `hdnn.data.idx_images`.
        seed: of random points and of the split.
        size: points of a planar set; None makes 8000.
        target: the column of a table to predict.
        task: "classification" or "regression" of a table; None decides by the target.
        sequence: the column of a table of one row a step that names the sequences, see `hdnn.data.sequences`.
        time: the column that orders the steps of each.
        columns: the input columns of a table; None takes all that can help.
        without: columns of a table to leave out.
        separator: how a table is written, where that cannot be found, as are the following; see `hdnn.data.read_table`.
        decimal: "." or ",".
        no_header: the first line is data.
        skip_lines: lines above the header.
        encoding: of the letters.
        missing: what stands for a missing value.
        date_format: of dates that may be read in several ways, as in "%d/%m/%Y".
        bins: of each number of a table, see `hdnn.data.table`; 0 in runs of before they existed.
        folder: where the files of "mnist", "fashion-mnist" or "cifar10" are.
        download: fetch them if they are not there.
        image_size: pixels along each side that pictures of a folder get.

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
    without: tuple[str, ...] | None = None
    separator: str | None = None
    decimal: options.Decimal | None = None
    no_header: bool = False
    skip_lines: int = 0
    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    date_format: str | None = None
    bins: int = field(default=BINS, metadata={"before": 0})
    image_size: int | None = None
    sequence: str | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        known = self.data in NAMED or self.is_table or self.is_folder or self.is_series
        if not (known and self.data):  # an empty path would be the working folder
            if len(Path(self.data).parts) > 1 or self.data.endswith(("/", "\\")):
                raise FileNotFoundError(
                    f"There is no {self.data}. A table was expected there ({KINDS}), or a folder of pictures."
                )
            wanted = f" For a table give a file: {KINDS}. For sequences give a .ts file. For pictures give a folder."
            raise ValueError(unknown("data set", self.data, NAMED) + wanted)
        if (self.is_table or self.is_series) and not Path(self.data).exists():
            wanted = f"A table was expected there: {KINDS}" if self.is_table else "Sequences were expected there"
            raise FileNotFoundError(f"There is no file {self.data}. {wanted}.")
        if self.is_table and self.target is None:
            raise ValueError(f"A table needs its target column: give --target NAME for {self.data}.")
        given = {
            each.name
            for each in dataclasses.fields(self)
            if getattr(self, each.name) not in (each.default, each.metadata.get("before"))
        }
        if self.is_table and len(given & {"sequence", "time"}) == 1:
            raise ValueError(
                f"`sequence` names the sequences of a table of one row a step, and `time` orders the steps of each. "
                f"Give both for {self.data}, or none."
            )
        own = self._kind.takes
        for takes, whose in (
            (_TABLE.takes, "tables" if self._kind is not _STEPS else "tables of one row a sample"),
            (("sequence", "time"), "tables of one row a step"),
            (("size",), ", ".join(PLANAR)),
            (_FETCHED, "mnist, fashion-mnist and cifar10"),
            (_FOLDER.takes, "folders of pictures"),
        ):
            if given & {*takes} - {*own}:
                shown = [name for name in takes if name not in own and (name in given or len(takes) < 3)]
                names = " and ".join(f"`{name}`" for name in shown)
                verb, out = ("is", "it") if len(shown) == 1 else ("are", "them")
                raise ValueError(f"{names} {verb} for {whose}; {self.data} has its own. Leave {out} out.")
        options.check(options.SourceChoices, vars(self))
        vars(self).update(options.truths(options.SourceChoices, vars(self)))
        if self.is_table:
            self.dialect  # noqa: B018  # what makes no sense shows at once

    @property
    def is_table(self) -> bool:
        """Whether it is a file of the user's."""
        # A folder or file that happens to be called "digits" does not hide the data set of that name.
        place = Path(self.data)
        if self.is_folder or self.is_series:
            return False
        return self.data not in NAMED and (place.suffix.lower() in TABLES or place.exists())

    @property
    def is_series(self) -> bool:
        """Whether it is a file of sequences."""
        return self.data not in NAMED and Path(self.data).suffix.lower() == ".ts"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of the user's; who names a target means a table."""
        return self.data not in NAMED and self.target is None and Path(self.data).is_dir()

    @property
    def name(self) -> str:
        """The name of the set, or the path."""
        return self.data

    @property
    def _kind(self) -> _Kind:
        if self.is_folder:
            return _FOLDER
        if self.is_series:
            return _SERIES
        if self.is_table:
            return _TABLE if self.sequence is None else _STEPS
        return _KINDS[self.data]

    @property
    def dialect(self) -> Dialect:
        """What is said of how a table is written."""
        return Dialect(**{name: getattr(self, name) for name in _FILE})

    def load_again(self, encoder: sets.TableEncoder, target: sets.TargetEncoder) -> Dataset:
        """Read a table by the decisions that a run made, which may be those of an earlier hdnn.

        Args:
            encoder: of the run's inputs.
            target: of its answers.

        Raises:
            OSError, ValueError: as `load`.
        """
        return table_again(self.data, encoder, target, seed=self.seed, dialect=self.dialect)

    def load(self, progress: Progress | None = None) -> Dataset:
        """Read it.

        Raises:
            OSError: if a file is not there or a download fails.
            ValueError: if a file is damaged or holds what cannot be learned; the message says what and where.
        """
        return self._kind.load(self, progress)

    def setup(self, dataset: Dataset) -> Setup:
        """What was chosen for the set, or what suits a table or images."""
        if self.is_folder:
            return image_setup(dataset.inputs, len(dataset.x_train))
        return SETUPS.get(self.data) or super().setup(dataset)

    def located(self) -> Source:
        """The same with full paths, for a run that is evaluated from another folder."""
        return dataclasses.replace(
            self,
            data=self.data if self.data in NAMED else str(Path(self.data).absolute()),
            folder=None if self.folder is None else str(Path(self.folder).absolute()),
        )

    def described(self) -> dict[str, Any]:
        """All values, with full paths."""
        return dataclasses.asdict(self.located())


def loaded(source: DataSource, progress: Progress | None = None) -> Dataset:
    """Read a data set in all processes of a process group; what is fetched first, the first of them fetches.

    Raises:
        OSError, ValueError: as `Source.load`; what the first meets while it fetches, all meet.
    """
    read = partial(source.load, progress)
    return first_alone(read) if getattr(source, "download", False) else read()


def load(source: DataSource, progress: Progress | None = None) -> Dataset:
    """Read a data set; see `Source.load`."""
    return source.load(progress)


def source_of(run: Run, mnist_folder: str | None = None, given: DataSource | None = None) -> DataSource:
    """Where the data of a run came from; they are there, so nothing is downloaded.

    Args:
        run: whose configuration says it.
        mnist_folder: where the files of the data set, or the folder of images, are now, if they have moved.
        given: the source itself, where it is none of the built-in ones.

    Raises:
        ValueError: if the configuration does not say it, or what it says makes no sense.
        FileNotFoundError: if there is no such file.
    """
    if given is not None:
        return given
    described = dict(run.config.data)
    if "data" not in described:
        raise ValueError(f"The run {run.folder} does not say where its data came from. Give the data as a file.")
    if described.get("own"):
        what = f"The data of {run.folder} came from {described['data']}, a source that its user wrote in Python"
        raise shelled(
            ValueError(f"{what}. Give it again: `source={described['data']}(...)`."),
            f"{what}. Evaluate and resume it there, with hdnn.jobs.",
        )
    if mnist_folder is not None:
        described["data" if _was_folder(described) else "folder"] = mnist_folder
    source = documents.record(Source, described, f"the data of {run.folder}")
    ignored = source.is_folder and is_idx_folder(Path(source.data))  # early runs on IDX files may name a size
    return dataclasses.replace(source, download=False, image_size=None if ignored else source.image_size)


def reloaded(run: Run, source: DataSource) -> Dataset:
    """The data of a run by the decisions that it made.

    Raises:
        OSError, ValueError: as `Source.load`.
    """
    if not isinstance(source, Source):
        return source.load()
    encoder = sets.encoder_from_dict(run.config.encoder)
    if isinstance(encoder, sets.TableEncoder) and source.is_table:
        return source.load_again(encoder, sets.TargetEncoder.from_dict(run.config.target))
    dataset = source.load()
    if source.data == "cifar10" and dataset.encoder != encoder:
        earlier = without_archive(_place(source))
        if earlier is not None and earlier.encoder == encoder:
            return earlier
    return dataset


def _was_folder(described: Mapping[str, Any]) -> bool:
    """Whether the data of a run were in a folder of the user's, which may be gone."""
    return described["data"] not in NAMED and described.get("target") is None


def mnist_folder() -> Path:
    """Where MNIST goes when no folder is given."""
    return cache_folder("mnist")


def _place(source: Source) -> str | Path:
    """Where the files of a published data set are, or go."""
    return source.folder or cache_folder(source.data)


def cache_folder(name: str) -> Path:
    """Where a data set goes when no folder is given: the user's cache."""
    import pooch

    return Path(pooch.os_cache("hdnn")) / name
