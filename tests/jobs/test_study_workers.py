"""Workers of a study that end: what they had begun is tried again, and nothing is lost."""

import os

import pytest

from hdnn.jobs import workers
from study_cases import told


@pytest.fixture
def killed(search, monkeypatch):
    """Asks for a trial as a process does that is killed right after; gives what it was to try."""

    def run(number, host=None, stamped=True):
        kept = {}

        def ends(worker):
            kept.update(worker.study.ask(worker.trials).params)
            raise SystemExit

        def never_stamps(*_):
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(workers.Worker, "until_done", ends)
            if host is not None:
                patched.setattr("platform.node", lambda: host)
            if not stamped:
                patched.setattr("optuna.trial.Trial.set_user_attr", never_stamps)
            with pytest.raises(SystemExit):
                search(number)
        return kept

    return run


def test_the_trial_of_a_worker_that_ended_is_tried_again(search, tmp_path, killed):
    search(6, "peace")
    search(2)
    params = killed(6)
    heard = []
    found = search(6, announce=heard.append)
    assert found.trials == 6
    assert told(tmp_path / "study") == told(tmp_path / "peace")
    assert told(tmp_path / "study")[2][0] == params
    assert any(line.startswith(f"Trial 2 is tried again: Its worker (process {os.getpid()} on ") for line in heard)
    assert not [*(tmp_path / "study" / ".workers").iterdir()]


def test_a_trial_that_ends_its_worker_twice_has_failed(search, killed):
    for _ in range(2):
        killed(4)
    found = search(4)
    assert (found.trials, found.failed) == (4, 1)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("before", [0, 1])
def test_a_trial_that_was_not_begun_is_asked_for_again(search, tmp_path, killed, number, before):
    search(4, "peace")
    if number:
        search(number)
    if before:  # what is lost here was to be tried again already
        killed(4)
    for _ in range(3):
        killed(4, stamped=False)
    assert search(4).trials == 4
    assert told(tmp_path / "study") == told(tmp_path / "peace")


def test_workers_of_other_hosts_are_left_alone_until_they_are_said_to_be_lost(search, tmp_path, killed):
    search(1)
    params = killed(3, host="far")
    found = search(3)
    assert found.trials == 2
    assert found.outcome is None
    assert "1 trial on far" in found.remark
    assert "lost_hosts=HOST" in found.remark
    found = search(3, lost_hosts=["far"])
    assert found.trials == 3
    assert found.outcome is not None
    assert any(each[0] == params for each in told(tmp_path / "study"))


@pytest.mark.long
def test_a_database_serves_as_well(search, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    search(4, "peace")
    search(2, storage=url)
    assert search(4, storage=url).trials == 4
    assert not (tmp_path / "study" / "journal.log").exists()
    import optuna

    found = [(each.params, each.value) for each in optuna.load_study(study_name="study", storage=url).trials]
    assert found == [(params, value) for params, value, *_ in told(tmp_path / "peace")]
    with pytest.raises(ValueError, match="Give its URL with `storage`"):
        search(4)
    with pytest.raises(ValueError, match="An URL is wanted") as error:
        search(4, "other", storage="mysql+nothing://me:secret@nowhere/db")
    assert "secret" not in str(error.value)
