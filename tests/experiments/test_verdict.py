"""The verdict: what is met, what is missed, and that both pages say so."""

import re
import statistics
from pathlib import Path

import pytest

from hdnn.experiments import verdict
from hdnn.experiments.experiment import Experiment, Measure, Outcome, Paper, at_least
from hdnn.experiments.laboratory import Reproduction
from hdnn.experiments.store import Record

VALUES = {
    "moons/1": [99.0, 100.0, 99.5],
    "moons/1@published": [90.0, 91.0, 92.0],
    "moons/2": [99.94, 99.94, 99.94],
    "moons/4": [99.99, 99.93, 99.96],
    "roll/1": [70.0, None, 99.0],
}
PUBLISHED = {"moons/1": 98.0, "moons/2": 100.0, "moons/4": 100.0, "roll/1": 60.0}
MADE = {"hdnn": "0.1.0", "torch": "2.13.0", "commit": "abc1234", "processor": "a <fast> one", "date": "2026-11-23"}


def meets(mean, published):
    return mean >= min(published, 99.95)


def record(value):
    outcome = None if value is None else Outcome({"accuracy": value, "loss": value / 7})
    return Record(outcome, "" if outcome else "Too large a step.", 1.5, 1.25, MADE)


def reproduction(values=VALUES, *, smoke=False, judged=True):
    measures = (
        Measure("accuracy", "test accuracy, %", meets=meets if judged else None, better=max),
        Measure("loss", "loss", ".3f"),
    )
    paper = Paper("A paper", "https://example.org", {cell: {"accuracy": value} for cell, value in PUBLISHED.items()})
    cells = dict.fromkeys(values)
    experiment = Experiment("mlp", paper, cells, cells, lambda *given: None, measures, "A recipe.")
    records = {cell: {seed: record(value) for seed, value in enumerate(of_cell)} for cell, of_cell in values.items()}
    return Reproduction(experiment, Path(), records, smoke)


def row(text, cell):
    (line,) = [
        line
        for line in text.split("## Paper")[1].split("### All")[0].splitlines()
        if f"{cell} " in line.replace("*", " ")
    ]
    return [part.strip() for part in line.strip("|").split("|")]


@pytest.fixture
def text(tmp_path):
    return verdict.write(reproduction(), tmp_path, "verdict", "hdnn reproduce table1")[1].read_text(encoding="utf-8")


def test_a_row_says_what_was_found(text):
    values = VALUES["moons/1"]
    mean = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
    assert row(text, "moons/1") == ["moons/1", "98.00", mean, "99.50", "100.00", "met", "3.75", "91.00 ± 1.00"]


def test_a_printed_hundred_may_be_rounded(text):
    assert row(text, "moons/4")[5] == "met"
    assert row(text, "moons/2")[5] == "**miss**"


def test_misses_are_marked_in_both_pages(text, tmp_path):
    assert all(part.startswith("**") for part in row(text, "moons/2") if part != "–")
    html = (tmp_path / "verdict.html").read_text(encoding="utf-8")
    marked = re.findall(r'<tr class="marked">\s*<th scope="row">([^<]*)', html)
    assert marked == ["moons/2", "roll/1"]


def test_a_diverged_seed_makes_a_miss_however_good_the_others(text):
    assert row(text, "roll/1")[5] == "**miss (1 of 3 diverged)**"
    assert "roll/1, seed 1: Too large a step." in text


def test_the_headline_counts(text):
    assert "published numbers reached: 2 of 4" in text
    assert "seeds: 0 to 2" in text


def test_the_best_seed_is_called_what_it_is(text):
    assert "best seed\\*" in text
    assert "chosen on test data" in text


def test_where_it_comes_from(text):
    assert "`hdnn reproduce table1`" in text
    for name, value in MADE.items():
        assert f"- {name}: {value}" in text


def test_texts_are_escaped_in_html(tmp_path):
    page = verdict.write(reproduction(), tmp_path, "verdict", "hdnn")[0].read_text(encoding="utf-8")
    assert "a &lt;fast&gt; one" in page
    assert "<fast>" not in page


@pytest.mark.parametrize("options", [{"smoke": True}, {"judged": False}])
def test_what_is_not_judged_has_no_verdict(options, tmp_path):
    done = reproduction(**options)
    text = verdict.write(done, tmp_path, "verdict", "hdnn")[1].read_text(encoding="utf-8")
    assert "reached" not in text
    assert "miss" not in text.replace("Too large", "")
    assert verdict.numbers(done)["judged"] == 0


def test_numbers_are_those_of_the_records():
    found = verdict.numbers(reproduction())
    assert (found["reached"], found["judged"]) == (2, 4)
    seeds = found["cells"]["moons/1"]["seeds"]
    assert [entry["metrics"]["accuracy"] for entry in seeds.values()] == VALUES["moons/1"]
    assert found["cells"]["roll/1"]["seeds"]["1"]["metrics"] is None


def test_at_least():
    assert at_least(98.0, 98.0)
    assert not at_least(97.99, 98.0)
