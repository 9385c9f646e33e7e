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


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("--processes 0", "--processes must be at least 1; got 0."),
        ("--processes -1", "--processes must be at least 1; got -1."),
        ("--processes 1.5", "Invalid value for '--processes'"),
        ("--processes 5000", "--processes 5000 are too many for the "),
        ("--processes 2 --max-restarts -1", "--max-restarts must be at least 0; got -1."),
        ("--max-restarts 2", "Add --processes 2, or --processes 1 for one that is begun again."),
        ("--resume run --max-restarts 2", "Add --processes 2"),
    ],
)
def test_processes_are_counted_before_any_begins(hdnn, place, monkeypatch, chosen, said):
    monkeypatch.setattr(processes, "launch", None)
    line = chosen if "resume" in chosen else f"double-moons {chosen}"
    code, out, err = hdnn(f"train {line}")
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert said in err
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("--resume NOTHERE", "NOTHERE is not there. Give a folder that hdnn train made."),
        ("--resume damaged", "config.json is not JSON"),
        ("nothere.csv --target y", "There is no file nothere.csv."),
        ("table.csv --target z", "There is no target column 'z'. There are: x, y."),
        ("double-moons -o damaged", "damaged"),
        ("double-moons --size 100 --folds 60", "--folds 60 of 50 training rows"),
        ("double-moons --threads 0", "--threads must be"),
        ("double-moons --batch-size 0", "--batch-size must be"),
        ("double-moons --checkpoint-every -1", "Seconds from one checkpoint to the next must be 0 or more"),
        ("double-moons --step 1 --horizon 1", "not both"),
        ("double-moons --device cuda:1", "--device 'cuda:1' cannot be that of 2 processes"),
    ],
)
def test_what_one_process_can_see_is_refused_before_any_other_begins(hdnn, place, monkeypatch, chosen, said):
    monkeypatch.setattr(processes, "launch", None)
    (place / "table.csv").write_text("x,y\n1,2\n2,3\n")
    (place / "damaged").mkdir()
    (place / "damaged" / "config.json").write_text("{")
    before = sorted(place.rglob("*"))
    code, out, err = hdnn(f"train {chosen} --processes 2")
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(place.rglob("*")) == before


def test_what_is_right_begins(hdnn, place, monkeypatch):
    begun = []
    monkeypatch.setattr(processes, "launch", lambda *given: begun.append(given) or 7)
    assert hdnn("train double-moons --size 400 -o run --processes 2")[0] == 7
    assert begun == [(2, 0, Path("run"), processes.arguments(None))]
    assert not (place / "run").exists()


def test_a_core_may_have_four(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    processes.check(8, 0)
    with pytest.raises(ValueError, match="too many for the 2 cores of this machine, where at most 8"):
        processes.check(9, 0)


@pytest.fixture
def started(monkeypatch):
    """As if torchrun had started this process, the second of two, which has heard of none of the others' words yet."""
    for name, value in {"RUN_ID": "of torchrun itself", "MAX_RESTARTS": "1", "RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_store", [])
    processes._keep(torch.distributed.HashStore())


def test_what_torchrun_has_started_is_not_started_otherwise(started):
    processes.check(2, 0)
    with pytest.raises(ValueError, match=r"torchrun has started 2 processes; got `processes=3`\. Leave"):
        processes.check(3, 0)
    with pytest.raises(ValueError, match="give `max_restarts` to torchrun"):
        processes.check(None, 1)


def test_an_error_is_said_by_whoever_has_it_first_and_ends_what_begins_again(started, monkeypatch):
    assert processes.may_say(ValueError()), "the first one may be ended before it comes to that"
    monkeypatch.setenv("RANK", "0")
    assert not processes.may_say(KeyboardInterrupt()), "ended for the error that was said"
    processes.give_up(ConnectionError(), 2)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert processes.given_up() is None, "another was lost, and all begin again"
    processes.give_up(ValueError(), 2)
    assert processes.given_up() == 2


@pytest.mark.parametrize(("ended", "code"), [([-15, 2], 2), ([130, 2], 2), ([1, 2], 1), ([130, -15], 130), ([-15], 2)])
def test_the_exit_code_is_that_of_an_error(ended, code):
    assert processes._code(ended) == code


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
@pytest.mark.parametrize(("wrong", "code"), [("--learning-rate 1e38 --optimizer sgd", 1), ("--batch-size 0", 2)])
def test_an_error_that_all_meet_is_said_once_and_not_met_again(place, wrong, code):
    process = begun(place, f"{LINE} -o run --processes 2 --max-restarts 2 {wrong}")
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert err.count("Error: ") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("from_here", [False, True])
def test_files_of_the_working_folder_are_no_modules_of_the_processes(tmp_path, monkeypatch, from_here):
    (tmp_path / "strange.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.delenv("PYTHONSAFEPATH")  # and in the end it is what it was
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "FATAL")
    monkeypatch.setattr(sys, "path", [*([str(tmp_path)] if from_here else []), *(each for each in sys.path if each)])
    found = []

    def begun(_):
        found.append(subprocess.run([sys.executable, "-m", "strange"], stderr=subprocess.DEVNULL).returncode)

    monkeypatch.setattr("torch.distributed.run.run", begun)
    monkeypatch.setattr("logging.disable", lambda _: None)
    assert processes.launch(1, 0, Path("run"), ["--version"]) == 0
    assert found == [0 if from_here else 1]
