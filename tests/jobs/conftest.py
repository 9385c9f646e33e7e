"""What tests of studies share."""

import pytest

from hdnn.jobs import tune
from study_cases import MOONS, QUICK


@pytest.fixture
def search(tmp_path, quick, monkeypatch):
    """Runs a study of small trainings, without pictures."""
    monkeypatch.setattr("hdnn.jobs.figures.drawn", lambda *_: [])

    def run(number=4, folder="study", source=MOONS, choices=QUICK, **more):
        return tune(source, choices, tmp_path / folder, trials=number, threads=1, **more)

    return run
