"""Every experiment does what the laboratory asks of it."""

import math
import pickle
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hdnn.experiments import TITLES, load, store, verdict
from hdnn.experiments.laboratory import reproduce

SEEDS = (0, 1)


@cache
def reproduced(name):
    """The small cells of an experiment, without an interruption."""
    with TemporaryDirectory() as folder:
        return reproduce(load(name), Path(folder), seeds=SEEDS, smoke=True)


def leaves(values):
    return [values] if isinstance(values, float) else [leaf for value in values for leaf in leaves(value)]


@pytest.mark.parametrize("name", TITLES)
def test_an_experiment_is_what_it_says(name):
    experiment = load(name)
    assert experiment.name == name
    assert experiment.title == TITLES[name]
    assert experiment.seeds >= 1
    assert experiment.paper.url.startswith("https://")
    assert len(experiment.method) > 100
    assert set(experiment.smoke) <= set(experiment.cells)
    assert set(experiment.paper.numbers) <= {cell for cell in experiment.cells if "@" not in cell}
    assert {cell.partition("@")[0] for cell in experiment.cells} <= set(experiment.cells)
    measures = {measure.name for measure in experiment.measures}
    assert {measure for numbers in experiment.paper.numbers.values() for measure in numbers} <= measures
    called = [experiment.called(cell) for cell in experiment.cells]
    assert len(set(called)) == len(called)
    assert not [name for name in called if "/" in name.replace("T/N", "") or "@" in name], "a name of the program"
    assert pickle.loads(pickle.dumps(experiment.run)) is experiment.run


@pytest.mark.parametrize("name", TITLES)
def test_configurations_are_plain_and_different(name):
    experiment = load(name)
    for config in (*experiment.cells.values(), *experiment.smoke.values()):
        assert is_dataclass(config)
        assert type(config).__dataclass_params__.frozen
        store._plain(config)  # or a file could not hold it
    assert len({repr(config) for config in experiment.cells.values()}) == len(experiment.cells)


@pytest.mark.parametrize("name", TITLES)
def test_small_runs_are_finite_and_complete(name):
    done = reproduced(name)
    assert list(done.records) == list(done.experiment.smoke)
    first = {measure.name for measure in done.experiment.measures[:1]}
    for records in done.records.values():
        assert list(records) == list(SEEDS)
        for record in records.values():
            assert not record.failure
            assert first <= set(record.outcome.metrics)
            assert all(math.isfinite(value) for value in record.outcome.metrics.values())
            assert all(math.isfinite(value) for values in record.outcome.arrays.values() for value in leaves(values))
            assert record.wall_seconds > 0
            assert {"commit", "torch", "processor", "date"} <= set(record.made)


@pytest.mark.parametrize("name", TITLES)
def test_an_interrupted_reproduction_ends_where_an_uninterrupted_one_does(name, tmp_path):
    def interrupt(done, total, cell):
        if cell:
            raise KeyboardInterrupt

    experiment, rest = load(name), []
    with pytest.raises(KeyboardInterrupt):
        reproduce(experiment, tmp_path, seeds=SEEDS, smoke=True, announce=interrupt)
    done = reproduce(experiment, tmp_path, seeds=SEEDS, smoke=True, announce=lambda *news: rest.append(news))
    assert rest[0][0] > 0, "what was done has been forgotten"
    assert rest[-1][:2] == (rest[0][1],) * 2
    assert done.found == reproduced(name).found


@pytest.mark.parametrize("name", TITLES)
def test_the_verdict_shows_every_cell(name, tmp_path):
    done = reproduced(name)
    page, text, numbers, *pictures = verdict.write(done, tmp_path, "verdict", "hdnn reproduce")
    html, markdown = page.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")
    for cell in done.records:
        assert done.experiment.called(cell).replace("'", "&#39;") in html
        assert done.experiment.called(cell) in markdown
        assert f'"{cell}"' in numbers.read_text(encoding="utf-8")
    for picture in pictures:
        assert f"({picture.name})" in markdown
        assert picture.stat().st_size > 1000
    assert html.count("<img") == len(pictures)
    assert "They say nothing about the paper" in html
