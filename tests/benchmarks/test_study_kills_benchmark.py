"""A study whose processes are killed, as the benchmark kills them."""

import pytest

import study_kills


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_nothing_of_a_killed_study_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("hdnn.jobs.figures.drawn", lambda *_: [])
    row = study_kills.row("study", tmp_path, 12, 0)
    assert row[-1] == 0
    assert row[1] + row[2] >= 12
    assert row[3] == study_kills.TRIALS
