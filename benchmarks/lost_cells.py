"""Whether reproductions that share a folder and are killed lose what was finished.

    python benchmarks/lost_cells.py --output benchmarks/results/DATE-lost-cells.md

Two processes reproduce small cells in one folder, each with seeds of its own. Both are killed (SIGKILL) at random
moments, drawn evenly over the time that the work takes, and begun again until they have been killed often enough; then
they are left in peace. After every kill each result that was there before must be there still, with the same bytes, and
every file must be readable. At the end a third call finds nothing left to do, and all numbers are those of a
reproduction that was left in peace. Most processes are forked from one that has PyTorch loaded, so that kills
hit the work and not the imports; the last line is `hdnn reproduce` as processes of their own.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import forking
import machine
from hdnn.experiments import load, store
from hdnn.experiments.laboratory import Reproduction, reproduce

NAME = "figure1"  # its small cells are single runs of some tenths of a second, with arrays to be written
FEW, MANY = 8, 40  # seeds of each process; a command takes long to begin, so it gets more to do
PROGRAM = [sys.executable, "-c", "from hdnn.cli import main; main()"]
PLACES = ("before the first result", "between results", "after the last result")
LONGEST = 300.0

Begin = Callable[[Path, range], int]


def forked(folder: Path, seeds: range) -> int:
    """Go on with a reproduction in a process forked from this one; gives its number."""
    return forking.forked(lambda: reproduce(load(NAME), folder, seeds=seeds, smoke=True))


def commanded(folder: Path, seeds: range) -> int:
    """The same by the command line."""
    line = ["reproduce", NAME, "--smoke", "--seeds", ",".join(map(str, seeds)), "-o", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*PROGRAM, *line], stdout=quiet, stderr=quiet).pid


def outcome(child: int, until: float) -> bool | None:
    """Whether a process ended by itself; False if it was killed now, as its time had come; None if it goes on.

    Raises:
        SystemExit: if it failed.
    """
    done, status = os.waitpid(child, os.WNOHANG)
    if not done and time.monotonic() >= until:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return False
        done = child
    if not done:
        return None
    if status:
        raise SystemExit(f"A reproduction failed with status {status}.")
    return True


def kept(folder: Path) -> dict[Path, bytes]:
    """All results that are there, each with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("seed-*.json")}


class Checked:
    """A folder with all results that were ever seen in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, bytes] = {}
        self.lost: set[Path] = set()

    def look(self) -> None:
        """Note what is new, and what of the old is gone, is different or cannot be read."""
        now = kept(self.folder)
        self.lost |= {path for path, content in self.seen.items() if now.get(path) != content}
        self.seen |= now
        for cell, config in load(NAME).smoke.items():
            store.read(self.folder, cell, config, {})


def place(folder: Path, seeds: range) -> str:
    """Where a process was when it was killed, by what is there of its own seeds."""
    cells = load(NAME).smoke
    there = sum(store.path(folder, cell, seed).exists() for cell in cells for seed in seeds)
    return PLACES[0] if not there else PLACES[1] if there < len(cells) * len(seeds) else PLACES[2]


def shares(count: int) -> tuple[range, range]:
    """The seeds of the two processes, so many each."""
    return range(0, 2 * count, 2), range(1, 2 * count, 2)


def killed(begin: Begin, count: int, checked: Checked, seconds: float, chance: random.Random) -> Iterator[str]:
    """Both processes, killed and begun again until they end; where they were killed."""
    running: dict[range, tuple[int, float]] = {}
    left = {seeds: chance.randint(1, 4) for seeds in shares(count)}  # kills to come
    waiting = list(left)
    while waiting or running:
        for seeds in waiting:
            after = chance.uniform(0, seconds) if left[seeds] else LONGEST
            running[seeds] = (begin(checked.folder, seeds), time.monotonic() + after)
        waiting = []
        for seeds, (child, until) in list(running.items()):
            ended = outcome(child, until)
            if ended is None:
                continue
            del running[seeds]
            checked.look()
            if not ended:
                left[seeds] -= 1
                waiting.append(seeds)
                yield place(checked.folder, seeds)
        time.sleep(0.001)


def row(name: str, begin: Begin, count: int, kills: int, work: Path, chance: random.Random) -> list[object]:
    """Kill until there were enough; a row of the table."""
    begun = time.monotonic()
    peace = Checked(work / "peace")
    for child in [begin(peace.folder, seeds) for seeds in shares(count)]:
        while outcome(child, begun + LONGEST) is None:
            time.sleep(0.001)
    seconds = time.monotonic() - begun
    expected = whole(peace.folder, count)
    found: Counter[str] = Counter()
    folders = results = lost = different = 0
    while found.total() < kills:
        checked = Checked(work / f"folder{folders}")
        found.update(killed(begin, count, checked, seconds, chance))
        done = whole(checked.folder, count)
        checked.look()
        different += sum(
            done.found[cell][seed] != one for cell, of_cell in expected.found.items() for seed, one in of_cell.items()
        )
        folders += 1
        results += len(checked.seen)
        lost += len(checked.lost)
    machine.say(f"{name}: {found.total()} kills, {lost} of {results} results lost, {different} different")
    return [
        name,
        f"{seconds:.2f}",
        folders,
        found.total(),
        *[found[where] for where in PLACES],
        results,
        lost,
        different,
    ]


def whole(folder: Path, count: int) -> Reproduction:
    """All that both have found.

    Raises:
        SystemExit: if something is still to be done.
    """
    news: list[int] = []
    seeds = range(2 * count)
    done = reproduce(
        load(NAME), folder, seeds=seeds, smoke=True, announce=lambda done, total, _: news.append(total - done)
    )
    if news != [0]:
        raise SystemExit(f"{folder}: {news[0]} results are missing after both processes ended.")
    return done


def main() -> None:
    """Print the table, and write it where that is asked for; exit code 1 if a result was lost or is different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of forked processes")
    parser.add_argument("--commands", type=int, default=60, help="kills of processes of their own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    torch.set_num_threads(1)
    known = machine.facts()
    chance = random.Random(chosen.seed)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        reproduce(
            load(NAME), Path(work) / "warm", seeds=[0], smoke=True
        )  # what is imported here, forks need not import
        if chosen.kills:
            rows.append(row("forked", forked, FEW, chosen.kills, Path(work) / "forked", chance))
        if chosen.commands:
            rows.append(row("`hdnn reproduce`", commanded, MANY, chosen.commands, Path(work) / "commanded", chance))
    columns = ["processes", "seconds in peace", "folders", "kills", *PLACES, "results", "lost", "different"]
    lines = [
        *machine.head("Reproductions killed on a shared folder", known),
        "",
        "\n\n".join((__doc__ or "").split("\n\n")[2:]).strip(),
        "",
        *machine.table(columns, rows),
    ]
    machine.publish(chosen.output, lines, {**known, "columns": columns, "rows": rows})
    raise SystemExit(1 if any(each[-1] or each[-2] for each in rows) else 0)


if __name__ == "__main__":
    main()
