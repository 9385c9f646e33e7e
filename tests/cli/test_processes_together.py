"""`hdnn train --processes`: one training on several processes, and what comes of it when one of them dies."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hdnn.cli import processes

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="no torch.distributed, or no SIGKILL"
)
LINE = "train double-moons --size 400 --layers 2 --restarts 1 --batch-size 10 --epochs 12 --seed 3 --checkpoint-every 0"


def begun(place, line):
    """A command on several processes, in a session of its own."""
    command = [sys.executable, "-m", "hdnn", *shlex.split(line)]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(process, run, which):
    """Kill one of the processes of a training once there is a checkpoint."""
    give_up = time.monotonic() + 120
    while not (run / "checkpoint.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {_rank(int(child)): int(child) for child in children}
    os.kill(ranks[which], signal.SIGKILL)


def _rank(pid):
    environment = dict(word.partition("=")[::2] for word in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return environment.get("RANK")


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are told apart by /proc")
def test_a_process_that_dies_ends_all_with_one_error_and_another_number_goes_on(hdnn, place):
    process = begun(place, f"{LINE} -o run --processes 2")
    killed(process, place / "run", "1")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert [line for line in err.splitlines() if "rror" in line or "raceback" in line] == [
        "Error: Process 1 of 2 was ended by SIGKILL, and the others with it. What was learned until the last "
        "checkpoint stays in run; go on, with as many processes as you like: hdnn train --resume run --processes 2"
    ]
    code, _, err = hdnn("train --resume run --json")
    assert code == 0
    assert "It began with processes 2 (now 1)" in err
    assert hdnn(f"{LINE} -o alone")[0] == 0
    resumed, alone = (load_file(place / name / "model.safetensors") for name in ("run", "alone"))
    for name, value in alone.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chosen", ["--processes 0", "--processes 2 --max-restarts -1"])
def test_processes_are_counted(hdnn, place, chosen):
    code, out, err = hdnn(f"train double-moons {chosen}")
    assert (code, out) == (2, "")
    assert err.startswith("Error: --processes must be at least 1 and --max-restarts 0; got ")
    assert not (place / "runs").exists()


def test_what_begins_again_must_find_its_run(hdnn, place, monkeypatch):
    for name, value in {"RUN_ID": "x", "MAX_RESTARTS": "1"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    monkeypatch.setenv("RANK", "0")
    code, _, err = hdnn("train double-moons")
    assert code == 2
    assert "name the run folder by --output" in err


def test_only_one_process_says_what_all_have_met(monkeypatch):
    assert processes.may_say(ValueError())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "hdnn-1")
    monkeypatch.setenv("RANK", "1")
    assert not processes.may_say(ValueError())
    monkeypatch.setenv("RANK", "0")
    assert processes.may_say(ValueError())
    assert not processes.may_say(ConnectionError()), "who started them knows more"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "of torchrun itself")
    store = torch.distributed.HashStore()
    monkeypatch.setattr(processes, "_store", [store])
    assert [processes.may_say(ConnectionError()) for _ in range(3)] == [True, False, False]


@pytest.mark.slow
def test_the_same_number_of_processes_goes_on_to_the_same_bits(place):
    straight = begun(place, f"{LINE} -o straight --processes 2")
    said = straight.communicate(timeout=300)
    assert straight.returncode == 0, said
    for which in ("0", "1"):
        run = place / f"run{which}"
        process = begun(place, f"{LINE} -o {run.name} --processes 2 --max-restarts 1")
        killed(process, run, which)
        said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "Going on after" in said[1]
        assert (run / "model.safetensors").read_bytes() == (place / "straight/model.safetensors").read_bytes()
        assert json.loads((run / "metrics.json").read_text())["epochs"] == 12


@pytest.mark.slow
def test_torchrun_itself(place):
    words = ["--standalone", "--nproc-per-node", "2", "-m", "hdnn", *shlex.split(LINE), "-o", "run", "--json"]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["epochs"] == 12


@pytest.mark.slow
def test_an_error_that_all_meet_is_said_once(place):
    process = begun(place, f"{LINE} -o run --processes 2 --learning-rate 1e38 --optimizer sgd")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err.count("Error: ") == 1
    assert "Traceback" not in err
