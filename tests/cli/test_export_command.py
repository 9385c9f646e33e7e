"""`hdnn export`: files for other programs, compared with what `hdnn predict` says of the same rows."""

import json
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from command_lines import SMALL
from hdnn.jobs import export as job


def encode(document, frame):
    """Raw rows as network inputs, from the JSON document alone."""
    parts = []
    for column in document["encoder"]["columns"]:
        cells = frame[column["name"]]
        if column["kind"] == "numeric":
            x = cells.fillna(column["fill"]).to_numpy(dtype=float)[:, None]
            parts.append((x - column["mean"]) / column["scale"])
            edges = np.array(column.get("edges", []))
            parts.append(((x - edges[:-1]) / np.diff(edges)).clip(0, 1))
            parts += [cells.isna().to_numpy()[:, None]] if column.get("indicator") else []
        else:
            parts += [(cells == category).to_numpy()[:, None] for category in column["categories"]]
    return np.concatenate(parts, axis=1).astype(np.float32)


@pytest.fixture
def classes(hdnn, place, quick):
    hdnn(f"train flowers.csv --target kind {SMALL} -o run")
    return place


@pytest.mark.long
def test_a_program_predicts_raw_rows_as_hdnn_does(hdnn, classes):
    code, out, _ = hdnn("export run --torch kind.pt2")
    assert code == 0
    assert out.startswith("PyTorch program kind.pt2 (")
    assert "differ from the network's by at most" in out
    extra = {"hdnn.json": ""}
    program = torch.export.load("kind.pt2", extra_files=extra).module()
    document = json.loads(extra["hdnn.json"])
    rows = pd.read_csv("flowers.csv")
    found = program(torch.from_numpy(encode(document, rows)))["probabilities"]
    expected = pd.read_csv(StringIO(hdnn("predict run flowers.csv")[1]))
    names = [f"probability_{label}" for label in document["target"]["classes"]]
    np.testing.assert_allclose(found.numpy(), expected[names].to_numpy(), atol=1e-5)
    assert str(Path.cwd()) not in extra["hdnn.json"]


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_onnx_predicts_in_the_units_of_the_table(hdnn, place):
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    hdnn(f"train houses.parquet --target price {SMALL} -o run")
    code, out, err = hdnn("export run --onnx price.onnx --json")
    assert (code, err) == (0, "")
    (written,) = json.loads(out)
    assert written["file"] == "price.onnx"
    assert written["size"] == Path("price.onnx").stat().st_size
    assert written["difference"] < 1e-5
    document = json.loads(onnx.load("price.onnx").metadata_props[0].value)
    x = encode(document, pd.read_parquet("houses.parquet"))
    (found,) = runtime.InferenceSession("price.onnx").run(["predictions"], {"x": x})
    expected = pd.read_csv(StringIO(hdnn("predict run houses.parquet")[1]))
    np.testing.assert_allclose(found, expected[["price"]].to_numpy(), rtol=1e-5)


def test_nothing_is_replaced_unasked(hdnn, classes):
    Path("kind.pt2").write_text("mine")
    code, out, err = hdnn("export run --torch kind.pt2")
    assert (code, out) == (2, "")
    assert err == "Error: kind.pt2 exists; nothing was changed. Choose another name, or give --overwrite.\n"
    assert Path("kind.pt2").read_text() == "mine"


REFUSED = [
    ("export run", "Say what to write"),
    ("export run --onnx f --torch f", "cannot be both"),
    ("export run --torch .", "is a folder"),
    ("export run --torch no/f.pt2", "There is no folder 'no'"),
    ("export nowhere --torch f.pt2", "nowhere is not there"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_bad_requests_write_nothing(hdnn, place, line, message):
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert message in err
    assert not Path("f").exists()
    assert not Path("f.pt2").exists()


@pytest.mark.usefixtures("classes")
def test_a_missing_package_is_named_and_nothing_written(hdnn, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = hdnn("export run --onnx kind.onnx --torch kind.pt2")
    assert code == 2
    assert "pip install 'hdnn[onnx]'" in err
    assert not Path("kind.pt2").exists()


@pytest.mark.usefixtures("classes")
def test_what_was_not_verified_is_said(hdnn, monkeypatch):
    monkeypatch.setattr(job, "to_onnx", lambda *_, **__: b"onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, _ = hdnn("export run --onnx kind.onnx")
    assert code == 0
    assert out == "ONNX kind.onnx (4 bytes), not verified: onnxruntime is not installed\n"


def test_large_differences_are_said():
    assert "more than 1e-05: this network magnifies rounding" in job.Exported(Path("f"), "ONNX", 1, 2e-4).description
    assert "more than" in job.Exported(Path("f"), "ONNX", 1, float("nan")).description
    assert "more than" not in job.Exported(Path("f"), "ONNX", 1, 2e-7).description


@pytest.mark.long
def test_training_writes_logs_for_tensorboard(hdnn, place):
    pytest.importorskip("tensorboard")
    code, _, err = hdnn("train double-moons --size 40 --layers 2 --epochs 2 --restarts 1 --tensorboard logs -o logged")
    assert code == 0, err
    assert list((place / "logs").glob("events.out.*"))
