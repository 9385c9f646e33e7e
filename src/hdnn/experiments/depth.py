"""Depth: 16 to 4096 layers of H2, of a plain ResNet and of a perceptron learn the double moons by one recipe.

Legend: y_j the state before layer j, L a loss. H2 takes N steps of T / N; a layer of the ResNet is
y⁺ = y + tanh(K y + b), one of the perceptron y⁺ = tanh(K y + b), both with PyTorch's initial weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hdnn import data
from hdnn.experiments.chains import Chains, train_chains
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.figures import lines, picture
from hdnn.experiments.passage import passage
from hdnn.networks import Network, vector_classifier
from hdnn.presets import h2
from hdnn.report import Picture
from hdnn.training import Recipe, fit, outputs, split

FEATURES = 4
DEPTHS = (16, 64, 256, 1024, 4096)
MODELS = ("h2", "resnet", "mlp")
WATCHED = 32  # test points at which gradients are taken
SHOWN = 65  # depths at which they are kept


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        model: "h2", "resnet" or "mlp".
        layers: N.
        rates: learning rates that are tried; that of the best validation accuracy is kept.
        recipe: how it is trained, but for the rate.
        horizon: T, of h2.
        problem: of the plane.
        size: points, half of them for training.
    """

    model: Literal["h2", "resnet", "mlp"]
    layers: int
    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 5e-2)
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=16, batch_size=125, clip=1.0, validation=0.2))
    horizon: float = 4.0
    problem: str = "double_moons"
    size: int = 8000


CELLS = {f"{model}/{layers}": Config(model, layers) for layers in DEPTHS for model in MODELS}  # type: ignore[arg-type]
SMOKE = {
    f"{model}/16": Config(model, 16, (1e-3, 1e-2), Recipe(epochs=1, clip=1.0, validation=0.2), size=300)  # type: ignore[arg-type]
    for model in MODELS
}
PAPER = Paper(
    "no table of the papers; Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, prove for H2 that "
    "‖∂y_N/∂y_j‖ ≥ 1 at any depth",
    "https://arxiv.org/abs/2105.13205",
    note="The comparison is ours.",
)


@dataclass(frozen=True, eq=False)
class _Data:
    """float32 points and classes of one seed, by part."""

    train: tuple[Tensor, Tensor]
    held: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class _Tried:
    """One seed with one learning rate.

    Attributes:
        score: (validation accuracy, − validation loss), the larger the better.
        accuracy: on the test points, in %.
        before: how much of a gradient reaches every depth before training; see `passage`.
        after: the same after training; empty if the network diverged.
    """

    score: tuple[float, float]
    accuracy: float
    before: list[float]
    after: list[float]


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """One seed; see `run_together`."""
    return run_together(config, [seed], folder)[0]


def run_together(config: Config, seeds: Sequence[int], folder: Path | None) -> list[Outcome]:
    """Every seed with every learning rate; the rate of each seed is chosen on its validation points."""
    parts = [_points(config, seed) for seed in seeds]
    tried = _flows(config, seeds, parts) if config.model == "h2" else _chains(config, seeds, parts)
    return [_outcome(config, of_seed) for of_seed in tried]


def _outcome(config: Config, tried: Sequence[_Tried]) -> Outcome:
    best = max(range(len(tried)), key=lambda i: tried[i].score)
    chosen = tried[best]
    if not chosen.after:
        raise FloatingPointError("Every learning rate made the weights infinite or not a number.")
    kept = sorted({round(i * config.layers / (SHOWN - 1)) for i in range(SHOWN)})
    return Outcome(
        {
            "test_accuracy": chosen.accuracy,
            "validation_accuracy": 100 * chosen.score[0],
            "rate": config.rates[best],
            "passage_before": chosen.before[0],
            "passage_after": chosen.after[0],
            "diverged": float(sum(not one.after for one in tried)),
        },
        {
            "depths": [float(j) for j in kept],
            "before": [chosen.before[j] for j in kept],
            "after": [chosen.after[j] for j in kept],
        },
    )


def _points(config: Config, seed: int) -> _Data:
    made = data.planar(config.problem, config.size, seed, standardize=False)
    x, y = torch.from_numpy(made.x_train), torch.from_numpy(made.y_train)
    train, held = split(y, config.recipe.validation, seed, stratify=True)
    return _Data(
        (x[train], y[train]), (x[held], y[held]), (torch.from_numpy(made.x_test), torch.from_numpy(made.y_test))
    )


def _flows(config: Config, seeds: Sequence[int], parts: Sequence[_Data]) -> list[list[_Tried]]:
    """H2, one training after the other: a step takes milliseconds at any depth."""
    return [[_flow(config, rate, seed, part) for rate in config.rates] for seed, part in zip(seeds, parts, strict=True)]


