"""The laboratory: what it keeps, what it refuses, and that processes change nothing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from hdnn.experiments import laboratory, load, store
from hdnn.experiments.experiment import Experiment, Measure, Outcome, Paper
from hdnn.experiments.laboratory import choose_cells, reproduce


@dataclass(frozen=True)
class Config:
    """Of the experiment of these tests: the seeds that diverge, and how."""

    factor: float = 1.0
    raises: tuple[int, ...] = ()
    infinite: tuple[int, ...] = ()


def run(config, seed, folder):
    assert torch.get_num_threads() == 1
    if seed in config.raises:
        raise FloatingPointError("Too large a step.")
    value = float("inf") if seed in config.infinite else config.factor * seed
    return Outcome({"value": value}, {"line": [1 / 3, seed]})


def experiment(**options):
    cells = {"a/1": Config(), "a/2": Config(2.0, raises=(1,)), "b": Config(3.0, infinite=(2,))}
    made = Experiment("counterexample", Paper("", ""), cells, cells, run, (Measure("value", "value"),), "")
    return replace(made, **options)


def test_results_are_kept_and_only_missing_ones_are_run(tmp_path):
    calls = []

    def counted(config, seed, folder):
        calls.append((config.factor, seed))
        return run(config, seed, folder)

    counting = experiment(run=counted)
    first = reproduce(counting, tmp_path, seeds=[0, 3])
    assert len(calls) == 6
    again = reproduce(counting, tmp_path, seeds=[3, 0])
    assert len(calls) == 6
    assert again == first
    more = reproduce(counting, tmp_path, seeds=[0, 3, 4], cells=["a/*"])
    assert calls[6:] == [(1.0, 4), (2.0, 4)]
    assert {cell: list(records) for cell, records in more.records.items()} == {
        "a/1": [0, 3, 4],
        "a/2": [0, 3, 4],
        "b": [0, 3],
    }
    reproduce(counting, tmp_path, seeds=[0], cells=["b"], overwrite=True)
    assert calls[8:] == [(3.0, 0)]


def test_all_seeds_of_a_cell_may_run_together(tmp_path):
    calls = []

    def together(config, seeds, folder):
        calls.append(tuple(seeds))
        return [run(config, seed, folder) for seed in seeds]

    joint = experiment(run_together=together, cells={"a": Config()})
    found = reproduce(joint, tmp_path, seeds=range(3)).found
    reproduce(joint, tmp_path, seeds=range(5))
    assert calls == [(0, 1, 2), (3, 4)]
    assert found == reproduce(experiment(cells={"a": Config()}), tmp_path / "alone", seeds=range(3)).found


def test_a_seed_that_diverges_does_not_take_the_others_with_it(tmp_path):
    def together(config, seeds, folder):
        return [run(config, seed, folder) for seed in seeds]  # raises for all where one of them does

    done = reproduce(experiment(run_together=together), tmp_path, seeds=range(3))
    assert list(done.found["a/2"]) == [0, 2]
    assert done.records["a/2"][1].failure == "Too large a step."


def test_diverged_seeds_are_kept_as_such(tmp_path):
    done = reproduce(experiment(), tmp_path, seeds=range(3))
    assert done.records["a/2"][1].failure == "Too large a step."
    assert "value" in done.records["b"][2].failure
    assert list(done.found["a/2"]) == [0, 2]
    assert reproduce(experiment(), tmp_path, seeds=range(3)) == done


def test_arrays_are_the_same_before_and_after_storage(tmp_path):
    first = reproduce(experiment(), tmp_path, seeds=[1], cells=["a/1"]).found
    assert first["a/1"][1].arrays["line"] == [0.33333, 1.0]
    assert reproduce(experiment(), tmp_path, seeds=[1], cells=["a/1"]).found == first


def test_two_that_share_a_folder_lose_nothing(tmp_path, monkeypatch):
    """The worst moment: one has read all there is and is about to write, when the other does all of its work."""
    whole = store.write_whole

    def late(place, content):
        monkeypatch.setattr(store, "write_whole", whole)
        reproduce(experiment(), tmp_path, seeds=[1, 3])
        return whole(place, content)

    monkeypatch.setattr(store, "write_whole", late)
    reproduce(experiment(), tmp_path, seeds=[0, 2])
    kept = store.read(tmp_path, "a/1", Config(), {})
    assert [record.outcome.metrics["value"] for record in kept.values()] == [0, 1, 2, 3]


def older(folder, records):
    """Keep results as the version before did: one file a cell."""
    for cell, of_cell in records.items():
        documents = [json.loads(store.path(folder, cell, seed).read_text(encoding="utf-8")) for seed in of_cell]
        store.forget(folder, cell)
        seeds = {seed: entry for document in documents for seed, entry in document["seeds"].items()}
        (folder / "cells" / f"{cell}.json").write_text(json.dumps({**documents[0], "seeds": seeds}), encoding="utf-8")


def test_a_folder_of_an_older_version_goes_on(tmp_path):
    first = reproduce(experiment(), tmp_path, seeds=range(3))
    older(tmp_path, first.records)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 3
    assert reproduce(experiment(), tmp_path, seeds=range(3)) == first
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files
    more = reproduce(experiment(), tmp_path, seeds=range(4))
    assert list(more.records["b"]) == [0, 1, 2, 3]
    fresh = reproduce(experiment(), tmp_path, seeds=[4], overwrite=True)
    assert list(store.read(tmp_path, "b", fresh.experiment.cells["b"], {})) == [4]


class Pool:
    """Worker processes of which one is killed when it begins the second unit."""

    def __init__(self, *_, **__):
        self.done = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, unit):
        future = Future()
        self.done += 1
        if self.done == 2:
            future.set_exception(BrokenProcessPool("A process was terminated abruptly."))
        else:
            with laboratory._one_thread():
                future.set_result(function(unit))
        return future


def test_a_killed_worker_is_told_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(laboratory, "ProcessPoolExecutor", Pool)
        with pytest.raises(ChildProcessError, match=r"One of 2 worker processes was killed.*is kept in"):
            reproduce(experiment(), tmp_path, seeds=[0], jobs=2)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.json")) == ["1", "b"]
    assert len(reproduce(experiment(), tmp_path, seeds=[0]).found) == 3


@pytest.mark.slow
def test_a_worker_killed_by_the_system_ends_the_command_in_words(tmp_path):
    line = [sys.executable, "-c", "from hdnn.cli import main; main()", "reproduce", "counterexample", "--jobs", "2"]
    with subprocess.Popen([*line, "-o", str(tmp_path)], stderr=subprocess.PIPE, text=True) as command:
        workers = []
        while not workers:
            time.sleep(0.05)
            children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
            workers = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
        os.kill(int(workers[0]), signal.SIGKILL)
        said = command.communicate(timeout=120)[1]
    assert command.returncode == 2
    assert "worker processes was killed" in said
    assert "Traceback" not in said


def test_results_of_other_settings_are_refused_until_told(tmp_path):
    reproduce(experiment(), tmp_path, seeds=[0])
    other = experiment(cells={"b": Config(4.0, infinite=(2, 3))})
    with pytest.raises(
        ValueError, match=r"other settings: factor was 3.0, is now 4.0; infinite was .* Give --overwrite"
    ):
        reproduce(other, tmp_path, seeds=[0])
    assert reproduce(other, tmp_path, seeds=[2, 1], overwrite=True).found["b"][1].metrics == {"value": 4.0}


def test_all_that_a_folder_holds_is_shown_but_what_was_made_otherwise(tmp_path):
    reproduce(experiment(), tmp_path, seeds=[0, 3])
    other = experiment(cells={**experiment().cells, "b": Config(4.0)})
    done = reproduce(other, tmp_path, seeds=[5], cells=["a/1"])
    assert {cell: list(records) for cell, records in done.records.items()} == {"a/1": [0, 3, 5], "a/2": [0, 3]}
    assert done.left_out == ["b"]


@dataclass(frozen=True)
class Later(Config):
    """The Config of a later version, with one setting more."""

    power: int = 1


def test_a_setting_that_came_later_is_no_change_at_its_default(tmp_path):
    first = reproduce(experiment(cells={"b": Config()}), tmp_path, seeds=[0]).found
    assert reproduce(experiment(cells={"b": Later()}), tmp_path, seeds=[0]).found == first
    with pytest.raises(ValueError, match="power was not there, is now 2"):
        reproduce(experiment(cells={"b": Later(power=2)}), tmp_path, seeds=[0])
    reproduce(experiment(cells={"b": Later()}), tmp_path, seeds=[0], overwrite=True)
    with pytest.raises(ValueError, match="power was 1, is no longer there"):
        reproduce(experiment(cells={"b": Config()}), tmp_path, seeds=[0])


def test_results_of_other_versions_are_refused(tmp_path, monkeypatch):
    reproduce(experiment(), tmp_path, seeds=[0], cells=["b"])
    monkeypatch.setattr(torch, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"was made with torch .* this is torch 99.0"):
        reproduce(experiment(), tmp_path, seeds=[0], cells=["b"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "config": {}, "seeds": {"0": 1}}'])
def test_damaged_files_are_told(tmp_path, content):
    for place in (store.path(tmp_path / "new", "b", 0), tmp_path / "old" / "cells" / "b.json"):
        place.parent.mkdir(parents=True)
        place.write_text(content)
        with pytest.raises(ValueError, match="does not hold results of this laboratory"):
            reproduce(experiment(), place.parents[len(place.parents) - len(tmp_path.parents) - 2], seeds=[0])


def test_a_file_holds_plain_json(tmp_path):
    reproduce(experiment(), tmp_path, seeds=range(3))
    for path in tmp_path.rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda text: pytest.fail(text))
        assert [f"seed-{seed}.json" for seed in document["seeds"]] == [path.name]
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("bad", [{"seeds": []}, {"seeds": [-1]}, {"jobs": 0}, {"jobs": 5000}, {"cells": ["c*"]}])
def test_what_makes_no_sense_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"got|There is no cell"):
        reproduce(experiment(), tmp_path, **bad)
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_needed_are_asked_for_before_anything_runs(tmp_path):
    needy = experiment(needs="the four MNIST files")
    with pytest.raises(FileNotFoundError, match=r"needs the four MNIST files.*--data-folder"):
        reproduce(needy, tmp_path, seeds=[0])
    reproduce(needy, tmp_path, seeds=[0], smoke=True)
    reproduce(needy, tmp_path / "more", seeds=[0], data_folder=Path("."))


@pytest.mark.parametrize(("count", "seeds"), [(2, 3), (3, 4), (4, 1), (5, 7), (40, 2)])
@pytest.mark.parametrize("joint", [False, True], ids=["alone", "together"])
def test_shards_do_all_of_the_work_and_none_of_it_twice(tmp_path, count, seeds, joint):
    calls = []

    def counted(config, seed, folder):
        calls.append((config.factor, seed))
        return run(config, seed, folder)

    def together(config, seeds, folder):
        return [counted(config, seed, folder) for seed in seeds]

    parts = experiment(run=counted, run_together=together if joint else None, cells={"a": Config(), "b": Config(2.0)})
    totals = []
    for number in range(1, count + 1):
        announce = lambda done, total, cell: totals.append(total) if not cell else None  # noqa: E731
        last = reproduce(parts, tmp_path / "parts", seeds=range(seeds), shard=(number, count), announce=announce)
    assert sorted(calls) == sorted((factor, seed) for factor in (1.0, 2.0) for seed in range(seeds))
    assert sum(totals) == 2 * seeds
    assert max(totals) - min(totals) <= (seeds if joint else 1), "no shard has much more to do than another"
    whole = reproduce(parts, tmp_path / "whole", seeds=range(seeds))
    assert last.found == whole.found
    done = len(calls)
    assert reproduce(parts, tmp_path / "parts", seeds=range(seeds)).found == whole.found
    assert len(calls) == done, "the call without a shard has nothing left to do"


def test_a_killed_shard_goes_on_and_others_do_not_matter_to_it(tmp_path):
    """Killed in its third run; shards of other numbers in between change nothing of what is left."""
    calls = []

    def killed(config, seed, folder):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(seed)
        return run(config, seed, folder)

    cells = {"a": Config()}
    with pytest.raises(KeyboardInterrupt):
        reproduce(experiment(run=killed, cells=cells), tmp_path, seeds=range(10), shard=(2, 2))
    assert calls == [1, 3]
    reproduce(experiment(cells=cells), tmp_path, seeds=range(10), shard=(1, 2))
    calls.clear()

    def counted(config, seed, folder):
        calls.append(seed)
        return run(config, seed, folder)

    done = reproduce(experiment(run=counted, cells=cells), tmp_path, seeds=range(10), shard=(2, 2))
    assert calls == [5, 7, 9]
    assert list(done.records["a"]) == list(range(10))


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (-1, 2), (1, 0)])
def test_what_is_no_shard_is_refused(tmp_path, shard):
    with pytest.raises(ValueError, match="counted from 1"):
        reproduce(experiment(), tmp_path, seeds=[0], shard=shard)
    with pytest.raises(ValueError, match="what other shards have just done"):
        reproduce(experiment(), tmp_path, seeds=[0], shard=(1, 2), overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_threads_comes_back(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        reproduce(experiment(), tmp_path, seeds=[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_patterns_choose_in_the_order_of_the_experiment():
    assert list(choose_cells(experiment(), ["b", "a/?"])) == ["a/1", "a/2", "b"]


@pytest.mark.long
def test_results_do_not_depend_on_the_processes(tmp_path):
    counterexample = load("counterexample")
    alone = reproduce(counterexample, tmp_path / "1", smoke=True)
    shared = reproduce(counterexample, tmp_path / "2", smoke=True, jobs=2)
    assert shared.found == alone.found


@pytest.mark.slow
def test_an_interrupt_ends_the_processes(tmp_path):
    before = multiprocessing.active_children()

    def interrupt(done, total, cell):
        if cell:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(load("counterexample"), tmp_path, seeds=[0, 1], smoke=True, jobs=2, announce=interrupt)
    for child in multiprocessing.active_children():
        child.join(10)
    assert multiprocessing.active_children() == before
    assert len(list(tmp_path.rglob("*.json"))) >= 1
