"""Networks that come with the package: files of their cards, scores of the README, runs for every command."""

import json
import lzma
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from hdnn import files, pretrained, shelf
from hdnn.jobs import evaluate
from hdnn.runs import Run

ROOT, SHELF = Path(__file__).parent.parent, Path(shelf.__file__).parent
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
    files = [path for path in SHELF.rglob("*") if path.suffix in (".json", ".xz")]
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
    with pytest.raises(FileNotFoundError, match=r"There are: digits, double-circles,"):
        pretrained("")


@pytest.mark.parametrize("way", ["inside", "link", "link to the shelf", "copy"])
def test_a_folder_of_the_shelf_is_a_run_by_any_path(way, tmp_path, monkeypatch):
    monkeypatch.chdir(SHELF if way == "inside" else tmp_path)
    if way == "link":
        Path("double-moons").symlink_to(SHELF / "double-moons")
    elif way == "link to the shelf":
        Path("shelf").symlink_to(SHELF)
        monkeypatch.chdir("shelf")
    elif way == "copy":
        shutil.copytree(SHELF / "double-moons", "double-moons")
    found = Run.open(Path("double-moons")).load_network().state_dict()
    expected = pretrained("double-moons").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_of_copies_weights_trained_anew_are_read_and_packed_ones_of_others_are_not(tmp_path):
    run = Run.open(shutil.copytree(SHELF / "double-moons", tmp_path / "run"))
    network = run.load_network()
    with torch.no_grad():
        next(network.parameters()).zero_()
    run.save_network(network)
    assert not next(run.load_network().parameters()).any()
    (run.folder / "model.safetensors").unlink()
    (run.folder / shelf.WEIGHTS).write_bytes(lzma.compress(bytes(10**7)))
    with pytest.raises(ValueError, match=r"no others are unpacked.*`xz -d model.safetensors.xz`"):
        run.load_network()


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    shutil.copytree(SHELF, tmp_path / "shelf")
    monkeypatch.setattr(shelf, "_HERE", tmp_path / "shelf")
    pretrained("digits")
    (tmp_path / "shelf" / "digits" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="its SHA-256 is another"):
        pretrained("digits")


ANOTHER, LIKE = "Name another folder by --output", "Begin one of the same kind: hdnn train --like pretrained:digits."


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("--resume pretrained:digits", LIKE),
        ("--resume pretrained:digits --processes 2", LIKE),
        ("--resume link/digits", LIKE),
        ("double-moons -o pretrained:digits --overwrite", ANOTHER),
        (f"double-moons -o '{SHELF / 'digits'}' --overwrite", ANOTHER),
        ("double-moons -o link/digits --overwrite", ANOTHER),
        ("double-moons -o link/digits/new", ANOTHER),
    ],
)
def test_nothing_is_trained_on_the_shelf(hdnn, tmp_path, monkeypatch, line, advice):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(SHELF)
    before = {path: path.read_bytes() for path in SHELF.rglob("*") if path.is_file()}
    code, out, err = hdnn(f"train {line}")
    assert (code, out) == (2, "")
    assert "comes with the package" in err
    assert advice in err
    assert {path: path.read_bytes() for path in SHELF.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


INSIDE = "lies in the hdnn package, where nothing is written. Name another place."


@pytest.mark.parametrize(
    "line",
    [
        "train double-moons -o link",
        "analyze --model h1 -o link",
        "analyze link/shelf/digits --overwrite -o link/shelf/digits",
        "predict link/shelf/double-moons rows.csv -o link/rows.csv",
        "export link/shelf/digits --torch link/digits.pt2",
        "compare link/shelf/digits link/shelf/double-moons --figure link/both.svg",
        "tune double-moons --trials 1 --study link/study",
        "playground --output link/page.html",
        "reproduce depth --output link/depth",
    ],
)
def test_nothing_is_written_into_the_package(hdnn, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hdnn.experiments.laboratory._performed", lambda *_: pytest.fail("first it is asked"))
    Path("link").symlink_to(SHELF.parent)
    pd.DataFrame({"x1": [0.0], "x2": [0.0]}).to_csv("rows.csv", index=False)
    before = {path for path in SHELF.parent.rglob("*") if "__pycache__" not in path.parts}
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert INSIDE in err
    assert {path for path in SHELF.parent.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_save_for_the_hub_asks_before_it_touches_a_folder(tmp_path, monkeypatch):
    hub = pytest.importorskip("hdnn.hub")
    shutil.copytree(SHELF, tmp_path / "shelf")
    monkeypatch.setattr(files, "_PACKAGE", tmp_path)  # so that a failure of this test harms none
    network = hub.HubNetwork.from_run(SHELF / "double-moons")
    for name in ("double-moons", "new"):
        with pytest.raises(PermissionError, match=INSIDE):
            network.save_pretrained(tmp_path / "shelf" / name)
    assert (tmp_path / "shelf" / "double-moons" / "config.json").is_file()
    assert not (tmp_path / "shelf" / "new").exists()


def test_an_analysis_of_one_by_its_path_goes_where_one_by_its_name_goes(hdnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def told(subject, folder, **options):
        made.append(folder.parts)
        raise ValueError("enough is known")

    monkeypatch.setattr("hdnn.jobs.analyze", told)
    for run in ("pretrained:double-moons", SHELF / "double-moons"):
        assert hdnn(f"analyze '{run}' --samples 3")[0] == 2
    assert [(parts[0], parts[1][:13]) for parts in made] == 2 * [("analyses", "double-moons-")]


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
