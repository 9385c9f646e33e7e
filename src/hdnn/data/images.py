"""Images in IDX files: those that scikit-learn carries, MNIST and its kin, and any folder of four such files.

Legend: s images, C channels, H x W pixels.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hdnn.data.cells import center
from hdnn.data.columns import Numeric
from hdnn.data.dataset import Dataset, split, standardized
from hdnn.data.downloads import Progress as Progress
from hdnn.data.downloads import fetch
from hdnn.data.encoders import ImageEncoder, TableEncoder
from hdnn.data.idx import read_idx
from hdnn.data.pixels import Held, Pixels, standardising
from hdnn.data.targets import TargetEncoder
from hdnn.doors import shelled

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

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
FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

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


def mnist(
    folder: str | os.PathLike[str], download: bool = False, progress: Progress | None = None, *, in_bytes: bool = False
) -> Dataset:
    """Read MNIST, or another data set of ten classes in the same four files, from a folder.

    The inputs are (x / 255 - 0.1307) / 0.3081, with MNIST's own mean and standard deviation.

    Args:
        folder: Where the files are or go: train-images-idx3-ubyte, train-labels-idx1-ubyte,
            t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each as it is or with .gz.
        download: Fetch the files that are not there (11 MB in all), each checked by its SHA-256.
        progress: Called while a file is fetched with its name, the bytes so far and in all.
        in_bytes: Keep the images as `Pixels`, which become inputs where they are read.

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
    files = _published(place, "MNIST", MIRRORS, SHA256, download, progress)
    target = TargetEncoder(("digit",), classes=tuple(map(str, range(10))))
    # One part after the other: of bytes and the four times larger inputs, only one part has both in memory.
    x_train, y_train = _scaled(place, "train", files[:2], in_bytes=in_bytes)
    x_test, y_test = _scaled(place, "t10k", files[2:], in_bytes=in_bytes)
    _require_one_shape(place, x_train.shape[1:], x_test.shape[1:])
    return Dataset(
        name="mnist",
        task=target.task,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        encoder=_mnist_encoder(x_train.shape),
        target=target,
        notes=("brightness less 0.1307, over 0.3081", "split as the files are"),
    )


def fashion_mnist(folder: str | os.PathLike[str], download: bool = False, progress: Progress | None = None) -> Dataset:
    """Read Fashion-MNIST, ten kinds of clothes, from its four files, which are called as those of MNIST.

    Args:
        folder: As for `mnist`, as are the following; 31 MB in all.
        download: Fetch the files that are not there.
        progress: Called while a file is fetched.

    Returns:
        `Pixels` (s, 1, 28, 28), 60000 for training and 10000 for testing.

    Raises:
        OSError, ValueError: As `mnist`.

    References:
        Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms, 2017,
        https://arxiv.org/abs/1708.07747
    """
    place = Path(folder)
    files = _published(place, "Fashion-MNIST", FASHION_MIRRORS, FASHION_SHA256, download, progress)
    return _of_bytes("fashion-mnist", place, files, TargetEncoder(("article",), classes=CLOTHES))


def idx_images(folder: str | os.PathLike[str], seed: int = 0) -> Dataset:
    """Read a folder of IDX files: images and their labels, for training and, where they are there, for testing.

    They are found by their names: "train" or else "test" or "t10k", and "images" or "labels", as in
    emnist-letters-train-images-idx3-ubyte.gz.

    Args:
        folder: With two or four such files.
        seed: Of the split, where there are no files for testing: 80 / 20, stratified.

    Returns:
        `Pixels` (s, C, H, W) from files of three dimensions (s, H, W) or four.

    Raises:
        FileNotFoundError: If files are not there.
        ValueError: If a file is damaged, there is more than one for a purpose, or they do not belong together.
    """
    place = Path(folder)
    found = {f"{part} {what}": _named(place, part, what) for part in ("train", "test") for what in ("images", "labels")}
    lacking = [what for what in ("train images", "train labels") if found[what] is None]
    if (found["test images"] is None) != (found["test labels"] is None):
        lacking.append("test images" if found["test images"] is None else "test labels")
    if lacking:
        raise FileNotFoundError(
            f"{place} lacks a file of {' and of '.join(lacking)}. Images in IDX files are in files such as "
            f"train-images-idx3-ubyte, train-labels-idx1-ubyte, test-images-idx3-ubyte and test-labels-idx1-ubyte."
        )
    files = [path for path in found.values() if path is not None]
    last = max(int(read_idx(path).max()) for path in files[1::2])
    target = TargetEncoder(("label",), classes=tuple(map(str, range(max(last, 1) + 1))))
    return _of_bytes(str(place), place, files, target, seed)


def is_idx_folder(place: Path) -> bool:
    """Whether a folder holds files that are called as those of IDX are."""
    return any(("-idx" in path.name or ".idx" in path.name) and not path.is_dir() for path in place.iterdir())


