"""Every command as a user meets it: results on stdout, all else on stderr."""

import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer

from command_lines import SMALL
from hdnn.bench import Regime, truth
from hdnn.cli import application as cli
from hdnn.cli import predict as predict_command
from hdnn.kernels import native
from samples import houses, mnist_like, write_idx

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(cli.app).commands


# The three jobs


def test_digits(hdnn, place):
    code, out, err = hdnn(f"train digits {SMALL} --output run --features 64")
    assert code == 0
    first, last = out.splitlines()
    assert re.fullmatch(r"Test accuracy: \d+\.\d\d % on 360 test rows", first)
    assert last == "Report: run/report.html"
    assert "1797 rows" in err
    assert "2 layers, 64 features" in err
    assert (place / "run" / "report.html").is_file()
    code, out, _ = hdnn("evaluate run --json")
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    names = ("loss", "accuracy", "balanced_accuracy", "roc_auc", "calibration_error")
    assert json.loads(out) == {**{name: metrics[f"test_{name}"] for name in names}, "rows": 360}
    assert code == 0
    assert f"{100 * metrics['test_accuracy']:.2f} %" in first


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("data", ["swiss-roll", "double-moons", "double-circles"])
def test_planar_sets(hdnn, place, data):
    code, out, _ = hdnn(f"train {data} --size 100 {SMALL} -o run --json")
    result = json.loads(out)
    assert code == 0
    assert result["test_rows"] == 50
    assert result["run"] == "run"
    assert result["report"] == "run/report.html"
    assert 0 <= result["test_accuracy"] <= 1


@pytest.mark.usefixtures("quick")
def test_a_table_of_classes(hdnn, place):
    code, out, err = hdnn(f"train flowers.csv --target kind {SMALL} -o run --json")
    assert code == 0
    accuracy = json.loads(out)["test_accuracy"]
    assert "classification (2 classes)" in err
    assert "2 missing values" in err
    code, out, err = hdnn("evaluate run")
    assert code == 0
    assert f"accuracy: {100 * accuracy:.2f} %" in out
    code, out, err = hdnn("predict run flowers.csv")
    assert code == 0
    assert "columns not used: kind" in err
    frame = pd.read_csv(StringIO(out))
    assert list(frame.columns) == ["kind", "probability_daisy", "probability_rose"]
    assert len(frame) == 120
    code, out, _ = hdnn("predict run flowers.csv --json")
    pd.testing.assert_frame_equal(pd.DataFrame(json.loads(out)), frame, check_exact=True)  # to the last digit
    code, out, err = hdnn("predict run flowers.csv --output said.csv")
    assert (code, out) == (0, "")
    assert "120 predictions: said.csv" in err
    pd.testing.assert_frame_equal(pd.read_csv("said.csv"), frame)
    code, _, err = hdnn("predict run flowers.csv --output said.csv")
    assert code == 2
    assert "--overwrite" in err
    assert hdnn("predict run flowers.csv --output said.csv --overwrite")[0] == 0


def test_small_numbers_stay_what_they_are_as_json():
    frame = pd.DataFrame({"a": [1.5e-12, 1 / 3], "b": np.array([1e-38, 0.1], np.float32), "c": ["x", "ü"], "d": [1, 2]})
    assert json.loads(predict_command._records(frame)) == [
        {"a": 1.5e-12, "b": 1e-38, "c": "x", "d": 1},
        {"a": 1 / 3, "b": 0.1, "c": "ü", "d": 2},
    ]


def test_what_json_has_no_number_for_is_null():
    frame = pd.DataFrame({"a": [np.inf, np.nan], "b": np.array([-np.inf, 1], np.float32)})
    assert predict_command._records(frame) == '[{"a":null,"b":null},{"a":null,"b":1.0}]'


@pytest.mark.usefixtures("quick")
def test_a_table_of_numbers(hdnn, place):
    code, out, err = hdnn(f"train houses.parquet --target price {SMALL} -o run")
    assert code == 0
    assert re.search(r"^Test error: \S+ on 24 test rows$", out, re.M)
    assert re.search(r"^Test r2: ", out, re.M)
    assert "regression" in err
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    code, out, _ = hdnn("evaluate run --json")
    assert json.loads(out)["error"] == metrics["test_error"]
    houses(30, seed=5).to_csv("fresh.csv", index=False)
    code, out, _ = hdnn("evaluate run fresh.csv --json")
    assert (code, json.loads(out)["rows"]) == (0, 30)
    code, out, _ = hdnn("predict run fresh.csv")
    assert np.isfinite(pd.read_csv(StringIO(out))["price"]).all()


