"""Runs of earlier versions load, predict and go on as they did; what was changed in them by hand is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from hdnn.files import write_whole
from hdnn.jobs import resume
from hdnn.runs import Run

GOLDEN = Path(__file__).parents[1] / "golden"

pytestmark = pytest.mark.usefixtures("quick")


def test_a_golden_run_predicts_what_it_did():
    run = Run.open(GOLDEN / "format-1")
    expected = json.loads((run.folder / "expected.json").read_text())
    found = run.load_network()(torch.tensor(expected["x"]))
    torch.testing.assert_close(found, torch.tensor(expected["outputs"]), rtol=1e-5, atol=1e-6)
    assert run.read_metrics()["epochs"] == len(run.read_history()) == 3


def test_a_golden_checkpoint_goes_on(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "format-1-unfinished", folder)
    said = []
    outcome = resume(folder, announce=said.append)
    assert "Going on after 1 epoch of 3 and" in said[-1]
    golden = Run.open(GOLDEN / "format-1").read_history()
    found = outcome.run.read_history()
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in golden], rel=1e-4)


@pytest.mark.parametrize(("rule", "loss"), [(1, 0.2963071703910828), (2, 0.37853242754936217)])
def test_golden_runs_without_a_checkpoint_begin_with_the_weights_that_were_the_default_then(tmp_path, rule, loss):
    # The losses are those of runs by hdnn 0.1.0, which drew K of any shape from N(0, 1/n), and by the rule of today.
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / f"default-weights-{rule}", folder)
    outcome = resume(folder)
    assert outcome.run.config.network.width == 16
    assert outcome.run.read_history()[0]["loss"] == pytest.approx(loss, rel=1e-4)


def test_weights_drawn_by_a_rule_of_the_future_are_refused(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "default-weights-2", folder)
    document = json.loads((folder / "config.json").read_text())
    document["start"]["default_weights"] = "1/n"
    write_whole(folder / "config.json", json.dumps(document))
    with pytest.raises(ValueError, match="a rule of a newer hdnn"):
        resume(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"start": {}},
        {"start": {"threads": 1}},
        {"recipe": {"epochs": 3}},
        {"recipe": "optimizer"},
        {"threads": 0},
        {"threads": 10**9},
        {"device": 3},
        {"init_std": "wide"},
    ],
)
def test_a_strange_configuration_is_a_value_error(tmp_path, change):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "format-1-unfinished", folder)
    document = json.loads((folder / "config.json").read_text())
    for name, value in change.items():
        if name in document["start"]:
            document["start"][name] = value
        elif isinstance(value, dict):
            document[name] = value
        else:
            document[name][value] = []
    write_whole(folder / "config.json", json.dumps(document))
    with pytest.raises(ValueError, match=r"\w \w"):
        resume(folder)
