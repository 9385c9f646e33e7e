"""The jobs on a finished run: predict new rows, evaluate on data with known answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn import data, options
from hdnn.data import absent, documents
from hdnn.data.cifar import CLASSES, batch, is_batch
from hdnn.data.decoding import ENDINGS, is_picture
from hdnn.data.dialect import Dialect
from hdnn.data.idx import is_idx
from hdnn.data.pictures import labelled, left_out_in_words, pictures_in
from hdnn.data.pixels import Held
from hdnn.data.reading import parts
from hdnn.data.sequence_sets import read_sequences
from hdnn.data.stored import read_pictures
from hdnn.files import kind
from hdnn.jobs.beginnings import fingerprint
from hdnn.jobs.scores import finite_outputs, measure, tensors
from hdnn.jobs.sources import DataSource, reloaded, source_of
from hdnn.names import different, printable
from hdnn.networks import Network, class_probabilities, predicted_classes
from hdnn.options import FileChoices
from hdnn.runs import Run
from hdnn.training.objective import EVALUATION_BATCH

if TYPE_CHECKING:
    import pandas as pd


_NUMBERS = 2**24  # of inputs at once, 64 MiB


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions for the rows of a file.

    Args:
        frame: one row for each: the predicted class and the probabilities of all, or the predicted numbers.
        remarks: what had to be made up on the way, such as missing values that were filled in; may be empty.
    """

    frame: pd.DataFrame
    remarks: str


def predict(folder: Path, file: Path, *, choices: FileChoices | None = None) -> Prediction:
    """Predict the rows of a table, the sequences of a file, the images of an IDX file, or the pictures of a folder.

    Args:
        folder: of a run.
        file: a table with the input columns of the run; for sequences as well one of one row a step, or a .ts file, as
            the run has it; for images an IDX file, with or without .gz, a batch of CIFAR-10, a picture (PNG, JPEG), or
            a folder of pictures, those in folders below it included.
        choices: how the table is written, where it is not as the one of the training, such as `separator`.

    Raises:
        OSError: if a file is not there.
        ValueError: if the run or the file is damaged, or columns are missing or hold what cannot be read.
        FloatingPointError: if values are so extreme that an output is not finite.
    """
    import pandas as pd

    found = list(predictions(folder, file, choices=choices))
    return Prediction(pd.concat([part.frame for part in found], ignore_index=True), found[-1].remarks)


def predictions(
    folder: Path,
    file: Path,
    *,
    part: int = data.PART,
    progress: Callable[[int], None] | None = None,
    choices: FileChoices | None = None,
) -> Iterator[Prediction]:
    """Predict part by part, for files larger than memory; all parts together are the bits that `predict` returns.

    Args:
        folder: of a run.
        file: as for `predict`.
        part: bytes of the file to read at a time, about; of no influence on what is yielded.
        progress: told how many bytes of the file have been read.
        choices: as for `predict`.

    Yields:
        Predictions of the next rows, with remarks on all rows so far.

    Raises:
        OSError, ValueError, FloatingPointError: as `predict`; the rows before a defect have been yielded.
    """
    import pandas as pd

    run, encoder, target, network = opened(folder)
    if isinstance(encoder, data.SequenceEncoder):
        yield from _of_sequences(encoder, target, network, file, _dialect(run, choices))
        return
    done = 0
    names = _picture_names(file) if isinstance(encoder, data.ImageEncoder) else Names()
    rows = _encoded(encoder, file, _dialect(run, choices), part, progress, names, target)
    for x, remarks in _batches(rows, _at_once(encoder, names)):
        output = finite_outputs(network, torch.from_numpy(x), done)
        frame = _answers(network, target, output)
        if names.found:
            files = [printable(name) for name in names.found[done : done + len(x)]]
            frame.insert(0, "file", files, allow_duplicates=True)
        done += len(x)
        frame.columns = pd.Index(different(list(frame.columns)))
        yield Prediction(frame, remarks)


