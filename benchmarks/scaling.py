"""What a second core brings: python benchmarks/scaling.py --mnist FOLDER --output benchmarks/results/DATE-scaling.md .

Seconds on the clock, of two cores that do nothing else: steps of `fit` in one process with one thread and with two, and
on two ranks; whole trainings at the command line; a reproduction in one process, as two jobs and as two shards; a study
by one worker and by two. Every row goes through its ways in turns, several rounds; shown is the least of each. Two
shards do the work of one, so 2 is the most there is; two workers of a study draw other choices than one does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import hdnn
import machine
from ranks import pictured

Way = Callable[[Path], None]
BATCH, STEPS = 128, 20
CASES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "MNIST, pointwise": (lambda: pictured(1), (1, 28, 28)),
    "MNIST, convolutional": (lambda: pictured(3), (1, 28, 28)),
    'image network, "units"': (lambda: hdnn.image_network((2, 2, 2), (16, 32, 56), classes=10, inputs=1), (1, 28, 28)),
}


def steps(case: str, count: int, threads: int, folder: Path) -> float:
    """Seconds of a step on so many ranks of so many threads: the least of five trainings of 20 steps."""
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            try:
                _rank(case, rank, count, threads, folder)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return float((folder / "seconds").read_text())


def _rank(case: str, rank: int, count: int, threads: int, folder: Path) -> None:
    torch.set_num_threads(threads)
    if count > 1:
        meeting = f"file://{folder}/meeting"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    make, shape = CASES[case]
    torch.manual_seed(0)
    x, y = torch.randn(BATCH * STEPS, *shape), torch.randint(10, (BATCH * STEPS,))
    found = []
    for _ in range(6):  # the first warms up
        began = time.perf_counter()
        hdnn.fit(make(), x, y, hdnn.Recipe(epochs=1, batch_size=BATCH))
        found.append((time.perf_counter() - began) / STEPS)
    if rank == 0:
        (folder / "seconds").write_text(str(min(found[1:])))


def commands(*lines: str) -> Way:
    """Command lines side by side; {} is a fresh folder."""

    def run(folder: Path) -> None:
        together = [
            subprocess.Popen([sys.executable, "-m", "hdnn", *line.format(folder).split()], stdout=subprocess.DEVNULL)
            for line in lines
        ]
        codes = [process.wait() for process in together]  # all, before anything is said
        if any(codes):
            raise SystemExit(f"a command of {lines} failed")

    return run


def whole(mnist: Path | None) -> dict[str, dict[str, Way]]:
    """What is timed as a whole, in its ways; the first is one process on one core."""
    table = "reproduce mlp -o {}/r"
    study = "tune digits --trials 32 --epochs 60 --threads 1 --study {}/s"
    found = {
        "reproduce mlp": {
            "one job": commands(table),
            "--jobs 2": commands(f"{table} --jobs 2"),
            "two shards": commands(f"{table} --shard 1/2", f"{table} --shard 2/2"),
        },
        "tune digits, 32 trials": {"one worker": commands(study), "two workers": commands(study, study)},
    }
    if mnist is not None:
        train = f"train mnist --data-folder {mnist} --epochs 1 -o {{}}/run"
        found["train mnist, 1 epoch"] = {
            "one thread": commands(f"{train} --threads 1"),
            "two threads": commands(f"{train} --threads 2"),
            "--processes 2": commands(f"{train} --processes 2 --threads 1"),
        }
    return found


def in_turns(ways: Mapping[str, Callable[[Path], float]], rounds: int) -> dict[str, float]:
    """The least that each way says."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(way(Path(folder)))
    return {name: min(each) for name, each in found.items()}


def clocked(way: Way) -> Callable[[Path], float]:
    """Its seconds."""

    def run(folder: Path) -> float:
        began = time.perf_counter()
        way(folder)
        return time.perf_counter() - began

    return run


def rows(name: str, seconds: dict[str, float]) -> list[list[Any]]:
    """Of a table: seconds, and how many times as fast as the first way."""
    first = next(iter(seconds.values()))
    return [[name, way, f"{each:.3g}", f"{first / each:.2f}"] for way, each in seconds.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[1])
    parser.add_argument("--mnist", type=Path, help="folder of its four files; without, it is not trained on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    machine.require_folder(chosen.output)
    machine.require_cores(2)
    known = machine.facts()
    found: list[list[Any]] = []
    for case in CASES:
        ways = {
            f"{count} process{'es' * (count > 1)}, {threads} thread{'s' * (threads > 1)} each": (
                lambda folder, case=case, count=count, threads=threads: steps(case, count, threads, folder)
            )
            for count, threads in ((1, 1), (1, 2), (2, 1))
        }
        found += rows(f"a step: {case}", in_turns(ways, chosen.rounds))
    for name, of_name in whole(chosen.mnist).items():
        found += rows(name, in_turns({way: clocked(run) for way, run in of_name.items()}, chosen.rounds))
    lines = [
        *machine.head("Two cores against one", known),
        "",
        " ".join(str(__doc__).split("\n\n")[1].split()),
        "",
        *machine.table(["work", "way", "seconds", "times as fast as the first"], found),
    ]
    machine.publish(chosen.output, lines, {**known, "rows": found})


if __name__ == "__main__":
    main()
