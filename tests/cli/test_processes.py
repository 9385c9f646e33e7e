"""The command line as a process: interrupts, divergence, imports, pipes and terminals."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_lines import CODE, QUICK, SMALL
from hdnn.display import Display

# Interrupts and divergence


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.usefixtures("quick")
def test_an_interrupt_leaves_a_run_and_says_so(hdnn, place, monkeypatch, epochs):
    def interrupt(display, progress):
        if progress.record is not None and progress.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "step", interrupt)
    code, out, err = hdnn("train double-moons --size 1000 --layers 2 -o run --json")
    assert code == 130
    assert json.loads(out)["interrupted"] is True
    done = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    assert f"Interrupted after {done}. The weights of that moment are in run; it can be loaded. To go on" in err
    assert err.count("Interrupted") == 1
    assert hdnn("evaluate run")[0] == 0


def test_an_interrupt_before_training_writes_nothing(hdnn, place, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hdnn.data.digits", interrupt)
    code, out, err = hdnn("train digits -o run")
    assert (code, out, err) == (130, "", "Interrupted.\n")
    assert not (place / "run").exists()


@pytest.mark.long
def test_a_real_interrupt(place):
    line = ["train", "double-moons", "--layers", "1", "--size", "100", "--epochs", "1000000", "-o", "run"]
    # Where the tests run in the background the shell has switched interrupts off, and Python leaves it so.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    with subprocess.Popen(
        [sys.executable, "-c", code + CODE, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            give_up = time.monotonic() + 60
            while not (place / "run" / "config.json").exists() and process.poll() is None:
                assert time.monotonic() < give_up
                time.sleep(0.05)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "it can be loaded" in err
    assert "Test accuracy" in out
    assert json.loads((place / "run" / "metrics.json").read_text())["interrupted"] is True


def test_divergence_is_told_with_a_remedy(hdnn, place):
    line = f"train double-moons --size 40 {SMALL} --epochs 9 --optimizer sgd --activation identity"
    code, out, err = hdnn(f"{line} --clip inf --restarts 1 --learning-rate 1e30 -o run")
    assert (code, out) == (1, "")
    assert re.search(r"^Error: The (objective|weights) (became|is) infinite.*smaller learning rate", err, re.M)


# A whole process: what is imported, pipes and terminals


@pytest.mark.parametrize(
    "line", [["--help"], ["train", "--help"], ["predict", "-h"], ["evaluate", "-h"], ["info", "-h"], ["bench", "-h"]]
)
def test_help_waits_for_nothing_heavy(line):
    code = (
        "import sys\nfrom hdnn.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'pyarrow', 'scipy', 'PIL', 'pooch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage: hdnn" in done.stdout


def test_without_a_command_there_is_help(hdnn):
    code, out, _ = hdnn("")
    assert code == 0
    assert "Usage: hdnn" in out


def test_a_pipe_gets_results_alone(place):
    line = "train double-moons --size 40 --layers 1 --epochs 1 -o run --json"
    done = subprocess.run([sys.executable, "-c", QUICK, *line.split()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "test_accuracy" in json.loads(done.stdout)
    assert "\x1b" not in done.stdout + done.stderr
    assert "epoch 1/1" not in done.stderr
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_a_reader_that_leaves_early_is_no_error(hdnn, place):
    hdnn(f"train double-moons --size 40 {SMALL} -o run")
    pd.DataFrame({"x1": np.zeros(9000), "x2": np.zeros(9000)}).to_csv("points.csv", index=False)
    installed = Path(sys.executable).with_name("hdnn")
    line = f"{shlex.quote(str(installed))} predict run points.csv | head -n 2"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


@pytest.mark.long
def test_a_terminal_sees_progress(place):
    leader, follower = pty.openpty()
    line = ["train", "double-moons", "--size", "400", "--layers", "1", "--epochs", "3", "-o", "run"]
    with subprocess.Popen(
        [sys.executable, "-c", QUICK, *line],
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(follower)
        text = read_terminal(leader)
        assert process.stdout.read().startswith("Test accuracy")
    assert process.returncode == 0
    assert "epoch 3/3" in text
    assert re.search(r"loss \d\.\d{4}, train accuracy \d+\.\d\d %", text)
    assert "figures and the report" in text


def read_terminal(leader):
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # Linux ends a terminal so
        pass
    finally:
        os.close(leader)
    return shown.decode()
