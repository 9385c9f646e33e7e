"""Runs of sequences: from .ts files and tables of one row a step to predictions, as runs of tables are made."""

import json

import numpy as np
import pandas as pd
import pytest

from hdnn.jobs import Choices, Source, train
from wording import python_words

SMALL = "--features 8 --epochs 3 --horizon 5"


def waves(count, seed, long=12, channels=2):
    """Sequences of several lengths: "up" where the first channel rises, "down" where it falls."""
    generator = np.random.default_rng(seed)
    found = []
    for k in range(count):
        T = int(generator.integers(long // 2, long + 1))
        x = generator.normal(0, 0.3, (T, channels))
        x[:, 0] += (1 if k % 2 else -1) * np.linspace(0, 2, T)
        found.append((x, "up" if k % 2 else "down"))
    return found


def as_ts(file, found, targets="@classLabel true up down", say=lambda x, label: label):
    lines = ["@problemName waves", "@timeStamps false", *([targets] if targets else []), "@data"]
    for x, label in found:
        channels = ":".join(",".join(f"{v:.4f}" for v in channel) for channel in x.T)
        lines.append(f"{channels}:{say(x, label)}" if targets else channels)
    file.write_text("\n".join(lines) + "\n")


def as_table(found):
    rows = [
        (f"run {k}", t, *values, label) for k, (x, label) in enumerate(found) for t, values in enumerate(x.round(4))
    ]
    return pd.DataFrame(rows, columns=["id", "hour", "a", "b", "way"])


@pytest.fixture
def files(place):
    as_ts(place / "W_TRAIN.ts", waves(40, 0))
    as_ts(place / "W_TEST.ts", waves(20, 1, long=15))
    as_table(waves(50, 2)).sample(frac=1, random_state=0).to_csv("steps.csv", index=False)
    return place


TABLE = "train steps.csv --target way --sequence id --time hour"


@pytest.mark.long
def test_an_official_pair_is_trained_predicted_and_evaluated(hdnn, files):
    code, out, err = hdnn(f"train W_TRAIN.ts -o run {SMALL} --epochs 12 --learning-rate 0.03")
    assert code == 0, err
    assert "60 sequences, 40 for training and 20 for testing; classification (2 classes); 6 to 15 steps" in err
    assert "W_TEST.ts is the test part" in err
    assert "on 20 test sequences" in out
    assert not python_words(err + out)
    config = json.loads((files / "run/config.json").read_text())
    assert config["network"]["inputs"] == [12, 3]
    assert config["network"]["damping"] == 0.2
    assert config["network"]["step"] == pytest.approx(5 / 12)
    code, out, _ = hdnn("evaluate run --json")
    own = json.loads(out)
    code, out, _ = hdnn("evaluate run W_TEST.ts --json")
    assert json.loads(out) == pytest.approx(own)
    assert own["accuracy"] > 0.8
    code, out, _ = hdnn("predict run W_TEST.ts -o said.csv")
    said = pd.read_csv("said.csv")
    assert list(said) == ["class", "probability_down", "probability_up"]
    assert (said["class"] == [label for _, label in waves(20, 1, long=15)]).mean() == pytest.approx(own["accuracy"])
    assert (files / "run/report.html").read_text().count("sequences") > 0


def test_early_runs_of_oscillators_that_name_what_these_have_not_load_and_go_on(hdnn, files, quick):
    assert hdnn(f"train W_TRAIN.ts -o one --model cornn {SMALL}")[0] == 0
    config = json.loads((files / "one/config.json").read_text())
    config["network"]["activation"] = "relu"  # both were taken, and ignored
    config["start"]["init_std"] = 0.5
    (files / "one/config.json").write_text(json.dumps(config))
    assert hdnn("evaluate one W_TEST.ts")[0] == 0
    assert hdnn("predict one W_TEST.ts -o said.csv")[0] == 0
    assert hdnn(f"train --like one -o two {SMALL}")[0] == 0
    assert hdnn(f"train --like one -o three --model unicornn {SMALL}")[0] == 0
    for name in ("model.safetensors", "metrics.json"):  # as it was before it had ended
        (files / "one" / name).unlink()
    assert hdnn("train --resume one")[0] == 0


def test_a_run_of_sequences_is_compared_and_what_is_not_for_it_is_refused_in_words(hdnn, files, quick):
    assert hdnn(f"train W_TRAIN.ts -o one {SMALL}")[0] == 0
    assert hdnn(f"train --like one -o two --model cornn --layers 2 {SMALL}")[0] == 0
    assert json.loads((files / "two/config.json").read_text())["network"]["damping"] is None  # that of h2 is not for it
    code, out, _ = hdnn("compare one two")
    assert code == 0
    assert "cornn" in out
    for line, words in (
        ("export one --onnx x.onnx", "one of sequences"),
        ("analyze one", "drive its flow"),
        ("playground one", "cannot show"),
        ("playground two", "cannot show"),
        ("predict one flowers.csv", "Give a .ts file"),
        ("evaluate one flowers.csv", "Give a .ts file"),
    ):
        code, out, err = hdnn(line)
        assert (code, out) == (2, ""), line
        assert words in err, err
        assert not python_words(err), err


def test_a_table_of_one_row_a_step(hdnn, files):
    code, out, err = hdnn(f"{TABLE} -o run {SMALL} --epochs 15 --learning-rate 0.03")
    assert code == 0, err
    assert "50 sequences, 40 for training and 10 for testing" in err
    assert "columns: a, b" in err
    own = json.loads(hdnn("evaluate run --json")[1])
    assert own["accuracy"] > 0.8
    fresh = as_table(waves(9, 7, long=20))
    fresh.drop(columns="way").sample(frac=1, random_state=1).to_csv("new.csv", index=False)
    code, out, err = hdnn("predict run new.csv --json")
    said = pd.DataFrame(json.loads(out)).set_index("id")["way"]
    assert len(said) == 9
    right = (said == fresh.drop_duplicates("id").set_index("id")["way"].loc[said.index]).mean()
    fresh.to_csv("known.csv", index=False)
    assert json.loads(hdnn("evaluate run known.csv --json")[1])["accuracy"] == pytest.approx(right)
    # A table for which there is no answer, and one whose sequences are told apart by nothing.
    fresh["way"] = None
    fresh.to_csv("unknown.csv", index=False)
    assert "missing" in hdnn("evaluate run unknown.csv")[2]
    fresh.drop(columns="id").to_csv("unnamed.csv", index=False)
    assert "no sequence column 'id'" in hdnn("predict run unnamed.csv")[2]
    assert "Give a table of one row a step" in hdnn("predict run W_TEST.ts")[2]


def test_numbers_are_predicted_in_their_units(hdnn, files):
    say = lambda x, label: f"{100 * x[:, 0].mean():.3f}"  # noqa: E731
    as_ts(files / "N.ts", waves(40, 0), "@targetLabel true", say)
    code, out, err = hdnn(f"train N.ts -o run {SMALL} --epochs 30 --learning-rate 0.03 --json")
    assert code == 0, err
    assert "40 sequences, 32 for training and 8 for testing; regression" in err
    assert json.loads(out)["test_r2"] > 0.5
    said = pd.DataFrame(json.loads(hdnn("predict run N.ts --json")[1]))["target"]
    assert np.corrcoef(said, [float(say(x, "")) for x, _ in waves(40, 0)])[0, 1] > 0.8


@pytest.mark.parametrize(
    "source", [{"data": "W_TRAIN.ts"}, {"data": "steps.csv", "target": "way", "sequence": "id", "time": "hour"}]
)
def test_a_run_goes_on_to_the_same_bits(hdnn, files, quick, source):
    def interrupt(progress):
        if progress.iteration == 7:
            raise KeyboardInterrupt

    choices = Choices(features=8, epochs=3, horizon=5.0)
    train(Source(**source), choices, files / "whole", threads=1)
    begun = train(Source(**source), choices, files / "part", threads=1, checkpoint_every=0.0, callbacks=(interrupt,))
    assert begun.interrupted
    code, _, err = hdnn("train --resume part")
    assert code == 0, err
    assert (files / "part/model.safetensors").read_bytes() == (files / "whole/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "more",
    [
        *("--folds 2", "--seeds 2", "--class-weight balanced", "--patience 2 --validation-fraction 0.2"),
        *("--optimizer sgd", "--model ms2 --damping 0.1", "--model unicornn", "--restarts 2"),
    ],
)
def test_what_else_is_chosen_of_a_training(hdnn, files, quick, more):
    code, _, err = hdnn(f"train W_TRAIN.ts -o run {SMALL} {more}")
    assert code == 0 or (code == 2 and not python_words(err)), err


TWO = "id,hour,a,way\nx,0,1,up\nx,1,2,up\ny,0,1,down\ny,1,0,down\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train W_TEST.ts", "Give the training part, W_TRAIN.ts"),
        ("train gone.ts", "There is no file gone.ts"),
        ("train bad.ts", "no line @data"),
        ("train mute.ts", "says nothing of its series"),
        ("train short_TRAIN.ts", "other channels"),
        ("train W_TRAIN.ts --target way", "--target is for tables"),
        ("train W_TRAIN.ts --sequence id --time hour", "--sequence and --time are for tables of one row a step"),
        ("train W_TRAIN.ts --lift zeros --features 8", ""),
        ("train W_TRAIN.ts --lift linear", "Leave out --lift linear"),
        ("train W_TRAIN.ts --width 9", "--width is for networks of vectors"),
        ("train W_TRAIN.ts --integrator yoshida4", "--integrator is for networks of vectors"),
        ("train W_TRAIN.ts --model h1 --damping 0.1", "no --damping"),
        ("train W_TRAIN.ts --model unicornn --damping 0.1", "undamped"),
        ("train W_TRAIN.ts --model cornn --activation relu", "--activation is for models that are flows"),
        ("train W_TRAIN.ts --model cornn --init-std 0.5", "--init-std is for models that are flows"),
        ("train W_TRAIN.ts --model lstm", "There is no model 'lstm'"),
        ("train W_TRAIN.ts --layers 0", "at least one layer"),
        ("train W_TRAIN.ts --features 7", "even"),
        ("train W_TRAIN.ts --step 0.1 --horizon 3", "not both"),
        ("train digits --model cornn", "network of sequences"),
        ("train flowers.csv --target kind --sequence kind", "Give both for flowers.csv"),
        ("train steps.csv --sequence id --time hour", "needs its target column"),
        ("train steps.csv --target way --sequence id", "Give both for steps.csv"),
        ("train steps.csv --target way --sequence id --time hour --bins 4", "--bins is for tables of one row a sample"),
        ("train steps.csv --target way --sequence id --time hour --lift linear", "--lift is for networks of vectors"),
        ("train steps.csv --target way --sequence hour --time hour", "are two columns"),
        ("train steps.csv --target way --sequence who --time hour", "There is no sequence column 'who'"),
        ("train steps.csv --target way --sequence id --time when", "There is no time column 'when'"),
        ("train steps.csv --target what --sequence id --time hour", "There is no target column 'what'"),
        ("train steps.csv --target id --sequence id --time hour", "asked for as something else as well"),
        ("train steps.csv --target way --sequence id --time hour --column id", "asked for as something else"),
        ("train steps.csv --target way --sequence id --time hour --without id", "asked for and left out"),
        ("train steps.csv --target hour --sequence id --time a", "changes within sequence"),
        ("train steps.csv --target a --sequence id --time hour", "changes within sequence"),
        ("train twice.csv --target way --sequence id --time hour", "rows 2 and 5"),
        ("train gaps.csv --target way --sequence id --time hour", "'hour' is empty in 1 row (first: data row 2)"),
        ("train nobody.csv --target way --sequence id --time hour", "'id' is empty in 1 row (first: data row 4)"),
        ("train words.csv --target way --sequence id --time hour", "Name a column of numbers or dates"),
        ("train two.csv --target way --sequence id --time hour", "single sequence"),
        ("tune W_TRAIN.ts --target way", "--target is for tables"),
    ],
)
def test_what_makes_no_sense_ends_in_words(hdnn, files, quick, line, words):
    as_ts(files / "mute.ts", waves(4, 0), "")
    as_ts(files / "short_TRAIN.ts", waves(10, 0))
    as_ts(files / "short_TEST.ts", waves(10, 0, channels=3))
    (files / "bad.ts").write_text("@problemName x\n")
    (files / "two.csv").write_text(TWO)
    (files / "twice.csv").write_text(TWO + "x,1,2,up\n")
    (files / "gaps.csv").write_text(TWO.replace("x,1,2", "x,,2"))
    (files / "nobody.csv").write_text(TWO.replace("y,1,0", ",1,0"))
    (files / "words.csv").write_text(TWO.replace(",0,", ",first,").replace(",1,", ",then,"))
    code, out, err = hdnn(f"{line} -o run --epochs 1" if line.startswith("train") else f"{line} --study s --trials 1")
    if not words:
        assert code == 0, err
        return
    assert (code, out) == (2, ""), (code, err)
    assert words in err, err
    assert not python_words(err), err
    assert not (files / "run").exists()


