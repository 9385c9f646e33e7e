"""`hdnn tune` as a user meets it."""

import json

import pytest

from hdnn.cli import tune as tune_command

LINE = "tune flowers.csv --target kind --epochs 3 --trials 3 --threads 1"


@pytest.fixture(autouse=True)
def without_pictures(quick, place, monkeypatch):
    monkeypatch.setattr("hdnn.jobs.figures.drawn", lambda *_: [])


def test_the_command_says_what_was_found_and_what_was_decided(hdnn, place):
    code, out, err = hdnn(f"{LINE} --study s --model h2 --layers 2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("Trials: 3 (")
    assert "on the rows held back" in lines[1]
    assert "  model: h2" in lines
    assert "  layers: 2" in lines
    assert any(line.startswith("Test accuracy: ") for line in lines)
    assert lines[-2].startswith("Run: s/trial-")
    assert lines[-1] == "Choices: s/best.json"
    assert (
        "Searching horizon, features, learning rate, weight decay, bins: accuracy on 20 of 96 training rows decides."
        in err
    )
    code, _, err = hdnn(f"train flowers.csv --target kind --config {place / 's' / 'best.json'} -o again")
    assert code == 0, err


def test_as_json_it_is_one_document_and_the_folder_goes_on(hdnn, place):
    first = json.loads(hdnn(f"{LINE} --study s --json")[1])
    assert first["trials"] == 3
    assert first["score"] == "accuracy"
    assert 0 <= first["test_accuracy"] <= 1
    again = json.loads(hdnn(f"{LINE} --study s --json --trials 5")[1])
    assert again["trials"] == 5
    assert again["value"] >= first["value"]
    assert (place / again["run"] / "metrics.json").is_file()
    done = json.loads(hdnn(f"{LINE} --study s --json --trials 5")[1])
    assert done == again


def test_numbers_are_scored_by_r2(hdnn):
    code, out, _ = hdnn("tune houses.parquet --target price --epochs 2 --trials 2 --threads 1 --study s")
    assert code == 0
    assert ", R² " in out
    assert "Test error: " in out


def test_an_interruption_names_how_to_go_on(hdnn, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hdnn.jobs.workers.scored", interrupted)
    code, out, err = hdnn(f"{LINE} --study s")
    assert (code, out) == (130, "")
    assert "when the study goes on: --study s." in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{LINE} --study s --seed 9", "The study in s was begun with other options of the data, seed"),
        (f"{LINE} --study s --epochs 4", "begun with other choices"),
        (f"{LINE} --study s --storage sqlite:///a.db", "Leave out --storage."),
        (f"{LINE} --study flowers.csv", "flowers.csv is a file. Choose another folder with --study."),
        (f"{LINE} --study . ", "holds something else than a study"),
        (f"{LINE} --study t --storage nonsense", "The database of --storage cannot be used"),
        (f"{LINE} --study t --trials 0", "--trials must be a whole number, at least 1; got 0."),
        (f"{LINE} --study t --layers -1", "layers"),
        ("tune flowers.csv --study t", "--target"),
        ("tune", "Missing argument"),
    ],
)
def test_the_command_refuses_in_its_own_words(hdnn, line, words):
    hdnn(f"{LINE} --study s --trials 1")
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert words in err
    assert "`" not in err


def test_the_password_of_a_database_stays_out_of_runs(hdnn, place, monkeypatch):
    url = "mysql://me:se/cr@3t@host/db?ssl_password=t0p&x=1"
    words = ["tune", "flowers.csv", "--target", "kind", "--storage", url, "--study", "s"]
    monkeypatch.setattr("sys.argv", ["hdnn", *words])
    told = {}

    def kept(*_, command, storage, **__):
        told.update(command=command, storage=storage)
        raise ValueError("enough")

    monkeypatch.setattr("hdnn.jobs.tune", kept)
    assert hdnn(" ".join(words))[0] == 2
    assert told["storage"] == url
    assert "mysql://me:PASSWORD@host/db?ssl_password=PASSWORD&x=1" in told["command"]
    assert told["command"].startswith("hdnn tune flowers.csv --target kind")


@pytest.mark.parametrize("word", ["sqlite:///a.db", "a:b@c", "mysql://host/db?charset=utf8", "pass=1", "%d/%m/%Y"])
def test_other_words_of_a_command_stay(word):
    assert tune_command._without_password(word) == word
