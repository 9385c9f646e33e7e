"""Images changed by chance, each in its own way in every epoch: moved, mirrored, partly covered.

What is drawn follows from the seed, the epoch and the number of the image alone, never from what was drawn before: a
training that goes on after a pause sees the same images, whatever the batches and wherever it runs.

Legend: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hdnn.names import unknown

CHANGES = {
    "crop": "moved by up to an eighth of its sides, what comes in being 0, the mean",
    "flip": "mirrored left to right, every other time",
    "cutout": "a square of a quarter of its sides covered with 0, wherever its middle falls",
}
"""What can be asked for, in words."""

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Augmentation:
    """Changes of images, drawn by seed, epoch and number of the image.

    Args:
        changes: of `CHANGES`.
        seed: of all that is drawn.

    Raises:
        ValueError: if there is no such change.

    Example:
        >>> move = Augmentation(("crop", "flip"), seed=0)
        >>> x, rows = torch.rand(2, 3, 16, 16), torch.tensor([7, 4])
        >>> torch.equal(move(x, 1, rows)[0], move(x[:1], 1, rows[:1])[0])
        True
    """

    def __init__(self, changes: Sequence[str], seed: int) -> None:
        self.changes, self.seed = check_changes(changes), seed

    def __call__(self, x: Tensor, epoch: int, rows: Tensor) -> Tensor:
        """Images as they are seen in an epoch.

        Args:
            x: (B, C, H, W), standardised.
            epoch: counted from 1.
            rows: (B,), the number of each image.

        Raises:
            ValueError: if these are no images.
        """
        if x.dim() != 4:
            raise ValueError(
                f"`augment` changes images (samples, channels, height, width); got inputs of shape {tuple(x.shape)}. "
                f"Leave it out."
            )
        drawn = _drawn(self.seed, epoch, rows.cpu().numpy())
        h, w = x.shape[-2:]
        if "crop" in self.changes or "flip" in self.changes:
            up, left = h // 8, w // 8
            none = np.zeros(len(rows), dtype=np.int64)
            dy, dx = (_below(drawn[k], 2 * far + 1) for k, far in ((0, up), (1, left)))
            moves = (dy, dx) if "crop" in self.changes else (none + up, none + left)
            x = _moved(x, up, left, *moves, _below(drawn[2], 2) if "flip" in self.changes else none)
        if "cutout" in self.changes:
            x = _covered(x, _below(drawn[3], h), _below(drawn[4], w))
        return x


def check_changes(changes: Sequence[str]) -> tuple[str, ...]:
    """Changes that there are.

    Raises:
        ValueError: if one is none.
    """
    for change in changes:
        if change not in CHANGES:
            raise ValueError(unknown("change of images, `augment`,", change, CHANGES))
    return tuple(changes)


def _moved(
    x: Tensor, up: int, left: int, dy: NDArray[np.int64], dx: NDArray[np.int64], mirrored: NDArray[np.int64]
) -> Tensor:
    """Parts (B, C, H, W) of images with a margin, from their rows dy and columns dx on, some mirrored."""
    h, w = x.shape[-2:]
    across = np.where(mirrored[:, None] == 1, np.arange(w)[::-1], np.arange(w))
    rows = torch.from_numpy(dy[:, None] + np.arange(h)).to(x.device)[:, :, None]
    columns = torch.from_numpy(dx[:, None] + across).to(x.device)[:, None, :]
    wide = functional.pad(x, (left, left, up, up)).movedim(1, -1)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return wide[image, rows, columns].movedim(-1, 1).contiguous()


def _covered(x: Tensor, y: NDArray[np.int64], z: NDArray[np.int64]) -> Tensor:
    """Images with a square around row y and column z set to 0."""
    h, w = x.shape[-2:]
    inside = [
        np.abs(2 * (np.arange(side) - middle[:, None]) + 1) < max(2, side // 4) for side, middle in ((h, y), (w, z))
    ]
    rows, columns = (torch.from_numpy(each).to(x.device) for each in inside)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _drawn(seed: int, epoch: int, rows: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
    """Five whole numbers of 64 bits for each image: SplitMix64 of seed, epoch and number."""
    with np.errstate(over="ignore"):
        state = _mixed(_mixed(np.array([seed], dtype=np.uint64)) + np.uint64(epoch))
        state = _mixed(state + rows.astype(np.uint64))
        return [_mixed(state + _GOLDEN * np.uint64(k)) for k in range(1, 6)]


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = z + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def _below(drawn: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Whole numbers from 0 to below a bound."""
    return ((drawn >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)
