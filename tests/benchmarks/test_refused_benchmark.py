"""Trainings that native steps refused: each is what its name says, and versions of hdnn are compared in turns."""

import math
import sys

import pytest

import hdnn
import machine
import refused

LAYERS = 2


@pytest.fixture
def fewer(monkeypatch):
    """Data of two batches, and of a graph once."""
    whole = refused.swiss_roll
    monkeypatch.setattr(refused, "BATCHES", 1)

    def few(layers, goal):
        case = whole(layers, goal)
        return refused.dataclasses.replace(case, x=case.x[:250], y=case.y[:250])

    monkeypatch.setattr(refused, "swiss_roll", few)


@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize("name", refused.CASES)
def test_every_training_is_one_and_but_for_the_plain_one_no_native_step_takes_it(name):
    training = refused.made(name, LAYERS)
    x, y = training.data if len(training.data) == 2 else (training.data[0], None)
    chosen = hdnn.training_backend(training.network, x, y, training.recipe, **training.options)
    assert chosen.backend == ("native" if name == refused.PLAIN else "torch")
    found = training.fit()
    assert math.isfinite(found)
    assert refused.made(name, LAYERS).fit() == found  # from the same weights


@pytest.mark.parametrize("name", refused.CASES)
def test_steps_are_counted(name):
    training = refused.made(name, LAYERS)
    batch = training.recipe.batch_size
    rows = sum(len(x) for x, _ in training.data[0]) if len(training.data) == 1 else len(training.data[0])
    assert rows % batch == 0
    assert training.steps == training.recipe.epochs * rows // batch


@pytest.mark.long
def test_versions_answer_in_processes_of_their_own(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    versions = [refused.Version(f"{name}={sys.executable}") for name in ("old", "new")]
    found = refused.measured(versions, [refused.PLAIN], 2)[refused.PLAIN]
    assert found["losses"][0] == found["losses"][1]
    assert min(found["microseconds"]) > 0
    versions[0].process.kill()
    versions[0].process.wait()
    with pytest.raises(SystemExit, match="old ended at"):
        versions[0].train(refused.PLAIN)
    for version in versions:
        version.end()
    assert versions[1].process.returncode == 0


@pytest.mark.parametrize("given", ["bin/python", "=bin/python", "old=no/such/python"])
def test_what_is_no_version_is_refused(given):
    with pytest.raises(SystemExit, match="is no version: give NAME=PYTHON"):
        refused.Version(given)


def test_one_version_is_not_compared(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["refused.py", "--versions", "old=python"])
    with pytest.raises(SystemExit):
        refused.main()
    assert "Give --versions with two or more" in capsys.readouterr().err


def test_the_report_has_first_last_ratio_and_goal():
    found = {
        "a flow on a graph": {"microseconds": [3100.0, 2000.0, 1000.0], "losses": [0.5, 0.5, 0.49]},
        "3 x 3 convolutions": {"microseconds": [2900.0, 2000.0, 1000.0], "losses": [0.5, 0.5, 0.5]},
        refused.PLAIN: {"microseconds": [100.0, 20.0, 10.0], "losses": [0.5, 0.5, 0.5]},
    }
    lines = refused.report(machine.facts(), ["one", "two", "three"], found, 3)
    assert lines[-3:] == [
        "| a flow on a graph | 3,100 | 2,000 | 1,000 | **3.1** | met | 2e-02 |",
        "| 3 x 3 convolutions | 2,900 | 2,000 | 1,000 | **2.9** | missed | 0e+00 |",
        f"| {refused.PLAIN} | 100 | 20 | 10 | **10.0** |  | 0e+00 |",
    ]
