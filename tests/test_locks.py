"""A lock: one holder at a time, freed however its process ends, and nothing left."""

import os
import signal
import subprocess
import sys

import pytest

from hdnn.locks import held

HOLD = """
import sys, time
from pathlib import Path
from hdnn.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_holds_it_and_then_another(tmp_path):
    path = tmp_path / ".lock"
    with held(path), pytest.raises(BlockingIOError), held(path):
        pass
    assert os.listdir(tmp_path) == []
    with held(path):
        assert path.exists()


def test_who_refused_to_wait_takes_nothing_away(tmp_path):
    path = tmp_path / ".lock"
    with held(path):
        for _ in range(2):
            with pytest.raises(BlockingIOError), held(path):
                pass
        assert path.exists()


def test_an_error_lets_go(tmp_path):
    path = tmp_path / ".lock"
    with pytest.raises(KeyError), held(path):
        raise KeyError
    with held(path):
        pass


def test_a_killed_process_lets_go(tmp_path):
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), held(path):
            pass
        process.send_signal(signal.SIGKILL)
    assert path.exists()
    with held(path):
        pass
    assert os.listdir(tmp_path) == []


def test_no_link_is_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"\w"), held(tmp_path / ".lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
