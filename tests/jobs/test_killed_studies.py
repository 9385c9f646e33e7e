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
LINE = "tune double-moons --restarts 1 --threads 1 --seed 3 --json --study study"
SHORT, LONG = "--size 120 --epochs 20", "--size 2000 --epochs 150"


def begun(folder, number, before=None, long=False):
    """A process at the study; with `before` one that dies as it writes to the journal for that many times."""
    code, asked = (QUICK, []) if before is None else (DIES + QUICK, [str(before)])
    command = [sys.executable, "-c", code, *asked, *f"{LINE} {LONG if long else SHORT} --trials {number}".split()]
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


@pytest.mark.long
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


def at_work(folder, process):
    """Wait until a process has a trial; whether it has one."""
    journal, stamp = folder / "study" / "journal.log", f'"pid":{process.pid},'
    while process.poll() is None:
        if journal.is_file() and stamp in journal.read_text():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_fifty_trials_of_two_processes_of_which_one_is_killed_again_and_again(tmp_path):
    chance = random.Random(0)
    stays = begun(tmp_path, 50, long=True)
    in_lock = at_random = 0
    while stays.poll() is None:
        if chance.random() < 0.5:
            in_lock += killed(begun(tmp_path, 50, before=chance.randrange(1, 150), long=True))
            continue
        other = begun(tmp_path, 50, long=True)
        if at_work(tmp_path, other):
            time.sleep(chance.uniform(0, 2))
            other.kill()
        at_random += killed(other)
    found = ended(stays)
    again = len(require_nothing_lost(tmp_path, 50))
    print(f"{in_lock} killed in the lock, {at_random} at random, {again} trials tried again")
    assert in_lock + at_random
    assert found["trials"] == 50


@pytest.mark.slow
def test_a_study_killed_at_any_moment_is_that_of_one_that_was_not(tmp_path):
    (tmp_path / "peace").mkdir()
    (tmp_path / "war").mkdir()
    ended(begun(tmp_path / "peace", 12))
    for before in (1, 2, 3, 4, 5, 40, 45, 50, 55):  # never twice in one trial
        killed(begun(tmp_path / "war", 12, before=before))
    found = ended(begun(tmp_path / "war", 12))
    assert found["trials"] == 12
    require_nothing_lost(tmp_path / "war", 12)
    peace, war = ([(each.params, each.value) for each in kept(tmp_path / name)] for name in ("peace", "war"))
    assert peace == war
