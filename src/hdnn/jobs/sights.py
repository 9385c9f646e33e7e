"""What is seen in the figures of reports, in words, for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdnn.analysis import Statistics
from hdnn.names import count, few

Counts = NDArray[np.int64]


_CURVES = ("loss", "validation_loss", "train_accuracy", "validation_accuracy", "train_error", "validation_error")


def of_training(history: Sequence[Mapping[str, float]]) -> str:
    """Where every curve of the training begins and ends; history has one record an epoch."""
    said = []
    for key in _CURVES:
        name = key.replace("_", " ").replace("loss", "objective")
        values = [float(row[key]) for row in history if row.get(key) is not None and math.isfinite(row[key])]
        if len(values) > 1:
            way = "falls" if values[-1] < values[0] else "rises" if values[-1] > values[0] else "stays"
            said.append(f"{name} {way} from {values[0]:.3g} to {values[-1]:.3g}")
        elif values:
            said.append(f"{name} is {values[0]:.3g}")
    return f"Curves over {count(len(history), 'epoch')}: {'; '.join(said) or 'nothing finite'}."


def of_confusion(counts: Counts, classes: Sequence[str]) -> str:
    """How many rows stand on the diagonal, and where most of the others do."""
    right, rows = int(np.trace(counts)), int(counts.sum())
    text = f"A square of {len(classes)} by {len(classes)} cells: {right} of {rows} test rows are on the diagonal."
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    if errors.any():
        true, said = map(int, np.unravel_index(errors.argmax(), errors.shape))
        text += f" The most frequent error: {_name(classes[true])} taken for {_name(classes[said])}, {errors.max()} of "
        text += f"{counts[true].sum()}."
    return text


def of_reliability(rows: Counts, shares: NDArray[np.float64], probabilities: NDArray[np.float64]) -> str:
    """How far the dots are from the line, and where the largest is."""
    top = int(rows.argmax())
    away = float(np.sum(rows * np.abs(shares - probabilities)) / rows.sum())
    return (
        f"{count(int((rows > 0).sum()), 'dot')} about the line where what is said comes true as often as said, "
        f"{100 * away:.1f} points away on average over the rows; the largest, of {count(int(rows[top]), 'row')}, says "
        f"{100 * probabilities[top]:.0f} % and is right in {100 * shares[top]:.0f} %."
    )


def of_regions(classes: Sequence[str], points: int, wrong: int) -> str:
    """How the plane is shared, and how many points lie on the wrong side."""
    return (
        f"The plane in {len(classes)} colours, one for each of {few(map(_name, classes))}, with {points} test points; "
        f"{wrong} of them are ringed as errors."
    )


def of_features(samples: int, classes: Sequence[str], layers: int, *, moving: bool) -> str:
    """How many points of how many classes are shown where."""
    how = "moving from the input through" if moving else "in panels from the input to"
    return (
        f"{samples} points, {how} {count(layers, 'layer')}, with a colour and a marker for each of "
        f"{count(len(classes), 'class')}."
    )


def of_predictions(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> str:
    """How far the points lie from the line."""
    inside = np.abs(predicted - true) <= true.std()
    return (
        f"{count(len(true), 'point')} about the line where prediction and truth agree: true values from "
        f"{true.min():.4g} to {true.max():.4g}, predicted ones from {predicted.min():.4g} to {predicted.max():.4g}; "
        f"{100 * inside.mean():.0f} % of the predictions are within one standard deviation of the truth."
    )


def of_bands(what: str, bands: Statistics, depths: Sequence[int]) -> str:
    """Where a band over the samples begins and ends, and how high it gets on its way."""
    low, mean, high = (part.double().cpu().numpy() for part in (bands.minimum, bands.mean, bands.maximum))
    top = int(high.argmax())
    return (
        f"{what} against depth: a mean of {mean[0]:.3g} at layer {depths[0]} and {mean[-1]:.3g} at layer {depths[-1]}; "
        f"the samples lie between {low.min():.3g} and {high.max():.3g}, the largest at layer {depths[top]}."
    )


def of_spectrum(groups: Collection[Tensor], boundary: Literal["imaginary axis", "unit circle"]) -> str:
    """How far eigenvalues lie from where they would neither grow nor decay."""
    values = torch.cat([each.detach().flatten() for each in groups])
    distance = (values.abs() - 1 if boundary == "unit circle" else values.real).abs()
    return (
        f"{len(values)} eigenvalues of {count(len(groups), 'layer')} in the complex plane, at most "
        f"{distance.max():.2g} from the {boundary}, with imaginary parts up to {values.imag.abs().max():.3g}."
    )


def _name(label: str) -> str:
    return few([label])
