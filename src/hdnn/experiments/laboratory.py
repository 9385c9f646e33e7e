"""Running an experiment: what is left to do, on one process or several, each result written as it comes."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from hdnn.experiments import store
from hdnn.experiments.experiment import Experiment, Numbers, Outcome, Run, RunTogether
from hdnn.experiments.store import Record, provenance
from hdnn.files import make_folder
from hdnn.names import unknown
from hdnn.runs import versions

_A_CORE = 4  # processes that a core may have; each takes the memory of PyTorch
_SAME = ("hdnn", "torch")  # versions that all results of a cell must share

Announce = Callable[[int, int, str], None]
"""Called with the runs done, the runs in all, and the cell of the last one; first with what was done before, and ""."""


@dataclass(frozen=True)
class Reproduction:
    """An experiment with what was found.

    Attributes:
        experiment: what was run.
        folder: where its results are.
        records: by cell and seed, in the order of the cells and of the seeds.
        smoke: whether these are the small cells of tests, which say nothing about the paper.
        left_out: cells of which the folder holds results of other settings or versions.
    """

    experiment: Experiment
    folder: Path
    records: Mapping[str, Mapping[int, Record]]
    smoke: bool = False
    left_out: Sequence[str] = ()

    @property
    def found(self) -> dict[str, dict[int, Outcome]]:
        """The outcomes by cell and seed, without those that diverged."""
        return {
            cell: {seed: record.outcome for seed, record in records.items() if record.outcome is not None}
            for cell, records in self.records.items()
        }


def reproduce(
    experiment: Experiment,
    folder: Path,
    *,
    seeds: Sequence[int] | None = None,
    cells: Sequence[str] = (),
    jobs: int = 1,
    smoke: bool = False,
    data_folder: Path | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    announce: Announce = lambda done, total, cell: None,
) -> Reproduction:
    """Run what is not yet done of an experiment.

    Every result is written when it is there; a call that was interrupted goes on where it stopped, and several may
    share a folder. The results do not depend on `jobs`, nor on shards. What comes back is all that the folder holds
    then.

    Args:
        experiment: what to run; see `hdnn.experiments.load`.
        folder: where results are kept; made if it is not there.
        seeds: which; None takes 0 to `experiment.seeds` − 1.
        cells: patterns of names, as "swiss-roll/*"; none takes all.
        jobs: processes, each on one thread.
        smoke: run the small cells of tests instead.
        data_folder: where data files are, for experiments that need some.
        overwrite: forget what the folder holds of the chosen cells.
        shard: (i, n), do the i-th of n parts of the work, counted from 1: together they do all of it, and none twice.
        announce: told what has been done.

    Raises:
        ValueError: if no cell fits, a number makes no sense, or the folder holds results of other settings.
        FileNotFoundError: if the experiment needs data files and no folder is given.
        OSError: if the folder cannot be made.
        ChildProcessError: if one of the processes was killed; what is finished is kept.
    """
    most = _A_CORE * (os.cpu_count() or 1)
    if not 1 <= jobs <= most:
        raise ValueError(
            f"`jobs` counts processes, so it must lie between 1 and {most}, {_A_CORE} for each core of this machine; "
            f"got {jobs}."
        )
    if experiment.needs and not smoke and data_folder is None:
        raise FileNotFoundError(
            f"{experiment.name} needs {experiment.needs}. Say where they are: --data-folder FOLDER."
        )
    wanted = sorted(set(range(experiment.seeds) if seeds is None else seeds))
    if not wanted or wanted[0] < 0:
        raise ValueError(f"Seeds are whole numbers from 0 on, one at least; got {wanted}.")
    _check_shard(shard, overwrite)
    configs = choose_cells(experiment, cells, smoke=smoke)
    shares = _shares(configs, wanted, shard or (1, 1), whole_cells=experiment.run_together is not None)
    same = {name: version for name, version in versions().items() if name in _SAME}
    make_folder(folder)  # before anything is trained that could not be kept
    if overwrite:
        for cell in configs:
            store.forget(folder, cell)
    known = {cell: store.read(folder, cell, config, same) for cell, config in configs.items()}
    units = [
        _Unit(cell, config, chosen, data_folder, experiment.run, experiment.run_together)
        for cell, config in configs.items()
        for chosen in _portions([seed for seed in shares[cell] if seed not in known[cell]], experiment)
    ]
    total = sum(map(len, shares.values()))
    done = total - sum(len(unit.seeds) for unit in units)
    announce(done, total, "")
    made = provenance()
    for unit, results in _performed(units, jobs, folder):
        for seed, result in zip(unit.seeds, results, strict=True):
            known[unit.cell][seed] = Record(**result, made=made)
            store.write(folder, unit.cell, unit.config, seed, known[unit.cell][seed])
        done += len(unit.seeds)
        announce(done, total, unit.cell)
    return _gathered(experiment, folder, known, smoke=smoke, same=same)


def _check_shard(shard: tuple[int, int] | None, overwrite: bool) -> None:
    if shard is None:
        return
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(
            f"`shard` is one part of several, counted from 1, (1, 4) to (4, 4) for all of four; got {(number, count)}."
        )
    if overwrite:
        raise ValueError(
            "`overwrite` forgets what the folder holds, and with `shard` that is what other shards have just done. "
            "Give a new folder in its place."
        )


def _shares(
    cells: Iterable[str], seeds: Sequence[int], shard: tuple[int, int], *, whole_cells: bool
) -> dict[str, list[int]]:
    """The seeds that a shard does of every cell: every n-th of all, or every n-th cell where seeds train together."""
    number, count = shard
    return {
        cell: [
            seed
            for j, seed in enumerate(seeds)
            if ((i if whole_cells else i * len(seeds) + j) - (number - 1)) % count == 0
        ]
        for i, cell in enumerate(cells)
    }


def _gathered(
    experiment: Experiment,
    folder: Path,
    known: Mapping[str, Mapping[int, Record]],
    *,
    smoke: bool,
    same: Mapping[str, str],
) -> Reproduction:
    """All that the folder holds: cells and seeds of earlier calls, and of others that share it, are part of it."""
    records: dict[str, Mapping[int, Record]] = {}
    left_out = []
    for cell, config in (experiment.smoke if smoke else experiment.cells).items():
        try:
            found = {**store.read(folder, cell, config, same), **known.get(cell, {})}
        except ValueError:
            if cell in known:
                raise
            left_out.append(cell)
            continue
        if found:
            records[cell] = dict(sorted(found.items()))
    return Reproduction(experiment, folder, records, smoke, left_out)


def choose_cells(experiment: Experiment, patterns: Sequence[str], *, smoke: bool = False) -> dict[str, Any]:
    """The cells whose names fit one of the patterns, with their Configs, in the order of the experiment.

    Raises:
        ValueError: if a pattern fits none.
    """
    configs = experiment.smoke if smoke else experiment.cells
    for pattern in patterns:
        if not any(fnmatchcase(cell, pattern) for cell in configs):
            raise ValueError(unknown(f"cell of {experiment.name}", pattern, configs))
    return {
        cell: config
        for cell, config in configs.items()
        if not patterns or any(fnmatchcase(cell, pattern) for pattern in patterns)
    }


@dataclass(frozen=True)
class _Unit:
    """What one process does in one go."""

    cell: str
    config: Any
    seeds: tuple[int, ...]
    folder: Path | None
    run: Run
    run_together: RunTogether | None


def _portions(seeds: Sequence[int], experiment: Experiment) -> list[tuple[int, ...]]:
    if experiment.run_together is None:
        return [(seed,) for seed in seeds]
    return [tuple(seeds)] if seeds else []


def _performed(units: Sequence[_Unit], jobs: int, folder: Path) -> Iterator[tuple[_Unit, list[dict[str, Any]]]]:
    """The results of all units, as they come."""
    if jobs == 1 or len(units) < 2:
        with _one_thread():
            for unit in units:
                yield unit, _perform(unit)
        return
    # Not forked: a child must not inherit the locks of PyTorch's threads.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    killed = 0
    with ProcessPoolExecutor(min(jobs, len(units)), mp_context=context, initializer=_begin) as pool:
        futures = {pool.submit(_perform, unit): unit for unit in units}
        try:
            for future in as_completed(futures):
                if isinstance(future.exception(), BrokenProcessPool):
                    killed += 1  # so do all that are left; what was finished before still comes
                else:
                    yield futures[future], future.result()
        except BaseException:
            # What is running would be waited for: hours, maybe, after an interrupt.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
    if killed:
        raise ChildProcessError(
            f"One of {min(jobs, len(units))} worker processes was killed, most often by the system where memory ran "
            f"out. What is finished is kept in {folder}; the same again goes on from there, with fewer processes if "
            "memory is short."
        )


def _begin() -> None:
    """Of a child: the interrupt of a terminal reaches it as well, but its parent is the one to act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _perform(unit: _Unit) -> list[dict[str, Any]]:
    """What every seed found and how long it took, as parts of a `Record`."""
    wall, processor = time.perf_counter(), time.process_time()
    try:
        if unit.run_together is not None:
            outcomes = unit.run_together(unit.config, unit.seeds, unit.folder)
        else:
            outcomes = [unit.run(unit.config, seed, unit.folder) for seed in unit.seeds]
        found = [_checked(outcome) for outcome in outcomes]
    except FloatingPointError as error:
        if len(unit.seeds) > 1:  # one that diverged says nothing about the others
            return [part for seed in unit.seeds for part in _perform(replace(unit, seeds=(seed,)))]
        found = [{"outcome": None, "failure": str(error)}]
    share = 1 / len(unit.seeds)
    times = {
        "wall_seconds": share * (time.perf_counter() - wall),
        "processor_seconds": share * (time.process_time() - processor),
    }
    return [{**one, **times} for one in found]


def _checked(outcome: Outcome) -> dict[str, Any]:
    """The outcome as it is stored; one with a number that is not finite has diverged."""
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        return {"outcome": None, "failure": f"Not finite: {', '.join(broken)}."}
    arrays = {name: _short(values) for name, values in outcome.arrays.items()}
    return {"outcome": Outcome(metrics, arrays), "failure": ""}


def _short(values: Numbers) -> Numbers:
    return float(f"{values:.5g}") if isinstance(values, int | float) else [_short(value) for value in values]
