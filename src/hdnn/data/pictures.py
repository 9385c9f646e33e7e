"""A folder of pictures as a data set: one folder a class, by itself or in train/ and test/.

Legend: s pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.data.dataset import Dataset, split
from hdnn.data.decoding import ENDINGS, Look, look
from hdnn.data.image_encoder import CENTRE, ImageEncoder
from hdnn.data.images import standardised
from hdnn.data.pixels import AT_ONCE, Bytes, Held, Histogram, Pixels, encoder_of
from hdnn.data.stored import Stored, mapped, read_pictures
from hdnn.data.targets import TargetEncoder
from hdnn.files import kind
from hdnn.names import count, few, hint

Labels = NDArray[np.int64]

SIDE = 32
"""Pixels along each side, where pictures are of several sizes or larger than `KEPT`."""

KEPT = 64
"""Pictures that all have one size of at most so many pixels along a side keep it."""

IN_MEMORY = 2**31
"""Bytes of pictures that are held in memory; more are read from their files again and again."""

_TRAIN, _TEST, _THIRD = ("train", "training"), ("test", "testing"), ("val", "valid", "validation", "dev")
_CLUTTER = ("thumbs.db", "desktop.ini")
_AHEAD = 64  # pictures that are read at once; of large ones, a thousand would be much


class Listed(NamedTuple):
    """Pictures of one part.

    Args:
        names: below the folder.
        labels: of each.
    """

    names: list[str]
    labels: list[str]


def pictures(
    folder: str | os.PathLike[str], *, seed: int = 0, image_size: int | None = None, in_memory: int = IN_MEMORY
) -> Dataset:
    """Make a folder of pictures (PNG, JPEG) into a data set.

    The folder holds one folder for each class, or `train` and perhaps `test`, which hold these. Without `test` a fifth
    of the pictures is held out, of each class. All are made equal as `hdnn.data.decoding` says: of pictures that do not
    all have one size of at most 64 pixels, the largest square around the middle is resized. Mean and deviation of each
    channel are those of the training part.

    Args:
        folder: Its class folders are plain ones, and in them are plain files: no link is followed.
        seed: Of the split, where there is one.
        image_size: Pixels along each side; None keeps the size that all have, or takes 32.
        in_memory: Bytes that may be held in memory; of more, pictures are read from their files when they are needed.

    Returns:
        `Pixels` (s, C, H, W), with C = 1 if no picture of the training part has colours, else 3.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is laid out otherwise, a class has no picture, or a picture cannot be read; the message names
            it.
    """
    place = Path(folder)
    train, test, left_out = listed(place)
    classes = tuple(sorted(set(train.labels)))
    if test is None:
        train, test = _split(place, train, seed)
        how = f"a fifth held out for testing, seed {seed}, stratified"
    else:
        how = "split as the folders are"
    shape, size = _shape(_looks(place, train.names), _looks(place, test.names), image_size)
    held = (len(train.names) + len(test.names)) * int(np.prod(shape)) <= in_memory
    histogram = Histogram(shape[0])
    kept, marks = _scanned(place, train.names, shape, histogram, held=held)
    others, other_marks = _scanned(place, test.names, shape, None, held=held)
    encoder = encoder_of(histogram, shape, CENTRE)
    target = TargetEncoder(("class",), classes=classes)
    colours = "grey" if shape[0] == 1 else "in colours"
    where = () if held else ("read from their files when they are needed",)
    return Dataset(
        name=str(place),
        task=target.task,
        x_train=_pixels(place, train, encoder, kept, marks),
        y_train=_indices(train, classes),
        x_test=_pixels(place, test, encoder, others, other_marks),
        y_test=_indices(test, classes),
        encoder=encoder,
        target=target,
        notes=(f"pictures {colours}, {size}", *where, standardised(encoder), how),
        cautions=tuple(filter(None, (left_out_in_words(left_out), _twice(marks, other_marks)))),
    )


def listed(place: Path) -> tuple[Listed, Listed | None, list[str]]:
    """The pictures of a folder for training and, where they are there, for testing; and files that are none.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is laid out otherwise.
    """
    folders, files = _inside(place)
    named = {name.lower(): name for name in folders}
    training = next((named[name] for name in _TRAIN if name in named), None)
    if training is None:
        if files and not folders:
            raise ValueError(
                f"{place} holds {count(len(files), 'file')} and no folders. Put the pictures of each class into a "
                f"folder of that name, as in {place}/cat/1.png."
            )
        found, left_out = _classes(place, "", folders)
        return found, None, left_out + files
    testing = next((named[name] for name in _TEST if name in named), None)
    if more := [name for name in folders if name not in (training, testing)]:
        third = " Put them under train, for parts of that are held out by --validation-fraction, or move them away."
        raise ValueError(
            f"{place} holds {training} and {few(more, 3)} beside it; there it may be test alone."
            + (third if more[0].lower() in _THIRD else " Move them into train, or away.")
        )
    inner, strays = _inside(place / training)
    train, left_out = _classes(place, training, inner)
    left_out += [*files, *(f"{training}/{name}" for name in strays)]
    if testing is None:
        return train, None, left_out
    inner, strays = _inside(place / testing)
    test, more_left = _classes(place, testing, inner)
    left_out += [f"{testing}/{name}" for name in strays]
    if new := sorted(set(test.labels) - set(train.labels)):
        raise ValueError(
            f"{place / testing} has the class {new[0]}, which {training} lacks. Add it there, or remove it."
        )
    return train, test, left_out + more_left


def labelled(
    folder: str | os.PathLike[str], encoder: ImageEncoder, classes: Sequence[str]
) -> tuple[Pixels, Labels, int, list[str]]:
    """The pictures of a folder with one folder a class, as a trained network wants them.

    Args:
        folder: Laid out as for `pictures`, but without parts.
        encoder: Of the network's inputs.
        classes: That it knows.

    Returns:
        The pictures of these classes, the index of the class of each, how many have another, and files that are none.

    Raises:
        ValueError: As `pictures`, or if no picture has a class that is known.
    """
    place = Path(folder)
    folders, strays = _inside(place)
    if parts := [name for name in folders if name.lower() in (*_TRAIN, *_TEST) and _inside(place / name)[0]]:
        part = next((name for name in parts if name.lower() in _TEST), parts[0])
        raise ValueError(
            f"{place} holds {few(parts)}, with folders in {'it' if len(parts) == 1 else 'them'}: these are parts, no "
            f"classes. Name the one to be scored, as in {place / part}."
        )
    found, left_out = _classes(place, "", folders, least=1)
    known = [k for k, label in enumerate(found.labels) if label in set(classes)]
    if not known:
        raise ValueError(f"{place} has no folder of a class that the network knows. {hint(found.labels[0], classes)}")
    chosen = Listed([found.names[k] for k in known], [found.labels[k] for k in known])
    pixels = Stored(place, np.array(chosen.names), encoder, np.zeros((len(known), 0), dtype=np.uint8))
    return pixels, _indices(chosen, classes), len(found.names) - len(known), strays + left_out


def pictures_in(place: Path) -> tuple[list[str], list[str]]:
    """The names of all pictures in a folder and those below it, in order, and those of files that are none."""
    folders, files = _inside(place)
    found, left_out = _sorted_out(files)
    for name in folders:
        inner, others = pictures_in(place / name)
        found += [f"{name}/{each}" for each in inner]
        left_out += [f"{name}/{each}" for each in others]
    return found, left_out


def _classes(place: Path, below: str, folders: Sequence[str], least: int = 2) -> tuple[Listed, list[str]]:
    """The pictures in some class folders, and files that are none."""
    root = place / below
    if len(folders) < least:
        there = f"only one, {folders[0]}: there is nothing to tell apart" if folders else "none"
        raise ValueError(f"{root} must hold one folder of pictures for each class; there is {there}. Add folders.")
    found, left_out = Listed([], []), []
    for name in folders:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # by which Python says that bytes are no letters
            raise ValueError(
                f"{root / name} is the folder of a class, and its name is no UTF-8, so results cannot be written with "
                f"it. Give it another name."
            )
        inner, files = _inside(root / name)
        if inner:
            raise ValueError(
                f"{root / name} is the folder of a class, and holds the folder {inner[0]}. Put its pictures beside the "
                f"others, or move it away."
            )
        good, bad = _sorted_out(files)
        if not good:
            what = f"{few(bad, 3)}, but no picture" if bad else "nothing"
            raise ValueError(
                f"{root / name} is the folder of a class, and holds {what} ({', '.join(ENDINGS)}). Add pictures, or "
                f"remove the folder."
            )
        path = "/".join(filter(None, (below, name)))
        found.names.extend(f"{path}/{each}" for each in good)
        found.labels.extend([name] * len(good))
        left_out += [f"{path}/{each}" for each in bad]
    return found, left_out


def _inside(place: Path) -> tuple[list[str], list[str]]:
    """Folders and other things in a folder, in order; hidden ones, and what systems leave everywhere, are not seen."""
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {place}. A folder of pictures was expected there.")
    folders: list[str] = []
    files: list[str] = []
    for name in sorted(os.listdir(place)):
        if name.startswith(".") or name.lower() in _CLUTTER:
            continue
        what = kind(place / name)
        if what.startswith("a link"):
            raise ValueError(f"{place / name} is {what}, and links are not followed. Put what it means in its place.")
        (folders if what == "a folder" else files).append(name)
    return folders, files


def _sorted_out(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of pictures, and those of other files."""
    good = [name for name in files if name.lower().endswith(ENDINGS)]
    return good, [name for name in files if name not in set(good)]


