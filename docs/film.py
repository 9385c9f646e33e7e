"""The film at the top of the README: python docs/film.py. Two spirals on their way through 64 trained layers.

All layers are seen from one place: to the right, what the output layer asks for; upwards, the direction across it in
which the states vary most. Every frame is a layer, and the line is where the network decides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import hdnn
from hdnn.plots.features import film
from hdnn.plots.style import INK, QUIET, Stage, blank, scatter

FILE = Path(__file__).parent / "_static" / "film.gif"
SHOWN, LAYERS = 500, 64


def trained() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Coordinates (N + 1, B, 2) of test points after every layer, and their classes (B,)."""
    data = hdnn.data.planar("swiss_roll", seed=0)
    x, y, x_test, y_test = map(torch.from_numpy, (data.x_train, data.y_train, data.x_test, data.y_test))
    torch.manual_seed(0)
    network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=LAYERS, horizon=3.2, init_std=1.0))
    hdnn.fit(network, x, y, hdnn.Recipe(epochs=100, batch_size=125, learning_rate=0.02))
    assert hdnn.evaluate(network, x_test, y_test)["accuracy"] == 1
    with torch.no_grad():
        states = network.trajectory(x_test[:SHOWN]).double()
        weight, bias = network.head.weight[0].double(), network.head.bias[0].double()
        asked = weight / weight.norm()
        along = states @ asked
        rest = states - along.unsqueeze(-1) * asked
        across = torch.linalg.svd(rest.flatten(0, 1) - rest.flatten(0, 1).mean(0), full_matrices=False).Vh[0]
        coordinates = torch.stack((along + bias / weight.norm(), rest @ across), -1)
    return coordinates.numpy(), y_test[:SHOWN].numpy()


def main() -> None:
    """Train, draw, write."""
    C, labels = trained()
    figure, (ax,) = blank(1, 1, width=4.8, height=3.9)
    ax.set(xlim=(-5.6, 5.6), ylim=(-6.2, 9.4), xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.axvline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 4)))
    dots = scatter(ax, C[0], labels, size=9)
    title = ax.text(0.02, 0.98, "input", transform=ax.transAxes, va="top", color=INK, fontsize=11)
    stage = Stage(figure, [dots, title], dpi=100)
    pictures = []
    for layer, points in enumerate(C):
        dots.set_offsets(points)
        title.set_text(f"layer {layer} of {len(C) - 1}" if layer else "input")
        pictures.append(Image.fromarray(stage.frame()))
    FILE.write_bytes(film(pictures, [1200, *[90] * (len(pictures) - 2), 3000]))


if __name__ == "__main__":
    main()
