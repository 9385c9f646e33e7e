"""Whether a run that was killed ends in the bits of one that was not.

    python benchmarks/kills.py --output benchmarks/results/DATE-kills.md

Short trainings are killed (SIGKILL) at random moments, drawn evenly over the time that they take, and resumed; half of
the resumed ones are killed again, and so on. A checkpoint is written after every step. At the end weights, history (but
its times) and results (but their times) are compared bit by bit with those of a run that was left in peace, and the
folder must hold the same files. The processes are forked from one that has PyTorch loaded, and draw no figures; the
last line is `hdnn train` as a process of its own, figures and all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import machine
from hdnn.checkpoints import read_checkpoint
from hdnn.jobs import Choices, Source, resume, train
from hdnn.runs import Run

SOURCE = Source("double-moons", size=200)
ADAM = Choices(layers=3, epochs=6, batch_size=16)
CASES = {
    "Adam": ADAM,
    "SGD, clipped": dataclasses.replace(ADAM, optimizer="sgd", clip=0.5, model="h2"),
    "L-BFGS": dataclasses.replace(ADAM, optimizer="lbfgs", epochs=12),
    "AdamW, early stopping": dataclasses.replace(
        ADAM, optimizer="adamw", epochs=30, learning_rate=0.3, validation=0.3, patience=4, lift="linear"
    ),
    "alternating": dataclasses.replace(ADAM, method="alternating", epochs=3, batch_size=25),
}
COMMAND = ["train", "double-moons", "--size", "200", "--layers", "3", "--epochs", "100", "--threads", "1"]
PROGRAM = [sys.executable, "-c", "from hdnn.cli import main; main()"]
PLACES = ("before it began", "before a checkpoint", "within an epoch", "between epochs", "after the last step")
LONGEST = 120.0

Start = Callable[[Path, bool], int]


def forked(choices: Choices) -> Start:
    """A way to begin or resume a training in a process forked from this one; gives its number."""

    def start(folder: Path, goes_on: bool) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            if goes_on:
                resume(folder, checkpoint_every=0.0)
            else:
                train(SOURCE, choices, folder, checkpoint_every=0.0)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    return start


def commanded(folder: Path, goes_on: bool) -> int:
    """The same by the command line; gives the number of the process."""
    line = ["train", "--resume", str(folder)] if goes_on else [*COMMAND, "-o", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*PROGRAM, *line, "--checkpoint-every", "0"], stdout=quiet, stderr=quiet).pid


def ended(child: int, after: float) -> bool:
    """Kill a process after some seconds; whether it had ended by itself before.

    Raises:
        SystemExit: if it had failed.
    """
    give_up = time.monotonic() + after
    while time.monotonic() < give_up:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"A training failed with status {status}.")
            return True
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def place(folder: Path) -> str:
    """Where a training was when it was killed."""
    if not (folder / "config.json").is_file():
        return PLACES[0]
    run = Run.open(folder)
    if (folder / "model.safetensors").is_file():
        return PLACES[4]
    state = read_checkpoint(run, 2**30)
    if state is None:
        return PLACES[1]
    return PLACES[2] if state.batches else PLACES[3]


def bits(folder: Path) -> tuple[object, ...]:
    """All that must not depend on whether a run was killed."""
    run = Run.open(folder)
    metrics = {name: value for name, value in run.read_metrics().items() if name != "seconds"}
    history = [[cell for cell in row.items() if cell[0] != "seconds"] for row in run.read_history()]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return (folder / "model.safetensors").read_bytes(), history, metrics, files


def killed_once_or_more(start: Start, folder: Path, seconds: float, chance: random.Random) -> list[str]:
    """Begin a run, kill it at a random moment, resume it, perhaps kill it again; where it was killed each time."""
    places: list[str] = []
    while not places:  # until it was hit before its end
        goes_on = (folder / "config.json").is_file()
        if goes_on and Run.open(folder).is_finished:
            machine.say("missed")
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            goes_on = False
        if not ended(start(folder, goes_on), chance.uniform(0, seconds)):
            places.append(place(folder))
    while True:
        left = chance.uniform(0, seconds) if chance.random() < 0.5 else LONGEST
        if ended(start(folder, (folder / "config.json").is_file()), left):
            return places
        places.append(place(folder))


def row(name: str, start: Start, kills: int, work: Path, chance: random.Random) -> list[object]:
    """Kill until there were enough; a row of the table."""
    begun = time.monotonic()
    if not ended(start(work / "peace", False), LONGEST):
        raise SystemExit(f"{name}: a run that was left in peace took more than {LONGEST} s.")
    seconds = time.monotonic() - begun
    expected = bits(work / "peace")
    found: Counter[str] = Counter()
    runs = different = 0
    while found.total() < kills:
        folder = work / f"run{runs}"
        found.update(killed_once_or_more(start, folder, seconds, chance))
        different += bits(folder) != expected
        runs += 1
    machine.say(f"{name}: {found.total()} kills, {different} of {runs} runs differ")
    return [name, f"{seconds:.2f}", runs, found.total(), *[found[where] for where in PLACES], different]


def main() -> None:
    """Print the table, and write it where that is asked for; exit code 1 if a run ended in other bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="of each kind of training")
    parser.add_argument("--commands", type=int, default=10, help="of processes of their own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    torch.set_num_threads(1)
    known = machine.facts()
    chance = random.Random(chosen.seed)
    summary = importlib.import_module("hdnn.jobs.train")
    summary.write_summary = lambda run, *results: run.write_report("a page")  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as work:
        train(SOURCE, ADAM, Path(work) / "run")  # what is imported here, the forked processes need not import
    starts: list[tuple[str, Start, int]] = [(name, forked(case), chosen.kills) for name, case in CASES.items()]
    starts.append(("`hdnn train`", commanded, chosen.commands))
    rows = []
    for name, start, kills in starts:
        with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
            if kills:
                rows.append(row(name, start, kills, Path(work), chance))
    columns = ["training", "seconds in peace", "runs", "kills", *PLACES, "runs with other bits"]
    total = ["all", "", *[sum(int(str(each[i])) for each in rows) for i in range(2, len(columns))]]
    lines = [
        *machine.head("Runs killed at random moments", known),
        "",
        "\n\n".join((__doc__ or "").split("\n\n")[2:]).strip(),
        "",
        *machine.table(columns, [*rows, total]),
    ]
    machine.publish(chosen.output, lines, {**known, "columns": columns, "rows": rows})
    raise SystemExit(1 if total[-1] else 0)


if __name__ == "__main__":
    main()
