"""Run folders: all that is needed to load a trained network, predict again and see what happened.

    RUN/config.json         what was asked: data, network, recipe, encoders, seed, command, versions
    RUN/model.safetensors   weights and the constants that belong to them
    RUN/history.csv         one line an epoch
    RUN/metrics.json        the results
    RUN/report.html         a page to read;  RUN/figures/ its pictures
    RUN/checkpoint.safetensors   while it is trained: where to go on, see `hdnn.checkpoints`

Every file appears whole or not at all. Nothing in a folder is unpickled or executed when it is opened.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import load, save

from hdnn import files, renames, shelf
from hdnn.data import documents
from hdnn.files import write_whole
from hdnn.locks import held
from hdnn.networks import Network, NetworkConfig, build_network
from hdnn.versions import versions as versions  # runs are the ones to record them

FORMAT = 1
_CONFIG, _WEIGHTS, _HISTORY, _METRICS = "config.json", "model.safetensors", "history.csv", "metrics.json"
_REPORT, _FIGURES = "report.html", "figures"
_CHECKPOINT, _LOCK = "checkpoint.safetensors", ".lock"
_WRITTEN = (_REPORT, _METRICS, _HISTORY, _WEIGHTS, _CHECKPOINT, _CONFIG)
# By what weights are stored in. What comes with the package is F16, to be small.
_DTYPES = {"F16": torch.float32, "F32": torch.float32, "F64": torch.float64}
# All that `hdnn.jobs` draws; whatever else stands beside these is the user's.
_ART = (
    *("confusion.png", "features.png", "features.gif", "regions.png", "starts.png", "training.png", "predicted_*.png"),
    *("search.png", "reliability.png", "stages.png", "mistakes.png"),
)
# Configurations may come from elsewhere.
_LARGEST_FILE = 2**26


@dataclass(frozen=True)
class RunConfig:
    """What was asked of a run, in plain values.

    Args:
        data: the data set and how it was read, as `hdnn.jobs` describes it.
        network: the network.
        recipe: how it was trained.
        encoder: how raw inputs became x (see `hdnn.data`).
        target: how raw targets became y.
        seed: of weights, batches and splits.
        command: what repeats the run.
        versions: of hdnn, PyTorch, NumPy and Python.
        start: the rest of what decides the bits of the result: "init_std", "default_weights" (what null means there),
            "device", "threads" and "fingerprint" of the data. Empty in early runs, which cannot be resumed.
    """

    data: Mapping[str, Any]
    network: NetworkConfig
    recipe: Mapping[str, Any]
    encoder: Mapping[str, Any]
    target: Mapping[str, Any]
    seed: int
    command: str
    versions: Mapping[str, str]
    start: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run folder with its configuration. Made by `create` and `open`.

    Args:
        folder: where it is.
        config: what was asked.
    """

    folder: Path
    config: RunConfig

    @classmethod
    def create(cls, folder: Path, config: RunConfig, *, overwrite: bool = False) -> Run:
        """Start a run in a new folder.

        Args:
            folder: made with its parents; may exist only if it is empty, or with `overwrite` if it holds a run.
            config: written at once, so that a folder without it is no run.
            overwrite: remove the files of the run that is there.

        Raises:
            FileExistsError: if the folder holds something.
            OSError: if it cannot be written.
        """
        require_free(folder, overwrite=overwrite)
        document = _json({"format": FORMAT, **dataclasses.asdict(config)})
        new = not folder.exists()
        try:
            files.make_folder(folder)
            # The old configuration gives way to the new one at once, so that a folder killed in between holds a run.
            _remove_run(folder)
            write_whole(folder / _CONFIG, document)
        except OSError as error:
            if new:
                _remove_empty(folder)
            raise OSError(
                f"The run folder {folder} cannot be written: {error.strerror or error}. Choose another with --output."
            ) from error
        return cls(folder, config)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read the configuration of a run.

        Args:
            folder: of the run, or `pretrained:NAME` for one that comes with the package.

        Raises:
            FileNotFoundError: if there is no run in the folder.
            ValueError: if its configuration cannot be read.
        """
        folder = shelf.place(folder)
        if not folder.is_dir():
            what = "is a file, not a run folder" if folder.is_file() else "is not there"
            raise FileNotFoundError(f"{folder} {what}. Give a folder that `hdnn train` made.")
        path = folder / _CONFIG
        if not path.is_file():
            raise FileNotFoundError(
                f"The folder {folder} holds no run: it has no {_CONFIG}. Give a folder that `hdnn train` made."
            )
        return cls(folder, _read_config(path))

    def save_network(self, network: Network) -> None:
        """Write weights and constants."""
        state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        write_whole(self.folder / _WEIGHTS, save(state))

    def load_network(self) -> Network:
        """The trained network, on the CPU.

        Raises:
            FileNotFoundError: if the run was stopped before it had weights.
            ValueError: if the weights are damaged, not finite, or not those of the configuration.
        """
        path, packed = self.folder / _WEIGHTS, shelf.weights(self.folder)
        if packed is None and not path.is_file():
            raise FileNotFoundError(f"The run {self.folder} has no {_WEIGHTS}: it stopped before it had any weights.")
        # Shapes are compared before anything is allocated: the file bounds the memory, not the configuration.
        network = build_network(self.config.network, device="meta")
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        counts = {name for name, value in network.state_dict().items() if not value.is_floating_point()}
        found, kinds = _described(path, packed, counts)
        if found != expected:
            odd = sorted(set(found.items()) ^ set(expected.items()))[0]
            raise ValueError(
                f"{path} does not hold the network of {_CONFIG}: they differ at {odd[0]!r}. Were the files mixed up?"
            )
        if len(kinds) != 1 or not kinds <= _DTYPES.keys():
            raise ValueError(f"{path} must hold numbers of one kind, F16, F32 or F64; got {', '.join(sorted(kinds))}.")
        weights = load(path.read_bytes() if packed is None else packed)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise ValueError(f"{path} holds weights that are infinite or not a number. Train again.")
        network = network.to(_DTYPES[kinds.pop()]).to_empty(device="cpu")
        network.load_state_dict(weights)
        return network.eval()

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write one line an epoch; the columns are the keys of the first record."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]) if history else ["epoch"])
        writer.writeheader()
        writer.writerows(history)
        write_whole(self.folder / _HISTORY, text.getvalue())

    def read_history(self) -> list[dict[str, float]]:
        """The records that `write_history` wrote."""
        with (self.folder / _HISTORY).open(newline="", encoding="utf-8") as stream:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the results."""
        write_whole(self.folder / _METRICS, _json(metrics))

    def read_metrics(self) -> dict[str, Any]:
        """The results that `write_metrics` wrote; ValueError if they are something else."""
        path = self.folder / _METRICS
        metrics: dict[str, Any] = documents.read(path, _LARGEST_FILE)
        if not isinstance(metrics, dict) or type(metrics.get("interrupted")) is not bool:
            raise ValueError(f"{path} does not hold the results of a run. Remove it, or train again.")
        return metrics

    def write_report(self, page: str) -> None:
        """Write the page to read."""
        write_whole(self.folder / _REPORT, page)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint stands while the run is trained."""
        return self.folder / _CHECKPOINT

    @property
    def digest(self) -> str:
        """Of the configuration as it is written, to tell what belongs to it."""
        return hashlib.sha256((self.folder / _CONFIG).read_bytes()).hexdigest()

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end and all was written."""
        return self.report.is_file() and (self.folder / _METRICS).is_file() and not self.read_metrics()["interrupted"]

    @property
    def report(self) -> Path:
        """Where the page to read stands."""
        return self.folder / _REPORT

    def figure(self, name: str) -> Path:
        """Where a figure of that file name goes; its folder is made."""
        place = self.folder / _FIGURES
        files.require_own(self.folder, folders=[_FIGURES])
        return files.make_folder(place) / name


