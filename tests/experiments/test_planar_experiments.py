"""What experiments in the plane share: the same points whether or not the network gets them scaled."""

import numpy as np
import pytest
import torch

from hdnn import data, h1, vector_classifier
from hdnn.experiments.planar import regions, train
from hdnn.training import Recipe

SIZE = 120


def trained(standardize, seed=1):
    return train(
        lambda: vector_classifier(2, 2, h1(4, layers=2, horizon=1.0)),
        "double_moons",
        SIZE,
        Recipe(epochs=2),
        seed,
        standardize=standardize,
    )


@pytest.mark.parametrize("standardize", [True, False])
def test_regions_are_in_the_coordinates_of_the_problem(standardize):
    one = trained(standardize)
    found = regions(one, "double_moons", 7)
    points = data.planar("double_moons", SIZE, 1, standardize=False).x_test
    np.testing.assert_allclose(found["points"], points, atol=1e-6)
    # A test point put into the plane gets the class that the network gives it.
    asked = (torch.tensor(found["points"]) - one.mean) / one.scale
    assert one.network.predict(asked).tolist() == found["predicted"]
    assert np.shape(found["probability"]) == (7, 7)


def test_a_training_depends_on_its_seed_alone():
    state = torch.random.get_rng_state()
    first, again, other = trained(True), trained(True), trained(True, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.history[-1]["loss"] == again.history[-1]["loss"] != other.history[-1]["loss"]
