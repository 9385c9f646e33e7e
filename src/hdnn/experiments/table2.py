"""Table 2 of the L4DC paper: MNIST by depth, with the paper's two networks and the other four beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hdnn import data
from hdnn.experiments.experiment import Experiment, Measure, Outcome, Paper, at_least
from hdnn.experiments.planar import CALLED, PRESETS, layers_of
from hdnn.networks import Network, image_classifier
from hdnn.training import Recipe, evaluate, fit

MODELS = ("ms1", "h1-j2", "ms2", "ms3", "h1-j1", "h2")
DEPTHS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Config:
    """A cell: a network and how it is trained.

    Attributes:
        model: "ms1", "ms2", "ms3", "h1-j1" (H1 of the paper), "h1-j2" (its H2) or "h2" (of the TAC paper).
        layers: N; 0 leaves the flow out.
        step: h.
        recipe: how it is trained; every seed has its own.
        moves: whether each training image is also shown moved by one pixel up, down, left and right, all five in one
            epoch.
        init_std: of the initial weights of the flow; None means 1/√n.
        images: "mnist", or "digits" for the small images of scikit-learn.
    """

    model: str
    layers: int
    step: float
    recipe: Recipe
    moves: bool = True
    init_std: float | None = 1.0
    images: Literal["mnist", "digits"] = "mnist"


RECIPE = Recipe(
    epochs=1, batch_size=100, optimizer="adamw", learning_rate=0.01, warmup=0.1, weight_decay=0.01, smoothness=1e-3
)
# The fields of MS1 and MS2 are bounded, and h = 0.4 is the paper's for MS1; those with J grow with the weights squared.
BOUNDED, STEP, HORIZON = ("ms1", "ms2"), 0.4, 0.5
# h, weight decay and α of each network, as the paper gives them; the number of epochs it does not say.
PUBLISHED = {"ms1": (0.4, 1e-3, 1e-3), "h1-j1": (0.5, 4e-3, 8e-3), "h1-j2": (0.05, 2e-4, 1e-3)}


def _published(model: str) -> tuple[float, Recipe]:
    step, weight_decay, alpha = PUBLISHED[model]
    recipe = Recipe(
        epochs=2,
        batch_size=100,
        learning_rate=0.04,
        schedule="exponential",
        decay=0.8,
        weight_decay=weight_decay,
        smoothness=alpha,
    )
    return step, recipe


def _cells() -> dict[str, Config]:
    cells = {"0/none": Config("h1-j2", 0, STEP, RECIPE)}
    for layers in DEPTHS:
        for model in MODELS:
            step = STEP if model in BOUNDED else HORIZON / layers
            cells[f"{layers}/{model}"] = Config(model, layers, step, RECIPE)
            if model in PUBLISHED:
                cells[f"{layers}/{model}@published"] = Config(model, layers, *_published(model), moves=False)
    cells["16/h1-j2@long"] = replace(cells["16/h1-j2"], recipe=replace(RECIPE, epochs=3))
    return cells


CELLS = _cells()
SMOKE = {
    cell: replace(config, recipe=replace(config.recipe, epochs=1), images="digits")
    for cell, config in CELLS.items()
    if cell in ("0/none", "2/ms1", "2/h1-j2", "2/h1-j2@published")
}
PAPER = Paper(
    "Galimberti, Xu, Ferrari-Trecate, A unified framework for Hamiltonian deep neural networks, L4DC 2021, table 2",
    "https://arxiv.org/abs/2104.13166",
    numbers={
        "0/none": {"test_accuracy": 92.47, "train_accuracy": 93.828},
        "2/ms1": {"test_accuracy": 97.72, "train_accuracy": 99.570},
        "2/h1-j2": {"test_accuracy": 97.83, "train_accuracy": 99.815},
        "4/ms1": {"test_accuracy": 98.03, "train_accuracy": 99.970},
        "4/h1-j2": {"test_accuracy": 98.02, "train_accuracy": 99.789},
        "8/ms1": {"test_accuracy": 98.05, "train_accuracy": 99.982},
        "8/h1-j2": {"test_accuracy": 98.22, "train_accuracy": 99.707},
        "16/ms1": {"test_accuracy": 98.14, "train_accuracy": 100.0},
        "16/h1-j2": {"test_accuracy": 98.21, "train_accuracy": 99.503},
    },
    note="One number a cell, without seeds, spread or number of epochs. Without a flow both columns of the paper show "
    "the same network, at 92.47 and 92.41; the larger stands here. The paper runs MS1 and H1 with J2 alone.",
)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """One seed of a cell: its accuracies on all training and all test images."""
    x, y, x_test, y_test = _images(config.images, folder)
    trained = network(config, tuple(x.shape[1:]), seed)
    shown = (moved(x), y.repeat(5)) if config.moves else (x, y)
    fit(trained, *shown, replace(config.recipe, seed=seed))
    return Outcome(
        {
            "test_accuracy": 100 * evaluate(trained, x_test, y_test)["accuracy"],
            "train_accuracy": 100 * evaluate(trained, x, y)["accuracy"],
        }
    )


def moved(x: Tensor) -> Tensor:
    """Images (s, C, H, W), and the same moved by one pixel in each direction, (5 s, C, H, W); what comes in is dark."""
    height, width = x.shape[2:]
    wide = functional.pad(x, (1, 1, 1, 1), value=float(x.min()))
    corners = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return torch.cat([wide[:, :, row : row + height, column : column + width] for row, column in corners])


def network(config: Config, shape: tuple[int, ...], seed: int) -> Network:
    """The network of a cell, with the fresh weights of a seed."""
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        preset = PRESETS[config.model]
        made = preset(8, config.layers, step=config.step, init_std=config.init_std, kernel_size=1)
        return image_classifier(channels, (height, width), 10, made)


def _images(which: str, folder: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (s, C, H, W) and labels, for training and for the test."""
    if which == "digits":
        dataset = data.digits()
        shape: tuple[int, ...] = (-1, 1, 8, 8)
    else:
        dataset = data.mnist(str(folder))
        shape = (-1, 1, 28, 28)
    x, x_test = (torch.from_numpy(images).reshape(shape) for images in (dataset.x_train, dataset.x_test))
    return x, torch.from_numpy(dataset.y_train), x_test, torch.from_numpy(dataset.y_test)


