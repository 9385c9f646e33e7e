"""Time to train: one call of `hdnn.fit` against JAX, loops of PyTorch and scikit-learn's perceptron at equal work.

    python benchmarks/training.py --mnist FOLDER --output benchmarks/results/DATE-training.md

The strongest way of JAX that we know, see trainings.py and jax_trainers.py; the perceptron, see perceptrons.py; and
the paper's Swiss roll by two loops of plain PyTorch to the end, see trainers.py. Each in a process of its own, on one
core.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import machine
import perceptrons
import trainings
from trainers import CAREFUL, OURS, PLAIN

GOAL = 15.0  # times faster than the plain loop
Results = dict[str, Any]


def median(results: list[Results], name: str) -> float:
    """Median seconds over the seeds."""
    return statistics.median(result[name]["seconds"] for result in results)


def verdict(found: float, goal: float) -> str:
    """A ratio beside what it should be."""
    return f"**{found:.2f}** ({'met' if found >= goal else 'missed'}: {goal:g})"


def whole_trainings(found: dict[str, Results]) -> list[str]:
    """Microseconds of a step by every trainer, the strongest over ours, losses and compiling."""
    names = dict.fromkeys(name for case in found.values() for name in case["trainings"])
    others = [name for name in names if name != trainings.OURS]
    rows, losses = [], []
    for case, result in found.items():
        by_name = result["trainings"]
        ours = by_name[trainings.OURS]["microseconds"]
        strongest = min((by_name[name]["microseconds"] for name in others if name in by_name), default=float("nan"))
        times = [f"{by_name[name]['microseconds']:,.0f}" if name in by_name else "–" for name in names]
        rows.append([case, *times, verdict(strongest / ours, result["goal"])])
        losses.append([case, *(_first(by_name[name]) if name in by_name else "–" for name in names)])
    return [
        "Microseconds of processor time for a step, the fewest of several whole trainings made in turns, each one call "
        "from the same weights over the same batches; then the fastest way of JAX over `hdnn.fit`, and whether that "
        "meets the goal. JAX is compiled before and tried with its layers in a scan, in a scan of checkpointed steps "
        "or of checkpointed segments, and unrolled; the fastest way of each kind is shown.",
        "",
        *machine.table(["training", *names, "strongest over ours"], rows),
        "",
        "The mean objective of a first epoch, the same for all, and the seconds that this epoch took, with compiling:",
        "",
        *machine.table(["training", *names], losses),
    ]


def _first(training: Results) -> str:
    return f"{training['loss']:.6f}, {training['first']:.2g} s"


def equal_work(found: dict[str, Results]) -> list[str]:
    """Our classifier beside scikit-learn's perceptron."""
    rows = []
    for name, result in found.items():
        ours, other = (result["models"][each] for each in (perceptrons.OURS, perceptrons.PERCEPTRON))
        row = [name, f"{result['rows']} rows, {result['epochs']} epochs, batches of {result['batch_size']}"]
        row += [
            f"{each['parameters']:,}: {1e3 * each['seconds']:.1f} ms, {each['accuracy']:.3f}" for each in (ours, other)
        ]
        rows.append([*row, verdict(other["seconds"] / ours["seconds"], 1.0)])
    return [
        "`HamiltonianClassifier().fit` and `MLPClassifier().fit` with one hidden layer and as many parameters, the "
        "same epochs and batch size, nobody stopping early: parameters, processor time of the whole fit (the least of "
        "several, in turns), accuracy on a fifth of the rows.",
        "",
        *machine.table(["data", "work", *(perceptrons.OURS, perceptrons.PERCEPTRON), "perceptron over ours"], rows),
    ]


def loops(results: list[Results], epochs: int) -> list[str]:
    """The paper's training to the end, by ours and by two loops of PyTorch."""
    names = (OURS, PLAIN, CAREFUL)
    ratios = {name: median(results, name) / median(results, OURS) for name in (PLAIN, CAREFUL)}
    rows = [
        [result["seed"], *(f"{result[n]['seconds']:.2f} s, {100 * result[n]['test_accuracy']:.2f} %" for n in names)]
        for result in results
    ]
    return [
        f"{epochs} epochs of Swiss roll, h1 with 64 layers, batches of 125: wall time of the training loop "
        "and test accuracy after it. Same initial weights, batches, objective and schedule for all; runs in turns.",
        "",
        f"- *{PLAIN}*: a list of K_j and b_j, a Python loop over layers and differences, `torch.optim.Adam`.",
        f"- *{CAREFUL}*: stacked parameters, `addmm`, J folded into K, features first, `Adam(fused=True)`.",
        "",
        *machine.table(["seed", *names], rows),
        "",
        f"Medians: {', '.join(f'{name} {median(results, name):.2f} s' for name in names)}. The plain loop takes "
        f"**{ratios[PLAIN]:.1f} times** as long as hdnn (goal {GOAL:g}, "
        f"{'met' if ratios[PLAIN] >= GOAL else 'missed'}), the careful loop {ratios[CAREFUL]:.1f} times.",
    ]


def report(known: Results, raw: Results) -> list[str]:
    """The whole report in Markdown."""
    return [
        *machine.head("Time to train", known),
        "",
        "On one core.",
        "",
        "## Against JAX",
        "",
        *whole_trainings(raw["trainings"]),
        "",
        "## Against scikit-learn",
        "",
        *equal_work(raw["perceptrons"]),
        "",
        "## Against loops of PyTorch",
        "",
        *loops(raw["loops"], raw["epochs"]),
    ]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50, help="of the loops of PyTorch")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the loops, from 0 on")
    parser.add_argument("--rounds", type=int, default=5, help="of everything else")
    parser.add_argument("--mnist", type=Path, help="the folder of MNIST's files; without it MNIST is left out")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    known, raw = machine.facts(), {"epochs": chosen.epochs, "rounds": chosen.rounds}
    raw["trainings"] = {}
    for case in trainings.CASES:
        if case != "MNIST" or chosen.mnist:
            machine.say(case)
            folder = ("--mnist", chosen.mnist) if case == "MNIST" else ()
            raw["trainings"][case] = machine.child("trainings.py", (case, "--rounds", chosen.rounds, *folder), cores=1)
    machine.say("perceptrons")
    raw["perceptrons"] = machine.child("perceptrons.py", ("--rounds", chosen.rounds), cores=1)
    machine.say("loops of PyTorch")
    raw["loops"] = machine.child("trainers.py", ("--epochs", chosen.epochs, "--seeds", chosen.seeds), cores=1)
    machine.publish(chosen.output, report(known, raw), {**known, **raw})


if __name__ == "__main__":
    main()
