"""From images of bytes to what a network reads: plain values, fitted on the training part only.

Legend: s images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hdnn.data import documents

Bytes = NDArray[np.uint8]
Inputs = NDArray[np.float32]

CENTRE = "centre"
"""How pictures of any size are made equal: the largest part of that shape around the middle, resized."""

_LARGEST_IMAGE = 2**24


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """Images of bytes as network inputs: (x / 255 - mean) / std.

    Args:
        mean: Mean brightness of the training part, of white = 1; one number, or one a channel.
        std: Its standard deviation, above 0; as many numbers.
        channels: C, 1 for grey.
        height: H in pixels.
        width: W in pixels.
        fit: How a picture from a file gets this size: "centre" takes the largest part of this shape around its middle,
            and resizes that; empty where images come as they are.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> encoder = ImageEncoder(mean=0.5, std=0.5, height=1, width=2)
        >>> encoder.encode(np.array([[[0, 255]]], dtype=np.uint8)).tolist()
        [[[[-1.0, 1.0]]]]
        >>> ImageEncoder((0.0, 0.2), (1.0, 0.1), 2, 1, 1).encode(np.array([[[[255]], [[0]]]], dtype=np.uint8)).tolist()
        [[[[1.0]], [[-2.0]]]]
    """

    kind: ClassVar[str] = "image"
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    channels: int = 1
    height: int = 28
    width: int = 28
    fit: str = ""

    def __post_init__(self) -> None:
        size = 1
        for name, value in zip(("channels", "height", "width"), self.shape, strict=True):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_IMAGE:
                raise ValueError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
            size *= value
        if size > _LARGEST_IMAGE:
            raise ValueError(f"An image of {self.shape} values exceeds the limit of {_LARGEST_IMAGE} values.")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.channels:
                raise ValueError(f"`{name}` must be one number, or one for each of {self.channels} channels.")
            for each in value if isinstance(value, tuple) else (value,):
                documents.number(each, f"The {name} of an image encoder", positive=name == "std")
        if self.fit not in ("", CENTRE):
            raise ValueError(f"`fit` must be {CENTRE!r} or empty; got {documents.shown(self.fit)}.")
        if not np.isfinite(self.levels()).all():
            raise ValueError(f"mean={self.mean!r} and std={self.std!r} take brightness beyond 32-bit numbers.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one encoded image: (C, H, W)."""
        return (self.channels, self.height, self.width)

    def checked(self, images: NDArray[Any]) -> Bytes:
        """Images as (s, C, H, W).

        Args:
            images: uint8 (s, C, H, W), or (s, H, W) for one channel.

        Raises:
            ValueError: If they are not bytes or not of that shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise ValueError(
                f"Images must be bytes (uint8, 0 to 255); got {images.dtype}. For values from 0 to 1: "
                f"(x * 255).round().astype('uint8')."
            )
        if images.ndim == 3 and self.channels == 1:
            images = images[:, None]
        if images.ndim != 4 or images.shape[1:] != self.shape:
            expected, found = ", ".join(map(str, self.shape)), ", ".join(map(str, images.shape[1:]))
            raise ValueError(f"Expected images of shape (samples, {expected}); got (samples, {found}).")
        return images

    def encode(self, images: NDArray[Any]) -> Inputs:
        """Return the network inputs of images.

        Args:
            images: uint8 (s, C, H, W), or (s, H, W) for one channel.

        Returns:
            float32 (s, C, H, W).

        Raises:
            ValueError: If the images are not bytes or not of that shape.
        """
        images = self.checked(images)
        levels = self.levels()
        if len(levels) == 1:
            return np.take(levels[0], images)
        inputs = np.empty(images.shape, dtype=np.float32)
        for channel, level in enumerate(levels):
            inputs[:, channel] = np.take(level, images[:, channel])
        return inputs

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "mean": _plain(self.mean),
            "std": _plain(self.std),
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            **({"fit": self.fit} if self.fit else {}),
        }

    @classmethod
    def from_dict(cls, document: object) -> ImageEncoder:
        """Read what `to_dict` wrote; anything else raises ValueError."""
        keys = ("kind", "mean", "std", "channels", "height", "width", "fit")
        if isinstance(document, dict):
            document = {"fit": "", **document}
        values = documents.mapping(document, "an image encoder", keys)
        if values["kind"] != cls.kind:
            raise ValueError(f"Expected the description of kind {cls.kind!r}; got {documents.shown(values['kind'])}.")
        read = {**values, **{key: tuple(values[key]) for key in ("mean", "std") if isinstance(values[key], list)}}
        return cls(*(read[key] for key in keys[1:]))

    def levels(self) -> Inputs:
        """What becomes of each byte, (1, 256) or (C, 256)."""
        # A byte has 256 values: looking them up is exact, and one pass over the images.
        with np.errstate(over="ignore"):
            mean, std = (np.array(value, dtype=float).reshape(-1, 1) for value in (self.mean, self.std))
            levels: Inputs = ((np.arange(256) / 255 - mean) / std).astype(np.float32)
        return levels


def _plain(value: float | Sequence[float]) -> float | list[float]:
    return [float(each) for each in value] if isinstance(value, tuple | list) else float(value)  # type: ignore[arg-type]
