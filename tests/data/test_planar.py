import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hdnn.data
from hdnn.data import DOMAINS, double_circles, double_moons, swiss_roll

MAKERS = {"swiss_roll": swiss_roll, "double_moons": double_moons, "double_circles": double_circles}
each = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
sizes = st.integers(2, 300)


def nearest(points, curve):
    return np.linalg.norm(points[:, None] - curve[None], axis=2).min(axis=1)


def test_every_maker_has_a_domain():
    assert set(DOMAINS) == set(MAKERS)


@each
@settings(max_examples=25, deadline=None)
@given(size=sizes, seed=st.integers(0, 2**40))
def test_shape_balance_domain_and_no_empty_rows(make, size, seed):
    x, y = make(size, seed)
    assert x.shape == (size, 2)
    assert x.dtype == np.float64
    assert y.shape == (size,)
    assert y.dtype == np.int64
    assert set(y.tolist()) == {0, 1}
    assert abs(int((y == 0).sum()) - int((y == 1).sum())) <= 1
    for axis, (low, high) in enumerate(DOMAINS[make.__name__]):
        assert (x[:, axis] >= low).all()
        assert (x[:, axis] <= high).all()
    # Only the inner end of the spiral of class 1 lies in the origin.
    assert (~x.any(axis=1)).sum() == (make is swiss_roll)


@each
def test_the_seed_decides(make):
    (x, y), (again, labels), (other, _) = make(50, 3), make(50, 3), make(50, 4)
    assert np.array_equal(x, again)
    assert np.array_equal(y, labels)
    assert not np.array_equal(x, other)


@each
def test_a_prefix_is_a_fair_sample(make):
    x, y = make(8000, 1)
    assert abs(y[:400].mean() - 0.5) < 0.1
    assert np.abs(x[:400].mean(axis=0) - x.mean(axis=0)).max() < 0.4


def test_swiss_roll_is_the_formula():
    x, y = swiss_roll(8000)
    θ = 4 * math.pi * np.arange(4000) / 4000
    for label, start in ((1, 0.0), (0, 0.2)):
        r = start + np.arange(4000) / 3999
        points = np.stack([r * np.cos(θ), r * np.sin(θ)], axis=1)
        found = x[y == label]
        assert np.allclose(np.sort(found, axis=0), np.sort(points, axis=0), atol=1e-12)
        assert np.allclose(sorted(np.hypot(*found.T)), r)


def test_double_moons_are_the_formula():
    x, y = double_moons(8000)
    θ = math.pi * np.arange(2000) / 2000
    first = np.stack([np.cos(θ), np.sin(θ)], axis=1)
    second = np.stack([1 - np.cos(θ), 0.5 - np.sin(θ)], axis=1)
    for label, moon in ((0, first), (1, second)):
        away = nearest(x[y == label], np.concatenate([moon, moon + np.array([2, 0])])[::10])
        assert away.max() <= 0.15 * math.sqrt(2) + 0.01
        assert away.max() > 0.15
    exact, labels = double_moons(8000, noise=0.0)
    expected = np.concatenate([first, first + np.array([2, 0])])
    assert np.allclose(np.sort(exact[labels == 0], axis=0), np.sort(expected, axis=0))


def test_double_circles_are_the_formula():
    exact, y = double_circles(8000, noise=0.0)
    r = np.hypot(*exact.T).round(9)
    assert {(radius, label) for radius, label in zip(r.tolist(), y.tolist(), strict=True)} == {
        (1.0, 0),
        (2.0, 1),
        (3.0, 0),
        (4.0, 1),
    }
    assert [int((r == k).sum()) for k in (1, 2, 3, 4)] == [2000] * 4
    # Two turns of 1000 angles each: every point occurs twice.
    assert len(np.unique(exact.round(9), axis=0)) == 4000
    noisy, _ = double_circles(8000)
    assert np.abs(np.hypot(*noisy.T) - np.hypot(*noisy.T).round()).max() > 0.25


def test_noise_is_uniform_on_each_coordinate():
    exact, noisy = double_circles(8000, 5, noise=0.0)[0], double_circles(8000, 5)[0]
    away = noisy - exact
    assert np.abs(away).max() <= 0.3
    assert away.std() == pytest.approx(0.3 / math.sqrt(3), rel=0.03)
    assert np.abs(np.corrcoef(away.T)[0, 1]) < 0.05


@each
@pytest.mark.parametrize("size", [1, 0, -4, 2.0, True, "8", None])
def test_a_bad_size_teaches(make, size):
    with pytest.raises(ValueError, match=r"`size` counts the points .* at least 2.*got"):
        make(size)


@each
@pytest.mark.parametrize("seed", [-1, 0.5, "0", None, False])
def test_a_bad_seed_teaches(make, seed):
    with pytest.raises(ValueError, match="`seed` must be a whole number of at least 0"):
        make(10, seed)


@pytest.mark.parametrize("make", [double_moons, double_circles])
@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_a_bad_noise_teaches(make, noise):
    with pytest.raises(ValueError, match="`noise` is a half width"):
        make(10, noise=noise)


def test_the_function_keeps_its_name_beside_the_module():
    # hdnn/data/planar.py is the module, hdnn.data.planar the function: importing must not swap them.
    importlib.import_module("hdnn.data.planar")
    assert callable(hdnn.data.planar)
