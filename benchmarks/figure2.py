"""Figure 2 of the L4DC paper: ‖∂y_N/∂y_l‖₂ while 64 layers learn the double moons, beside an MLP whose norms vanish.

    python benchmarks/figure2.py                                               # six minutes, one core; prints Markdown
    python benchmarks/figure2.py --output benchmarks/results/DATE-figure2.md   # and a figure of seed 0

The paper does not print horizon and learning rate. T = 0.8 stands in titles of its figures; 0.0125 is about what the
0.05 of its published script amounts to, for that script overwrites the step counter of Adam. The rest is the paper's:
4000 points, 4 features, K and b ~ N(0, 1), batches of 125, 30 epochs, alternating training, α and α_c.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import hdnn
from hdnn import data, plots
from hdnn.analysis import norms, sensitivities
from hdnn.networks import ZeroPadding
from hdnn.training import Progress, Recipe, SensitivityRecorder
from machine import facts, head, publish, require_folder, say, table

F64 = torch.float64
FEATURES, LAYERS, HORIZON, INIT_STD = 4, 64, 0.8, 1.0
MLP_LAYERS = 32
RECIPE = Recipe(
    epochs=30,
    batch_size=125,
    learning_rate=0.0125,
    schedule="constant",
    method="alternating",
    smoothness=5e-4,
    head_decay=1e-4,
)
WATCHED = 125  # test points at which the norms are taken
MLP = "tanh MLP"


def flow_of(preset: Callable[..., hdnn.Flow], shared: bool) -> hdnn.Network:
    """A classifier with the paper's flow, in float64."""
    flow = preset(FEATURES, LAYERS, horizon=HORIZON, init_std=INIT_STD, shared=shared, dtype=F64)
    return hdnn.vector_classifier(2, 2, flow)


def mlp() -> hdnn.Network:
    """32 fully connected layers as wide as the state, with PyTorch's initial weights."""
    layers = [nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Tanh()) for _ in range(MLP_LAYERS)]
    network: Any = hdnn.Network(
        ZeroPadding(2, FEATURES), nn.Sequential(*layers), nn.Linear(FEATURES, 1), "classification"
    )
    made: hdnn.Network = network.double()
    return made


NETWORKS: dict[str, Callable[[], hdnn.Network]] = {
    "h1": lambda: flow_of(hdnn.h1, False),
    "h1, time-invariant": lambda: flow_of(hdnn.h1, True),
    "h2": lambda: flow_of(hdnn.h2, False),
    "h2, time-invariant": lambda: flow_of(hdnn.h2, True),
    MLP: mlp,
}
PAPER = {"h1": "[1, 17]", "h1, time-invariant": "[1, 37]", MLP: "vanish; test 50 %"}


class MeanMatrixNorms:
    """A callback that keeps what the published script plots: the norm of the mean of the matrices over the batch.

    That mean is no sensitivity of any sample, and its norm has no lower bound; it is here for comparison alone.
    """

    def __init__(self, layers: Any, y0: Tensor, depths: tuple[int, ...]) -> None:
        self.layers, self.y0, self.depths = layers, y0, depths
        self.found: list[list[float]] = []

    def __call__(self, progress: Progress) -> None:
        """Record."""
        M = sensitivities(self.layers, self.y0)
        self.found.append(norms(M[list(self.depths)].mean(1)).tolist())


