"""Where output cannot go, or memory does not suffice: one message, exit code 2, no traceback, nothing lost."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import hdnn as library
from command_lines import CODE

HDNN = [sys.executable, "-c", CODE]


@pytest.fixture
def run(hdnn, place, quick):
    assert hdnn("train double-moons --size 40 --layers 1 --epochs 1 --restarts 1 -o run")[0] == 0
    pd.DataFrame({"x1": [0.1, 0.2], "x2": [0.3, 0.4]}).to_csv("p.csv", index=False)
    return place / "run"


def ended(line, redirection):
    """Exit code and stderr of a command whose stdout is redirected by a shell."""
    program = f'"$@" {redirection}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", program, "bash", *HDNN, *line.split()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


LONG = [pytest.param(line, marks=pytest.mark.long) for line in ("info", "predict run p.csv", "evaluate run --json")]


@pytest.mark.parametrize("line", ["--help", *LONG])
def test_a_closed_or_full_stdout_is_said_once(run, line):
    for redirection in (">&-", ">/dev/full"):
        if "full" in redirection and not Path("/dev/full").exists():
            continue
        code, err = ended(line, redirection)
        assert code == 2, (redirection, err)
        assert len(err.splitlines()) == 1, err
        assert re.match(r"Error: (stdout (is closed|cannot be written)|No space left)", err), err


@pytest.mark.long
@pytest.mark.parametrize("line", ["info", "evaluate run --json"])
def test_a_reader_that_takes_nothing_ends_no_command_in_a_traceback(run, line):
    code, err = ended(line, "| (exec <&-; sleep 5)")
    assert code == 2, err
    assert err.startswith("Error: stdout was closed before all was shown."), err
    assert len(err.splitlines()) == 1, err


@pytest.mark.long
def test_a_closed_stderr_changes_nothing(run):
    done = subprocess.run(
        ["bash", "-c", '"$@" 2>&-', "bash", *HDNN, "predict", "run", "p.csv"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("can't start new thread"),
    ],
)
@pytest.mark.parametrize(
    ("line", "inner"),
    [
        ("evaluate run", "hdnn.jobs.prediction.opened"),
        ("predict run p.csv", "hdnn.jobs.prediction.opened"),
        ("export run --torch out.pt2", "hdnn.runs.Run.load_network"),
        ("train digits -o new", "hdnn.data.digits"),
        ("bench", "hdnn.bench._measure"),
    ],
)
def test_memory_that_does_not_suffice_is_said(hdnn, run, monkeypatch, line, inner, error):
    def fail(*given, **more):
        raise error

    monkeypatch.setattr(inner, fail)
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("Error: The memory does not suffice")
    assert not Path("new").exists()


def test_a_bug_is_no_lack_of_memory(hdnn, monkeypatch):
    def fail(*given):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("hdnn.data.digits", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        hdnn("train digits")


def test_names_command_no_terminal(hdnn, place):
    evil = "x\x1b[2Jy"
    frame = pd.DataFrame({evil: [0.5 * i % 7 for i in range(60)], "kind": ["a", "b"] * 30, f"id{evil}": range(60)})
    frame.to_csv(f"{evil}.csv", index=False)
    lines = [
        ["train", f"{evil}.csv", "--target", "kind", "--layers", "1", "--epochs", "1", "-o", f"run{evil}"],
        ["evaluate", f"run{evil}"],
        ["predict", f"run{evil}", f"{evil}.csv", "-o", f"out{evil}.csv"],
        ["predict", f"run{evil}", f"{evil}.csv", "-o", f"out{evil}.csv"],
        ["train", "--resume", f"run{evil}"],
        ["analyze", f"no{evil}"],
        ["export", f"run{evil}", "--torch", f"no{evil}/x.pt2"],
        ["reproduce", evil],
    ]
    for line in lines:
        _, out, err = hdnn(shlex.join(line))
        assert "\x1b" not in out + err, line


def test_only_one_file_of_the_command_line_prints():
    for path in (Path(library.__file__).parent / "cli").glob("*.py"):
        if path.name != "messages.py":
            text = path.read_text(encoding="utf-8").replace("sys.stdout.isatty()", "")
            assert not re.search(r"(?<!\w)print\(|sys\.std(out|err)\.|\.print\(", text), path
