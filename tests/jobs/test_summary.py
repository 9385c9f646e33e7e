"""The report of a run as its reader sees it."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from hdnn import plots
from hdnn.jobs import Choices, Source, train
from hdnn.jobs.sights import of_confusion, of_regions, of_training
from samples import houses


@pytest.fixture
def drawn(monkeypatch):
    """What the training curves were drawn from, beside the figure."""
    calls = []
    original = plots.training_curves

    def remember(history, **more):
        calls.append((history, original(history, **more)))
        return calls[-1][1]

    monkeypatch.setattr(plots, "training_curves", remember)
    return calls


def of_houses(folder, **choices):
    houses().to_csv(folder / "houses.csv", index=False)
    source = Source(str(folder / "houses.csv"), target="price")
    outcome = train(source, Choices(layers=2, epochs=3, batch_size=32, **choices), folder / "run")
    return outcome, outcome.run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_regression_has_one_unit_and_only_what_there_is(tmp_path, drawn, validation):
    outcome, page = of_houses(tmp_path, validation_fraction=validation)
    metrics, scale = outcome.metrics, outcome.run.config.target["scale"][0]
    assert scale > 10  # else it would not show that errors are in the units of the data
    ((history, figure),) = drawn
    assert {ax.get_ylabel() for ax in figure.axes} >= {"objective (standardised)", "RMS error of price"}
    told = outcome.run.read_history()
    for key in ("train_error", *(["validation_error"] if validation else [])):
        assert [record[key] for record in history] == [pytest.approx(scale * record[key]) for record in told]
    if not validation:  # of the epoch's own weights, which moved in it
        assert history[-1]["train_error"] == pytest.approx(metrics["train_error"], rel=0.3)
    for value in (metrics["train_r2"], metrics["test_r2"]):
        assert f"{value:.3f}" in page
    for value in (metrics["test_error"], metrics["test_absolute_error"]):
        assert f">{value:.4g}</dd>" in page
    assert "RMS error of price, test" in page
    assert "Errors in the units of price." in page
    assert "label smoothing" not in page
    assert "label_smoothing" not in page
    assert ("validation curve" in page) == bool(validation)


def test_curves_in_words():
    history = [{"loss": 1.0, "train_accuracy": 0.5}, {"loss": math.nan}, {"loss": 1e-9, "train_accuracy": 0.75}]
    assert of_training(history) == (
        "Curves over 3 epochs: objective falls from 1 to 1e-09; train accuracy rises from 0.5 to 0.75."
    )
    assert of_training([{"loss": math.nan}]) == "Curves over 1 epoch: nothing finite."


def test_a_confusion_matrix_in_words():
    counts = np.array([[8, 2, 0], [0, 5, 0], [1, 0, 4]])
    text = of_confusion(counts, ["a", "b", "c"])
    assert "17 of 20 test rows are on the diagonal" in text
    assert text.endswith("The most frequent error: a taken for b, 2 of 10.")
    assert of_confusion(np.diag([1, 1]), ["a", "b"]).endswith("2 of 2 test rows are on the diagonal.")


def test_long_names_of_many_classes_are_cut():
    text = of_regions([f"{i} {'long ' * 50}" for i in range(100)], 5, 1)
    assert len(text) < 800
    assert re.search("and 92 more", text)


@pytest.mark.long
def test_of_two_numbers_in_pieces_the_regions_are_those_of_the_network(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 2)) * [1.0, 50.0] + [0.0, 1000.0]
    inside = (np.abs(x[:, 0]) < 0.7) & (np.abs(x[:, 1] - 1000) < 40)
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": np.where(inside, "in", "out")}).to_csv(tmp_path / "t.csv")
    drawn = {}
    original = plots.decision_regions

    def remember(*axes_and_grid, **more):
        drawn["axes"], drawn["said"], drawn["points"] = axes_and_grid[:2], axes_and_grid[2], axes_and_grid[3]
        drawn["predicted"] = more["predicted"]
        return original(*axes_and_grid, **more)

    monkeypatch.setattr(plots, "decision_regions", remember)
    source = Source(str(tmp_path / "t.csv"), target="kind", columns=("a", "b"), bins=8)
    outcome = train(source, Choices(layers=4, epochs=15), tmp_path / "run")
    assert outcome.run.config.network.inputs == (18,)
    columns, rows = (
        np.abs(axis[None] - drawn["points"][:, [i]]).argmin(axis=1) for i, axis in enumerate(drawn["axes"])
    )
    near = (drawn["said"][rows, columns] > 0.5).astype(int)
    assert 0 < near.mean() < 1
    assert (near == drawn["predicted"]).mean() > 0.95
