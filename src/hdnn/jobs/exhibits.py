"""Pictures of networks of images for the report: what stages make of images, and which are taken for others.

Legend: B images, C channels, H x W pixels; c channels of a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn import plots
from hdnn.analysis import principal_components
from hdnn.data import Dataset, ImageEncoder
from hdnn.jobs.evidence import pictured
from hdnn.modes import evaluating
from hdnn.names import count
from hdnn.networks import Network, class_probabilities
from hdnn.report import Picture
from hdnn.runs import Run
from hdnn.stages import Stages

_MISTAKES, _ROW = 24, 8
_ROWS = 5  # images whose way through the stages is drawn
_POINTS = 400  # samples in the panels of features
_AT_ONCE = 64


def mistakes(run: Run, dataset: Dataset, output: Tensor) -> Picture | None:
    """Test images that are taken for others, the surest first; None where there are none, or no images.

    Args:
        run: whose folder gets the picture.
        dataset: with the images and their classes.
        output: of the network, (s, outputs).
    """
    if not isinstance(dataset.encoder, ImageEncoder):
        return None
    sure, said = class_probabilities(output.double()).max(1)
    true = torch.from_numpy(dataset.y_test).to(said)
    wrong = (said != true).nonzero().flatten()
    if not len(wrong):
        return None
    shown = wrong[sure[wrong].argsort(descending=True, stable=True)][:_MISTAKES]
    images = [_pixels(dataset, int(k)) for k in shown]
    titles = [f"{dataset.classes[true[k]]}: {dataset.classes[said[k]]}" for k in shown]
    rows = range(0, len(images), _ROW)
    figure = plots.picture_rows([images[k : k + _ROW] for k in rows], [titles[k : k + _ROW] for k in rows])
    caption = "What is shown: what the network said. The surest of its errors; look here for labels that are wrong."
    alt = f"{count(len(images), 'picture')} of {count(len(wrong), 'error')} on {len(true)} test images, by "
    alt += f"{100 * float(sure[shown[0]]):.0f} to {100 * float(sure[shown[-1]]):.0f} % sure."
    return pictured(run.figure("mistakes.png"), figure, "Mistakes", alt, caption)


@torch.no_grad()
def through_stages(run: Run, network: Network, dataset: Dataset) -> list[Picture]:
    """What the stages of a network make of test images: as pictures, and as points.

    Args:
        run: whose folder gets the pictures.
        network: whose flow is `Stages`.
        dataset: with the images.
    """
    flow: Any = network.flow
    stages: Stages = flow
    names = ["stem", *(f"stage {k + 1}" for k in range(len(stages.flows)))]
    chosen = np.unique(np.linspace(0, len(dataset.x_test) - 1, min(len(dataset.x_test), _POINTS)).astype(np.int64))
    ends = _ends(network, stages, torch.from_numpy(dataset.x_test[chosen]))
    drawn = range(min(_ROWS, len(chosen)))
    maps = [_leading(y[: len(drawn)]) for y in ends]
    sizes = [f"{y.shape[2]}x{y.shape[3]}" for y in ends]
    rows = [[_pixels(dataset, int(chosen[k])), *(of_end[k] for of_end in maps)] for k in drawn]
    titles = [["image", *(f"{name}, {size}" for name, size in zip(names, sizes, strict=True))]]
    titles += [[""] * len(rows[0]) for _ in rows[1:]]
    figure = plots.picture_rows(rows, titles)
    caption = (
        "Test images, and the direction of the channels that varies most over these images and positions, after the "
        "stem and after every stage, with the positions that are left."
    )
    alt = f"{count(len(rows), 'row')} of an image and {count(len(names), 'smaller picture')} of its states."
    pictures = [pictured(run.figure("stages.png"), figure, "Images through the stages", alt, caption)]
    if len(chosen) > 2:
        means = [y.mean((-2, -1)) for y in ends]
        C = np.concatenate([_spread(principal_components(y[None].numpy()).coordinates) for y in means])
        figure = plots.features_by_layer(C, dataset.y_test[chosen], dataset.classes, names=names)
        caption = "Means over all positions, each panel from its own first two principal components, in its own unit."
        alt = f"{len(chosen)} points in {count(len(names), 'panel')}, a colour and a marker for each class."
        pictures.append(pictured(run.figure("features.png"), figure, "Features by stage", alt, caption))
    return pictures


def _ends(network: Network, stages: Stages, x: Tensor) -> list[Tensor]:
    """The states before the first stage and after every one, on the CPU."""
    device = network.head.weight.device
    with evaluating(network):
        parts = [stages.ends(network.lift(part.to(device))) for part in torch.split(x, _AT_ONCE)]
    return [torch.cat([part.cpu() for part in of_end]) for of_end in zip(*parts, strict=True)]


def _leading(y: Tensor) -> NDArray[np.float64]:
    """The direction of the channels that varies most, (B, H, W), of states (B, c, H, W)."""
    B, c, H, W = y.shape
    points = y.movedim(1, -1).reshape(1, B * H * W, c)
    found: NDArray[np.float64] = principal_components(points.numpy(), 1).coordinates.reshape(B, H, W)
    return found


def _spread(C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points with a mean square of 1."""
    size = float(np.sqrt(np.square(C).mean()))
    return C / size if size else C


def _pixels(dataset: Dataset, row: int) -> NDArray[np.float64]:
    """A test image as it was, (H, W) or (H, W, 3), from 0 to 1; of two channels, or more than three, their mean."""
    encoder: Any = dataset.encoder
    x = np.asarray(dataset.x_test[row : row + 1], dtype=float)[0]
    mean, std = (np.reshape(np.asarray(each, dtype=float), (-1, 1, 1)) for each in (encoder.mean, encoder.std))
    image = x * std + mean
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(0)