def _of_sequences(
    encoder: data.SequenceEncoder, target: data.TargetEncoder, network: Network, file: Path, given: Dialect
) -> Iterator[Prediction]:
    """Predictions of sequences, whose rows may stand anywhere in the file: all of it is read first."""
    import pandas as pd

    steps, _ = read_sequences(file, encoder, given)
    x = torch.from_numpy(encoder.encode(steps))
    remarks = encoder.step.report(steps.frame[list(encoder.names)]).description
    for start in range(0, len(x), EVALUATION_BATCH):
        frame = _answers(network, target, finite_outputs(network, x[start : start + EVALUATION_BATCH], start))
        if names := steps.names[start : start + EVALUATION_BATCH]:
            frame.insert(0, encoder.sequence, names, allow_duplicates=True)
        frame.columns = pd.Index(different(list(frame.columns)))
        yield Prediction(frame, remarks)


class Names(NamedTuple):
    """Pictures to be predicted.

    Args:
        root: the folder they are in; None where there are none.
        found: of each, below it.
        left_out: other files.
    """

    root: Path | None = None
    found: list[str] = []  # noqa: RUF012  # of a tuple: nobody changes it
    left_out: list[str] = []  # noqa: RUF012


def _picture_names(file: Path) -> Names:
    """The pictures that a path means; none where it is a file of another kind."""
    if file.is_dir():
        found, left_out = pictures_in(file)
        if not found:
            raise ValueError(f"{file} holds no picture ({', '.join(ENDINGS)}), nor do folders in it. Name another.")
        return Names(file, found, left_out)
    if not file.exists():
        raise FileNotFoundError(f"There is no {file}. Pictures were expected there, or images in an IDX file.")
    if not file.is_file():
        raise ValueError(f"{file} is {kind(file)}. Pictures were expected there, or images in an IDX file.")
    if is_picture(file):
        return Names(file.parent, [file.name])
    if file.stat().st_size and not is_batch(file) and not is_idx(file):
        raise ValueError(
            f"{file} holds no images that can be read: pictures are PNG or JPEG, and an IDX file of bytes begins with "
            f"00 00 08 (or is gzip)."
        )
    return Names()


def _at_once(encoder: data.TableEncoder | data.ImageEncoder, names: Names) -> int:
    """Rows that are computed together: of large pictures fewer, for they would fill the memory."""
    return max(1, min(EVALUATION_BATCH, _NUMBERS // math.prod(encoder.shape))) if names.found else EVALUATION_BATCH


def _answers(network: Network, target: data.TargetEncoder, output: Tensor) -> pd.DataFrame:
    """The network's outputs in the words and units of the data."""
    import pandas as pd

    if network.task == "regression":
        return pd.DataFrame(target.decode(output.numpy()), columns=list(target.columns))
    probabilities = class_probabilities(output).numpy()
    frame = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in target.classes])
    frame.insert(0, target.columns[0], target.decode(predicted_classes(output).numpy()), allow_duplicates=True)
    return frame


