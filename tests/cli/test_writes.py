"""What commands write over: plain files and folders of hdnn's own; modes stay, and nothing outside is touched."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_lines import CODE

TRAIN = "train double-moons --size 40 --layers 1 --epochs 1 --restarts 1"
POINTS = {"x1": [0.1, 0.2], "x2": [0.3, 0.4]}


@pytest.fixture
def run(hdnn, place, quick):
    assert hdnn(f"{TRAIN} -o run")[0] == 0
    pd.DataFrame(POINTS).to_csv("p.csv", index=False)
    return place / "run"


def held():
    """All that is below the working folder: kinds, modes, and the content of files."""
    return {
        str(path): (os.lstat(path).st_mode, os.lstat(path).st_ino, path.read_bytes() if path.is_file() else b"")
        for path in Path().rglob("*")
        if not path.is_symlink() or path.exists()
    }


def test_predictions_go_into_plain_files_alone(hdnn, run):
    Path("mine").write_text("mine")
    Path("link").symlink_to("mine")
    Path("dangling").symlink_to("nowhere")
    os.mkfifo("fifo")
    names = ["link", "dangling", "fifo"]
    if os.geteuid() == 0:
        os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # never the real one
        names.append("null")
    before = held()
    for name in names:
        for command in (f"predict run p.csv -o {name}", f"export run --torch {name}"):
            code, out, err = hdnn(f"{command} --overwrite")
            assert (code, out) == (2, ""), command
            assert err.startswith(f"Error: {name} is a"), err
            assert "nothing was changed" in err
    assert held() == before


def test_private_predictions_stay_private(hdnn, run):
    Path("out.csv").touch(0o600)
    Path("out.csv").chmod(0o600)
    assert hdnn("predict run p.csv -o out.csv --overwrite")[0] == 0
    assert stat.S_IMODE(Path("out.csv").stat().st_mode) == 0o600
    assert len(pd.read_csv("out.csv")) == 2


FIGURES = ("confusion.png", "features.png", "predicted_mine.png", "training.png", "paper.png")


def test_a_link_for_figures_is_not_followed(hdnn, run):
    Path("outside").mkdir()
    for name in FIGURES:
        (Path("outside") / name).write_text("mine")
    shutil.rmtree(run / "figures", ignore_errors=True)
    (run / "figures").symlink_to("../outside")
    before = held()
    code, _, err = hdnn(f"{TRAIN} -o run --overwrite")
    assert code == 2
    assert "run/figures is a link to ../outside" in err
    assert held() == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "history.csv", "metrics.json", "report.html", "checkpoint.safetensors", ".lock"]
)
@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_only_files_of_the_run_are_replaced(hdnn, run, name, kind):
    (run / name).unlink(missing_ok=True)
    Path("mine").write_text("mine")
    {"fifo": os.mkfifo, "link": lambda place: place.symlink_to("../mine"), "folder": Path.mkdir}[kind](run / name)
    before = held()
    code, _, err = hdnn(f"{TRAIN} -o run --overwrite")
    assert code == 2
    assert f"run/{name} is a" in err
    assert held() == before


@pytest.mark.slow
def test_an_analysis_is_replaced_by_the_same_rules(hdnn, run):
    line = "analyze --model h2 --layers 4 --samples 3 -o looked --overwrite"
    assert hdnn(line)[0] == 0
    shutil.move("looked/figures", "outside")
    Path("looked/figures").symlink_to("../outside")
    before = held()
    code, _, err = hdnn(line)
    assert (code, held()) == (2, before)
    assert "looked/figures is a link to ../outside" in err


@pytest.mark.long
@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_prediction_and_nothing_is_left(run, name):
    # A pipe that stays open holds the prediction where it is.
    pd.DataFrame({"x1": np.zeros(20000), "x2": np.zeros(20000)}).to_csv("big.csv", index=False)
    slow = (
        "import signal, time, importlib; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "jobs = importlib.import_module('hdnn.jobs'); real = jobs.predictions\n"
        "def wait(*given, **more):\n    for part in real(*given, **more):\n        yield part\n        time.sleep(60)\n"
        "jobs.predictions = wait\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow + CODE, "predict", "run", "big.csv", "-o", "out.csv"], stderr=subprocess.PIPE
    ) as process:
        try:
            give_up = time.monotonic() + 60
            while not list(Path().glob(".out.csv.*")) and process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
            time.sleep(0.3)
            process.send_signal(name)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err.decode()) == (130, "Interrupted.\n")
    assert not list(Path().glob(".out*")) + list(Path().glob("out*"))
