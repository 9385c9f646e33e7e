"""Figure 2 of the L4DC paper, remade in small: no norm of a flow falls below 1, and a perceptron's do."""

import json
from dataclasses import replace

import numpy as np
import pytest

from drawings import overhang
from hdnn import plots
from hdnn.experiments import figure2, mlp, store
from hdnn.experiments.store import Record

SMALL = replace(figure2.RECIPE, epochs=2, head_epochs=1)
FLOWS = [cell for cell, config in figure2.CELLS.items() if config.model != "mlp"]


@pytest.fixture(scope="module")
def found():
    small = {
        cell: replace(config, recipe=replace(SMALL, smoothness=config.recipe.smoothness), size=500)
        for cell, config in figure2.CELLS.items()
    }
    return {cell: figure2.run(config, 0, None) for cell, config in small.items()}


def test_every_iteration_and_the_layers_of_the_paper_are_seen(found):
    for cell, outcome in found.items():
        expected = [1, 11, 21, 31] if cell == "mlp" else [1, 11, 21, 31, 41, 51, 61]
        assert outcome.arrays["layers"] == expected
        assert outcome.arrays["iterations"] == list(range(5))
        for name in ("minimum", "mean", "maximum"):
            assert np.shape(outcome.arrays[name]) == (5, len(expected))


@pytest.mark.parametrize("cell", FLOWS)
def test_no_sample_falls_below_one(found, cell):
    assert found[cell].metrics["low"] >= 1 - 1e-9


def test_the_perceptron_vanishes(found):
    assert np.max(found["mlp"].arrays["maximum"], axis=0)[0] < 1e-6


def test_the_norm_of_the_mean_never_exceeds_the_mean_of_the_norms(found):
    for outcome in found.values():
        assert outcome.metrics["mean_matrix_high"] <= np.max(outcome.arrays["mean"]) * (1 + 1e-12)


@pytest.mark.long
def test_the_figure_has_every_network(found):
    (picture,) = figure2.draw({cell: {0: outcome} for cell, outcome in found.items()})
    assert picture.size[0] > 500
    assert overhang(plots.sensitivities_by_iteration(figure2.recorded({c: {0: o} for c, o in found.items()}))) < 0


@pytest.mark.parametrize("experiment", [figure2, mlp])
def test_results_of_before_the_cells_had_a_problem_count_as_done(experiment, tmp_path):
    for cell, config in experiment.CELLS.items():
        store.write(tmp_path, cell, config, 0, Record(None, "as it was", 1.0, 1.0, {}))
        place = store.path(tmp_path, cell, 0)
        document = json.loads(place.read_text())
        del document["config"]["problem"]
        if experiment is figure2:
            del document["config"]["init_std"]
        place.write_text(json.dumps(document))
        assert store.read(tmp_path, cell, config, {})[0].failure == "as it was"
