"""Distributed networks: eight nodes on a ring, each a pair (p_i, q_i), whose layers ask only the neighbours.

Legend: n = 16 features, p_1 … p_8 q_1 … q_8; K couples node i with i − 1, i, i + 1 ("ring") or with all ("full");
J = [0 I; −I 0] couples p_i with q_i alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.experiments.planar import CALLED, PROBLEMS, draw_regions, regions, train
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, SymplecticEuler
from hdnn.interconnections import Fixed, canonical
from hdnn.networks import Network
from hdnn.report import Picture
from hdnn.structures import BlockDiagonal, Dense, Masked, Structure
from hdnn.training import Recipe

NODES = 8
FEATURES = 2 * NODES
STEP = 0.5
PLACES = [0, NODES + 4]  # of the two inputs: p of node 1, q of node 5


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        problem: of the plane.
        model: "h1" (forward Euler, any K) or "h2" (symplectic Euler, K = blkdiag(K_p, K_q)).
        coupling: "ring" or "full".
        layers: N; the step is 0.5.
        recipe: how it is trained.
        size: points, half of them for training.
        side: points of the grid along each axis.
    """

    problem: str
    model: Literal["h1", "h2"]
    coupling: Literal["ring", "full"]
    layers: int
    recipe: Recipe
    size: int = 8000
    side: int = 101


class Placement(nn.Module):
    """The inputs of two nodes: zeros but for x at p of the first and y at q of the fifth node."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2) to (..., 16)."""
        state = x.new_zeros(*x.shape[:-1], FEATURES)
        state[..., PLACES] = x
        return state


def ring() -> Tensor:
    """The neighbours of every node, (8, 8)."""
    return torch.eye(NODES).roll(1, 0) + torch.eye(NODES).roll(-1, 0)


def network(config: Config) -> Network:
    """The network of a cell, with fresh random weights."""
    structure: Structure = Dense() if config.model == "h1" else BlockDiagonal()
    flow = Flow(
        FEATURES,
        config.layers,
        step=STEP,
        structure=Masked.from_graph(ring(), 2, structure) if config.coupling == "ring" else structure,
        interconnection=Fixed(canonical(FEATURES)),
        integrator=ForwardEuler() if config.model == "h1" else SymplecticEuler(first="p"),
    )
    head = nn.Linear(FEATURES, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Network(Placement(), flow, head, "classification")


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """The accuracies, the number of couplings, and the probability of class 1 over the plane."""
    trained = train(lambda: network(config), config.problem, config.size, config.recipe, seed)
    return Outcome(
        {
            "test_accuracy": trained.test_accuracy,
            "train_accuracy": trained.train_accuracy,
            "weights": float(trained.network.flow.weight[0].numel()),
        },
        regions(trained, config.problem, config.side),
    )


_MODELS: tuple[Literal["h1", "h2"], ...] = ("h1", "h2")
_COUPLINGS: tuple[Literal["ring", "full"], ...] = ("ring", "full")
RECIPE = Recipe(epochs=150, learning_rate=0.01, clip=1.0)
CELLS = {
    f"{problem.replace('_', '-')}/{model}/{coupling}": Config(problem, model, coupling, 8, RECIPE)
    for problem in ("swiss_roll", "double_circles")
    for model in _MODELS
    for coupling in _COUPLINGS
}
SMOKE = {"swiss-roll/h2/ring": Config("swiss_roll", "h2", "ring", 2, Recipe(epochs=1), size=200, side=9)}
PAPER = Paper(
    "Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, distributed networks",
    "https://arxiv.org/abs/2105.13205",
    note="Its accuracies, depth and recipe could not be read; nodes, ring, J, inputs and step are the paper's.",
)


def draw(found: Found) -> Sequence[Picture]:
    """The plane as every network sees it."""
    return draw_regions(found, {cell: config.problem for cell, config in CELLS.items()}, EXPERIMENT.called)


def layout(cell: str) -> tuple[str, str]:
    """Problem, and network with its couplings."""
    problem, model, coupling = cell.split("/")
    return PROBLEMS[problem], f"{CALLED[model]}, {'K on the ring' if coupling == 'ring' else 'full K'}"


EXPERIMENT = Experiment(
    "distributed",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        Measure("test_accuracy", "test accuracy, %", better=max),
        Measure("train_accuracy", "train accuracy, %"),
        Measure("weights", "free entries of K a layer", ".0f"),
    ),
    "16 features, p and q of eight nodes on a ring; x enters p of node 1, y enters q of node 5, so that no node sees "
    "both before they have passed through its neighbours; h = 0.5. 8 layers, weights of standard deviation 1/√n, joint "
    "training, 150 epochs of batches of 125, cosine schedule up to 0.01, gradients clipped to 1: one recipe for all "
    "cells, the best of nine on a validation part of the Swiss roll of seed 0 (8, 16 and 32 layers, standard "
    "deviations 0.05, 0.1 and 0.25, rates 0.003 to 0.02).",
    seeds=5,
    draw=draw,
    layout=layout,
)
