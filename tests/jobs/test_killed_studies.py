"""Studies whose processes are killed: nothing is lost, whatever they were at."""

import json
import random
import signal
import subprocess
import sys
import time

import optuna
import pytest

from command_lines import QUICK
from hdnn.jobs.journals import journal_storage

# Dies, with the lock of the journal, in the middle of a line: of the number-th thing that it writes there.
DIES = """
import os, sys
from optuna.storages.journal import JournalFileBackend
append, left = JournalFileBackend.append_logs, [int(sys.argv.pop(1))]
def dies(self, logs):
    left[0] -= 1
    if left[0]:
        return append(self, logs)
    self._lock.acquire()
    with open(self._file_path, "ab") as stream:
        stream.write(b'{"op_code": 7, "tri')
    os.kill(os.getpid(), 9)
JournalFileBackend.append_logs = dies
"""
LINE = "tune double-moons --size 120 --epochs 20 --restarts 1 --threads 1 --seed 3 --json --study study --trials"


def begun(folder, number, before=None):
    """A process at the study; with `before` one that dies as it writes to the journal for that many times."""
    code, asked = (QUICK, []) if before is None else (DIES + QUICK, [str(before)])
    command = [sys.executable, "-c", code, *asked, *LINE.split(), str(number)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """The result of a process that came to its end by itself."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return json.loads(out)


def killed(process):
    """Whether a process was killed; else it had come to its end."""
    _, err = process.communicate(timeout=500)
    assert process.returncode in (-signal.SIGKILL, 0), err
    return process.returncode != 0


def kept(folder):
    """The trials that count."""
    study = optuna.load_study(study_name="hdnn", storage=journal_storage(folder / "study" / "journal.log"))
    return [each for each in study.trials if not each.user_attrs.get("dropped")]


def require_nothing_lost(folder, number):
    trials = kept(folder)
    assert len(trials) == number
    assert all(each.state.is_finished() for each in trials)
    assert all(each.state.name != "FAIL" for each in trials)
    assert all(json.loads(line) for line in (folder / "study" / "journal.log").read_bytes().splitlines())
    tried = [each.params for each in trials]
    study = optuna.load_study(study_name="hdnn", storage=journal_storage(folder / "study" / "journal.log"))
    dropped = [each for each in study.trials if each.user_attrs.get("dropped") and each.user_attrs.get("worker")]
    assert all(each.params in tried for each in dropped)  # what a process was killed at was tried again
    return dropped


def test_a_process_killed_in_the_lock_of_the_journal_loses_nothing(tmp_path):
    dying = begun(tmp_path, 5, before=40)
    assert killed(dying)
    assert (tmp_path / "study" / "journal.log").read_bytes().endswith(b'"tri')
    before = len(kept(tmp_path))
    assert before > 0
    found = ended(begun(tmp_path, 5))
    assert found["trials"] == 5
    assert found["run"].startswith("study/trial-")
    require_nothing_lost(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_fifty_trials_of_two_processes_of_which_one_is_killed_again_and_again(tmp_path, seed):
    chance = random.Random(seed)
    stays = begun(tmp_path, 50)
    kills, dropped = 0, 0
    while stays.poll() is None:
        other = begun(tmp_path, 50, before=chance.randrange(1, 120) if kills % 2 else None)
        deadline = time.monotonic() + chance.uniform(3, 12)
        while other.poll() is None and stays.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if stays.poll() is not None:
            other.communicate()
            break
        other.kill()
        other.communicate()
        kills += 1
    found = ended(stays)
    dropped = len(require_nothing_lost(tmp_path, 50))
    assert kills
    print(f"{kills} kills, {dropped} trials tried again")
    assert found["trials"] == 50


@pytest.mark.slow
def test_a_study_killed_at_any_moment_is_that_of_one_that_was_not(tmp_path):
    (tmp_path / "peace").mkdir()
    (tmp_path / "war").mkdir()
    ended(begun(tmp_path / "peace", 12))
    for before in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
        killed(begun(tmp_path / "war", 12, before=before))
    found = ended(begun(tmp_path / "war", 12))
    assert found["trials"] == 12
    require_nothing_lost(tmp_path / "war", 12)
    peace, war = ([(each.params, each.value) for each in kept(tmp_path / name)] for name in ("peace", "war"))
    assert peace == war
