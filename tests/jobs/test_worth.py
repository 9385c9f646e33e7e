"""What a score is worth: simple methods, folds and seeds, columns, and what the rows weigh."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import StratifiedKFold

import hdnn
from hdnn.data import Numeric, table
from hdnn.jobs import Choices, Source, baselines, resume, standing, train
from hdnn.jobs.importance import importances
from hdnn.jobs.repeats import Repeats, fold_of
from hdnn.jobs.standing import compared, lines
from hdnn.jobs.weights import row_weights
from hdnn.runs import Run
from samples import flowers, houses

SMALL = Choices(layers=2, epochs=2, batch_size=32)
CLASSIFIERS = {"linear": LogisticRegression(max_iter=200), "trees": HistGradientBoostingClassifier(random_state=0)}
REGRESSORS = {"linear": RidgeCV(np.logspace(-3, 3, 7)), "trees": HistGradientBoostingRegressor(random_state=0)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    flowers().to_csv(folder / "flowers.csv", index=False)
    houses().to_csv(folder / "houses.csv", index=False)
    return {
        "flowers": Source(str(folder / "flowers.csv"), target="kind"),
        "houses": Source(str(folder / "houses.csv"), target="price"),
    }


def without_pieces(data, x):
    """What simple methods get: pieces of numbers are there for the network."""
    parts = []
    for column, part in zip(
        data.encoder.columns, np.split(x, np.cumsum([each.width for each in data.encoder.columns])[:-1], 1), strict=True
    ):
        if isinstance(column, Numeric):
            part = np.concatenate([part[:, :1], part[:, part.shape[1] - column.indicator :]], axis=1)
        parts.append(part)
    return np.concatenate(parts, axis=1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["flowers", "houses"])
def test_baselines_are_those_of_scikit_learn_on_the_same_rows(sources, kind, tmp_path):
    outcome = train(sources[kind], SMALL, tmp_path / "run")
    data, found = sources[kind].load(), outcome.metrics["baselines"]
    assert list(found) == ["constant", "linear", "trees"]
    x, x_test = (without_pieces(data, part).astype(float) for part in (data.x_train, data.x_test))
    assert x.shape[1] < data.inputs[0]
    if kind == "flowers":
        for name, model in CLASSIFIERS.items():
            said = model.fit(x, data.y_train).predict_proba(x_test)
            assert found[name]["accuracy"] == accuracy_score(data.y_test, said.argmax(1))
            assert found[name]["loss"] == pytest.approx(log_loss(data.y_test, said))
        majority = np.bincount(data.y_train).argmax()
        assert found["constant"]["accuracy"] == np.mean(data.y_test == majority)
        assert found["constant"]["balanced_accuracy"] == pytest.approx(1 / len(data.classes))
        assert found["constant"]["roc_auc"] == 0.5
        own = outcome.metrics["test_accuracy"]
        assert found["trees"]["difference"] == pytest.approx(own - found["trees"]["accuracy"])
    else:
        for name, model in REGRESSORS.items():
            said = model.fit(x, data.y_train[:, 0]).predict(x_test)
            assert found[name]["r2"] == pytest.approx(r2_score(data.y_test[:, 0], said), rel=1e-4)
        assert found["constant"]["r2"] == pytest.approx(0, abs=0.05)
        own = outcome.metrics["test_r2"]
        assert found["trees"]["difference"] == pytest.approx(own - found["trees"]["r2"], abs=1e-6)
        assert outcome.metrics["test_spread"] == pytest.approx(data.target.decode(data.y_test).std(), rel=1e-5)


def test_a_difference_has_its_standard_error():
    truth, random = np.arange(400) % 2, np.random.default_rng(0)
    right, coin = np.eye(2)[truth], np.eye(2)[random.integers(2, size=400)]
    found = baselines._difference(truth, right, coin)
    share = np.mean(coin.argmax(1) != truth)
    assert found["difference"] == share
    assert found["difference_error"] == pytest.approx(np.sqrt(share * (1 - share) / 399))
    assert baselines._difference(truth, right, right) == {"difference": 0.0, "difference_error": 0.0}
    assert baselines._difference(truth[:1], right[:1], coin[:1]).keys() == {"difference"}


def test_what_would_take_long_is_left_out_in_words():
    x = np.random.default_rng(0).normal(size=(60, 150))
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(150)]).assign(y=list("abc") * 20)
    data = table(frame, "y")
    found = baselines.baselines(data, np.eye(3)[data.y_test])
    assert found["trees"] == ({}, "150 inputs and 3 outputs would take long")
    assert found["linear"].scores["accuracy"] <= 1


def test_a_score_without_a_mistake_is_no_certainty():
    def of(share, rows=30):
        return standing._chance({"test_accuracy": share, "test_rows": rows, "baselines": {}})

    assert of(0.9) == "With 30 test rows, the accuracy has a standard error of 5.5 points."
    # At 90.5 %, thirty rows are all right one time in twenty.
    assert of(1.0) == "All of 30 test rows are right: with 95 % confidence the accuracy is at least 90.5 %."


def test_verdicts_know_chance():
    def of(difference, error=0.01):
        scores = {"accuracy": 0.8, "difference": difference, "difference_error": error}
        return compared({"test_accuracy": 0.8 + difference, "baselines": {"trees": scores}})

    assert of(0.05) == "5 points ahead of gradient-boosted trees, with a standard error of 1."
    assert of(-0.05) == "5 points behind gradient-boosted trees, with a standard error of 1."
    assert of(0.01).startswith("No clear difference: 1 points ahead of")
    assert of(0.0) == "As good as gradient-boosted trees."
    assert compared({"test_accuracy": 1.0}) == ""


def test_a_column_that_decides_is_worth_most():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"noise": random.normal(size=400), "sign": random.choice(list("xyz"), 400), "size": random.normal(size=400)}
    )
    frame["y"] = np.where((frame["sign"] == "x") | (frame["size"] > 1.5), "yes", "no")
    data = table(frame, "y")
    network = hdnn.vector_classifier(data.inputs[0], 2, hdnn.h2(10, layers=4, step=0.2))
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    hdnn.fit(network, x, y, hdnn.Recipe(epochs=30, learning_rate=0.02, batch_size=32))
    found = importances(network, data, 0)
    assert next(iter(found)) == "sign"
    assert found["sign"]["mean"] > 0.2
    assert abs(found["noise"]["mean"]) < 0.1
    assert found == importances(network, data, 0)
    with torch.no_grad():  # a network that looks at nothing
        network.head.weight.zero_()
    assert {each["mean"] for each in importances(network, data, 0).values()} == {0.0}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_row_is_held_out_once_and_classes_keep_their_shares(folds):
    random = np.random.default_rng(1)
    labels = random.choice(list("abc"), 97, p=[0.7, 0.2, 0.1])
    data = table(pd.DataFrame({"x": random.normal(size=97), "y": labels}), "y")
    fold = fold_of(data, folds, 0)
    assert fold.shape == data.y_train.shape
    assert set(fold) == set(range(folds))
    counts = np.array([np.bincount(data.y_train[fold == k], minlength=3) for k in range(folds)])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(1)) <= 1
    theirs = StratifiedKFold(folds, shuffle=True, random_state=0).split(data.x_train, data.y_train)
    sizes = sorted(tuple(np.bincount(data.y_train[held], minlength=3)) for _, held in theirs)
    assert np.abs(np.array(sizes) - np.array(sorted(map(tuple, counts)))).max() <= 1
    assert not np.array_equal(fold, fold_of(data, folds, 1))


@pytest.mark.usefixtures("quick")
def test_folds_and_seeds_are_trainings_like_the_run_itself(sources, tmp_path):
    said = []
    source = sources["flowers"]
    outcome = train(source, Choices(**SMALL, folds=3, seeds=3), tmp_path / "a", seed=5, announce=said.append)
    plain = train(source, SMALL, tmp_path / "b", seed=5)
    other = train(source, SMALL, tmp_path / "c", seed=6)
    assert outcome.run.load_network().state_dict().keys() == plain.run.load_network().state_dict().keys()
    for name, value in plain.run.load_network().state_dict().items():
        assert torch.equal(outcome.run.load_network().state_dict()[name], value)
    folds, seeds = outcome.metrics["folds"], outcome.metrics["seeds"]
    assert (folds["count"], seeds["count"], seeds["diverged"]) == (3, 3, 0)
    assert seeds["loss"]["values"][0] == plain.metrics["test_loss"]
    assert seeds["loss"]["values"][1] == pytest.approx(other.metrics["test_loss"], rel=1e-4)
    values = folds["accuracy"]["values"]
    assert folds["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert folds["accuracy"]["standard_error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert any("3 folds" in text for text in said)
    assert sum("over 3" in line for line in lines(outcome.metrics)) == 2


@pytest.mark.usefixtures("quick")
def test_folds_and_seeds_weigh_classes_too(sources, tmp_path):
    source = sources["flowers"]
    heavy = {f"{label}": weight for label, weight in zip(source.load().classes, (9, 1, 1), strict=False)}
    plain = {**SMALL, "epochs": 8, "smoothness": 0.0, "validation_fraction": 0.0}
    found = [
        train(source, Choices(**plain, **more, folds=2, seeds=2), tmp_path / f"run{i}").metrics
        for i, more in enumerate(({}, {"class_weight": heavy}))
    ]
    for key in ("folds", "seeds"):
        values = [each[key]["loss"]["values"] for each in found]
        assert all(one != other for one, other in zip(*values, strict=True))
    again = train(source, Choices(**plain, class_weight=heavy), tmp_path / "again", seed=1).metrics
    assert found[1]["seeds"]["loss"]["values"][1] == pytest.approx(again["test_loss"], rel=1e-4)
    assert found[0]["baselines"]["linear"] != found[1]["baselines"]["linear"]


@pytest.mark.usefixtures("quick")
def test_a_command_says_what_a_score_is_worth(sources, tmp_path, hdnn):
    line = f"train {sources['flowers'].data} --target kind --layers 2 --epochs 2 --class-weight balanced --folds 2"
    code, out, _ = hdnn(f"{line} --output", tmp_path / "run")
    assert code == 0
    said = out.splitlines()
    assert said[1].startswith("On the same rows, accuracy of gradient-boosted trees ")
    assert said[2].startswith("With ")
    assert "points" in said[3] or said[3].startswith("As good as")
    assert " over 2 folds of the training rows" in said[4]
    _, out, _ = hdnn(f"{line} --json --output", tmp_path / "json")
    assert json.loads(out)["baselines"].keys() == {"constant", "linear", "trees"}
    code, out, _ = hdnn("evaluate", tmp_path / "run")
    assert {line.partition(":")[0] for line in out.splitlines()} >= {"accuracy", "balanced_accuracy", "roc_auc"}
    code, _, err = hdnn(f"{line} --class-weight 5 --output", tmp_path / "bad")
    assert code == 2
    assert "--class-weight is balanced, or a class and its weight as in" in err


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("more", [{"validation_fraction": 0.2, "patience": 1}, {"optimizer": "lbfgs"}])
def test_seeds_that_cannot_train_together_train_one_after_another(sources, more, tmp_path):
    outcome = train(sources["houses"], Choices(**SMALL, **more, folds=2, seeds=2), tmp_path / "run")
    assert len(outcome.metrics["seeds"]["r2"]["values"]) == len(outcome.metrics["folds"]["r2"]["values"]) == 2


def test_folds_of_hardly_a_row_are_refused(sources):
    data = table(pd.DataFrame({"x": np.arange(12.0) ** 2, "y": list("ab") * 6}), "y")
    with pytest.raises(ValueError, match=r"`folds=9` of 9 training rows have hardly a row each. Take fewer."):
        Repeats(folds=9).require(data, hdnn.Recipe(epochs=1))
    with pytest.raises(ValueError, match="Take fewer"):
        Repeats(seeds=3).require(data, hdnn.Recipe(epochs=1, seed=2**32 - 2))


@pytest.mark.parametrize("chosen", [("balanced",), ("setosa=3", "virginica=0.5")])
def test_classes_weigh_what_they_weigh_for_the_estimator(sources, chosen):
    data = dataclasses.replace(sources["flowers"], bins=0).load()
    named = {} if chosen == ("balanced",) else {k: float(v) for k, _, v in (each.partition("=") for each in chosen)}
    classes = np.array(data.classes)
    kinds = {"setosa": classes[0], "virginica": classes[-1]}
    chosen = tuple(f"{kinds[label]}={weight}" for label, weight in named.items()) or chosen
    weight = row_weights(data, chosen)
    recipe = {"epochs": 3, "learning_rate": 0.02, "batch_size": 32}
    estimator = hdnn.HamiltonianClassifier(
        class_weight={kinds[label]: value for label, value in named.items()} or "balanced",
        features=8, horizon=0.8, layers=8, standardize=False, dtype="float32", random_state=0, weight_decay=0.0,
        label_smoothing=0.0, bins=0, early_stopping=False, **recipe,
    ).fit(data.x_train, classes[data.y_train])  # fmt: skip
    seed = estimator._fitted.seed
    torch.manual_seed(seed)
    network = hdnn.vector_classifier(data.inputs[0], len(classes), hdnn.h2(8, layers=8, horizon=0.8))
    hdnn.fit(
        network,
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        hdnn.Recipe(optimizer="adamw", seed=seed, **recipe),
        sample_weight=weight,
    )
    for mine, theirs in zip(network.parameters(), estimator.network_.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.usefixtures("quick")
def test_a_run_keeps_what_classes_weigh(sources, tmp_path):
    source = sources["flowers"]
    label = source.load().classes[0]
    choices = Choices(**{**SMALL, "epochs": 4}, class_weight=(f"{label}=50",))
    whole = train(source, choices, tmp_path / "whole")
    without = train(source, Choices(**{**SMALL, "epochs": 4}), tmp_path / "without")
    assert whole.metrics["train_loss"] != without.metrics["train_loss"]

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    cut = train(source, choices, tmp_path / "cut", callbacks=(stop,), checkpoint_every=0)
    assert cut.interrupted
    assert "baselines" not in cut.metrics
    done = resume(tmp_path / "cut")
    assert done.metrics["train_loss"] == whole.metrics["train_loss"]
    assert done.metrics["baselines"] == whole.metrics["baselines"]


@pytest.mark.usefixtures("quick")
def test_an_interrupt_among_the_folds_can_be_resumed(sources, tmp_path, monkeypatch):
    whole = train(sources["flowers"], Choices(**SMALL, folds=2), tmp_path / "whole")

    def interrupted(*ignored):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hdnn.jobs.repeats._folds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(sources["flowers"], Choices(**SMALL, folds=2), tmp_path / "cut")
    assert not Run.open(tmp_path / "cut").is_finished
    done = resume(tmp_path / "cut")
    assert done.run.is_finished
    assert done.metrics["folds"] == whole.metrics["folds"]


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (("no such=2",), "There is no class 'no such'"),
        (("2",), "or texts like"),
        (("balanced", "balanced"), "It stands alone"),
        (("{0}=-1",), "must be finite and not negative"),
        (("{0}=x",), "or texts like"),
    ],
)
def test_weights_that_make_no_sense_are_refused(sources, chosen, text):
    data = sources["flowers"].load()
    with pytest.raises(ValueError, match=text):
        row_weights(data, tuple(each.replace("{0}", data.classes[0]) for each in chosen))


def test_numbers_have_no_classes_to_weigh(sources):
    with pytest.raises(ValueError, match="`class_weight` is for classes, and 'price' is predicted as a number"):
        row_weights(sources["houses"].load(), ("balanced",))


def test_the_report_says_what_a_score_is_worth(sources, tmp_path):
    outcome = train(sources["flowers"], Choices(**SMALL, folds=2), tmp_path / "run")
    page = outcome.run.report.read_text(encoding="utf-8")
    for words in ("What the score is worth", "gradient-boosted trees", "logistic regression", "2 folds", "Calibration",
                  "What the columns are worth", "the most frequent class"):  # fmt: skip
        assert words in page
    assert json.loads((outcome.run.folder / "metrics.json").read_text()) == outcome.metrics
