"""What a finished run says about files, good and bad."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from hdnn.jobs import Choices, Source, evaluate, predict, predictions, train
from hdnn.runs import Run
from samples import digit_images, flowers, houses, mnist_like, write_idx

SMALL = Choices(layers=2, epochs=6, batch_size=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on each kind of data, and the folder where its data are."""
    folder = tmp_path_factory.mktemp("made")
    flowers().to_csv(folder / "flowers.csv", index=False)
    houses().to_parquet(folder / "houses.parquet")
    sources = {
        "flowers": Source(str(folder / "flowers.csv"), target="kind"),
        "houses": Source(str(folder / "houses.parquet"), target="price"),
        "images": Source("mnist", folder=str(mnist_like(folder / "idx"))),
        "moons": Source("double-moons", size=200),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["hdnn.jobs.task"], "write_summary", lambda *_: None)
        return folder, {kind: train(source, SMALL, folder / kind) for kind, source in sources.items()}


def copied(made, kind, place):
    folder, _ = made
    shutil.copytree(folder / kind, place)
    return place


def edited(made, kind, place, change):
    """A copy of a run with another configuration."""
    path = copied(made, kind, place) / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return place


# Predictions


def test_a_table_of_classes(made):
    folder, _ = made
    frame = predict(folder / "flowers", folder / "flowers.csv").frame
    assert list(frame.columns) == ["kind", "probability_daisy", "probability_rose"]
    assert len(frame) == 120
    probabilities = frame[["probability_daisy", "probability_rose"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-6)
    assert (frame["kind"].to_numpy() == np.array(["daisy", "rose"])[probabilities.argmax(1)]).all()
    assert (frame["kind"] == flowers()["kind"]).mean() > 0.8


def test_predictions_of_the_test_rows_have_the_test_score(made):
    folder, outcomes = made
    # All rows together: their score is the mean of those of both parts.
    for kind, file in (("flowers", "flowers.csv"), ("houses", "houses.parquet")):
        metrics = outcomes[kind].metrics
        whole = predict(folder / kind, folder / file).frame
        truth = flowers() if kind == "flowers" else houses()
        rows = np.array([metrics["train_rows"], metrics["test_rows"]])
        if kind == "flowers":
            found = (whole["kind"] == truth["kind"]).sum()
            assert found == round(rows @ [metrics["train_accuracy"], metrics["test_accuracy"]])
        else:
            found = ((whole["price"] - truth["price"]) ** 2).sum()
            assert found == pytest.approx(rows @ np.square([metrics["train_error"], metrics["test_error"]]), rel=1e-4)


def test_columns_may_stand_in_any_order_and_others_are_ignored(made, tmp_path):
    folder, _ = made
    frame = flowers()
    expected = predict(folder / "flowers", folder / "flowers.csv").frame
    other = frame[frame.columns[::-1]].drop(columns="kind").assign(note="x")
    other.to_parquet(tmp_path / "other.parquet")
    found = predict(folder / "flowers", tmp_path / "other.parquet")
    pd.testing.assert_frame_equal(found.frame, expected)
    assert "columns not used: note" in found.remarks


def test_gaps_and_new_categories_are_remarked(made, tmp_path):
    folder, _ = made
    frame = flowers()
    frame.loc[0, "colour"] = "green"
    frame.loc[[7, 8], "length"] = None
    frame.drop(columns="kind").to_csv(tmp_path / "t.csv", index=False)
    remarks = predict(folder / "flowers", tmp_path / "t.csv").remarks
    assert "missing" in remarks
    assert "colour 1" in remarks


def test_images(made, tmp_path):
    folder, _ = made
    images, _ = digit_images(30, seed=5)
    for name in ("images.idx", "images.idx.gz"):
        frame = predict(folder / "images", write_idx(tmp_path / name, images)).frame
        assert list(frame.columns) == ["digit", *(f"probability_{digit}" for digit in range(10))]
        assert len(frame) == 30
    scores = evaluate(folder / "images")
    test = predict(folder / "images", folder / "idx" / "t10k-images-idx3-ubyte").frame["digit"].astype(int)
    assert (test == digit_images(20, seed=1)[1]).mean() == scores["accuracy"]


def test_a_planar_run_predicts_a_table_of_points(made, tmp_path):
    folder, _ = made
    (tmp_path / "points.csv").write_text("x1,x2\n0.5,0.5\n-0.5,1\n")
    frame = predict(folder / "moons", tmp_path / "points.csv").frame
    assert list(frame.columns) == ["class", "probability_0", "probability_1"]


# Part by part


def together(folder, file, part):
    parts = list(predictions(folder, file, part=part))
    return pd.concat([each.frame for each in parts], ignore_index=True), parts[-1].remarks


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_parts_of_a_table_make_no_difference(made, tmp_path, suffix):
    folder, _ = made
    frame = flowers(9000).assign(note='a "b",\nc')
    frame["length"] = frame["length"].astype(object)
    frame.loc[10, "length"] = 3  # whole here, decimal there
    frame.loc[8000, ["length", "colour"]] = [None, "green"]
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        frame.astype({"length": float}).to_parquet(path)
    else:
        frame.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    whole = predict(folder / "flowers", path)
    for part in (20_000, 99_991):
        found, remarks = together(folder / "flowers", path, part)
        pd.testing.assert_frame_equal(found, whole.frame, check_exact=True)
        assert remarks == whole.remarks
    assert "length 2" in whole.remarks
    assert "colour 1" in whole.remarks
    assert "columns not used: kind, note" in whole.remarks


@pytest.mark.parametrize("name", ["images.idx", "images.idx.gz"])
def test_parts_of_images_make_no_difference(made, tmp_path, name):
    folder, _ = made
    path = write_idx(tmp_path / name, digit_images(300)[0])
    whole = predict(folder / "images", path).frame
    assert len(whole) == 300
    for part in (1, 1000, 10**6):
        pd.testing.assert_frame_equal(together(folder / "images", path, part)[0], whole, check_exact=True)


def test_the_row_that_is_bad_is_named_in_every_part(made, tmp_path):
    folder, _ = made
    path = tmp_path / "t.csv"
    for cell, word in (("long", "holds 'long'"), ("inf", "infinite"), ("1e300", "too far from")):
        frame = flowers(900)
        frame["length"] = frame["length"].astype(object)
        frame.loc[700, "length"] = cell
        frame.to_csv(path, index=False)
        for part in (500, 2**22):
            with pytest.raises(ValueError, match=rf"'length'.* data row 701.*{word}|data row 701.*{word}"):
                list(predictions(folder / "flowers", path, part=part))


def test_progress_ends_with_the_file(made, tmp_path):
    folder, _ = made
    for kind, name in (("flowers", "flowers.csv"), ("houses", "houses.parquet"), ("images", "images.idx")):
        path = folder / name if kind != "images" else write_idx(tmp_path / name, digit_images(30)[0])
        told = []
        list(predictions(folder / kind, path, part=1000, progress=told.append))
        assert told == sorted(told)
        assert told[-1] == path.stat().st_size


# Evaluation


@pytest.mark.parametrize("kind", ["flowers", "houses"])
def test_evaluation_on_a_file_is_that_of_its_rows(made, tmp_path, kind):
    folder, _ = made
    fresh = flowers(50, seed=9) if kind == "flowers" else houses(50, seed=9)
    fresh.to_csv(tmp_path / "fresh.csv", index=False)
    scores = evaluate(folder / kind, tmp_path / "fresh.csv")
    said = predict(folder / kind, tmp_path / "fresh.csv").frame
    assert scores["rows"] == 50
    if kind == "flowers":
        assert scores["accuracy"] == (said["kind"] == fresh["kind"]).mean()
    else:
        assert scores["error"] == pytest.approx(np.sqrt(np.mean((said["price"] - fresh["price"]) ** 2)), rel=1e-4)


def test_evaluation_works_from_another_folder(made, tmp_path, monkeypatch):
    folder, outcomes = made
    monkeypatch.chdir(tmp_path)
    assert evaluate(folder / "flowers")["accuracy"] == outcomes["flowers"].metrics["test_accuracy"]


def test_mnist_may_have_moved(made, tmp_path):
    _, outcomes = made
    moved = mnist_like(tmp_path / "moved")
    run = edited(made, "images", tmp_path / "run", lambda d: d["data"].update(folder="/nowhere"))
    with pytest.raises(FileNotFoundError, match="download"):
        evaluate(run)
    assert evaluate(run, mnist_folder=str(moved))["accuracy"] == outcomes["images"].metrics["test_accuracy"]


def test_a_download_is_not_repeated(made, tmp_path):
    run = edited(made, "images", tmp_path / "run", lambda d: d["data"].update(folder=str(tmp_path), download=True))
    with pytest.raises(FileNotFoundError, match="4 of the 4"):
        evaluate(run)


def test_a_table_that_has_changed_has_no_test_part_any_more(made, tmp_path):
    path = tmp_path / "flowers.csv"
    flowers().to_csv(path, index=False)
    run = edited(made, "flowers", tmp_path / "run", lambda d: d["data"].update(data=str(path)))
    assert evaluate(run)["rows"] == 24
    for change in (lambda f: f.assign(length=f["length"] + 1), lambda f: f.iloc[:100], lambda f: f.iloc[::-1]):
        change(flowers()).to_csv(path, index=False)
        with pytest.raises(ValueError, match="has changed since it was trained"):
            evaluate(run)


# Bad files and runs


@pytest.mark.parametrize("job", [predict, evaluate])
def test_a_file_that_does_not_fit_is_refused(made, tmp_path, job):
    folder, _ = made
    path = tmp_path / "t.csv"
    flowers().rename(columns={"length": "lenght"}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"'length' is missing: Did you mean 'lenght'"):
        job(folder / "flowers", path)
    flowers().assign(length="long").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"'length' must hold numbers, but data row 1 holds 'long'"):
        job(folder / "flowers", path)
    flowers().assign(length=np.inf).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"'length', data row 1: the value is infinite"):
        job(folder / "flowers", path)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.csv"):
        job(folder / "flowers", tmp_path / "absent.csv")
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        job(folder / "flowers", path)