def test_uneven_times_and_targets_that_stand_once_are_taken_as_stated(hdnn, files, quick):
    table = as_table(waves(30, 3))
    table["hour"] = table["hour"].where(table["hour"] != 3, 3.5)
    table.loc[table["hour"] > 0, "way"] = None  # said once, in the first row
    table.to_csv("uneven.csv", index=False)
    code, _, err = hdnn(f"train uneven.csv --target way --sequence id --time hour -o run {SMALL}")
    assert code == 0, err
    assert "not evenly spaced in 'hour'" in err
    assert "or name 'hour' among the --column" in err
    assert not python_words(err)
    code, _, err = hdnn(
        f"train uneven.csv --target way --sequence id --time hour --column a --column hour -o timed {SMALL}"
    )
    assert code == 0, err
    assert "columns: a, hour" in err
    table["way"] = table["way"].where(table["id"] != "run 4")
    table.to_csv("some.csv", index=False)
    code, _, err = hdnn(f"train some.csv --target way --sequence id --time hour -o some {SMALL}")
    assert "left out: 1 sequence without way" in err


def test_dates_order_the_steps(hdnn, files, quick):
    table = as_table(waves(30, 3))
    table["hour"] = pd.Timestamp("2026-01-30") + pd.to_timedelta(table["hour"], unit="D")
    table["hour"] = table["hour"].dt.strftime("%Y-%m-%d")
    table.sample(frac=1, random_state=0).to_csv("days.csv", index=False)
    code, _, err = hdnn(f"train days.csv --target way --sequence id --time hour -o run {SMALL}")
    assert code == 0, err
    assert "not evenly" not in err
    code, _, err = hdnn("predict run days.csv")
    assert code == 0, err


@pytest.mark.parametrize("data", ["W_TRAIN.ts", "steps.csv --target way --sequence id --time hour"])
def test_choices_are_searched_for_sequences_too(hdnn, files, quick, data):
    pytest.importorskip("optuna")
    code, out, err = hdnn(f"tune {data} --study found --trials 2 --epochs 1 --features 8")
    assert code == 0, err
    assert "test sequences" in out
    assert not python_words(out + err)
    config = json.loads(next((files / "found").glob("trial-*/config.json")).read_text())
    assert config["network"]["layers"] <= 3
