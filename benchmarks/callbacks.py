"""What callbacks that do nothing cost a training by native steps; prints a table.

    python benchmarks/callbacks.py --rounds 10

The Swiss roll with 4 and with 64 layers, whole calls of `hdnn.fit` in turns: least processor time of a step.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from typing import Any

import torch

import hdnn
import trainings
from machine import say, table

WAYS: dict[str, tuple[Any, ...]] = {
    "no callback": (),
    "one of every epoch": (hdnn.every(epochs=1)(lambda progress: None),),
    "one of every step": (hdnn.every(steps=1)(lambda progress: None),),
}


def microseconds(case: trainings.Case, way: str, epochs: int) -> float:
    """Of the processor, for a step of one training."""
    network, recipe = copy.deepcopy(case.network), dataclasses.replace(case.recipe, epochs=epochs)
    start = time.process_time()
    hdnn.fit(network, case.x, case.y, recipe, backend="native", callbacks=WAYS[way])
    return 1e6 * (time.process_time() - start) / (epochs * case.batches)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 64])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = {layers: trainings.swiss_roll(layers, 1.0) for layers in asked.layers}
    least = {(layers, way): float("inf") for layers in cases for way in WAYS}
    for _ in range(asked.rounds):
        for layers, way in least:
            least[layers, way] = min(least[layers, way], microseconds(cases[layers], way, asked.epochs))
    rows = [[str(layers), *(f"{least[layers, way]:.1f}" for way in WAYS)] for layers in cases]
    say("\n".join(table(["layers", *WAYS], rows)))


if __name__ == "__main__":
    main()
