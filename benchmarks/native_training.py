"""How much of `hdnn.fit` its native steps are: the trainings of `trainings.py`, an epoch in one bare call.

    python benchmarks/native_training.py --epochs 50 --rounds 5

Same weights, batches and schedule for both, in turns in one process on one core. The mean objectives of one epoch are
compared first, and trainings that differ are not timed.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence

import torch

from hdnn.kernels import training
from hdnn.training.block import Block
from hdnn.training.fused import why_not
from trainings import CASES, OURS, Case, made, require_same, seconds_of

NATIVE = "native steps"


def native(case: Case, epochs: int) -> float:
    """The mean objective of the last epoch, by an epoch in one call."""
    block, rows = Block([copy.deepcopy(case.network)], case.recipe), len(case.x)
    bounds = torch.tensor([*range(0, rows, case.recipe.batch_size), rows])
    session = training.Session(block.setup, block.trainees, case.x[None], case.y[None])
    for order, rates in case.schedule(epochs):
        session.begin(order[None], bounds)
        losses, _ = session.take(0, torch.tensor(rates, dtype=torch.float64))
    block.close()
    return case.mean(losses[0])


def measure(case: Case, epochs: int, rounds: int) -> dict[str, float]:
    """The fewest microseconds of processor time that a step of each took.

    Raises:
        SystemExit: if the native step cannot serve, or the trainings differ.
    """
    if reason := why_not(case.network, case.recipe):
        raise SystemExit(f"The native training cannot serve: {reason}.")
    require_same({NATIVE: native(case, 1), OURS: case.fit(1)})
    fewest = {NATIVE: math.inf, OURS: math.inf}
    for _ in range(rounds):
        fewest[NATIVE] = min(fewest[NATIVE], seconds_of(lambda: native(case, epochs)))
        fewest[OURS] = min(fewest[OURS], seconds_of(lambda: case.fit(epochs)))
    return {name: 1e6 * seconds / (epochs * case.batches) for name, seconds in fewest.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"| microseconds a step | {NATIVE} | {OURS} |\n|---|---|---|")
    for name in CASES:
        if name == "MNIST":  # of images
            continue
        found = measure(made(name, None), chosen.epochs, chosen.rounds)
        print(f"| {name} | {found[NATIVE]:,.1f} | {found[OURS]:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
