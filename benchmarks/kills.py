"""Whether a run that was killed ends in the bits of one that was not.

    python benchmarks/kills.py --output benchmarks/results/DATE-kills.md

Short trainings are killed (SIGKILL) at random moments, drawn evenly over the time that they take, and resumed; most of
the resumed ones are killed again, and so on. A checkpoint is written after every step. At the end weights, figures
(also that of the starts), history (but its times) and results (but their times) are compared bit by bit with those of a
run that was left in peace, and the folder must hold the same files. Lines that begin with `hdnn train` are processes of
their own, figures and all, from the start of Python to its end; the others are forked from one that has PyTorch loaded,
and draw no figures. "Among the starts" counts the kills of processes that had taken a step of the starts themselves,
and so on.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import forking
import machine
from hdnn.checkpoints import read_checkpoint
from hdnn.jobs import Choices, Source, resume, train
from hdnn.runs import Run

SOURCE = Source("double-moons", size=200)
ADAM = Choices(layers=3, epochs=6, batch_size=16)
CASES = {
    "Adam": ADAM,
    "SGD, clipped": {**ADAM, "optimizer": "sgd", "clip": 0.5, "model": "h2"},
    "L-BFGS": {**ADAM, "optimizer": "lbfgs", "epochs": 12},
    "AdamW, early stopping": Choices(
        layers=3,
        epochs=30,
        batch_size=16,
        optimizer="adamw",
        learning_rate=0.3,
        validation_fraction=0.3,
        patience=4,
        lift="linear",
    ),
    "alternating": {**ADAM, "method": "alternating", "epochs": 3, "batch_size": 25},
}
COMMANDS = {
    "long starts": "swiss-roll --size 1600 --layers 3 --epochs 100 --restarts 16 --threads 1",
    "16 starts": "swiss-roll --size 200 --layers 4 --epochs 240 --restarts 16 --threads 1",
    "8 starts, two threads": "double-moons --size 200 --layers 3 --epochs 240 --restarts 8 --threads 2",
    "alternating, 4 starts": "double-circles --size 200 --layers 3 --epochs 100 --restarts 4 --method alternating",
    "a table, 4 starts, early stopping": "TABLE --target y --layers 4 --epochs 150 --restarts 4 --optimizer adamw "
    "--validation-fraction 0.2 --patience 20",
}
PROGRAM = [sys.executable, "-c", "from hdnn.cli import main; main()"]
PLACES = (
    "before it began or went on",
    "among the starts",
    "within an epoch",
    "between epochs",
    "after the last step",
)
LONGEST = 600.0
AGAIN = 0.75  # of the resumed ones are killed again

Start = Callable[[Path, bool], int]


def forked(choices: Choices) -> Start:
    """A way to begin or resume a training in a process forked from this one; gives its number."""

    def start(folder: Path, goes_on: bool) -> int:
        if goes_on:
            return forking.forked(lambda: resume(folder, checkpoint_every=0.0))
        return forking.forked(lambda: train(SOURCE, choices, folder, checkpoint_every=0.0))

    return start


def commanded(line: str) -> Start:
    """The same by the command line, in a process of its own."""

    def start(folder: Path, goes_on: bool) -> int:
        asked = ["--resume", str(folder)] if goes_on else [*shlex.split(line), "-o", str(folder)]
        quiet = subprocess.DEVNULL
        command = [*PROGRAM, "train", *asked, "--checkpoint-every", "0"]
        return subprocess.Popen(command, stdout=quiet, stderr=quiet).pid

    return start


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


def written(folder: Path) -> object:
    """What changes when a process has taken a step: the checkpoint, or what follows after the last one."""
    files = (folder / "checkpoint.safetensors", folder / "model.safetensors")
    return [file.stat().st_mtime_ns if file.is_file() else None for file in files]


def place(folder: Path, before: object) -> str:
    """Where a training was when it was killed, if the process had taken a step of it."""
    if not (folder / "config.json").is_file() or written(folder) == before:
        return PLACES[0]
    if (folder / "model.safetensors").is_file():
        return PLACES[4]
    state = read_checkpoint(Run.open(folder), 2**30)
    if state is None or state.is_starting:
        return PLACES[1]
    return PLACES[2] if state.batches else PLACES[3]


def bits(folder: Path) -> dict[str, object]:
    """All that must not depend on whether a run was killed."""
    run = Run.open(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in files if path.suffix in (".safetensors", ".png", ".gif")]
    return {
        "metrics": {name: value for name, value in run.read_metrics().items() if name != "seconds"},
        "history": [[cell for cell in row.items() if cell[0] != "seconds"] for row in run.read_history()],
        "files": [str(path.relative_to(folder)) for path in files],
        **{path.name: path.read_bytes() for path in kept},
    }


def killed_once_or_more(start: Start, folder: Path, seconds: float, chance: random.Random) -> list[str]:
    """Begin a run, kill it at a random moment, resume it, perhaps kill it again; where it was killed each time."""
    places: list[str] = []
    while True:
        before = written(folder)
        left = chance.uniform(0, seconds) if not places or chance.random() < AGAIN else LONGEST
        if not ended(start(folder, (folder / "config.json").is_file()), left):
            places.append(place(folder, before))
        elif places:
            return places
        else:  # it came to its end before it was hit
            shutil.rmtree(folder)


def row(name: str, start: Start, kills: int, chance: random.Random, until: float) -> list[object]:
    """Kill until there were enough, or no run is to be begun any more; a row of the table."""
    with tempfile.TemporaryDirectory() as place_of_all:
        work = Path(place_of_all)
        begun = time.monotonic()
        if not ended(start(work / "peace", False), LONGEST):
            raise SystemExit(f"{name}: a run that was left in peace took more than {LONGEST} s.")
        seconds = time.monotonic() - begun
        expected = bits(work / "peace")
        found: Counter[str] = Counter()
        runs = different = 0
        while found.total() < kills and time.monotonic() < until:
            folder = work / f"run{runs}"
            found.update(killed_once_or_more(start, folder, seconds, chance))
            got = bits(folder)
            if odd := [part for part in expected.keys() | got.keys() if expected.get(part) != got.get(part)]:
                machine.say(f"{name}: other {', '.join(sorted(odd))}")
            different += bool(odd)
            runs += 1
            machine.say(f"{name}: {found.total()} kills ({found[PLACES[1]]} in starts), {different} of {runs} differ")
    return [name, round(seconds, 1), runs, found.total(), *[found[where] for where in PLACES], different]


def together(rows: list[list[object]]) -> list[list[object]]:
    """Rows of one name as one: their mean time, and the sums of what they counted."""
    found: dict[object, list[list[object]]] = {}
    for each in rows:
        found.setdefault(each[0], []).append(each)
    return [
        [name, f"{sum(float(str(one[1])) for one in group) / len(group):.1f}", *counted(group)]
        for name, group in found.items()
    ]


def counted(rows: list[list[object]]) -> list[int]:
    """The sums of all but names and times."""
    return [sum(int(str(each[i])) for each in rows) for i in range(2, len(rows[0]))]


def table(folder: Path) -> Path:
    """A small table with gaps and text."""
    draw = random.Random(5)
    rows = []
    for _ in range(200):
        gap = "" if draw.random() < 0.05 else f"{draw.gauss(0, 1):.4f}"
        rows.append(f"{draw.gauss(0, 1):.4f},{gap},{draw.choice('pq')},{draw.choice('uvw')}")
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,town,y", *rows]) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Print the table, and write it where that is asked for; exit code 1 if a run ended in other bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="of each kind of training in forked processes")
    parser.add_argument("--commands", type=int, default=16, help="of each kind of `hdnn train`")
    parser.add_argument("--jobs", type=int, default=1, help="`hdnn train` at a time, of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no run of `hdnn train` is begun")
    parser.add_argument("--only", default="", help="kinds of `hdnn train` whose names hold this text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    torch.set_num_threads(1)
    known = machine.facts()
    summary = importlib.import_module("hdnn.jobs.task")
    summary.write_summary = lambda run, *results: run.write_report("a page")  # type: ignore[attr-defined]
    rows = []
    with (
        tempfile.TemporaryDirectory() as work,
        concurrent.futures.ThreadPoolExecutor(len(COMMANDS) * chosen.jobs) as pool,
    ):
        if chosen.kills:
            train(SOURCE, ADAM, Path(work) / "run")  # what is imported here, the forked processes need not import
            for name, case in CASES.items():
                rows.append(row(name, forked(case), chosen.kills, random.Random(f"{chosen.seed} {name}"), math.inf))
        data = str(table(Path(work)))
        commands = {
            f"`hdnn train`, {name}": line.replace("TABLE", data)
            for name, line in COMMANDS.items()
            if chosen.only in name
        }
        until, each = time.monotonic() + 60 * chosen.minutes, math.ceil(chosen.commands / chosen.jobs)
        asked = [
            pool.submit(row, name, commanded(line), each, random.Random(f"{chosen.seed} {name} {job}"), until)
            for name, line in commands.items()
            for job in range(chosen.jobs)
            if each
        ]
        rows = together([*rows, *(done.result() for done in asked)])
    columns = ["training", "seconds in peace", "runs", "kills", *PLACES, "runs with other bits"]
    total = ["all", "", *counted(rows)]
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