def test_evaluation_needs_the_answers(made, tmp_path):
    folder, _ = made
    path = tmp_path / "t.csv"
    flowers().drop(columns="kind").to_csv(path, index=False)
    with pytest.raises(ValueError, match="no target column 'kind'"):
        evaluate(folder / "flowers", path)
    flowers().assign(kind="tulip").to_csv(path, index=False)
    with pytest.raises(ValueError, match="'tulip'"):
        evaluate(folder / "flowers", path)


def test_images_are_evaluated_on_their_own(made, tmp_path):
    folder, _ = made
    with pytest.raises(ValueError, match="own test images"):
        evaluate(folder / "images", tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"\x00\x00\x0d\x03" + bytes(60), "type 0x0d"),
        (b"GIF89a" + bytes(60), "no images that can be read"),
        (b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x08\x00\x00\x00\x08" + bytes(100), "holds 100"),
        (b"\x00\x00\x08\x03\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x04" + bytes(16), r"samples, 1, 8, 8"),
        (b"\x1f\x8b" + bytes(50), "gzip"),
    ],
)
def test_bad_images_are_refused(made, tmp_path, content, word):
    folder, _ = made
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(ValueError, match=word):
        predict(folder / "images", tmp_path / "images")


def test_a_value_that_overflows_the_network_is_named(made, tmp_path):
    run = copied(made, "houses", tmp_path / "run")
    state = load_file(run / "model.safetensors")
    save_file({**state, "head.weight": torch.full_like(state["head.weight"], 100.0)}, run / "model.safetensors")
    scale = next(c["scale"] for c in Run.open(run).config.encoder["columns"] if c["name"] == "area")
    frame = houses(5)
    frame.loc[2, "area"] = 3e38 * scale
    frame.to_csv(tmp_path / "t.csv", index=False)
    for job in (predict, evaluate):
        with pytest.raises(FloatingPointError, match="output for row 3 is not finite"):
            job(run, tmp_path / "t.csv")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["network"].update(inputs=[3]),
        lambda d: d["network"].update(outputs=3),
        lambda d: d["network"].update(task="regression"),
        lambda d: d["encoder"]["columns"].pop(),
        lambda d: d["target"]["classes"].append("tulip"),
        lambda d: d.update(target={"kind": "target", "columns": ["kind"], "classes": [], "mean": [0], "scale": [1]}),
        lambda d: d.update(encoder={"kind": "image", "mean": 0, "std": 1, "channels": 1, "height": 2, "width": 2}),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(made, tmp_path, change):
    run = edited(made, "flowers", tmp_path / "run", change)
    with pytest.raises(ValueError, match="contradicts itself"):
        predict(run, tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["encoder", "target"])
