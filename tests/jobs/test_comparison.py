"""Runs side by side: what differs is shown, all that does not is left out, and other data are said."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from command_lines import SMALL
from drawings import legend, overhang
from hdnn import plots
from hdnn.jobs import Choices, Source, compare, train
from hdnn.options import NetworkChoices, TrainingChoices, entries

GOLDEN = Path(__file__).parents[1] / "golden"
BASE = {"layers": 2, "epochs": 1, "model": "h2", "restarts": 1}
MOONS = Source("double-moons", size=60)
# Two values that suit a table, of the choices of a network and a recipe.
PAIRS = {
    "layers": (2, 3),
    "step": (0.1, 0.2),
    "horizon": (0.5, 0.7),
    "features": (4, 6),
    "width": (4, 6),
    "activation": ("tanh", "relu"),
    "integrator": ("symplectic_euler", "stormer_verlet"),
    "shared": (False, True),
    "init_std": (0.5, 0.6),
    "lift": ("zeros", "linear"),
    "epochs": (1, 2),
    "batch_size": (8, 16),
    "optimizer": ("adam", "sgd"),
    "learning_rate": (0.01, 0.02),
    "smoothness": (0.0, 0.1),
    "head_decay": (0.0, 0.1),
    "weight_decay": (0.0, 0.1),
    "label_smoothing": (0.0, 0.1),
    "clip": (1.0, 2.0),
    "method": ("joint", "alternating"),
    "model": ("h1", "h2"),
    "validation_fraction": (0.1, 0.2),
    "patience": (3, 4),
    "restarts": (1, 2),
}


@pytest.fixture
def runs(tmp_path, quick):
    """Makes runs of the choices that are given."""

    def made(*choices, source=MOONS):
        begun = len([*tmp_path.glob("run*")])
        folders = [tmp_path / f"run{begun + i}" for i in range(len(choices))]
        for folder, chosen in zip(folders, choices, strict=True):
            train(source, Choices(**{**BASE, **chosen}), folder)
        return folders

    return made


def test_the_pairs_name_what_can_be_chosen():
    known = {each.name for kind in (NetworkChoices, TrainingChoices) for each in entries(kind)}
    assert PAIRS.keys() <= known


@pytest.mark.parametrize("name", PAIRS)
def test_a_choice_that_differs_is_shown_and_no_other(runs, name):
    found = compare(runs(*({name: value} for value in PAIRS[name])))
    follow = {
        "step": {"horizon"},
        "horizon": {"step"},
        "layers": {"step"},
        "restarts": {"restart_epochs", "restart_learning_rate"},
    }
    assert found.choices[name] == PAIRS[name]
    assert found.choices.keys() - {name} <= follow.get(name, set())
    assert not found.remarks


def test_results_stand_side_by_side_and_the_best_of_the_test_rows_is_known(runs):
    folders = runs({"epochs": 1}, {"epochs": 20}, {"epochs": 2})
    found = compare(folders)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    for name in ("test_accuracy", "test_loss", "epochs", "parameters", "seconds"):
        assert found.results[name] == tuple(each[name] for each in metrics)
    losses = [each["test_loss"] for each in metrics]
    assert found.best["test_loss"] == (losses.index(min(losses)),)
    assert all(name.startswith("test_") for name in found.best)


def test_other_data_are_said_and_the_same_data_at_another_place_are_not(runs, tmp_path):
    one, other = runs({}), runs({}, source=Source("double-moons", size=80))
    found = compare([*one, *other])
    (remark,) = found.remarks
    assert not found.best
    assert remark == f"{other[0]} was trained on other data than {one[0]}: do not compare their scores."
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{i % 7},{'pq'[i % 7 > 3]}" for i in range(60)))
    shutil.copy(tmp_path / "a.csv", tmp_path / "b.csv")
    tables = [runs({}, source=Source(str(tmp_path / name), target="y"))[0] for name in ("a.csv", "b.csv")]
    found = compare(tables)
    assert not found.remarks
    assert found.choices.keys() == {"data"}


def test_early_runs_can_be_compared_with_those_of_today(runs):
    early = GOLDEN / "format-1"
    now = runs({"layers": 3})[0]
    found = compare([early, now])
    assert found.choices["model"] == ("h1", "h2")
    assert "integrator" not in found.choices  # which format 1 did not know: both are the model's own
    assert found.results["test_accuracy"][0] == 0.8
    assert not [remark for remark in found.remarks if "other data" in remark]


def test_what_is_not_finished_has_no_results(runs):
    found = compare([*runs({}), GOLDEN / "format-1-unfinished"])
    assert found.results["test_accuracy"][1] is None
    assert any(remark.endswith("is not finished, so it has no results.") for remark in found.remarks)


def test_the_order_of_the_runs_changes_nothing_but_the_order(runs):
    folders = runs({"layers": 2}, {"layers": 3})
    there, back = compare(folders), compare(folders[::-1])
    assert there.choices == {name: row[::-1] for name, row in back.choices.items()}
    assert there.results == {name: row[::-1] for name, row in back.results.items()}


def test_one_run_or_the_same_twice_is_refused(runs):
    one = runs({})
    with pytest.raises(ValueError, match="two runs at least; got 1"):
        compare(one)
    with pytest.raises(ValueError, match="given twice"):
        compare([*one, one[0] / ".." / one[0].name])


@pytest.mark.parametrize("text", ["epoch,loss\n1,many\n", "epoch,loss\n1,2,3\n", "epoch,loss\n1\n", "loss\n1\n"])
def test_a_damaged_history_is_named(runs, text):
    folders = runs({}, {})
    (folders[1] / "history.csv").write_text(text)
    with pytest.raises(ValueError, match="is no history of a training"):
        compare(folders)


@pytest.mark.parametrize("value", [{"a": 1}, ["x"] * 1000, "y" * 10**5, 10**18, "\x1b[31m", None])
def test_strange_values_in_a_configuration_are_shown_short(runs, hdnn, value):
    folders = runs({}, {})
    config = json.loads((folders[1] / "config.json").read_text())
    config["data"]["target"] = value
    (folders[1] / "config.json").write_text(json.dumps(config))
    code, out, _ = hdnn("compare", *folders)
    assert code == 0
    assert len(out) < 5000
    assert "\x1b" not in out


def test_the_figure_has_a_curve_for_each_run(runs, tmp_path):
    folders = runs({"validation_fraction": 0.2}, {"epochs": 3}, {})
    found = compare(folders)
    figure = plots.compared_curves(found.histories)
    assert legend(figure) == [*(plots.style.short(str(folder)) for folder in folders), "train", "validation"]
    assert len(figure.axes[0].lines) == 4
    assert overhang(figure) <= 0
    assert found.draw(tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(FileExistsError, match="nothing was changed"):
        found.draw(tmp_path / "a.svg")
    with pytest.raises(ValueError, match="no curves to draw"):
        dataclasses.replace(found, histories={}).draw(tmp_path / "b.png")


# On the command line


@pytest.mark.usefixtures("quick", "place")
def test_the_command_shows_what_differs_and_stars_the_best(hdnn):
    for folder, more in (("a", "--layers 2"), ("b", "--layers 3 --epochs 9")):
        assert hdnn(f"train double-moons --size 60 {SMALL} {more} -o {folder}")[0] == 0
    code, out, err = hdnn("compare a b --figure curves.png")
    assert (code, err) == (0, "")
    rows = {line[:20].strip(): line.split()[-2:] for line in out.splitlines() if line.strip()}
    assert rows["layers"] == ["2", "3"]
    assert rows["epochs"] == rows["epochs trained"] == ["2", "9"]
    assert len(rows) == sum(bool(line.strip()) for line in out.splitlines()), "no two rows have one name"
    assert "batch size" not in rows
    assert out.count(" *") >= 1
    assert out.endswith("Figure: curves.png\n")
    code, out, _ = hdnn("compare a b --json")
    found = json.loads(out)
    assert code == 0
    assert found["choices"]["layers"] == [2, 3]
    assert found["results"]["epochs"] == [2, 9]
    assert found["runs"] == ["a", "b"]


@pytest.mark.usefixtures("quick", "place")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("a", "two runs at least"),
        ("a a", "given twice"),
        ("a nowhere", "nowhere is not there"),
        ("a b --figure a.pdf", "Let the name end in .png or .svg."),
        ("a b --figure a/config.json", "would be lost; nothing was changed"),
    ],
)
def test_the_command_refuses_in_its_own_words(hdnn, more, words):
    for folder in "ab":
        hdnn(f"train double-moons --size 60 {SMALL} -o {folder}")
    code, out, err = hdnn(f"compare {more}")
    assert (code, out) == (2, "")
    assert words in err
    assert "`" not in err
