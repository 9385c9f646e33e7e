"""The verdict: what is met, what is missed and by how much of its error, and that both pages say so."""

import json
import math
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
    "roll/2": [90.0, 91.0, 92.0],
}
PUBLISHED = {"moons/1": 98.0, "moons/2": 100.0, "moons/4": 100.0, "roll/1": 60.0, "roll/2": 91.5}
MADE = {"hdnn": "0.1.0", "torch": "2.13.0", "commit": "abc1234", "processor": "a <fast> one", "date": "2026-11-23"}


def meets(mean, published):
    return mean >= min(published, 99.95)


def record(value):
    outcome = None if value is None else Outcome({"accuracy": value, "loss": value / 7})
    return Record(outcome, "" if outcome else "Too large a step.", 1.5, 1.25, MADE)


def layout(cell):
    problem, layers = cell.split("/")
    return f"{layers} layers", f"the {problem}"


def reproduction(values=VALUES, *, smoke=False, judged=True, better=max, published=PUBLISHED, **more):
    measures = (
        Measure("accuracy", "test accuracy, %", meets=meets if judged else None, better=better),
        Measure("loss", "loss", ".3f"),
    )
    paper = Paper("A paper", "https://example.org", {cell: {"accuracy": value} for cell, value in published.items()})
    cells = dict.fromkeys(values)
    made = Experiment(
        "mlp", paper, cells, cells, lambda *given: None, measures, "A recipe.\n\nTried.", layout=layout, **more
    )
    records = {cell: {seed: record(value) for seed, value in enumerate(of_cell)} for cell, of_cell in values.items()}
    return Reproduction(made, Path(), records, smoke)


def row(text, start, *, section="All that was measured"):
    """The cells of a row of the Markdown page."""
    (line,) = [
        line
        for line in text.split(f"## {section}")[1].split("\n## ")[0].splitlines()
        if line.replace("*", "").startswith(f"| {start} |")
    ]
    return [part.strip() for part in line.strip("|").split("|")]


def verdicts(done):
    (measure, _) = done.experiment.measures
    return {cell: verdict.finding(done, cell, measure).verdict for cell in done.records if "@" not in cell}


@pytest.fixture
def text(tmp_path):
    page = verdict.write(reproduction(), tmp_path, "verdict", "hdnn reproduce table1")[1]
    return page.read_text(encoding="utf-8").replace("\u00a0", " ")


def test_a_row_says_what_was_found(text):
    values = VALUES["moons/1"]
    mean = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
    error = f"{statistics.stdev(values) / math.sqrt(3):.2g}"
    loss = [value / 7 for value in values]
    found = row(text, "1 layers, the moons")
    assert found[1:7] == [mean, "98", error, "met", "99.50", "100.00"]
    assert found[7:] == [f"{statistics.fmean(loss):.3f} ± {statistics.stdev(loss):.3f}", "3", "0 to 2", "3.75"]


def test_the_page_opens_with_a_table_laid_out_as_that_of_the_paper(text):
    beginning = [part for part in text.split("\n\n") if not part.startswith(">")]
    counts = "Of 5 published numbers: 2 met, 1 within its standard error, 2 missed."
    assert beginning[1] == f"{counts} Means ± standard deviations over 3 seeds."
    assert beginning[2:4] == ["## Paper and ours", "### Test accuracy, %"]
    heads = beginning[4].splitlines()[0]
    assert heads == "|  | the moons | the roll |"
    assert row(text, "2 layers", section="Paper and ours") == [
        "2 layers",
        "99.94 ± 0.00<br>paper 100<br>missed",
        "91.00 ± 1.00<br>paper 91.5<br>within its standard error",
    ]
    assert row(text, "4 layers", section="Paper and ours")[2] == "–"
    assert text.index("A recipe.\n\nTried.") > text.index("## All that was measured")


def test_a_page_without_such_a_layout_opens_with_the_list(tmp_path):
    done = reproduction({cell: values for cell, values in VALUES.items() if cell.startswith("moons")})
    text = verdict.write(done, tmp_path, "verdict", "hdnn")[1].read_text(encoding="utf-8")
    assert text.split("\n\n")[2:4] == ["## Paper and ours", "### Every cell"]
    assert row(text, "1 layers, the moons", section="Paper and ours")
    assert "## All that was measured" not in text


def test_variants_have_a_table_of_their_own(text):
    table = text.split("### Test accuracy, %, the published recipe")[1].split("\n## ")[0]
    assert "| 1 layers | 91.00 ± 1.00 |" in table
    assert row(text, "1 layers, the moons, the published recipe")[2] == "–"


def test_a_printed_hundred_may_be_rounded():
    found = verdicts(reproduction())
    assert found["moons/4"] == "met"
    assert found["moons/2"] == "missed"


