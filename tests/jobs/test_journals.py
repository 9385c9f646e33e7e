"""The journal of a study outlives processes that are killed while they hold its lock."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna import create_study
from optuna.distributions import FloatDistribution

from hdnn.jobs.journals import JournalLock, journal_storage, mend

SPACE = {"x": FloatDistribution(0, 1)}
DIES = """
import os, sys
from pathlib import Path
from hdnn.jobs.journals import JournalLock
journal = Path(sys.argv[1])
JournalLock(journal).acquire()
with journal.open("ab") as stream:
    stream.write(b'{"op_code":5,"wor')
os.kill(os.getpid(), 9)
"""


def study(path):
    return create_study(storage=journal_storage(path), study_name="s", load_if_exists=True)


def told(path, values):
    found = study(path)
    for value in values:
        found.tell(found.ask(SPACE), value)
    return found


@pytest.mark.long
def test_a_process_that_dies_in_the_lock_is_not_waited_for_and_its_half_line_goes(tmp_path, monkeypatch):
    journal = tmp_path / "journal.log"
    told(journal, [1.0, 2.0])
    whole = journal.read_bytes()
    died = subprocess.run([sys.executable, "-c", DIES, str(journal)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert journal.read_bytes() == whole + b'{"op_code":5,"wor'
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("somebody waits"))  # as Optuna's own locks would
    assert [trial.value for trial in told(journal, [3.0]).trials] == [1.0, 2.0, 3.0]
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())


@pytest.mark.parametrize("piece", [b"{", b"\x00" * 100, b"x" * 200_000])
def test_whatever_stands_behind_the_last_whole_line_goes(tmp_path, piece):
    journal = tmp_path / "journal.log"
    told(journal, [1.0, 2.0])
    with journal.open("ab") as stream:
        stream.write(piece)
    assert [trial.value for trial in told(journal, [3.0]).trials] == [1.0, 2.0, 3.0]


def test_a_journal_cut_off_anywhere_keeps_its_whole_lines(tmp_path):
    journal = tmp_path / "journal.log"
    told(journal, [1.0, 2.0])
    whole = journal.read_bytes()
    for end in [*range(0, len(whole), 29), len(whole)]:
        journal.write_bytes(whole[:end])
        mend(journal)
        assert journal.read_bytes() == whole[: whole.rfind(b"\n", 0, end) + 1]


def test_one_at_a_time_holds_the_lock(tmp_path):
    journal = tmp_path / "journal.log"
    journal.touch()
    count = tmp_path / "count"
    count.write_text("0")

    def work(_):
        lock = JournalLock(journal)
        for _ in range(20):
            lock.acquire()
            number = int(count.read_text())
            time.sleep(0.001)
            count.write_text(str(number + 1))
            lock.release()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert count.read_text() == "60"


def test_a_lock_is_let_go_of_and_taken_again(tmp_path):
    journal = tmp_path / "journal.log"
    journal.touch()
    lock = JournalLock(journal)
    for _ in range(2):
        assert lock.acquire()
        lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]


@pytest.mark.parametrize(
    "text", ["{}\n{}\n", "nonsense\nnonsense\n", '{"op_code": 99}\n{}\n', "[1]\n[2]\n", "\x00\n\n\n"]
)
def test_a_damaged_journal_is_refused_with_its_name(tmp_path, text):
    journal = tmp_path / "journal.log"
    journal.write_text(text)
    with pytest.raises(ValueError, match=r"journal\.log is no journal of a study"):
        journal_storage(journal)
    assert journal.read_text() == text


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "journal.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is a link"):
        journal_storage(tmp_path / "journal.log")