@dataclass(frozen=True)
class Trained:
    """One network after training, and what was seen on the way.

    Attributes:
        recorder: the norms of all samples.
        of_mean: norms of the mean matrix, (iterations, layers).
        accuracy: on the 4000 test points.
    """

    recorder: SensitivityRecorder
    of_mean: NDArray[np.float64]
    accuracy: float

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest over all iterations and recorded layers."""
        means = self.recorder.mean
        return {
            "samples": (float(self.recorder.minimum.min()), float(self.recorder.maximum.max())),
            "means": (float(means.min()), float(means.max())),
            "of_mean": (float(self.of_mean.min()), float(self.of_mean.max())),
        }


def train(name: str, seed: int, recipe: Recipe = RECIPE, size: int = 8000) -> Trained:
    """Train one network on the double moons and watch its sensitivities."""
    moons = data.planar("double_moons", size, seed, standardize=False)
    x, x_test = torch.from_numpy(moons.x_train).to(F64), torch.from_numpy(moons.x_test).to(F64)
    y, y_test = torch.from_numpy(moons.y_train), torch.from_numpy(moons.y_test)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[name]()
    # The smoothness of K over depth is a property of flows.
    options = {"smoothness": 0.0} if name == MLP else {}
    layers: Any = network.flow
    depths = tuple(range(1, len(layers) if name == MLP else network.flow.layers, 10))
    y0 = network.lift(x_test[:WATCHED])
    recorder = SensitivityRecorder(layers, y0, layers=depths)
    of_mean = MeanMatrixNorms(layers, y0, depths)
    hdnn.fit(network, x, y, replaced(recipe, seed=seed, **options), callbacks=[recorder, of_mean])
    return Trained(recorder, np.array(of_mean.found), hdnn.evaluate(network, x_test, y_test)["accuracy"])


def replaced(recipe: Recipe, **options: Any) -> Recipe:
    """A recipe with some values changed."""
    return Recipe(**{**vars(recipe), **options})


def span(ranges: list[tuple[float, float]]) -> str:
    """The range over all seeds, to three digits."""
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    return f"[{low:.3g}, {high:.3g}]"


def report(found: dict[str, list[Trained]]) -> tuple[list[str], dict[str, Any]]:
    """Lines of Markdown, and the numbers in them."""
    rows = []
    for name, runs in found.items():
        each = [run.ranges for run in runs]
        smallest = min(ranges["samples"][0] for ranges in each)
        rows.append(
            [
                name,
                span([ranges["samples"] for ranges in each]),
                "" if name == MLP else f"{smallest - 1:.1e}",
                span([ranges["means"] for ranges in each]),
                span([ranges["of_mean"] for ranges in each]),
                PAPER.get(name, "not shown"),
                ", ".join(f"{100 * run.accuracy:.2f}" for run in runs),
            ]
        )
    columns = [
        "network",
        "norms of all samples",
        "smallest − 1",
        "mean over samples of the norm",
        "norm of the mean matrix",
        "paper",
        "test accuracy, %, each seed",
    ]
    iterations = next(iter(found.values()))[0].recorder.iterations[-1]
    recipe = ", ".join(f"{name}={value}" for name, value in vars(RECIPE).items() if name != "seed")
    lines = [
        f"- seeds 0 to {len(next(iter(found.values()))) - 1}; float64, 1 thread",
        f"- {LAYERS} layers, {FEATURES} features, T = {HORIZON}, K and b ~ N(0, {INIT_STD:g}); the MLP: {MLP_LAYERS} "
        f"layers, {FEATURES} wide, PyTorch's initial weights",
        f"- `Recipe({recipe})`; the MLP with smoothness=0",
        f"- ranges over {iterations} iterations, l = 1, 11, …, and {WATCHED} test points",
        "",
        *table(columns, rows),
        "",
        "The paper's ranges are norms of the mean matrix over a batch, as its script computes them; compare them with "
        "that column. The mean of these matrices is no sensitivity of any sample, and its norm may fall below 1.",
    ]
    raw = {
        name: [
            {
                **run.ranges,
                "layers": run.recorder.layers,
                "smallest_by_layer": run.recorder.minimum.min(0).tolist(),
                "largest_by_layer": run.recorder.maximum.max(0).tolist(),
                "accuracy": run.accuracy,
            }
            for run in runs
        ]
        for name, runs in found.items()
    }
    return lines, raw


def main() -> None:
    """Train, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--output", type=Path, help="a .md path; figure and raw numbers go beside it")
    chosen = parser.parse_args()
    require_folder(chosen.output)
    torch.set_num_threads(1)
    known = facts()
    found: dict[str, list[Trained]] = {name: [] for name in NETWORKS}
    for seed in range(chosen.seeds):
        for name, runs in found.items():
            say(f"seed {seed}: {name}")
            runs.append(train(name, seed))
    lines, raw = report(found)
    title = "Figure 2 of the L4DC paper"
    publish(chosen.output, [*head(title, known), *lines], {**known, **raw})
    if chosen.output is not None:
        figure = plots.sensitivities_by_iteration({name: runs[0].recorder for name, runs in found.items()})
        plots.save(figure, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