def layout(cell: str) -> tuple[str, str]:
    """Depth and network."""
    layers, model = cell.split("/")
    return layers_of(layers), CALLED.get(model, "no flow")


METHOD = (
    "The paper's network: 3 x 3 convolution to 8 channels, the flow on every pixel, one linear layer. One recipe for "
    "all networks and depths: each training image is also shown moved by one pixel in four directions (300,000 "
    "images, one epoch, as many steps as five epochs of the originals); AdamW at rate 0.01 with a cosine schedule, "
    "weight decay 0.01, batches of 100, alpha 0.001, K and b from N(0, 1). h = 0.4 for MS1 and MS2 (the paper's for "
    "MS1), T = 0.5 for the others. The last weights are taken.\n\n"
    "Chosen on the last 10,000 training images; one run a setting, seed 0. Tried there for H1 with J2 at 2 layers, "
    "originals only, 5 epochs: the published rates and step 95.6, Adam without decay 97.98, label smoothing 97.5, "
    "AdamW with decay 0.05 98.19, steps 0.2 to 1 and rates 0.005 to 0.02 97.8 to 98.0, N(0, 1/n) 97.7; at 8 layers T "
    "= 4 96.0, T = 1 97.6 to 97.9, T = 0.5 98.0, T = 0.25 97.9, from 2 layers by Flow.refine 98.1. With moved images: "
    "2, 8, 16 layers 98.35, 98.35, 98.44, MS1 at 2 and 8 layers 98.2, 98.3 (with T = 1 97.8).\n\n"
    "The published recipe: h, decay and alpha of the paper, Adam at 0.04, times 0.8 an epoch, two epochs of the "
    "original images. Three epochs: the same recipe as ours for three epochs of all 300,000, run once, to see what the "
    "family reaches."
)
EXPERIMENT = Experiment(
    "table2",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", meets=at_least, better=max),
        Measure("train_accuracy", "train accuracy, %"),
    ),
    METHOD,
    needs="the four MNIST files",
    layout=layout,
    conclusions="All test accuracies reach the published ones, with training images that are also shown moved by one "
    "pixel, which the paper does not do.\n\n"
    "The train accuracies of networks with a flow stay 0.7 to 1.5 points below the published ones: moved images are "
    "harder to learn by heart. They are shown, and not judged.",
    variants={"published": "the published recipe", "long": "three epochs"},
)
