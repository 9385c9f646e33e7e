"""Runs that survive: whatever stops one, it goes on to the same bits, and what must not happen harms nothing."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from command_lines import QUICK
from hdnn import checkpoints, files
from hdnn.files import write_whole
from hdnn.jobs import Choices, Source, resume, train
from hdnn.locks import held
from hdnn.runs import Run
from hdnn.training import TrainingState

SOURCE = Source("double-moons", size=120)
CHOICES = Choices(layers=2, epochs=4, batch_size=16)
LINE = "train double-moons --size 120 --layers 2 --epochs 4 --batch-size 16 --threads 1"
ONE_START = Choices(layers=3, epochs=1, restarts=1)
GOLDEN = Path(__file__).parents[1] / "golden"

pytestmark = pytest.mark.usefixtures("quick")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")


class Stop(Exception):
    """Stands for a kill."""


def stop_at(step):
    def stop(progress):
        if progress.iteration == step:
            raise Stop

    return stop


def stopped(folder, step, choices=CHOICES, every=0.0):
    with pytest.raises(Stop):
        train(SOURCE, choices, folder, threads=1, checkpoint_every=every, callbacks=(stop_at(step),))
    return folder


def bits(folder):
    run = Run.open(folder)
    metrics = {name: value for name, value in run.read_metrics().items() if name != "seconds"}
    history = [[cell for cell in row.items() if cell[0] != "seconds"] for row in run.read_history()]
    files = sorted(path.name for path in folder.rglob("*"))
    return (folder / "model.safetensors").read_bytes(), history, metrics, files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def peace(tmp_path_factory):
    """The bits of a run that was left in peace."""
    folder = tmp_path_factory.mktemp("peace") / "run"
    train(SOURCE, CHOICES, folder, threads=1)
    (folder / "report.html").write_text("a page")
    return folder


def alike(folder, peace):
    found, expected = bits(folder), bits(peace)
    assert found[:3] == expected[:3]
    assert "checkpoint.safetensors" not in found[3]
    assert ".lock" not in found[3]


@pytest.mark.parametrize("step", [1, 3, 4, 9, 16])
@pytest.mark.parametrize("every", [0.0, 30.0])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, peace, step, every):
    folder = stopped(tmp_path / "run", step, every=every)
    assert (folder / "checkpoint.safetensors").exists() == (every == 0)
    said = []
    outcome = resume(folder, announce=said.append)
    alike(folder, peace)
    assert outcome.metrics["epochs"] == 4
    assert ("Going on after" in said[-1]) == (every == 0)
    assert resume(folder, announce=said.append).metrics == outcome.metrics
    assert "is finished" in said[-1]


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path, peace, hdnn):
    folder = tmp_path / "run"
    line = [*LINE.replace("--epochs 4", "--epochs 4000").split(), "-o", str(folder), "--checkpoint-every", "0"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-c", QUICK, *line], stdout=quiet, stderr=quiet) as process:
        give_up = time.monotonic() + 60
        while not (folder / "checkpoint.safetensors").exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        code, _, err = hdnn("train --resume", folder)
        assert code == 2
        assert "Another process is training in" in err
        code, _, err = hdnn(f"{LINE} --overwrite -o", folder)
        assert (code, process.poll()) == (2, None)
        assert "Another process is training in" in err
        process.send_signal(signal.SIGKILL)
    # A name that only a killed process leaves.
    (folder / files._beside("checkpoint.safetensors")).write_text("half")
    config = json.loads((folder / "config.json").read_text())
    assert config["start"]["threads"] == 1
    said = []
    with pytest.raises(Stop):
        resume(folder, announce=said.append, callbacks=(lambda progress: stop_at(progress.iteration)(progress),))
    assert "Going on after" in said[-1]
    assert {path.name for path in folder.iterdir()} == {"config.json", "checkpoint.safetensors"}


def test_an_interrupted_run_goes_on_too(tmp_path, peace):
    def interrupt(progress):
        if progress.iteration == 7:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    outcome = train(SOURCE, CHOICES, folder, threads=1, checkpoint_every=0.0, callbacks=(interrupt,))
    assert outcome.interrupted
    assert not resume(folder).interrupted
    alike(folder, peace)


def test_the_report_of_an_interrupt_does_not_finish_a_run(tmp_path, monkeypatch):
    def interrupt(progress):
        if progress.iteration == 7:
            raise KeyboardInterrupt

    def killed(*anything):
        raise Stop

    folder = tmp_path / "run"
    train(SOURCE, CHOICES, folder, threads=1, checkpoint_every=0.0, callbacks=(interrupt,))
    Run.open(folder).write_report("of the interrupt")
    with monkeypatch.context() as during:
        during.setattr(sys.modules["hdnn.jobs.task"], "write_summary", killed)
        with pytest.raises(Stop):
            resume(folder)
    assert not Run.open(folder).is_finished
    assert not resume(folder).interrupted


def test_a_run_cut_off_after_its_last_step_is_made_whole(tmp_path, peace):
    folder = tmp_path / "run"
    shutil.copytree(peace, folder)
    (folder / "report.html").unlink()
    resume(folder)
    alike(folder, peace)
    assert (folder / "report.html").exists()


def test_other_data_are_refused(tmp_path, monkeypatch):
    table = tmp_path / "t.csv"
    rows = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(60)]
    table.write_text("\n".join(["x,y,kind", *rows]))
    source = Source(str(table), target="kind")
    with pytest.raises(Stop):
        train(source, CHOICES, tmp_path / "run", checkpoint_every=0.0, callbacks=(stop_at(2),))
    before = contents(tmp_path / "run")
    table.write_text("\n".join(["x,y,kind", *rows[:-1], "9,9,a"]))
    with pytest.raises(ValueError, match="have changed since it began"):
        resume(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_run_that_is_being_trained_is_left_alone(tmp_path):
    folder = stopped(tmp_path / "run", 2)
    with held(folder / ".lock"):
        before = contents(folder)
        for call in (
            lambda: resume(folder),
            lambda: train(SOURCE, CHOICES, folder, overwrite=True),
        ):
            with pytest.raises(OSError, match=r"Another process is training in .*nothing was changed"):
                call()
        assert contents(folder) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits on the size of files")
def test_a_full_disk_is_one_error_and_harms_nothing(tmp_path, peace, hdnn, monkeypatch):
    import resource

    folder = stopped(tmp_path / "run", 5)
    before = contents(folder)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        code, _, err = hdnn("train --checkpoint-every 0 --resume", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert code == 2
    assert err.count("Error:") == 1
    assert "the one before it stays" in err
    assert contents(folder) == before
    resume(folder)
    alike(folder, peace)


def test_what_cannot_be_written_is_one_error(tmp_path, monkeypatch, hdnn):
    folder = stopped(tmp_path / "run", 2)
    before = contents(folder)

    def read_only(*_):
        raise OSError(30, "Read-only file system", str(folder / ".lock"))

    monkeypatch.setattr("hdnn.locks.os.open", read_only)
    code, _, err = hdnn("train --resume", folder)
    assert (code, err.count("Error:")) == (2, 1)
    assert "Read-only file system" in err
    assert contents(folder) == before


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path):
    folder = tmp_path / "run"

    def spoil(progress):
        if progress.iteration == 5:
            with torch.no_grad():
                next(p for group in [progress.state.__self__.network.parameters()] for p in group).fill_(float("nan"))

    with pytest.raises(FloatingPointError, match=r"last good checkpoint, after 1 epoch and 1 step, stays in .*run"):
        train(SOURCE, CHOICES, folder, threads=1, checkpoint_every=0.0, callbacks=(spoil,))
    resume(folder)
    assert Run.open(folder).is_finished


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train digits --resume run", "takes no DATA"),
        ("train --resume run --epochs 9 --seed 1", "takes no --epochs, --seed"),
        ("train --resume run --overwrite", "takes no --overwrite"),
        ("train --resume nowhere", "nowhere is not there"),
        ("train --resume .", "holds no run"),
        ("train digits --checkpoint-every -1 -o new", "0 or more"),
    ],
)
def test_what_contradicts_is_refused(place, hdnn, line, word):
    shutil.copytree(GOLDEN / "format-1-unfinished", "run")
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert word in err
    assert not (place / "new").exists()


# Every window between two operations on files


OPERATIONS = [(Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (os, "fsync"), (os, "open")]


def killed_at(number, work, *, after):
    """Whether a process that works was killed at an operation on files of that number, before or after it."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        return code == 9
    done = []

    def counted(honest):
        def operate(*arguments, **options):
            done.append(arguments)
            if len(done) == number and not after:
                os._exit(9)
            result = honest(*arguments, **options)
            if len(done) == number:
                os._exit(9)
            return result

        return operate

    for place, name in OPERATIONS:
        setattr(place, name, counted(getattr(place, name)))
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("interrupted_before", [False, True])
def test_a_kill_in_any_window_between_two_files_is_made_good(tmp_path, peace, interrupted_before, after):
    def interrupt(progress):
        if progress.iteration == 15:
            raise KeyboardInterrupt

    begun = tmp_path / "begun"
    watch = (interrupt,) if interrupted_before else (stop_at(15),)
    with contextlib.suppress(Stop):
        train(SOURCE, CHOICES, begun, threads=1, checkpoint_every=0.0, callbacks=watch)
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / f"run{number}"
        shutil.copytree(begun, folder)
        killed = killed_at(number, functools.partial(resume, folder), after=after)
        resume(folder)
        alike(folder, peace)
    assert number > 20


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("after", [True, False])
def test_a_run_that_is_begun_over_another_is_one_of_them_at_any_moment(tmp_path, peace, after):
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / f"run{number}"
        shutil.copytree(peace, folder)
        begin = functools.partial(train, SOURCE, ONE_START, folder, threads=1, overwrite=True)
        killed = killed_at(number, begin, after=after)
        resume(folder)
        assert Run.open(folder).is_finished
        if Run.open(folder).config.network.layers == CHOICES["layers"]:
            alike(folder, peace)
    assert number > 20


