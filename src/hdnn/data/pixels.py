"""Images as bytes, which become the inputs of a network where a batch of them is read.

Four bytes a value would fill the memory four times as fast, and pictures in files need not fill it at all.

Legend: s images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data.image_encoder import ImageEncoder

Bytes = NDArray[np.uint8]
Inputs = NDArray[np.float32]
Rows = NDArray[np.int64] | slice

AT_ONCE = 1024
"""Images that are looked at together where all are."""


class Pixels(ABC):
    """Images as bytes; indexed, they are the inputs that their encoder makes of them.

    Args:
        encoder: makes inputs of bytes.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder

    @abstractmethod
    def __len__(self) -> int:
        """s."""

    @abstractmethod
    def read(self, chosen: Iterable[Rows]) -> Iterator[Bytes]:
        """The bytes (r, C, H, W) of one choice of images after the other, those to come perhaps ahead of time.

        Args:
            chosen: indices (r,) or a slice each.

        Raises:
            OSError, ValueError: If an image cannot be read (any more); the message names it.
        """

    @abstractmethod
    def part(self, rows: Rows) -> Pixels:
        """Some of the images, none of them read yet."""

    @abstractmethod
    def digest(self) -> Iterator[Any]:
        """What tells these images from others, in pieces for a hash."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(s, C, H, W)."""
        return (len(self), *self.encoder.shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the inputs."""
        return np.dtype(np.float32)

    def __getitem__(self, rows: Rows) -> Inputs:
        """The inputs (r, C, H, W) of some images."""
        return self.encoder.encode(next(iter(self.read([rows]))))

    def parts(self, size: int = AT_ONCE) -> Iterator[Bytes]:
        """The bytes of all images in their order, so many at a time."""
        return self.read(slice(start, min(start + size, len(self))) for start in range(0, len(self), size))


class Held(Pixels):
    """Images that the memory holds.

    Args:
        images: uint8 (s, C, H, W), or (s, H, W) for one channel.
        encoder: makes inputs of them.

    Raises:
        ValueError: If the images are not what the encoder takes.

    Example:
        >>> images = np.array([[[0, 255]], [[255, 0]]], dtype=np.uint8)
        >>> pixels = Held(images, ImageEncoder(mean=0.5, std=0.5, height=1, width=2))
        >>> pixels.shape, pixels[np.array([1])].tolist()
        ((2, 1, 1, 2), [[[[1.0, -1.0]]]])
    """

    def __init__(self, images: Bytes, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.images = encoder.checked(images)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, chosen: Iterable[Rows]) -> Iterator[Bytes]:
        """The bytes of one choice after the other."""
        return (self.images[rows] for rows in chosen)

    def part(self, rows: Rows) -> Held:
        """Some of the images."""
        return Held(self.images[rows], self.encoder)

    def digest(self) -> Iterator[Any]:
        """All inputs: runs of before there were bytes began with the digest of these."""
        return (np.ascontiguousarray(self.encoder.encode(images)).data for images in self.parts())


class Histogram:
    """How often each byte occurs in each channel, from which mean and deviation follow to the last digit.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((channels, 256), dtype=np.int64)

    def add(self, images: Bytes) -> None:
        """Count images (r, C, H, W)."""
        for count, channel in zip(self.counts, images.swapaxes(0, 1), strict=True):
            count += np.bincount(channel.reshape(-1), minlength=256)

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, of white = 1; a channel that never changes has deviation 1."""
        level, total = np.arange(256) / 255, self.counts.sum(axis=1)
        mean = self.counts @ level / total
        variance = [float(count @ (level - m) ** 2 / n) for count, m, n in zip(self.counts, mean, total, strict=True)]
        return tuple(map(float, mean)), tuple(math.sqrt(each) if each > 0 else 1.0 for each in variance)


def standardising(images: Bytes) -> ImageEncoder:
    """The encoder with the mean and deviation of each channel of images (s, C, H, W), those of the training part.

    Example:
        >>> standardising(np.array([[[[0, 255]]]], dtype=np.uint8)).mean
        0.5
    """
    histogram = Histogram(images.shape[1])
    for start in range(0, len(images), AT_ONCE):
        histogram.add(images[start : start + AT_ONCE])
    return encoder_of(histogram, images.shape[1:])


def encoder_of(histogram: Histogram, shape: tuple[int, ...], fit: str = "") -> ImageEncoder:
    """The encoder of images (C, H, W) of which a histogram tells."""
    mean, std = histogram.moments()
    channels, height, width = shape
    one = channels == 1
    return ImageEncoder(mean[0] if one else mean, std[0] if one else std, channels, height, width, fit)
