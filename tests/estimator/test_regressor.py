"""One quantity or several, in their own units."""

import numpy as np
import pytest
import torch

import hdnn

RANDOM = np.random.RandomState(0)
X = RANDOM.randn(200, 3)
Y = np.stack((X @ [1.0, -2.0, 0.5], np.sin(X[:, 0]) + X[:, 1] ** 2), axis=1)


def test_it_learns_several_quantities_together():
    model = hdnn.HamiltonianRegressor(random_state=0).fit(X[:150], Y[:150])
    assert model.predict(X).shape == (200, 2)
    assert model.score(X[150:], Y[150:]) > 0.8


@pytest.mark.parametrize(("y", "shape"), [(Y[:, 0], (200,)), (Y[:, :1], (200, 1)), (Y, (200, 2))])
def test_predictions_have_the_shape_of_the_targets(y, shape):
    assert hdnn.HamiltonianRegressor(epochs=1).fit(X, y).predict(X).shape == shape


def test_quantities_in_other_units_give_the_same_network():
    model = hdnn.HamiltonianRegressor(epochs=3, random_state=0).fit(X, Y)
    other = hdnn.HamiltonianRegressor(epochs=3, random_state=0).fit(X, 1e4 * Y + [5.0, -3e5])
    np.testing.assert_allclose(other.predict(X), 1e4 * model.predict(X) + [5.0, -3e5], rtol=1e-6, atol=1e-2)


def test_without_standardizing_the_outputs_are_the_network():
    model = hdnn.HamiltonianRegressor(epochs=2, standardize=False, bins=0, random_state=0).fit(X, Y)
    with torch.no_grad():
        np.testing.assert_allclose(model.predict(X), model.network_(torch.tensor(X)).numpy(), rtol=1e-9)


def test_weights_move_the_centre():
    # With a learning rate of nothing the network says 0, the weighted mean.
    weight = np.where(Y[:, 0] > 0, 3.0, 1.0)
    model = hdnn.HamiltonianRegressor(epochs=1, learning_rate=1e-12).fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(model.predict(X[:1])[0], np.average(Y, axis=0, weights=weight), rtol=1e-6)


def test_other_columns_later_are_refused():
    model = hdnn.HamiltonianRegressor().partial_fit(X, Y)
    with pytest.raises(ValueError, match="predicts 2 quantities"):
        model.partial_fit(X, Y[:, 0])