@pytest.mark.parametrize(
    ("published", "said"),
    [(91.0, "met"), (91.5, "within its standard error"), (91.57, "within its standard error"), (91.6, "missed")],
)
def test_what_falls_short_by_less_than_its_standard_error_is_neither_met_nor_missed(published, said):
    """90, 91, 92: the standard error is 1 / √3 = 0.577."""
    assert verdicts(reproduction({"roll/2": VALUES["roll/2"]}, published={"roll/2": published})) == {"roll/2": said}


def test_where_less_is_better_the_error_counts_the_other_way():
    done = reproduction({"roll/2": [3.0, 4.0, 5.0]}, better=min, published={"roll/2": 3.5})
    done.experiment.measures[0].__dict__["meets"] = lambda mean, published: mean <= published
    assert verdicts(done) == {"roll/2": "within its standard error"}


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([1], "A single seed."),
        ([3, 3], "Means ± standard deviations over 3 seeds."),
        ([3, 10, 1], "Means ± standard deviations over 3 to 10 seeds. A number without ± is that of a single seed."),
    ],
)
def test_how_many_seeds_a_mean_is_of_is_said(counts, said):
    assert verdict._spread(counts) == said


def test_a_single_seed_has_no_error():
    assert verdicts(reproduction({"roll/2": [91.4]})) == {"roll/2": "missed"}
    assert verdicts(reproduction({"roll/2": [91.5]})) == {"roll/2": "met"}


def test_misses_are_marked_in_both_pages(text, tmp_path):
    assert all(part.startswith("**") for part in row(text, "2 layers, the moons"))
    html = (tmp_path / "verdict.html").read_text(encoding="utf-8")
    marked = re.findall(r'<tr class="marked">\s*<th scope="row">([^<]*)', html)
    assert marked == ["2 layers, the moons", "1 layers, the roll"]


def test_a_diverged_seed_makes_a_miss_however_good_the_others(text):
    assert row(text, "1 layers, the roll")[4] == "**missed (1 of 3 diverged)**"
    assert "> 1 layers, the roll, seed 1: Too large a step." in text


def test_the_headline_counts(text):
    assert "- published numbers met: 2 of 5" in text
    assert "- seeds: 0 to 2" in text


def test_the_best_seed_is_called_what_it_is(text):
    assert "best seed\\*" in text
    assert "chosen on test data" in text


def test_where_it_comes_from(text):
    assert "```text\nhdnn reproduce table1\n```" in text
    for name, value in MADE.items():
        assert f"- {name}: {value}" in text


def test_conclusions_stand_on_the_page_of_a_real_run_alone(tmp_path):
    for smoke in (False, True):
        done = reproduction(smoke=smoke, conclusions="It is the step.")
        text = verdict.write(done, tmp_path, "verdict", "hdnn")[1].read_text(encoding="utf-8")
        assert ("## What it says\n\nIt is the step." in text) is not smoke


def test_what_was_left_out_is_told(tmp_path):
    done = reproduction({"roll/2": VALUES["roll/2"]})
    done = Reproduction(done.experiment, done.folder, done.records, left_out=["moons/1"])
    text = verdict.write(done, tmp_path, "verdict", "hdnn")[1].read_text(encoding="utf-8")
    assert re.search("> Left out, .* other settings or versions: 1 layers, the moons", text)


def test_texts_are_escaped_in_html(tmp_path):
    page = verdict.write(reproduction(), tmp_path, "verdict", "hdnn")[0].read_text(encoding="utf-8")
    assert "a &lt;fast&gt; one" in page
    assert "<fast>" not in page


@pytest.mark.parametrize("options", [{"smoke": True}, {"judged": False}])
def test_what_is_not_judged_has_no_verdict(options, tmp_path):
    done = reproduction(**options)
    text = verdict.write(done, tmp_path, "verdict", "hdnn")[1].read_text(encoding="utf-8")
    assert "reaches" not in text
    assert "missed" not in text
    assert verdict.numbers(done)["judged"] == 0


def test_numbers_are_those_of_the_records(tmp_path):
    done = reproduction()
    written = verdict.write(done, tmp_path, "verdict", "hdnn")[2].read_text(encoding="utf-8")
    found = json.loads(written)
    assert found == verdict.numbers(done)
    assert [found[name] for name in ("judged", "met", "within its standard error", "missed")] == [5, 2, 1, 2]
    cell = found["cells"]["moons/1"]
    assert cell["verdicts"] == {"accuracy": "met"}
    assert [entry["metrics"]["accuracy"] for entry in cell["seeds"].values()] == VALUES["moons/1"]
    assert found["made"] == [MADE]
    assert found["cells"]["roll/1"]["seeds"]["1"]["metrics"] is None


def test_at_least():
    assert at_least(98.0, 98.0)
    assert not at_least(97.99, 98.0)