def _encoded(
    encoder: data.TableEncoder | data.ImageEncoder,
    file: Path,
    given: Dialect,
    part: int,
    progress: Callable[[int], None] | None,
    names: Names,
    target: data.TargetEncoder,
) -> Iterator[tuple[NDArray[np.float32], str]]:
    """Inputs of the network, and remarks on all rows so far."""
    if isinstance(encoder, data.ImageEncoder):
        if names.root is not None:
            size = max(1, part // math.prod(encoder.shape))
            batches = [names.found[start : start + size] for start in range(0, len(names.found), size)]
            for images in read_pictures(names.root, batches, encoder.shape):
                yield encoder.encode(images), left_out_in_words(names.left_out)
            return
        if is_batch(file):
            _require_batch(encoder, target)
            yield encoder.encode(batch(file)[0]), ""
            return
        for images in data.idx_parts(file, part=part, progress=progress):
            yield encoder.encode(images), ""
        return
    report = encoder.combined([])
    for rows in parts(file, encoder.names, given, part, progress, encoder.plain_columns):
        report = encoder.combined([report, encoder.report(rows)])
        yield encoder.encode(rows), report.description


def _dialect(run: Run, choices: FileChoices | None) -> Dialect:
    """What is said of a file of new rows: what was said of the table of the training, and what is said now."""
    described = dict(run.config.data)
    known = [entry.name for entry in options.entries(FileChoices)]
    said: dict[str, Any] = {}
    if "data" in described and not described.get("own"):
        fields = {name: described[name] for name in (*known, "decimal", "date_format") if name in described}
        fitted = documents.record(Dialect, fields, f"the data of {run.folder}")
        said = {name: getattr(fitted, name) for name in Dialect.__slots__}
    now: dict[str, Any] = {name: value for name, value in (choices or {}).items() if value is not None}
    options.check(FileChoices, now)
    if now.get("missing"):
        now["missing"] = now["also_missing"] = absent.listed(now["missing"])
        now["missing"] = tuple(dict.fromkeys([*(said.get("missing") or ()), *now["missing"]]))
    return Dialect(**{**said, **now})


def _batches(
    encoded: Iterable[tuple[NDArray[np.float32], str]], size: int
) -> Iterator[tuple[NDArray[np.float32], str]]:
    """The same rows in batches of fixed length: the last bits of a row depend on how many are computed together."""
    held: list[NDArray[np.float32]] = []
    remarks = ""
    for x, remarks in encoded:
        held.append(x)
        if sum(map(len, held)) < size:
            continue
        rows = np.concatenate(held)
        whole = len(rows) - len(rows) % size
        for start in range(0, whole, size):
            yield rows[start : start + size], remarks
        held = [rows[whole:]]
    if sum(map(len, held)):
        yield np.concatenate(held), remarks


def evaluate(
    folder: Path,
    file: Path | None = None,
    *,
    mnist_folder: str | None = None,
    source: DataSource | None = None,
    choices: FileChoices | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Loss and scores of a run.

    Args:
        folder: of the run.
        file: a table with the input and target columns, a .ts file for a run of such files, a folder of pictures, one
            folder a class, or a batch of CIFAR-10 (.bin, with .gz or .xz); None takes the test part that the run held
            back.
        mnist_folder: where the files of the data set, or the folder of images, are now, if they have moved.
        source: the data of the run, where they are none of the built-in ones.
        choices: as for `predict`.
        announce: told in words what had to be made up for in a table, which files of a folder are no pictures of a
            class, and whether the images or sequences of the run are others than they were.

    Returns:
        What `measure` finds, as "loss" and "accuracy" (or "error" and "r2" for regression), and "rows"; where there are
        any, "rows_without_answer" counts rows that were left out because their target is missing, and
        "rows_of_new_classes" those with a label that the training part did not have. Of sequences, they are the rows.

    Raises:
        OSError: if a file is not there.
        ValueError: if the run or the data is damaged or they do not fit each other.
        FloatingPointError: if values are so extreme that an output is not finite.
    """
    import pandas as pd

    run, encoder, target, network = opened(folder)
    left_out: dict[str, float] = {}
    x: Any
    if file is None:
        dataset = reloaded(run, source_of(run, mnist_folder, source))
        if not alike(dataset.encoder.to_dict(), encoder.to_dict()) or not alike(
            dataset.target.to_dict(), target.to_dict()
        ):
            # Other rows would be split otherwise, and rows of the training part could be counted as test.
            raise ValueError(
                f"The data of this run, {run.config.data.get('data')}, has changed since it was trained, so its test "
                f"part is not known any more. Give rows that took no part in training as a file."
            )
        began = run.config.start.get("fingerprint")
        if began is not None and not isinstance(encoder, data.TableEncoder) and fingerprint(dataset) != began:
            announce(
                f"The data of this run, {run.config.data.get('data')}, are not to the bit those that it was trained "
                f"and tested on: the score is that of the test part as it is now."
            )
        x, y = dataset.x_test, dataset.y_test
    else:
        if isinstance(encoder, data.ImageEncoder):
            x, y, new, left_out_files = _images(file, encoder, target)
            if remarks := left_out_in_words(left_out_files):
                announce(remarks)
            scores = measure(network, target, x, torch.from_numpy(y))
            return {**scores, "rows": len(x), **({"rows_of_new_classes": new} if new else {})}
        given = _dialect(run, choices)
        if isinstance(encoder, data.SequenceEncoder):
            steps, rows = read_sequences(file, encoder, given, target)
            x = encoder.encode(steps)
        else:
            rows = pd.concat(list(parts(file, (*encoder.names, *target.columns), given)))
            x = encoder.encode(rows)
            if remarks := encoder.report(rows.drop(columns=[*target.columns], errors="ignore")).description:
                announce(remarks)
        answered = target.answered(rows)
        gaps = target.gaps(rows)
        if not answered.any():
            target.encode(rows)  # names what is wrong
        left_out = {"rows_without_answer": int(gaps.sum()), "rows_of_new_classes": int((~answered & ~gaps).sum())}
        x, y = x[answered], target.encode(rows, answered)
    scores = measure(network, target, *tensors(x, np.ascontiguousarray(y)))
    return {**scores, "rows": len(x), **{name: number for name, number in left_out.items() if number}}


def _images(
    file: Path, encoder: data.ImageEncoder, target: data.TargetEncoder
) -> tuple[data.Pixels, NDArray[np.int64], int, list[str]]:
    """Images with what they show, how many were left out, for the network knows no such class, and other files."""
    if not file.is_dir() and is_batch(file):
        _require_batch(encoder, target)
        images, classes = batch(file)
        return Held(images, encoder), classes, 0, []
    if not file.is_dir():
        raise ValueError(
            "A run on images is evaluated on its own test images, on a folder of pictures with one folder a class, or "
            "on a batch of CIFAR-10, a .bin file. Name such a folder or file, or none."
        )
    return labelled(file, encoder, target.classes)


def _require_batch(encoder: data.ImageEncoder, target: data.TargetEncoder) -> None:
    if encoder.shape != (3, 32, 32) or tuple(target.classes) != CLASSES:
        raise ValueError(
            f"A batch of CIFAR-10 holds 3 x 32 x 32 values of its ten classes, and this network reads "
            f"{' x '.join(map(str, encoder.shape))} of {len(target.classes)} classes of its own. Name other images."
        )


def opened(folder: Path) -> tuple[Run, data.Encoder, data.TargetEncoder, Network]:
    """A run and its three parts, which must fit each other."""
    run = Run.open(folder)
    require_encoder(run)
    encoder, target = data.encoder_from_dict(run.config.encoder), data.TargetEncoder.from_dict(run.config.target)
    expected, found = run.config.network, (encoder.shape, target.outputs, target.task)
    if found != (expected.inputs, expected.outputs, expected.task):
        raise ValueError(f"The configuration of {folder} contradicts itself: its encoders do not fit its network.")
    return run, encoder, target, run.load_network()


def require_encoder(run: Run) -> None:
    """See that it is known how raw data become inputs, which it is not of a network that was saved from Python.

    Raises:
        ValueError: if it is not.
    """
    if not run.config.encoder:
        raise ValueError(
            f"{run.folder} holds a network that was saved from Python, and not how data become its inputs. Use it "
            f"there, as its README.md says; commands work on what `hdnn train` made."
        )


def alike(a: object, b: object) -> bool:
    """Whether plain values are the same, numbers up to the rounding in which machines differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(alike(one, other) for one, other in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b
