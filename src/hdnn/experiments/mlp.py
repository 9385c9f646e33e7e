"""A fully connected network of 32 layers stops learning where a Hamiltonian one of 64 learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hdnn.chains import passage
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.planar import PUBLISHED, PlanarCell, train
from hdnn.plots import curves
from hdnn.plots.style import png
from hdnn.report import Picture
from hdnn.training import Recipe

WATCHED = 125
JOINT = Recipe(epochs=50, learning_rate=0.02)
ALTERNATING = replace(PUBLISHED, epochs=30)
CELLS = {
    "h1/64": PlanarCell("h1", 64, 2.0, JOINT),
    "h1/64@published": PlanarCell("h1", 64, 0.8, ALTERNATING, init_std=1.0),
    "mlp/32": PlanarCell("mlp", 32, 2.0, JOINT),
    "mlp/32@published": PlanarCell("mlp", 32, 2.0, replace(ALTERNATING, smoothness=0.0)),
}
SMOKE = {cell: replace(CELLS[cell], layers=8, recipe=Recipe(epochs=1), size=300) for cell in ("h1/64", "mlp/32")}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, L4DC 2021, section 4.1",
    "https://arxiv.org/abs/2104.13166",
    note="The perceptron stops learning after about 200 iterations, at a test accuracy of 50 %. That is no number to "
    "be reached: the depth experiment asks what better initial weights change.",
)


def run(config: PlanarCell, seed: int, folder: Path | None) -> Outcome:
    """Accuracies, the last training loss, and how much of the gradient reaches the first layer."""
    trained = train(config.network, config.problem, config.size, config.recipe, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = config.network()
    y0 = trained.network.lift(trained.x[:WATCHED].double())
    layers: list[Any] = [untrained.double().flow, trained.network.double().flow]
    return Outcome(
        {
            "test_accuracy": trained.test_accuracy,
            "train_accuracy": trained.train_accuracy,
            "passage_before": passage(layers[0], y0)[0],
            "passage_after": passage(layers[1], y0)[0],
        },
        {name: [record[key] for record in trained.history] for name, key in (("epochs", "epoch"), ("losses", "loss"))},
    )


def draw(found: Found) -> Sequence[Picture]:
    """The training loss of every cell: means over the seeds, and how far they lie apart."""
    series = {}
    for cell, outcomes in found.items():
        arrays = [outcome.arrays for outcome in outcomes.values()]
        series[EXPERIMENT.called(cell)] = (arrays[0]["epochs"], [each["losses"] for each in arrays])
    figure = curves(series, x="epoch", y="objective while training", scales=("linear", "log"))
    alt = "The objective against the epoch: that of the flow falls, that of the perceptron stays at log 2."
    return [Picture("Training", png(figure), alt, "Means over the seeds. A guess has the objective log 2 = 0.69.")]


EXPERIMENT = Experiment(
    "mlp",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", better=max),
        Measure("train_accuracy", "train accuracy, %"),
        Measure("passage_before", "log₁₀ ‖dL/dy₀‖ / ‖dL/dy_N‖ before training", "z.1f"),
        Measure("passage_after", "after training", "z.1f"),
    ),
    "Double moons, 4 features. Joint training, 50 epochs of batches of 125, cosine schedule up to 0.02, the same for "
    "both networks; beside it the published alternating recipe (30 epochs, learning rate 0.0125, α_c = 1e-4; for the "
    "flow T = 0.8, K and b ~ N(0, 1), α = 5e-4). The perceptron is 4 wide with PyTorch's initial weights.",
    draw=draw,
    layout=lambda cell: ({"h1/64": "h1, 64 layers", "mlp/32": "perceptron, 32 layers"}[cell], ""),
)