@pytest.mark.parametrize("value", [{}, {"kind": "table"}, {"kind": "image", "mean": "x"}, {"kind": ["a"]}])
def test_a_damaged_encoder_is_refused(made, tmp_path, name, value):
    run = edited(made, "flowers", tmp_path / "run", lambda d: d.update({name: value}))
    for job in (lambda: predict(run, tmp_path / "t.csv"), lambda: evaluate(run)):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            job()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"data": 3},
        {"size": 10**13},
        {"size": "many"},
        {"seed": -1},
        {"seed": "x"},
        {"target": 5},
        {"target": ["kind"]},
        {"columns": "kind"},
        {"columns": [1, {}]},
        {"task": "guess"},
        {"data": "digts"},
        {"folder": 1},
        {"download": "yes"},
        {"extra": 1},
    ],
)
def test_a_damaged_source_is_refused(made, tmp_path, data):
    kind = "moons" if "size" in data else "flowers"

    def change(document):
        document["data"] = {**document["data"], **data} if data else {}

    with pytest.raises(ValueError, match=r"\w+ \w+"):
        evaluate(edited(made, kind, tmp_path / "run", change))


def test_a_table_that_has_gone_is_named(made, tmp_path):
    run = edited(made, "flowers", tmp_path / "run", lambda d: d["data"].update(data=str(tmp_path / "gone.csv")))
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        evaluate(run)


def test_no_run_is_no_run(tmp_path):
    for job in (lambda: predict(tmp_path / "no", tmp_path / "t.csv"), lambda: evaluate(tmp_path / "no")):
        with pytest.raises(FileNotFoundError, match="is not there"):
            job()


def test_a_target_that_is_called_like_a_probability(tmp_path, quick):
    frame = flowers().assign(probability_a=lambda frame: np.resize(["a", "b"], len(frame))).drop(columns="kind")
    frame.to_csv(tmp_path / "t.csv", index=False)
    train(Source(str(tmp_path / "t.csv"), target="probability_a"), SMALL, tmp_path / "run")
    found = predict(tmp_path / "run", tmp_path / "t.csv").frame
    assert list(found) == ["probability_a", "probability_a_2", "probability_b"]
    assert set(found["probability_a"]) <= {"a", "b"}