def _batches(names: Sequence[str], size: int) -> list[list[str]]:
    return [list(names[start : start + size]) for start in range(0, len(names), size)]


class _Looking:
    """`look` at the pictures in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str) -> Look:
        return look(self.root / name)


def _looks(place: Path, names: Sequence[str]) -> list[Look]:
    return [each for batch in mapped(_Looking(place), _batches(names, AT_ONCE)) for each in batch]


def _shape(train: Sequence[Look], test: Sequence[Look], side: int | None) -> tuple[tuple[int, int, int], str]:
    """(C, H, W) of the inputs, and a few words on how pictures come to it."""
    sizes = {(each.height, each.width) for each in (*train, *test)}
    channels = 1 if all(each.grey for each in train) else 3
    height, width = next(iter(sizes))
    if len(sizes) == 1 and (max(height, width) <= KEPT if side is None else height == width == side):
        return (channels, height, width), f"{width} x {height} pixels as they are"
    side = side or SIDE
    found = f"of {len(sizes)} sizes" if len(sizes) > 1 else f"of {width} x {height} pixels"
    return (channels, side, side), f"{found}, the middle square of each resized to {side} x {side} pixels"


def _split(place: Path, found: Listed, seed: int) -> tuple[Listed, Listed]:
    """Two parts with the same mix of classes."""
    single = [label for label, number in Counter(found.labels).items() if number == 1]
    if single:
        raise ValueError(
            f"{place / single[0]} holds a single picture, but it takes one to learn from and one to test with. Add "
            f"pictures, or remove the folder."
        )
    train, test = split(len(found.names), seed=seed, labels=np.array(found.labels))
    train_part, test_part = ([found.names[i] for i in rows] for rows in (train, test))
    return Listed(train_part, [found.labels[i] for i in train]), Listed(test_part, [found.labels[i] for i in test])


def _scanned(
    place: Path, names: Sequence[str], shape: tuple[int, int, int], histogram: Histogram | None, *, held: bool
) -> tuple[Bytes | None, Bytes]:
    """All pictures, read once: they themselves where they are held, and a mark of each."""
    kept = np.empty((len(names), *shape), dtype=np.uint8) if held else None
    marks = np.empty((len(names), 16), dtype=np.uint8)
    start = 0
    for images in read_pictures(place, _batches(names, _AHEAD), shape):
        rows = slice(start, start + len(images))
        if kept is not None:
            kept[rows] = images
        if histogram is not None:
            histogram.add(images)
        digests = [hashlib.blake2b(image.data, digest_size=16).digest() for image in images]
        marks[rows] = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
        start += len(images)
    return kept, marks


def _pixels(place: Path, part: Listed, encoder: ImageEncoder, kept: Bytes | None, marks: Bytes) -> Pixels:
    return Stored(place, np.array(part.names), encoder, marks) if kept is None else Held(kept, encoder)


def _indices(part: Listed, classes: Sequence[str]) -> Labels:
    place = {label: index for index, label in enumerate(classes)}
    return np.array([place[label] for label in part.labels], dtype=np.int64)


def left_out_in_words(names: Sequence[str]) -> str:
    """A sentence on files that are no pictures, or of no class; empty where there are none."""
    if not names:
        return ""
    if strays := [name for name in names if name.lower().endswith(ENDINGS)]:
        which = "picture that is in no folder of a class was" if len(strays) == 1 else "pictures in no class were"
        rest = left_out_in_words([name for name in names if name not in set(strays)])
        return " ".join(filter(None, (f"{len(strays)} {which} left out: {few(strays, 3)}.", rest)))
    which = "file that does not end" if len(names) == 1 else "files that do not end"
    left = "was" if len(names) == 1 else "were"
    return f"{len(names)} {which} in {', '.join(ENDINGS)} {left} left out: {few(list(names), 3)}."


def _twice(train: Bytes, test: Bytes) -> str:
    """A sentence on pictures that are in both parts; empty where there are none."""
    seen = {mark.tobytes() for mark in train}
    twice = sum(mark.tobytes() in seen for mark in test)
    if not twice:
        return ""
    return (
        f"{count(twice, 'picture')} of the test part {'is' if twice == 1 else 'are'} in the training part, too, pixel "
        f"by pixel. The score will be better than it would be on new ones."
    )
