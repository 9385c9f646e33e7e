"""Networks that come with the package: files of their cards, scores of the README, runs for every command."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from hdnn import pretrained, shelf
from hdnn.jobs import evaluate
from hdnn.runs import Run

ROOT = Path(__file__).parent.parent
CARDS = shelf.cards()
HERE = [name for name in sorted(CARDS) if name != "mnist"]  # whose data need no folder


@pytest.mark.parametrize("name", [n if n == "double-moons" else pytest.param(n, marks=pytest.mark.long) for n in HERE])
def test_a_score_is_that_of_the_card(name):
    assert evaluate(Path(f"pretrained:{name}"))["accuracy"] == pytest.approx(CARDS[name]["test_accuracy"], abs=1e-9)


def test_the_score_of_mnist_is_that_of_the_card(mnist_folder):
    scores = evaluate(Path("pretrained:mnist"), mnist_folder=str(mnist_folder))
    assert scores["accuracy"] == pytest.approx(CARDS["mnist"]["test_accuracy"], abs=1e-9)


def test_scores_are_those_that_the_pages_tell():
    """Within two standard deviations of the mean over five seeds, of which each is the first."""
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    for name, card in CARDS.items():
        mean, spread = re.search(rf"`hdnn train {name}\b[^|]*\|[^|]*\| \[?([\d.]+) ± ([\d.]+)", page).groups()
        assert abs(100 * card["test_accuracy"] - float(mean)) <= 2 * float(spread) + 0.005, name


def test_they_are_small_and_say_nothing_of_the_machine_that_trained_them():
    files = [path for path in Path(shelf.__file__).parent.rglob("*") if path.suffix in (".json", ".xz")]
    assert len(files) == 1 + 3 * 5
    assert sum(path.stat().st_size for path in files) <= 200_000
    for path in files:
        assert path.suffix != ".json" or not re.search(r"/(?:root|home|work|tmp)/", path.read_text(encoding="utf-8"))


def test_a_network_is_ready_for_use():
    network = pretrained("swiss-roll")
    assert not network.training
    assert network(torch.zeros(3, 2)).shape == (3, 1)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"no pretrained network .moons.\. Did you mean .double-moons."):
        pretrained("moons")


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    shutil.copytree(Path(shelf.__file__).parent, tmp_path / "shelf")
    monkeypatch.setattr(shelf, "_HERE", tmp_path / "shelf")
    pretrained("digits")
    (tmp_path / "shelf" / "digits" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="its SHA-256 is another"):
        pretrained("digits")


@pytest.mark.parametrize(
    "line",
    [
        "--resume pretrained:digits",
        "--resume pretrained:digits --processes 2",
        "double-moons -o pretrained:digits --overwrite",
        f"double-moons -o '{Path(shelf.__file__).parent / 'digits'}' --overwrite",
    ],
)
def test_nothing_is_trained_on_the_shelf(hdnn, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in Path(shelf.__file__).parent.rglob("*") if path.is_file()}
    code, out, err = hdnn(f"train {line}")
    assert (code, out) == (2, "")
    assert "digits comes with the package, so nothing is trained there. Name another folder by --output" in err
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_every_command_takes_one(tmp_path, monkeypatch, hdnn):
    monkeypatch.chdir(tmp_path)

    def done(line):
        code, out, err = hdnn(line)
        assert code == 0, err
        return out

    run = "pretrained:double-moons"
    pd.DataFrame({"x1": [0.0, 1.0, 2.0], "x2": [0.0, 1.0, 0.5]}).to_csv("rows.csv", index=False)
    assert len(done(f"predict {run} rows.csv").splitlines()) == 4
    assert json.loads(done(f"evaluate {run} --json"))["accuracy"] == 1
    done(f"analyze {run} --samples 3")
    (report,) = Path("analyses").glob("double-moons-*/report.html")
    assert report.stat().st_size
    done(f"export {run} --torch moons.pt2")
    assert "double-circles" in done(f"compare {run} pretrained:double-circles --json")
    done(f"train --like {run} --epochs 1 --restarts 1 --output runs/like")
    assert Run.open(Path("runs/like")).config.network == Run.open(Path(run)).config.network
