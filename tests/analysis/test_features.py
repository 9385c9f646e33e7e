import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from hdnn.analysis import PrincipalComponents, principal_components


@pytest.fixture
def states():
    generator = np.random.default_rng(0)
    return generator.normal(size=(9, 40, 6)) * [1, 5, 1, 2, 1, 1] + np.arange(9)[:, None, None]


def test_shapes_and_frame(states):
    found = principal_components(states, count=3)
    assert isinstance(found, PrincipalComponents)
    assert found.coordinates.shape == (9, 40, 3)
    assert found.explained.shape == (3,)
    assert found.mean.shape == (6,)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.coordinates, (states - found.mean) @ found.axes.T, atol=1e-12)


def test_axes_carry_the_largest_variances_of_all_layers_together(states):
    found = principal_components(states, count=3)
    variances = np.linalg.eigvalsh(np.cov(states.reshape(-1, 6).T))[::-1]
    np.testing.assert_allclose(found.explained, (variances / variances.sum())[:3], rtol=1e-10)
    np.testing.assert_allclose(found.mean, states.mean(axis=(0, 1)))


def test_one_frame_for_all_layers(states):
    repeated = np.concatenate([states, states[:1]])
    coordinates = principal_components(repeated).coordinates
    np.testing.assert_array_equal(coordinates[0], coordinates[-1])


def test_signs_do_not_depend_on_the_order_of_samples(states):
    first = principal_components(states)
    second = principal_components(states[::-1, ::-1])
    np.testing.assert_allclose(first.axes, second.axes, atol=1e-10)
    assert (first.axes[np.arange(2), np.abs(first.axes).argmax(axis=1)] > 0).all()


def test_large_images_are_flattened_and_deterministic():
    images = np.random.default_rng(1).normal(size=(3, 30, 4, 12, 12))
    images[:, :, 1] *= 3
    first, second = principal_components(images), principal_components(images)
    assert first.coordinates.shape == (3, 30, 2)
    assert first.axes.shape == (2, 4 * 12 * 12)
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert (first.explained[0] >= first.explained[1]).all()


@pytest.mark.parametrize("shape", [(9, 40, 6), (2, 10, 300), (5, 60, 1500), (2, 3, 1200)], ids=str)
def test_axes_are_those_of_scikit_learn_and_the_states_are_left_as_they_were(shape):
    """Many samples, few, and more features than a matrix is taken apart for."""
    generator = np.random.default_rng(2)
    layers, samples, n = shape
    wide = [40.0, 10.0] * generator.normal(size=(layers, samples, 2)) @ generator.normal(size=(2, n))
    states = wide + generator.normal(size=shape)
    kept = states.copy()
    for given in (states, torch.from_numpy(states)):
        found = principal_components(given)
        np.testing.assert_array_equal(states, kept)
        known = PCA(2, svd_solver="full").fit(kept.reshape(-1, shape[2]))
        np.testing.assert_allclose(np.abs(found.axes), np.abs(known.components_), atol=1e-6)
        np.testing.assert_allclose(found.explained, known.explained_variance_ratio_, rtol=1e-6)


def test_as_many_features_as_components_are_left_alone(states):
    plane = states[:, :, :2]
    found = principal_components(plane)
    np.testing.assert_array_equal(found.coordinates, plane)
    np.testing.assert_array_equal(found.axes, np.eye(2))
    assert found.explained.sum() == pytest.approx(1)
    assert found.explained[1] > found.explained[0]


def test_equal_states_have_no_variance():
    found = principal_components(np.ones((3, 5, 4)))
    assert np.ptp(found.coordinates) == 0
    np.testing.assert_array_equal(found.explained, [0, 0])


def test_tensors_with_gradients(states):
    tensor = torch.tensor(states, requires_grad=True)
    np.testing.assert_allclose(principal_components(tensor).coordinates, principal_components(states).coordinates)
    principal_components(tensor.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("shape", "count", "message"),
    [
        ((5, 3), 2, r"got \(5, 3\).*trajectory"),
        ((5, 0, 3), 2, "trajectory"),
        ((5, 3, 2, 2), 2, "height, width"),
        ((5, 3, 1), 2, "count=2 for states with 1 feature"),
        ((5, 3, 4), 0, "between 1 and the number of features"),
        ((1, 1, 4), 2, "at least 2 states"),
    ],
)
def test_errors_teach(shape, count, message):
    with pytest.raises(ValueError, match=message):
        principal_components(np.zeros(shape), count)


def test_a_diverged_trajectory_names_the_layer(states):
    states[4, 7, 1] = np.inf
    with pytest.raises(ValueError, match="from layer 4 on"):
        principal_components(states)
