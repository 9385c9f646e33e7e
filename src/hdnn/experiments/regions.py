"""What a trained classifier says all over the plane: computed by runs, drawn from their arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from hdnn import data, plots
from hdnn.experiments.experiment import Found, Numbers
from hdnn.experiments.figures import picture
from hdnn.experiments.planar import CLASSES, Trained
from hdnn.report import Picture

_SHOWN = 400  # test points in a figure


@torch.no_grad()
def regions(trained: Trained, problem: str, side: int) -> Mapping[str, Numbers]:
    """The probability of class 1 on a square grid, and some test points; in the coordinates of the problem."""
    axes = [np.linspace(*ends, side) for ends in data.DOMAINS[problem]]
    grid = torch.from_numpy(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)).to(trained.x.dtype)
    points = trained.x[:_SHOWN]
    said = trained.network.probabilities((grid - trained.mean) / trained.scale)[:, 1]
    return {
        "probability": said.reshape(side, side).tolist(),
        "points": (trained.mean + trained.scale * points).tolist(),
        "labels": trained.y[:_SHOWN].tolist(),
        "predicted": trained.network.predict(points).tolist(),
    }


def draw_regions(found: Found, problems: Mapping[str, str], called: Callable[[str], str]) -> Sequence[Picture]:
    """The plane of the first seed of every cell.

    Args:
        found: the outcomes.
        problems: by cell, which problem it learned.
        called: from a cell to what readers call it.
    """
    pictures = []
    for cell, outcomes in found.items():
        seed, outcome = next(iter(outcomes.items()))
        probability, points = (np.array(outcome.arrays[name]) for name in ("probability", "points"))
        labels, predicted = (np.array(outcome.arrays[name], dtype=int) for name in ("labels", "predicted"))
        x, y = (np.linspace(*ends, len(probability)) for ends in data.DOMAINS[problems[cell]])
        figure = plots.decision_regions(x, y, probability, points, labels, CLASSES, predicted=predicted)
        wrong = int((labels != predicted).sum())
        alt = (
            f"{called(cell)}: the plane in the colours of two classes, with {len(labels)} test points; {wrong} are "
            "misclassified."
        )
        caption = f"Seed {seed}, test accuracy {outcome.metrics['test_accuracy']:.2f} %."
        pictures.append(picture(called(cell), figure, alt, caption))
    return pictures