def pretrained(name: str) -> Network:
    """A trained network that comes with the package, in evaluation mode.

    On the command line `pretrained:digits` stands where a run is asked for; `hdnn.shelf.cards` tells of each the
    command that trained it, its seed and its score.

    Args:
        name: "digits", "swiss-roll", "double-moons", "double-circles" or "mnist".

    Returns:
        The network, of encoded inputs: those that `hdnn.data` gives for the seed on its card.

    Raises:
        FileNotFoundError: if there is none of that name.

    Example:
        >>> import torch, hdnn
        >>> data = hdnn.data.digits(seed=0)
        >>> outputs = hdnn.pretrained("digits")(torch.from_numpy(data.x_test))
        >>> correct = outputs.argmax(1).numpy() == data.y_test
        >>> print(f"{correct.mean():.4f}")
        0.9833
    """
    return Run.open(Path(f"{shelf.PREFIX}{name}")).load_network()


def require_free(folder: Path, *, overwrite: bool = False) -> None:
    """See that a run can go into a folder, before any work is done for it.

    Args:
        folder: may be new or empty, or with `overwrite` hold a run.
        overwrite: whether a run may be replaced.

    Raises:
        FileExistsError: if the folder is a file or holds something else.
        ValueError: if it is one of those that come with the package.
        PermissionError: if it lies elsewhere in the package.
    """
    shelf.require_other(folder)
    files.require_outside(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose another folder with --output.")
    files.require_makeable(folder)
    if not folder.is_dir() or {*folder.iterdir()} <= {folder / _LOCK, *files.leftovers(folder, _WRITTEN)}:
        return
    if not overwrite:
        raise FileExistsError(
            f"The folder {folder} exists and is not empty; nothing in it was changed. Choose another with "
            f"--output, or give --overwrite to replace the run in it. A run that was cut off goes on with --resume."
        )
    try:
        # Other programs have a config.json and a model.safetensors too.
        Run.open(folder)
    except (ValueError, OSError) as error:
        raise FileExistsError(
            f"The folder {folder} holds no run that can be read, so --overwrite leaves it alone. Choose another with "
            f"--output. ({error})"
        ) from error
    _require_own(folder)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder; what killed ones left half-written is removed.

    Args:
        folder: made with its parents; removed again if it is new and nothing was written to it.

    Raises:
        OSError: if another process works there, or the folder cannot be written; nothing was changed.
        ValueError: if it is one of those that come with the package.
    """
    shelf.require_other(folder)
    new = not folder.exists()
    _require_own(folder)
    with contextlib.ExitStack() as stack:
        if new:
            stack.callback(_remove_empty, folder)
        try:
            files.make_folder(folder)
            stack.enter_context(held(folder / _LOCK))
            sweep(folder)
        except BlockingIOError as error:
            raise OSError(
                f"Another process is training in {folder}; nothing was changed. Wait for it, or choose another folder "
                f"with --output."
            ) from error
        except OSError as error:
            raise OSError(
                f"The run folder {folder} cannot be written: {error.strerror or error}. Choose another with --output."
            ) from error
        yield


def files_of(folder: Path) -> list[Path]:
    """All that a run writes into its folder, whether it is there or not, and the figures that are."""
    figures = folder / _FIGURES
    return [*(folder / name for name in (*_WRITTEN, _LOCK)), *(figures / name for name in _drawn(figures))]


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for place in (folder, folder / _FIGURES):
        files.sweep(place, {*_WRITTEN, *_drawn(place)})


def _drawn(figures: Path) -> set[str]:
    return {path.name for pattern in _ART for path in figures.glob(pattern)}


def _require_own(folder: Path) -> None:
    """See that a link or a device that stands where a run writes is neither followed nor replaced."""
    files.require_own(folder, (*_WRITTEN, _LOCK), (_FIGURES,))
    files.require_own(folder / _FIGURES, _drawn(folder / _FIGURES))


def _described(path: Path, packed: bytes | None, counts: set[str]) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Shapes that the head of a weights file announces, and kinds of numbers, but for those of counts."""
    try:
        if packed is not None:
            whole = deserialize(packed)  # type: ignore[no-untyped-call]
            parts = {name: (part["shape"], part["dtype"]) for name, part in whole}
        else:
            with safe_open(str(path), framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
                parts = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
        shapes = {name: tuple(shape) for name, (shape, _) in parts.items()}
        return shapes, {str(kind) for name, (_, kind) in parts.items() if name not in counts or kind != "I64"}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}. Train again.") from error


def _read_config(path: Path) -> RunConfig:
    """The configuration, checked before anything is built from it."""
    document = documents.read(path, _LARGEST_FILE)
    if not isinstance(document, dict) or "format" not in document:
        raise ValueError(f"{path} does not describe a run of hdnn. Give a folder that `hdnn train` made.")
    if document["format"] != FORMAT:
        raise ValueError(f"{path} is not a run of format {FORMAT}; it may come from a newer hdnn. Update hdnn.")
    del document["format"]
    config = documents.record(RunConfig, document, f"the run in {path}")
    return dataclasses.replace(config, recipe=renames.current(config.recipe, renames.RECIPE))  # of earlier versions


def _remove_run(folder: Path) -> None:
    """Remove what runs write and nothing else, but for the configuration: a half-removed run stays one."""
    figures = folder / _FIGURES
    for drawn in _drawn(figures):
        (figures / drawn).unlink()
    if figures.is_dir() and not any(figures.iterdir()):
        figures.rmdir()
    for name in _WRITTEN:
        if name != _CONFIG:
            (folder / name).unlink(missing_ok=True)


def _json(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # of paths that are no UTF-8, as JSON writes such letters
