"""What a command reads is never what it writes: inputs, runs and foreign files outlive `--overwrite`."""

import importlib
import os
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from hdnn.experiments import TITLES

POINTS = {"x1": [0.1, 0.2], "x2": [0.3, 0.4]}


@pytest.fixture
def run(hdnn, place, quick):
    assert hdnn("train double-moons --size 40 --layers 1 --epochs 1 --restarts 1 -o run")[0] == 0
    (place / "run" / "figures").mkdir(exist_ok=True)
    (place / "run" / "figures" / "reliability.png").write_bytes(b"a figure")
    pd.DataFrame(POINTS).to_csv("p.csv", index=False)
    return place / "run"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("predict run p.csv -o", "p.csv"),
        ("predict run p.csv -o", "run/../p.csv"),
        ("predict run p.csv --json -o", "run/config.json"),
        ("predict run p.csv -o", "run/history.csv"),
        ("export run --torch", "run/model.safetensors"),
        ("playground run -o", "run/report.html"),
        ("compare run other --figure", "run/figures/reliability.png"),
    ],
)
def test_what_is_read_is_not_replaced(hdnn, run, line, path):
    if "other" in line:
        assert hdnn("train double-moons --size 40 --layers 2 --epochs 1 --restarts 1 -o other")[0] == 0
    before = Path(path).read_bytes()
    code, _, err = hdnn(f"{line} {path} --overwrite")
    assert code == 2
    assert f"{path} is read here, or belongs to a run that is, and would be lost" in err
    assert Path(path).read_bytes() == before
    assert hdnn("evaluate run")[0] == 0


def test_one_file_by_two_paths_is_one(hdnn, run):
    code, _, err = hdnn("export run --torch p.pt2 --onnx run/../p.pt2")
    assert code == 2
    assert "cannot be both" in err
    assert not Path("p.pt2").exists()


@pytest.mark.parametrize("name", ["p.png", "p.JPG", "p.json"])
def test_a_name_that_promises_something_else(hdnn, run, name):
    code, _, err = hdnn(f"predict run p.csv -o {name}")
    assert code == 2
    assert "Give a name such as p.csv" in err
    assert hdnn("predict run p.csv --json -o q.json")[0] == 0


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("train double-moons -o ''", "--output"),
        ("evaluate run ''", "DATA"),
        ("evaluate ''", "RUN"),
        ("predict run '' -o p.csv", "FILE"),
        ("compare run ''", "RUNS"),
        ("tune double-moons --study ''", "--study"),
    ],
)
def test_an_empty_path_is_not_the_working_folder(hdnn, place, line, option):
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert f"{option} is empty, so it names no file and no folder" in err
    assert sorted(os.listdir(place)) == ["flowers.csv", "houses.parquet"]


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("train double-moons -o --overwrite", "--output has no value: --overwrite"),
        ("train flowers.csv --target --json", "--target has no value: --json"),
        ("predict run -o -h flowers.csv", "--output has no value: -h"),
    ],
)
def test_an_option_is_not_the_value_of_the_one_before(hdnn, place, line, option):
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert f"{option}, which follows it, is an option itself" in err
    assert sorted(os.listdir(place)) == ["flowers.csv", "houses.parquet"]


def test_an_empty_name_is_no_data(hdnn, place):
    for name in ("cat", "dog"):
        (place / name).mkdir()
    code, _, err = hdnn("train ''")
    assert code == 2
    assert "There is no data set ''" in err


SMOKE = "reproduce counterexample --smoke"


@pytest.mark.parametrize("ending", [".html", ".md", ".json"])
def test_a_verdict_replaces_verdicts_alone(hdnn, place, ending):
    (place / "out").mkdir()
    (place / "out" / f"verdict{ending}").write_text('{"experiment": "table1"}')
    code, _, err = hdnn(f"{SMOKE} -o out")
    assert code == 2
    assert f"out/verdict{ending} is there, and is no verdict on counterexample by its small runs" in err
    assert os.listdir("out") == [f"verdict{ending}"]


def test_small_runs_do_not_replace_what_was_published(hdnn, place):
    dated = Path("shelf") / f"{date.today():%Y-%m-%d}-counterexample.json"
    dated.parent.mkdir()
    dated.write_text('{"experiment": "counterexample", "smoke": false}')
    code, _, err = hdnn(f"{SMOKE} --publish shelf")
    assert code == 2
    assert f"{dated} is there" in err
    assert not Path("reproductions").exists()
    dated.unlink()
    for _ in range(2):  # the same again is welcome
        code, out, err = hdnn(f"{SMOKE} --seeds 1 --publish shelf")
        assert code == 0, err
        assert out.startswith(f"# {TITLES['counterexample']}")


@pytest.mark.parametrize(
    "line",
    [
        "train double-moons --size 40 -o {}",
        "train double-moons --size 40 -o {}/run",
        "analyze --model h2 --layers 2 -o {}/analysis",
        "reproduce counterexample --smoke -o {}/out",
        "reproduce counterexample --smoke --publish {}",
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_any_work(hdnn, place, monkeypatch, line):
    def work(*args, **choices):
        raise AssertionError("it began")

    for module, name in (("jobs.train", "loaded"), ("jobs.analyze", "find"), ("experiments.laboratory", "reproduce")):
        monkeypatch.setattr(importlib.import_module(f"hdnn.{module}"), name, work)
    (place / "away").symlink_to("nowhere")
    code, out, err = hdnn(line.format("away"))
    assert (code, out) == (2, "")
    assert "cannot be written: away is a link to nowhere, and no folder. Choose another folder." in err
    assert not (place / "nowhere").exists()