def _flow(config: Config, rate: float, seed: int, part: _Data) -> _Tried:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = vector_classifier(2, 2, h2(FEATURES, config.layers, horizon=config.horizon))
    recipe = replace(config.recipe, learning_rate=rate, seed=seed, validation=0.0)
    before = _passage_of(network, part)
    try:
        fit(network, *part.train, recipe)
    except FloatingPointError:
        return _Tried((0.0, float("-inf")), 0.0, before, [])
    held, test = (outputs(network, x).squeeze(-1) for x, _ in (part.held, part.test))
    return _Tried(_score(held, part.held[1]), 100 * _accuracy(test, part.test[1]), before, _passage_of(network, part))


def _passage_of(network: Network, part: _Data) -> list[float]:
    exact = copy.deepcopy(network).double()
    return passage(exact.flow, exact.lift(part.test[0][:WATCHED].double()))


def _chains(config: Config, seeds: Sequence[int], parts: Sequence[_Data]) -> list[list[_Tried]]:
    """ResNet or perceptron: all seeds and rates in one loop over the layers."""
    count = len(config.rates)
    each = [seed for seed in seeds for _ in config.rates]
    network = Chains(each, FEATURES, config.layers, skip=config.model == "resnet")
    y0 = [functional.pad(part.test[0][:WATCHED].double(), (0, FEATURES - 2)) for part in parts]
    before = [passage(network.layers(count * i), y0[i]) for i in range(len(seeds))]

    def stacked(part: str, which: int) -> Tensor:
        return torch.stack([getattr(of_seed, part)[which] for of_seed in parts for _ in config.rates])

    rates = torch.tensor(config.rates).repeat(len(seeds))
    losses = train_chains(network, stacked("train", 0), stacked("train", 1), config.recipe, rates, each)
    with torch.no_grad():
        held, test = network(stacked("held", 0)), network(stacked("test", 0))
    alive = losses[-1].isfinite() & held.isfinite().all(1)  # test points take no part in the choice of the rate
    return [
        [
            _Tried(
                _score(held[e], part.held[1]),
                100 * _accuracy(test[e], part.test[1]),
                before[i],
                passage(network.layers(e), y0[i]),
            )
            if alive[e]
            else _Tried((0.0, float("-inf")), 0.0, before[i], [])
            for e in range(count * i, count * (i + 1))
        ]
        for i, part in enumerate(parts)
    ]


def _score(logits: Tensor, y: Tensor) -> tuple[float, float]:
    return _accuracy(logits, y), -float(functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype)))


def _accuracy(logits: Tensor, y: Tensor) -> float:
    return float(((logits > 0) == (y == 1)).double().mean())


def draw(found: Found) -> Sequence[Picture]:
    """Accuracy against depth, and how much of a gradient reaches every layer of the deepest networks."""
    by_model = {
        model: {CELLS[cell].layers: outcomes for cell, outcomes in found.items() if CELLS[cell].model == model}
        for model in MODELS
    }
    shown = {model: of_depths for model, of_depths in by_model.items() if of_depths}
    accuracy = {
        model: (
            list(of_depths),
            [fmean(one.metrics["test_accuracy"] for one in outcomes.values()) for outcomes in of_depths.values()],
        )
        for model, of_depths in shown.items()
    }
    pictures = [
        picture(
            "Test accuracy against depth",
            lines(accuracy, x="layers", y="test accuracy, %", scales=("log", "linear")),
            "Test accuracy against the number of layers, a line for each network.",
            "Means over the seeds.",
        )
    ]
    for when, name in (("before", "Gradients before training"), ("after", "Gradients after training")):
        passages = {}
        for model, of_depths in shown.items():
            layers = max(of_depths)
            arrays = next(iter(of_depths[layers].values())).arrays
            passages[f"{model}, {layers} layers"] = (arrays["depths"], arrays[when])
        figure = lines(passages, x="layer j", y=_SHARE, scales=("linear", "linear"))
        pictures.append(picture(name, figure, f"{name}: their logarithm against the layer.", "The first seed."))
    return pictures


_SHARE = r"$\log_{10}\;\|dL/dy_j\|\,/\,\|dL/dy_N\|$"
EXPERIMENT = Experiment(
    "depth",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", better=max),
        Measure("validation_accuracy", "validation accuracy, %"),
        Measure("rate", "learning rate chosen", ".2g"),
        Measure("diverged", "rates that diverged, of 4", ".1f"),
        Measure("passage_before", "log₁₀ ‖dL/dy₀‖ / ‖dL/dy_N‖ before training", "z.1f"),
        Measure("passage_after", "after training", "z.1f"),
    ),
    "Double moons, 4 features, and one recipe for all: 3200 points to learn from, 16 epochs of batches of 125 (416 "
    "steps), Adam with a cosine schedule, gradients clipped to 1. The learning rate is the best of 1e-4, 1e-3, 0.01 "
    "and 0.05 on 800 validation points, seed by seed. H2 has T = 4 at every depth and weights of standard deviation "
    "1/√n (T = 2 and 4 were tried on validation data of two seeds). ResNet: y + tanh(K y + b), step 1; perceptron: "
    "tanh(K y + b); both with PyTorch's initial weights. −300 stands for gradients that cannot be told from zero.",
    run_together=run_together,
    draw=draw,
)
