"""Runs read new files by the decisions of their training, and say what is strange in them."""

import json

import numpy as np
import pandas as pd
import pytest

from hdnn.jobs import Choices, Source, evaluate, predict, train
from hdnn.runs import Run

SMALL = Choices(layers=2, epochs=3, batch_size=16, restarts=1)

pytestmark = pytest.mark.usefixtures("quick")


def german(rows=80, seed=0):
    generator = np.random.default_rng(seed)
    area = generator.uniform(20, 2000, rows).round(1)
    day, kind = pd.date_range("2021-01-01", periods=rows), np.resize(["a", "b"], rows)
    price = (area * 3 + generator.normal(0, 300, rows)).round(2)
    return pd.DataFrame({"area": area, "day": day, "kind": kind, "price": price})


def written(frame, path, **how):
    german = frame.assign(
        area=frame["area"].map(lambda x: f"{x:,.1f}".translate(str.maketrans(",.", ".,")) + " m²"),
        day=frame["day"].dt.strftime("%d.%m.%Y"),
        price=frame["price"].map(lambda x: f"{x:.2f}".replace(".", ",")),
    )
    german.to_csv(path, index=False, sep=";", **how)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    path = written(german(), folder / "t.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdnn.jobs.task.write_summary", lambda run, *results: run.write_report("a page"))
        train(Source(str(path), target="kind", without=("price",)), SMALL, folder / "kind")
        train(Source(str(path), target="price"), SMALL, folder / "price")
    return folder


@pytest.mark.parametrize("name", ["kind", "price"])
def test_new_rows_are_the_same_however_they_are_kept(runs, tmp_path, name):
    frame = german(30, seed=1)
    expected = predict(runs / name, written(frame, tmp_path / "a.csv")).frame
    frame.to_parquet(tmp_path / "b.parquet")
    written(frame, tmp_path / "c.csv.gz", encoding="utf-16")
    written(frame.iloc[:1], tmp_path / "d.csv")
    for file in ("b.parquet", "c.csv.gz"):
        pd.testing.assert_frame_equal(predict(runs / name, tmp_path / file).frame, expected)
    one = predict(runs / name, tmp_path / "d.csv").frame
    np.testing.assert_allclose(one.select_dtypes("number"), expected.select_dtypes("number").iloc[:1], rtol=1e-5)
    scores = [evaluate(runs / name, tmp_path / file) for file in ("a.csv", "b.parquet", "c.csv.gz")]
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] == scores[2]


def test_numbers_in_another_notation_are_refused(runs, tmp_path):
    frame = german(30, seed=1)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=r"'area' must hold numbers written with decimal comma.* row 1 holds"):
        predict(runs / "price", tmp_path / "t.csv")


def test_the_test_part_is_found_again(runs):
    for name in ("kind", "price"):
        metrics = Run.open(runs / name).read_metrics()
        assert evaluate(runs / name)["loss"] == pytest.approx(metrics["test_loss"])


def test_labels_that_are_unknown_and_rows_without_one_are_left_out_and_counted(runs, tmp_path):
    frame = german(30, seed=1)
    frame.loc[[3, 4], "kind"] = "c"
    frame.loc[5, "kind"] = None
    scores = evaluate(runs / "kind", written(frame, tmp_path / "t.csv"))
    assert (scores["rows"], scores["rows_of_new_classes"], scores["rows_without_answer"]) == (27, 2, 1)
    known = evaluate(runs / "kind", written(frame.drop(index=[3, 4, 5]), tmp_path / "t.csv"))
    assert known["accuracy"] == scores["accuracy"]


def test_values_far_outside_are_counted_and_marks_pointed_at(runs, tmp_path):
    frame = german(30, seed=1)
    frame.loc[[1, 2], "area"] = -9999.0
    frame.loc[3, "area"] = 12345.0
    remarks = predict(runs / "price", written(frame, tmp_path / "t.csv")).remarks
    assert "3 values far outside the range of the training part (area 3)" in remarks
    assert "2 of these (-9999 in area 2) often stand for a missing value; if they do, give them as `missing`" in remarks
    told = []
    evaluate(runs / "price", tmp_path / "t.csv", announce=told.append)
    assert len(told) == 1
    assert "3 values far outside the range of the training part (area 3); 2 of these (-9999" in told[0]
    assert "price" not in told[0]  # the answer is no column that is not used
    path = tmp_path / "t.csv"
    path.write_text(path.read_text().replace("-9.999,0 m²", "-9999"))
    remarks = predict(runs / "price", path, choices={"missing": ("-9999",)}).remarks
    assert "2 missing values (area 2) filled in" in remarks


