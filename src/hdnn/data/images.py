"""Images of handwritten digits: those that scikit-learn carries, and MNIST from its four IDX files.

Legend: s images, C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.cells import center
from hdnn.data.columns import Numeric
from hdnn.data.dataset import Dataset, split, standardized
from hdnn.data.encoders import ImageEncoder, TableEncoder
from hdnn.data.idx import read_idx
from hdnn.data.targets import TargetEncoder
from hdnn.files import make_folder, write_whole

Bytes = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Called with the name of the file, the bytes so far and the bytes in all (0 while unknown)."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

_LARGEST_FILE = 2**26


def digits(seed: int = 0) -> Dataset:
    """Make the handwritten digits that scikit-learn carries into a data set: 1797 images of 8 x 8 pixels.

    The split is 80 / 20, stratified. All pixels share one mean and one scale, those of the training part,
    so an image keeps its proportions of light and dark.

    Args:
        seed: Seed of the split.

    References:
        Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998,
        https://archive.ics.uci.edu/dataset/80

    Example:
        >>> data = digits()
        >>> data.x_train.shape, data.x_test.shape, len(data.classes)
        ((1437, 64), (360, 64), 10)
    """
    pixels, labels = _carried()
    train, test = split(len(pixels), seed=seed, labels=labels)
    mean, scale = center(pixels[train])
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    fills = np.median(pixels[train], axis=0)
    columns = tuple(Numeric(name, mean, scale, float(fill)) for name, fill in zip(names, fills, strict=True))
    target = TargetEncoder(("digit",), classes=tuple(map(str, range(10))))
    x, y = standardized(pixels, columns), labels.astype(np.int64)
    notes = (
        f"one mean ({mean:.3g}) and one scale ({scale:.3g}) for all 64 pixels, from the training part",
        f"seed {seed}, stratified",
    )
    return Dataset("digits", target.task, x[train], y[train], x[test], y[test], TableEncoder(columns), target, notes)


def _carried() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (1797, 64) and labels (1797,), from the file of scikit-learn's package: importing it takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits  # a release that keeps it elsewhere

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def mnist(folder: str | os.PathLike[str], download: bool = False, progress: Progress | None = None) -> Dataset:
    """Read MNIST, or another data set of ten classes in the same four files, from a folder.

    The inputs are (x / 255 - 0.1307) / 0.3081, with MNIST's own mean and standard deviation.

    Args:
        folder: Where the files are or go: train-images-idx3-ubyte, train-labels-idx1-ubyte,
            t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each as it is or with .gz.
        download: Fetch the files that are not there (11 MB in all), each checked by its SHA-256.
        progress: Called while a file is fetched with its name, the bytes so far and in all.

    Returns:
        Inputs (s, 1, H, W); for MNIST 60000 images for training and 10000 for testing, of 28 x 28 pixels.

    Raises:
        FileNotFoundError: If files are not there and `download` is off.
        OSError: If no mirror has a file as it should be.
        ValueError: If a file is damaged, or the four do not belong together.

    References:
        LeCun, Cortes, Burges, The MNIST database of handwritten digits, 1998.
    """
    place = Path(folder)
    paths = {name: _present(place, name) for name in SHA256}
    absent = [name for name, path in paths.items() if path is None]
    if absent and not download:
        raise FileNotFoundError(
            f"{place} lacks {len(absent)} of the 4 MNIST files: {', '.join(absent)}. Put them there (with or "
            f"without .gz), or give `download=True` to fetch them."
        )
    for name in absent:
        paths[name] = _fetch(name, place, progress)
    files = [path for path in paths.values() if path is not None]
    # One part after the other: of bytes and the four times larger inputs, only one part has both in memory.
    x_train, y_train, encoder = _part(place, "train", *files[:2])
    x_test, y_test, other = _part(place, "t10k", *files[2:])
    if encoder != other:
        raise ValueError(
            f"{place}: the training images are {encoder.shape[1:]} pixels, but the test images "
            f"{other.shape[1:]}. Take all four files from one data set."
        )
    target = TargetEncoder(("digit",), classes=tuple(map(str, range(10))))
    return Dataset(
        name="mnist",
        task=target.task,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        encoder=encoder,
        target=target,
        notes=("brightness less 0.1307, over 0.3081", "split as the files are"),
    )


def _part(
    place: Path, part: str, images_file: Path, labels_file: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64], ImageEncoder]:
    """Inputs and labels of one part, and what encodes images of their size."""
    images, labels = read_idx(images_file), read_idx(labels_file)
    _check_pair(place, part, images, labels)
    encoder = ImageEncoder(0.1307, 0.3081, 1, images.shape[1], images.shape[2])
    return encoder.encode(images), labels.astype(np.int64), encoder


def _check_pair(place: Path, part: str, images: Bytes, labels: Bytes) -> None:
    if images.ndim != 3 or labels.ndim != 1:
        raise ValueError(
            f"{place}: {part}-images must have 3 dimensions and {part}-labels 1; got shapes {images.shape} and "
            f"{labels.shape}. Are the files swapped?"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{place}: {part}-images has {len(images)} images, but {part}-labels has {len(labels)} labels. Take "
            f"both files from one data set."
        )
    if labels.max() > 9:
        raise ValueError(f"{place}: {part}-labels must run from 0 to 9; got {labels.max()}.")


def _present(place: Path, name: str) -> Path | None:
    candidates = (place / name, place / name.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _fetch(name: str, place: Path, progress: Progress | None) -> Path:
    """Download one file from the first mirror that has it as it should be."""
    import pooch

    make_folder(place)
    failures = []
    for mirror in MIRRORS:
        bar = _Bar(name, progress) if progress else False
        # The downloader by itself: `pooch.retrieve` would write log lines to the terminal.
        download = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=30)
        held = _Bounded()
        try:
            download(mirror + name, held, None)
        except OSError as error:
            # The words of a failed connection run over several lines and say little more than its type.
            reason = str(error) if len(str(error)) < 200 else type(error).__name__
            failures.append(f"{mirror}{name}: {reason}")
            continue
        found = hashlib.sha256(held.getbuffer()).hexdigest()
        if found == SHA256[name]:
            return write_whole(place / name, held.getvalue())
        failures.append(f"{mirror}{name}: SHA-256 is {found}, not {SHA256[name]}; the file was discarded")
    raise OSError(
        f"Could not fetch {name} ({'; '.join(failures)}). Check the connection and try again, or put the file "
        f"into {place} yourself."
    )


class _Bounded(io.BytesIO):
    """What a mirror sends, which may be anything, in memory."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > _LARGEST_FILE:
            raise OSError(f"it is larger than {_LARGEST_FILE} bytes")
        return super().write(content)


class _Bar:
    """What pooch expects of a progress bar, handed on to a plain function."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.total = self.done = 0

    def update(self, count: int) -> None:
        # pooch counts whole chunks, so its last one overshoots.
        self.done = min(self.done + count, self.total) if self.total else self.done + count
        self.progress(self.name, self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
