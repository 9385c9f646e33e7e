"""Whether a training on several ranks, one of which was killed, ends in the bits of one that was left in peace.

    python benchmarks/rank_kills.py --kills 50 --output benchmarks/results/DATE-rank-kills.md

Two ranks train together and write a checkpoint after every step. One of them, by chance the first or the second, is
killed (SIGKILL) at a random moment, drawn evenly over the time that the training takes; the other must end by itself,
but where they had not met yet.
Both are begun again, and most of these are killed again, and so on. At the end the weights, the history (but its times)
and the results (but their times) are compared bit by bit with those of as many ranks that were left in peace. The ranks
are forked from a process that has PyTorch loaded, and draw no figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import forking
import machine
from hdnn.jobs import Choices, Source, resume, train
from hdnn.jobs.following import follow, follow_resumed
from hdnn.runs import Run

RANKS = 2
SOURCE = Source("double-moons", size=200)
ADAM = Choices(layers=3, epochs=6, batch_size=16, restarts=1)
STOPPING = Choices(optimizer="adamw", validation_fraction=0.3, patience=4, epochs=20, learning_rate=0.3)
CASES: dict[str, tuple[Source | None, Choices]] = {
    "Adam": (SOURCE, ADAM),
    "SGD, clipped": (SOURCE, {**ADAM, "optimizer": "sgd", "clip": 0.5, "model": "h2"}),
    "L-BFGS": (SOURCE, {**ADAM, "optimizer": "lbfgs", "epochs": 12}),
    "AdamW, early stopping": (SOURCE, {**ADAM, **STOPPING}),
    "alternating": (SOURCE, {**ADAM, "method": "alternating", "epochs": 3, "batch_size": 25}),
    "starts on both ranks": (SOURCE, {**ADAM, "restarts": 3, "epochs": 3}),
    "image network": (None, Choices(model="stages", units=(1, 1), channels=(4, 8), epochs=2, batch_size=20)),
}


def pictures(folder: Path) -> Source:
    """Images of 8 x 8 pixels in IDX files, drawn by chance: 60 for training and 20 for testing, of two classes."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for part, rows in (("train", 60), ("test", 20)):
        labels = np.arange(rows) % 2
        images = chance.integers(0, 120, (rows, 8, 8)) + 100 * labels[:, None, None]
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())
    return Source(str(folder))


def begin(case: tuple[Source, Choices], folder: Path, rank: int, meeting: Path) -> int:
    """A rank, in a process forked from this one; gives its number."""

    def work() -> None:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
        meeting.with_name(f"{meeting.name}-{rank}").touch()
        goes_on = Run.open(folder) if (folder / "config.json").exists() else None
        source, choices = case
        if rank:
            follow_resumed(folder) if goes_on else follow(source, choices)
        elif goes_on:
            resume(folder, checkpoint_every=0)
        else:
            train(source, choices, folder, checkpoint_every=0)

    def told() -> None:
        try:
            work()
        except ConnectionError:
            raise SystemExit(3) from None

    return forking.forked(told)


def attempt(case: tuple[Source, Choices], folder: Path, after: float, which: int) -> tuple[bool, float]:
    """Train until the end or until a rank is killed; whether it came to its end, and the seconds that it took.

    Raises:
        RuntimeError: if a rank ended otherwise than it should.
    """
    meeting = folder.with_name(f"meeting-{time.monotonic_ns()}")
    start = time.monotonic()
    ranks = [begin(case, folder, rank, meeting) for rank in range(RANKS)]
    codes: dict[int, int] = {}
    killed = False
    while len(codes) < RANKS:
        for rank, child in enumerate(ranks):
            if rank not in codes and (found := os.waitpid(child, os.WNOHANG))[0]:
                codes[rank] = os.waitstatus_to_exitcode(found[1])
        if not killed and which not in codes and time.monotonic() - start > after:
            os.kill(ranks[which], signal.SIGKILL)
            killed = True
            if not all(meeting.with_name(f"{meeting.name}-{rank}").exists() for rank in range(RANKS)):
                for child in {*ranks} - {ranks[rank] for rank in (*codes, which)}:
                    os.kill(child, signal.SIGKILL)  # as torchrun does; it would wait long for the other to come
        if time.monotonic() - start > after + 300:
            raise RuntimeError(f"ranks hang: {codes}")
        time.sleep(0.002)
    if {*codes.values()} - {0, 3, -signal.SIGKILL}:
        raise RuntimeError(f"a rank ended with {codes}")
    return codes[0] == 0, time.monotonic() - start


def bits(folder: Path) -> tuple[bytes, str, str]:
    """What must be the same; times and what tells of the pause are not."""
    history = [",".join(line.split(",")[:-1]) for line in (folder / "history.csv").read_text().splitlines()]
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = {name: value for name, value in metrics.items() if "seconds" not in name}
    return (folder / "model.safetensors").read_bytes(), "\n".join(history), json.dumps(kept, sort_keys=True)


def row(
    name: str, case: tuple[Source, Choices], kills: int, until: float, chance: random.Random, work: Path
) -> list[object]:
    """Kill one kind of training so often, if time allows."""
    peace = work / "peace"
    ended, seconds = attempt(case, peace, 1e9, 0)
    expected = bits(peace)
    assert ended
    done, runs, other, by_rank = 0, 0, 0, [0, 0]
    while done < kills and time.monotonic() < until:
        run = work / f"run-{runs}"
        while True:
            which = chance.randrange(RANKS)
            spared = done >= kills or time.monotonic() > until or chance.random() < 0.15
            over, _ = attempt(case, run, 1e9 if spared else chance.uniform(0, seconds), which)
            if over:
                break
            done += 1
            by_rank[which] += 1
        runs += 1
        other += bits(run) != expected
        shutil.rmtree(run)
        machine.say(f"{name}: {done} kills, {other} of {runs} differ")
    shutil.rmtree(peace)
    return [name, f"{seconds:.1f}", runs, done, *by_rank, other]


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no more are killed")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    importlib.import_module("hdnn.jobs.task").write_summary = lambda *_: None  # type: ignore[attr-defined]
    known = machine.facts()
    columns = ["training", "seconds in peace", "runs", "kills", "of rank 0", "of rank 1", "runs with other bits"]
    each = -(-chosen.kills // len(chosen.cases))
    with tempfile.TemporaryDirectory() as work:
        drawn = pictures(Path(work) / "pictures")
        chances = {name: random.Random(f"{chosen.seed} {name}") for name in chosen.cases}
        start, share = time.monotonic(), 60 * chosen.minutes / len(chosen.cases)
        rows = [
            row(name, (CASES[name][0] or drawn, CASES[name][1]), each, start + share * k, chances[name], Path(work))
            for k, name in enumerate(chosen.cases, start=1)
        ]
    total = ["all", "", *(sum(int(str(line[k])) for line in rows) for k in range(2, len(columns)))]
    lines = [
        *machine.head("One of two ranks killed at random moments", known),
        "",
        " ".join(str(__doc__).split("\n\n")[2].split()),
        "",
        *machine.table(columns, [*rows, total]),
    ]
    machine.publish(chosen.output, lines, {**known, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