def test_a_table_without_a_header(tmp_path):
    frame = german()[["area", "price"]]
    frame.to_csv(tmp_path / "t.csv", index=False, header=False)
    train(Source(str(tmp_path / "t.csv"), target="column2", no_header=True), SMALL, tmp_path / "run")
    assert len(predict(tmp_path / "run", tmp_path / "t.csv").frame) == 80
    frame.set_axis(["column1", "column2"], axis=1).to_csv(tmp_path / "named.csv", index=False)
    found = predict(tmp_path / "run", tmp_path / "named.csv", choices={"no_header": False}).frame
    assert len(found) == 80


def test_a_run_of_before_reads_names_and_categories_with_blanks(runs, tmp_path):
    """Early runs kept the blanks that stand behind separators."""
    frame = german().assign(town=np.resize(["Bern", "Lund"], 80))[["area", "town", "price"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    train(Source(str(tmp_path / "t.csv"), target="price"), SMALL, tmp_path / "run")
    expected = predict(tmp_path / "run", tmp_path / "t.csv").frame
    place = tmp_path / "run" / "config.json"
    document = json.loads(place.read_text())
    area, town = document["encoder"]["columns"]
    del area["range"]
    town.update(name=" town", categories=[" Bern", " Lund"])
    document["target"]["columns"] = [" price"]
    document["data"]["target"] = " price"
    place.write_text(json.dumps(document))
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace(",", ", "))
    found = predict(tmp_path / "run", tmp_path / "t.csv").frame
    pd.testing.assert_frame_equal(found, expected.rename(columns={"price": " price"}))
    assert evaluate(tmp_path / "run")["loss"] == Run.open(tmp_path / "run").read_metrics()["test_loss"]
    assert evaluate(tmp_path / "run", tmp_path / "t.csv")["rows"] == 80


def test_the_command_line_says_it_in_its_own_words(hdnn, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = german()
    frame.loc[[1, 2], "area"] = -9999.0
    frame.assign(customer=np.cumsum(np.arange(80)) + 7000).to_csv("t.csv", index=False)
    code, _, err = hdnn("train t.csv --target price --layers 2 --epochs 2 -o run")
    assert code == 0, err
    assert (
        "Note: customer: whole numbers that only rise and never repeat, like an id. If so, leave it out with --without."
        in err
    )
    assert "give --missing -9999" in err
    code, _, err = hdnn("train t.csv --target price --without customer --missing -9999 --layers 2 --epochs 2 -o other")
    assert code == 0, err
    assert "Note:" not in err
    assert "2 missing values (area 2)" in err
    code, _, err = hdnn("predict other t.csv -o said.csv")
    assert (code, "2 missing values (area 2)" in err) == (0, True), err
    frame.assign(kind="new").to_csv("u.csv", index=False)
    written(frame.assign(kind=np.resize(["a", "c"], 80)), tmp_path / "v.csv")
    code, out, err = hdnn(f"evaluate {runs / 'kind'} v.csv")
    assert (code, "rows of new classes: 40" in out) == (0, True), err
    code, _, err = hdnn(f"evaluate {runs / 'kind'} v.csv --separator ,")
    assert code == 2
    assert "looks like a title" in err


def test_what_is_missing_in_new_rows_is_said_of_cells_with_types(runs, tmp_path):
    frame = german(30, seed=1)
    frame.loc[[2, 5], "area"] = -999.0
    frame.to_parquet(tmp_path / "m.parquet")
    frame.loc[[2, 5], "area"] = None
    frame.to_parquet(tmp_path / "gaps.parquet")
    found = predict(runs / "kind", tmp_path / "m.parquet", choices={"missing": ("-999",)})
    assert "2 missing values (area 2) filled in" in found.remarks
    pd.testing.assert_frame_equal(found.frame, predict(runs / "kind", tmp_path / "gaps.parquet").frame)
    assert evaluate(runs / "price", tmp_path / "m.parquet", choices={"missing": ("-999",)}) == evaluate(
        runs / "price", tmp_path / "gaps.parquet"
    )


@pytest.mark.parametrize("name", ["out.xlsx", "out.csv.gz", "out.PARQUET"])
def test_predictions_are_not_called_what_they_are_not(hdnn, runs, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    written(german(5), tmp_path / "t.csv")
    code, _, err = hdnn(f"predict {runs / 'kind'} t.csv -o {name}")
    assert code == 2
    assert "written as CSV" in err
    assert "out.csv" in err
    assert not (tmp_path / name).exists()
