"""Figure 2 of the L4DC paper, remade in small: no norm of a Hamiltonian network below 1, and an MLP's below it."""

import numpy as np
import pytest

import figure2
from drawings import overhang
from hdnn import plots

SMALL = figure2.replaced(figure2.RECIPE, epochs=2, head_epochs=1)
HAMILTONIAN = [name for name in figure2.NETWORKS if name != figure2.MLP]


@pytest.fixture(scope="module")
def found():
    return {name: [figure2.train(name, seed=0, recipe=SMALL, size=500)] for name in figure2.NETWORKS}


def test_every_iteration_and_the_layers_of_the_paper_are_seen(found):
    for name, (run,) in found.items():
        np.testing.assert_array_equal(run.recorder.iterations, np.arange(5))
        expected = (1, 11, 21, 31) if name == figure2.MLP else (1, 11, 21, 31, 41, 51, 61)
        assert run.recorder.layers == expected
        assert run.of_mean.shape == (4, len(expected))


@pytest.mark.parametrize("name", HAMILTONIAN)
def test_no_sample_falls_below_one(found, name):
    assert found[name][0].ranges["samples"][0] >= 1 - 1e-9


def test_the_mlp_vanishes(found):
    assert found[figure2.MLP][0].recorder.maximum[:, 0].max() < 1e-6


def test_the_norm_of_the_mean_never_exceeds_the_mean_of_the_norms(found):
    for (run,) in found.values():
        assert (run.of_mean <= run.recorder.mean[1:] * (1 + 1e-12)).all()


def test_the_report_has_every_network_and_the_paper_beside_it(found):
    lines, raw = figure2.report(found)
    text = "\n".join(lines)
    for name in figure2.NETWORKS:
        assert f"| {name} |" in text
    for quoted in ("[1, 17]", "[1, 37]", "learning_rate=0.0125", "seeds 0 to 0"):
        assert quoted in text
    assert raw.keys() == figure2.NETWORKS.keys()
    assert overhang(plots.sensitivities_by_iteration({name: run.recorder for name, (run,) in found.items()})) < 0