def _named(place: Path, part: str, what: str) -> Path | None:
    words = ("train",) if part == "train" else ("test", "t10k")
    names = (path for path in sorted(place.iterdir()) if path.is_file() and "idx" in path.name)
    fitting = [path for path in names if what in path.name and any(word in path.name for word in words)]
    if len(fitting) > 1:
        raise ValueError(
            f"{place} holds {len(fitting)} files of {part} {what}: {fitting[0].name}, {fitting[1].name}. Keep those of "
            f"one data set in a folder."
        )
    return fitting[0] if fitting else None


def _of_bytes(name: str, place: Path, files: list[Path], target: TargetEncoder, seed: int = 0) -> Dataset:
    """A data set of two or four files, standardised by its training part."""
    largest = len(target.classes) - 1
    images, labels = _pair(place, "train", *files[:2], largest=largest)
    how = "split as the files are"
    if len(files) == 4:
        others, answers = _pair(place, "test", *files[2:], largest=largest)
        _require_one_shape(place, images.shape[1:], others.shape[1:])
    else:
        train, test = split(len(images), seed=seed, labels=labels)
        others, answers, images, labels = images[test], labels[test], images[train], labels[train]
        how = f"a fifth held out for testing, seed {seed}, stratified"
    return of_pixels(name, (images, labels), (others, answers), target, how)


def of_pixels(
    name: str,
    train: tuple[Bytes, Labels],
    test: tuple[Bytes, Labels],
    target: TargetEncoder,
    how: str,
    cautions: tuple[str, ...] = (),
    held_out: str = "",
) -> Dataset:
    """A data set of two parts, images (s, C, H, W) and labels (s,), standardised by the first."""
    encoder = standardising(train[0])
    parts = (Held(train[0], encoder), train[1], Held(test[0], encoder), test[1])
    notes = (standardised(encoder), how)
    return Dataset(name, target.task, *parts, encoder, target, notes, cautions, held_out=held_out)


def standardised(encoder: ImageEncoder) -> str:
    """A few words on what the encoder of a data set does."""
    each = "" if encoder.channels == 1 else ", each channel for itself"
    return f"brightness standardised by the training part{each}"


def _published(
    place: Path, what: str, mirrors: tuple[str, ...], sha256: dict[str, str], download: bool, progress: Progress | None
) -> list[Path]:
    """The four files of a data set that anybody can have."""
    paths = {name: _present(place, name) for name in sha256}
    absent = [name for name, path in paths.items() if path is None]
    if absent and not download:
        lacks = f"{place} lacks {len(absent)} of the 4 {what} files: {', '.join(absent)}. Put them there (with or"
        raise shelled(
            FileNotFoundError(f"{lacks} without .gz), or give `download=True` to fetch them."),
            f"{lacks} without .gz), name another folder by --data-folder, or give --download to hdnn train, which "
            f"fetches them.",
        )
    for name in absent:
        paths[name] = fetch(name, place, mirrors, sha256[name], largest=_LARGEST_FILE, progress=progress)
    return [path for path in paths.values() if path is not None]


def _scaled(
    place: Path, part: str, files: list[Path], *, in_bytes: bool
) -> tuple[NDArray[np.float32] | Pixels, Labels]:
    """Inputs and labels of one part of MNIST."""
    images, labels = _pair(place, part, *files, largest=9)
    encoder = _mnist_encoder(images.shape)
    return Held(images, encoder) if in_bytes else encoder.encode(images), labels


def _mnist_encoder(shape: tuple[int, ...]) -> ImageEncoder:
    return ImageEncoder(0.1307, 0.3081, 1, shape[-2], shape[-1])


def _pair(place: Path, part: str, images_file: Path, labels_file: Path, *, largest: int) -> tuple[Bytes, Labels]:
    """Images (s, C, H, W) and labels of one part."""
    images, labels = read_idx(images_file), read_idx(labels_file)
    _check_pair(place, part, images, labels, largest)
    return (images if images.ndim == 4 else images[:, None]), labels.astype(np.int64)


def _check_pair(place: Path, part: str, images: Bytes, labels: Bytes, largest: int) -> None:
    if images.ndim not in (3, 4) or labels.ndim != 1:
        raise ValueError(
            f"{place}: {part}-images must have 3 dimensions and {part}-labels 1; got shapes {images.shape} and "
            f"{labels.shape}. Are the files swapped?"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{place}: {part}-images has {len(images)} images, but {part}-labels has {len(labels)} labels. Take "
            f"both files from one data set."
        )
    if labels.max() > largest:
        raise ValueError(f"{place}: {part}-labels must run from 0 to {largest}; got {labels.max()}.")


def _require_one_shape(place: Path, train: tuple[int, ...], test: tuple[int, ...]) -> None:
    if train != test:
        sizes = [shape[1:] if shape[0] == 1 else shape for shape in (train, test)]
        raise ValueError(
            f"{place}: the training images are {sizes[0]} pixels, but the test images "
            f"{sizes[1]}. Take all four files from one data set."
        )


def _present(place: Path, name: str) -> Path | None:
    candidates = (place / name, place / name.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)
