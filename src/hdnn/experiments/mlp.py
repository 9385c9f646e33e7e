"""A fully connected network of 32 layers stops learning where a Hamiltonian one of 64 learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.figures import picture
from hdnn.experiments.passage import passage
from hdnn.experiments.perceptrons import perceptron
from hdnn.experiments.planar import train
from hdnn.networks import Network, vector_classifier
from hdnn.plots import curves
from hdnn.presets import h1
from hdnn.report import Picture
from hdnn.training import Recipe

FEATURES = 4
WATCHED = 125


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        model: "h1" or "mlp".
        layers: N.
        recipe: how it is trained.
        horizon: T, of h1.
        init_std: of the initial weights of h1; None means 1/√n.
        size: points, half of them for training.
    """

    model: Literal["h1", "mlp"]
    layers: int
    recipe: Recipe
    horizon: float = 2.0
    init_std: float | None = None
    size: int = 8000


JOINT = Recipe(epochs=50, learning_rate=0.02)
PUBLISHED = Recipe(
    epochs=30,
    learning_rate=0.0125,
    schedule="constant",
    method="alternating",
    smoothness=5e-4,
    head_decay=1e-4,
)
WITHOUT_SMOOTHNESS = Recipe(**{**vars(PUBLISHED), "smoothness": 0.0})  # α is a matter of flows
CELLS = {
    "h1/64": Config("h1", 64, JOINT),
    "h1/64@published": Config("h1", 64, PUBLISHED, horizon=0.8, init_std=1.0),
    "mlp/32": Config("mlp", 32, JOINT),
    "mlp/32@published": Config("mlp", 32, WITHOUT_SMOOTHNESS),
}
_QUICK = Recipe(epochs=1)
SMOKE = {"h1/64": Config("h1", 8, _QUICK, size=300), "mlp/32": Config("mlp", 8, _QUICK, size=300)}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, L4DC 2021, section 4.1",
    "https://arxiv.org/abs/2104.13166",
    note="The perceptron stops learning after about 200 iterations, at a test accuracy of 50 %. That is no number to "
    "be reached: the depth experiment asks what better initial weights change.",
)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """Accuracies, the last training loss, and how much of the gradient reaches the first layer."""
    trained = train(lambda: network(config), "double_moons", config.size, config.recipe, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = network(config)
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


def network(config: Config) -> Network:
    """The network of a cell, with fresh random weights."""
    if config.model == "mlp":
        return perceptron(FEATURES, config.layers)
    return vector_classifier(2, 2, h1(FEATURES, config.layers, horizon=config.horizon, init_std=config.init_std))


def draw(found: Found) -> Sequence[Picture]:
    """The training loss of every cell: means over the seeds, and how far they lie apart."""
    series = {}
    for cell, outcomes in found.items():
        arrays = [outcome.arrays for outcome in outcomes.values()]
        series[EXPERIMENT.called(cell)] = (arrays[0]["epochs"], [each["losses"] for each in arrays])
    figure = curves(series, x="epoch", y="objective while training", scales=("linear", "log"))
    alt = "The objective against the epoch: that of the flow falls, that of the perceptron stays at log 2."
    return [picture("Training", figure, alt, "Means over the seeds. A guess has the objective log 2 = 0.69.")]


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
