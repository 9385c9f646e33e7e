"""Whether a study loses anything when its processes are killed.

    python benchmarks/study_kills.py --output benchmarks/results/DATE-study-kills.md

Two processes work on a study of 50 trials, of small trainings of double moons. Both are killed (SIGKILL) over and over
and begun again: one at random moments, the other while it holds the journal's lock, in the middle of a line, after so
many whole ones as chance draws. At the end one process is left in peace. Then all trials must have ended, 50 of them
must count, those that were lost must have been tried again with the same values, and every line of the journal must be
whole; what is not so is counted as lost. A trial whose worker ended twice counts as failed. Processes are forked from
one that has PyTorch loaded, and draw no figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages.journal import JournalFileBackend

import forking
import machine
from hdnn.jobs import Choices, Source, tune
from hdnn.jobs.journals import journal_storage

TRIALS = 50
SOURCE = Source("double-moons", size=1000)
CHOICES = Choices(restarts=1, epochs=60)
COLUMNS = [
    "study", "killed at random moments", "killed in the lock, within a line", "trials that count", "tried again",
    "their workers ended twice", "lost",
]  # fmt: skip


def die_after(writes: int) -> None:
    """Let this process die in the middle of one of the lines that it writes to the journal."""
    append, left = JournalFileBackend.append_logs, [writes]

    def dies(self: Any, logs: list[dict[str, Any]]) -> None:
        left[0] -= 1
        if left[0] > 0:
            append(self, logs)
            return
        self._lock.acquire()
        with open(self._file_path, "ab") as stream:
            stream.write(json.dumps(logs[0]).encode()[:20])
        os.kill(os.getpid(), signal.SIGKILL)

    JournalFileBackend.append_logs = dies  # type: ignore[method-assign]


def forked(study: Path, seed: int, writes: int = 0) -> int:
    """A process at the study; gives its number."""

    def work() -> None:
        if writes:
            die_after(writes)
        tune(SOURCE, CHOICES, study, trials=TRIALS, seed=seed, threads=1)

    return forking.forked(work)


def ended(child: int) -> bool | None:
    """Whether a process came to its end by itself (True) or was killed (False); None while it lives.

    Raises:
        SystemExit: if it failed.
    """
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        return None
    if status and not os.WIFSIGNALED(status):
        raise SystemExit(f"A process of the study failed with status {status}.")
    return not status


def fought(study: Path, kills: int, seed: int) -> tuple[int, int]:
    """Let two processes work and die until there were enough kills or the study is done; how many of each kind."""
    chance = random.Random(seed)
    found = [0, 0]
    children: dict[int, tuple[int, float]] = {}  # by kind: the process, and when it is killed
    while sum(found) < kills:
        for kind in (0, 1):
            if kind not in children:
                child = forked(study, seed, chance.randrange(1, 100) if kind else 0)
                children[kind] = (child, time.monotonic() + (60.0 if kind else chance.uniform(0.2, 3)))
        time.sleep(0.005)
        for kind, (child, until) in [*children.items()]:
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
            by_itself = ended(child)
            if by_itself is None:
                continue
            del children[kind]
            if by_itself:
                kills = 0
            else:
                found[kind] += 1
    for child, _ in children.values():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found[0] += 1
    return found[0], found[1]


def row(name: str, folder: Path, kills: int, seed: int) -> list[object]:
    """A study that is fought over and then left in peace; a row of the table."""
    study = folder / name
    at_random, in_lock = fought(study, kills, seed)
    last = forked(study, seed)
    while (by_itself := ended(last)) is None:
        time.sleep(0.01)
    if not by_itself:
        raise SystemExit("The process that was left in peace was killed.")
    trials = optuna.load_study(study_name="hdnn", storage=journal_storage(study / "journal.log")).trials
    kept = [each for each in trials if not each.user_attrs.get("dropped")]
    again = [each for each in trials if each.user_attrs.get("dropped") and each.user_attrs.get("worker")]
    twice = [each for each in kept if each.state.name == "FAIL"]
    tried = [each.params for each in kept]
    lost = sum(each.params not in tried for each in again) + sum(not each.state.is_finished() for each in trials)
    lost += abs(TRIALS - len(kept))
    for line in (study / "journal.log").read_bytes().splitlines():
        json.loads(line)
    machine.say(f"{name}: {at_random} + {in_lock} kills, {len(kept)} trials, {len(again)} again, {lost} lost")
    return [name, at_random, in_lock, len(kept), len(again), len(twice), lost]


def main() -> None:
    """Print the table, and write it where that is asked for; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=6)
    parser.add_argument("--kills", type=int, default=40, help="of each study, unless it is done before")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    torch.set_num_threads(1)
    known = machine.facts()
    quiet()
    with tempfile.TemporaryDirectory() as work:
        tune(SOURCE, CHOICES, Path(work) / "warm", trials=1, threads=1)  # imported here, forks need not import it
        rows = [row(f"study {i}", Path(work), chosen.kills, i) for i in range(chosen.studies)]
    total = ["all", *(sum(int(str(each[i])) for each in rows) for i in range(1, len(COLUMNS)))]
    lines = [
        *machine.head("Studies whose processes are killed", known),
        "",
        "\n\n".join((__doc__ or "").split("\n\n")[2:]).strip(),
        "",
        *machine.table(COLUMNS, [*rows, total]),
    ]
    machine.publish(chosen.output, lines, {**known, "columns": COLUMNS, "rows": rows})
    raise SystemExit(1 if total[-1] else 0)


def quiet() -> None:
    """Without pictures, which take most of the time of a short study."""
    importlib.import_module("hdnn.jobs.figures").drawn = lambda *_: []  # type: ignore[attr-defined]
    task = importlib.import_module("hdnn.jobs.task")
    task.write_summary = lambda run, *results: run.write_report("a page")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
