"""Files grow by fields with defaults: runs of before a field existed go on in every job, those of after are refused."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest
import torch

from hdnn.hub import HubNetwork
from hdnn.jobs import Choices, Source, analyze, evaluate, predict, resume, train, trained
from hdnn.networks import NetworkConfig
from hdnn.runs import Run
from hdnn.training import Recipe

PARTS = {"data": Source, "network": NetworkConfig, "recipe": Recipe}


def defaults(kind):
    return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


def interrupt(progress):
    if progress.epoch == 2:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that ended and one that did not, and the same without any value that is the default of its field."""
    folder = tmp_path_factory.mktemp("runs")
    choices = Choices(model="h2", layers=2, epochs=3, batch_size=16, restarts=1)
    train(Source("double-moons", size=60), choices, folder / "whole")
    train(Source("double-moons", size=60), choices, folder / "cut", callbacks=(interrupt,), checkpoint_every=0)
    for name in ("whole", "cut"):
        shutil.copytree(folder / name, folder / f"{name}-older")
        place = folder / f"{name}-older" / "config.json"
        document = json.loads(place.read_text())
        del document["start"]["circumstances"]
        for part, kind in PARTS.items():
            old = {key: value for key, value in document[part].items() if defaults(kind).get(key, ...) != value}
            assert len(old) < len(document[part]) - 3
            document[part] = old
        place.write_text(json.dumps(document))
    return folder


@pytest.mark.long
def test_an_older_run_predicts_and_is_evaluated(runs, tmp_path):
    rows = tmp_path / "rows.csv"
    pd.DataFrame({"x1": [0.0, 1.0], "x2": [1.0, -1.0]}).to_csv(rows, index=False)
    new, old = (predict(runs / name, rows).frame for name in ("whole", "whole-older"))
    pd.testing.assert_frame_equal(new, old)
    assert evaluate(runs / "whole") == evaluate(runs / "whole-older")


@pytest.mark.long
def test_an_older_run_is_analysed_and_shared(runs, tmp_path):
    new, old = (analyze(trained(runs / name, samples=4), tmp_path / name) for name in ("whole", "whole-older"))
    assert new.summary == old.summary
    HubNetwork.from_run(runs / "whole-older").save_pretrained(tmp_path / "hub")
    assert Run.open(tmp_path / "hub").config.network == Run.open(runs / "whole").config.network


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_an_older_run_goes_on_to_the_same_bits(runs, tmp_path):
    ends = []
    for name in ("cut", "cut-older"):
        folder = shutil.copytree(runs / name, tmp_path / name)
        (folder / "checkpoint.safetensors").unlink()  # that of the older one is of another configuration
        ends.append(resume(folder).run.load_network().state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("part", [*PARTS, "start", ""])
def test_a_run_of_a_newer_hdnn_is_refused_by_name(runs, tmp_path, part):
    shutil.copytree(runs / "cut", tmp_path / "run")
    place = tmp_path / "run" / "config.json"
    document = json.loads(place.read_text())
    (document[part] if part else document)["curvature"] = 1
    place.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"'curvature', which this hdnn does not know\. Update hdnn"):
        resume(tmp_path / "run")