def test_a_finished_run_ends_well_once_more(tmp_path, peace, hdnn):
    folder = tmp_path / "run"
    shutil.copytree(peace, folder)
    (folder / "checkpoint.safetensors").write_bytes(b"left")
    for _ in range(2):
        code, out, err = hdnn("train --resume", folder)
        assert code == 0
        assert "is finished, so nothing is left to do" in err
        assert "Test accuracy" in out
        alike(folder, peace)


# What makes a difference to the bits, and what takes too much memory


def test_what_differs_from_the_beginning_is_said(tmp_path, monkeypatch):
    folder = stopped(tmp_path / "run", 5)
    recorded = json.loads((folder / "config.json").read_text())["start"]["circumstances"]
    assert {"hdnn's instruction set", "threads"} <= recorded.keys()
    monkeypatch.setattr("hdnn.kernels.native.instruction_set", lambda: "another")
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = resume(folder, announce=said.append)
    assert re.search(r"began with hdnn's instruction set \w+ \(now another\): bits may differ", said[-1])
    assert "now another" in outcome.metrics["resumed_with_other"]


def test_a_checkpoint_of_another_instruction_set_is_told_by_itself(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hdnn.kernels.native.instruction_set", lambda: "another")
        folder = stopped(tmp_path / "run", 5)
    document = json.loads((folder / "config.json").read_text())
    del document["start"]["circumstances"]
    write_whole(folder / "config.json", json.dumps(document))
    run = Run.open(folder)
    checkpoints.write_checkpoint(run, read_state(folder, run), run.digest)
    said = []
    resume(folder, announce=said.append)
    assert "began with hdnn's instruction set another (now" in said[-1]


def read_state(folder, run):
    from safetensors.torch import load_file

    return TrainingState.from_tensors(load_file(folder / "checkpoint.safetensors"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_too_little_memory_is_one_error_and_leaves_the_folder_as_it_was(tmp_path, peace, monkeypatch, hdnn, overwrite):
    def greedy(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    folder = tmp_path / "run"
    if overwrite:
        shutil.copytree(peace, folder)
    before = contents(folder) if overwrite else None
    monkeypatch.setattr("hdnn.kernels.training.Session.take", greedy)
    code, _, err = hdnn(f"{LINE} {'--overwrite' if overwrite else ''} --output", folder)
    assert (code, err.count("Error:")) == (2, 1)
    assert "memory" in err
    assert (contents(folder) if folder.exists() else None) == before