@pytest.mark.usefixtures("quick")
def test_images_in_four_files(hdnn, place):
    mnist_like(place / "images")
    code, out, _ = hdnn("train mnist --data-folder images --epochs 1 -o run --json")
    assert code == 0
    result = json.loads(out)
    assert (result["train_rows"], result["test_rows"]) == (60, 20)
    code, out, _ = hdnn("evaluate run --json")
    assert json.loads(out)["accuracy"] == result["test_accuracy"]
    (place / "images").rename(place / "moved")
    code, _, err = hdnn("evaluate run")
    assert code == 2
    code, out, _ = hdnn("evaluate run --data-folder moved --json")
    assert json.loads(out)["accuracy"] == result["test_accuracy"]
    code, out, _ = hdnn("predict run moved/t10k-images-idx3-ubyte")
    assert len(pd.read_csv(StringIO(out))) == 20
    write_idx(place / "other", np.zeros((2, 4, 4)))
    code, out, err = hdnn("predict run other")
    assert (code, out) == (2, "")
    assert "(samples, 1, 8, 8)" in err


@pytest.mark.usefixtures("quick")
def test_without_output_the_run_gets_a_folder_of_its_own(hdnn, place):
    code, out, _ = hdnn(f"train double-moons --size 40 {SMALL}")
    assert code == 0
    (run,) = (place / "runs").iterdir()
    assert re.fullmatch(r"double-moons-\d{8}-\d{6}", run.name)
    assert f"Report: runs/{run.name}/report.html" in out


@pytest.mark.usefixtures("quick")
def test_the_command_is_kept_and_repeats_the_run(hdnn, place):
    hdnn(f"train 'double-moons' --size 40 {SMALL} -o 'a run'")
    command = json.loads((place / "a run" / "config.json").read_text())["command"]
    assert command == f"hdnn train double-moons --size 40 {SMALL} -o 'a run'"
    weights = (place / "a run" / "model.safetensors").read_bytes()
    code, _, _ = hdnn(command.removeprefix("hdnn "), "--overwrite")
    assert code == 0
    assert (place / "a run" / "model.safetensors").read_bytes() == weights


@pytest.mark.usefixtures("quick")
def test_columns_can_be_chosen(hdnn, place):
    code, _, err = hdnn(f"train flowers.csv --target kind --column width --column colour {SMALL} -o run")
    assert code == 0
    assert "columns: width, colour" in err


def test_info(hdnn):
    code, out, err = hdnn("info")
    assert (code, err) == (0, "")
    assert torch.__version__ in out
    code, out, _ = hdnn("info --json")
    assert json.loads(out)["backends"]["eager"] == "available"


@pytest.fixture
def small(monkeypatch):
    """A benchmark of one small flow."""
    monkeypatch.setattr("hdnn.bench.SHORT", (Regime(4, 3, 10),))


@pytest.mark.usefixtures("small")
def test_bench(hdnn):
    code, out, err = hdnn("bench --seconds 0.01 --threads 1")
    assert (code, err) == (0, "")
    assert re.search(r"^h1 +4·3·10 +\d+\.\d{3} ", out, re.M)
    assert "threads: 1." in out
    assert native.Native().describe() in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = hdnn("bench --seconds 0.01 --json")
    (row,) = json.loads(out)["regimes"]
    assert code == 0
    assert (row["model"], row["features"], row["layers"], row["batch"]) == ("h1", 4, 3, 10)
    assert row["eager_ms"] > 0


@pytest.mark.usefixtures("small")
def test_a_bench_without_the_extension_says_so(hdnn, monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(native.Native, "describe", lambda _: "not available: no compiler")
    code, out, _ = hdnn("bench --seconds 0.01")
    assert code == 0
    assert re.search(r"^h1 +4·3·10 +\d+\.\d{3} +– +– +\d+e-\d+ +–$", out, re.M)
    assert "Native: not available: no compiler." in out


@pytest.mark.usefixtures("small")
def test_a_bench_that_computes_something_else_says_so(hdnn, monkeypatch):
    monkeypatch.setattr("hdnn.bench.truth", lambda flow, y: [1.1 * x for x in truth(flow, y)])
    code, out, err = hdnn("bench --seconds 0.01")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"Error: The eager pass is off by 9\.1e-02 from float64, .*\n", err)


# Documentation


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_explained(name):
    command = COMMANDS[name]
    assert command.help.strip()
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
    assert f"hdnn {name}" in (ROOT / "docs" / "start.md").read_text(encoding="utf-8")


def test_the_commands_are_those_that_are_promised():
    promised = {
        "train",
        "tune",
        "predict",
        "evaluate",
        "compare",
        "analyze",
        "export",
        "reproduce",
        "info",
        "bench",
        "playground",
    }
    assert set(COMMANDS) == promised
