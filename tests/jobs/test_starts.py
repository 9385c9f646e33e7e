"""Runs that begin several times: their starts are seen, kept by checkpoints and Ctrl-C, and told in the report."""

import importlib
import io
import os
import re
import signal
import threading
import time

import pytest
from rich.console import Console

from hdnn.checkpoints import largest_checkpoint, read_checkpoint
from hdnn.display import Display, loss_shown
from hdnn.jobs import Choices, Source, interrupts, resume, train
from hdnn.jobs.interrupts import Interrupts
from hdnn.networks import build_network
from hdnn.runs import Run
from hdnn.training import Recipe

SOURCE = Source("double-moons", size=120)
CHOICES = Choices(layers=2, epochs=3, batch_size=16, restarts=3)

pytestmark = pytest.mark.usefixtures("paged")


class Stop(Exception):
    """Stands for a kill."""


def at(step, action):
    def act(progress):
        if progress.iteration == step:
            action()

    return act


def kill():
    raise Stop


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def bits(folder):
    run = Run.open(folder)
    metrics = {name: value for name, value in run.read_metrics().items() if name != "seconds"}
    history = [[cell for cell in row.items() if cell[0] != "seconds"] for row in run.read_history()]
    files = sorted(path.name for path in folder.rglob("*"))
    return (folder / "model.safetensors").read_bytes(), run.report.read_text(), history, metrics, files


def page(run, network, dataset, history, metrics, starts, *more):
    """In place of a report: what it is told of the starts."""
    run.write_report(repr([[record["loss"] for record in told] for told in starts]))


@pytest.fixture(scope="module")
def peace(tmp_path_factory):
    """The bits of runs that were left in peace, by method."""
    found = {}
    for method in ("joint", "alternating"):
        folder = tmp_path_factory.mktemp(method) / "run"
        with pytest.MonkeyPatch.context() as patch:
            module = importlib.import_module("hdnn.jobs.task")
            patch.setattr(module, "write_summary", page)
            train(SOURCE, choices(method), folder, threads=1)
        found[method] = bits(folder)
    return found


def choices(method):
    return CHOICES if method == "joint" else Choices(layers=2, epochs=2, batch_size=16, restarts=3, method=method)


@pytest.fixture
def paged(monkeypatch):
    monkeypatch.setattr(importlib.import_module("hdnn.jobs.task"), "write_summary", page)


@pytest.mark.parametrize("step", [1, 4, 7])
@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_run_killed_among_its_starts_goes_on_to_the_same_bits(tmp_path, peace, method, step):
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(SOURCE, choices(method), folder, threads=1, checkpoint_every=0.0, start_callbacks=(at(step, kill),))
    with pytest.raises(Stop):  # and once more, a step after it went on
        resume(folder, checkpoint_every=0.0, start_callbacks=(at(step + 1, kill),))
    said = []
    resume(folder, announce=said.append)
    assert re.search(r"Going on after \d epochs? of \d and \d steps? of the 3 starts", said[-1])
    assert bits(folder) == peace[method]


def test_one_killed_after_its_starts_keeps_their_history(tmp_path, peace):
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(SOURCE, CHOICES, folder, threads=1, checkpoint_every=0.0, callbacks=(at(5, kill),))
    seen = []
    resume(folder, start_callbacks=(seen.append,))
    assert not seen
    assert bits(folder) == peace["joint"]


@pytest.mark.parametrize("phase", ["start_callbacks", "callbacks"])
def test_ctrl_c_keeps_what_has_been_learned(tmp_path, peace, phase):
    folder = tmp_path / "run"
    outcome = train(SOURCE, CHOICES, folder, threads=1, **{phase: (at(6, interrupt),)})
    assert outcome.interrupted
    assert outcome.run.checkpoint.is_file()
    outcome.run.load_network()
    state = read_checkpoint(outcome.run, 2**20)
    assert state.is_starting == (phase == "start_callbacks")
    assert (state.starts if state.is_starting else state).epochs == 1
    assert not resume(folder).interrupted
    assert bits(folder) == peace["joint"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_among_the_starts_leaves_the_best_so_far(tmp_path):
    outcome = train(SOURCE, CHOICES, tmp_path / "run", threads=1, start_callbacks=(at(9, interrupt),))
    assert outcome.metrics["epochs"] == 0
    assert outcome.metrics["start_epochs"] == 2
    initial = train(SOURCE, CHOICES, tmp_path / "other", threads=1, start_callbacks=(at(1, interrupt),))
    best = outcome.run.load_network().flow.weight
    assert not best.equal(initial.run.load_network().flow.weight)


def test_the_largest_checkpoint_is_larger_than_any_of_the_starts(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(SOURCE, CHOICES, folder, threads=1, checkpoint_every=0.0, start_callbacks=(at(11, kill),))
    run = Run.open(folder)
    network, recipe = build_network(run.config.network), Recipe(**run.config.recipe)
    assert run.checkpoint.stat().st_size < largest_checkpoint(network, recipe, 60)
    assert read_checkpoint(run, largest_checkpoint(network, recipe, 60)).starts.members == 3


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_the_starts(tmp_path, terminal):
    display = Display()
    display.console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    train(SOURCE, CHOICES, tmp_path / "run", threads=1, start_callbacks=(display.start,))
    words = r"Start \d of 3 is the best, with loss 0\.\d{3,4}: training goes on with it"
    assert bool(re.search(words, display.console.file.getvalue())) == terminal
    assert ("starts" in display.tasks) == terminal


def test_small_losses_keep_three_digits():
    shown = [loss_shown(loss) for loss in (0.69314, 0.0312345, 3.2123e-6, 0.0)]
    assert shown == ["0.6931", "0.0312", "3.21e-06", "0.0000"]


@pytest.mark.long
def test_the_report_shows_the_starts(tmp_path, monkeypatch):
    monkeypatch.undo()
    outcome = train(SOURCE, CHOICES, tmp_path / "run", threads=1)
    page = outcome.run.report.read_text()
    assert "How the starts ended" in page
    assert re.search(r"Training went on with start \d", page)
    assert (tmp_path / "run" / "figures" / "starts.png").is_file()


# Interrupts


def within(*actions, saved):
    with Interrupts(saved.append) as met:
        for action in actions:
            action(met)


def signalled(_):
    interrupt()


def waited(_):
    time.sleep(30)
    raise AssertionError("what should have ended went on")


@pytest.mark.parametrize(
    ("patience", "actions", "kept"),
    [
        (0.05, [signalled, waited], []),  # a long step is broken off
        (60, [signalled, signalled, waited], []),  # a second signal ends at once
        (60, [signalled, lambda met: met("a step")], ["a step"]),
        (60, [signalled], []),  # it came after the last step
    ],
)
def test_a_signal_ends_training_after_the_step_or_in_time(monkeypatch, patience, actions, kept):
    saved = []
    monkeypatch.setattr(interrupts, "_PATIENCE", patience)
    with pytest.raises(KeyboardInterrupt):
        within(*actions, saved=saved)
    assert saved == kept
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored_and_other_threads_are_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(print):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

    def enter():
        with Interrupts(print):
            pass

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
