import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdnn.data import DOMAINS, Dataset, Numeric, TableEncoder, TargetEncoder, double_moons, planar, split

ENCODER = TableEncoder((Numeric("a", 0.0, 1.0, 0.0),))


def dataset(**changes):
    x, y = np.ones((4, 1), np.float32), np.array([0, 1, 0, 1])
    parts = {"name": "d", "task": "classification", "x_train": x, "y_train": y, "x_test": x, "y_test": y}
    parts |= {"encoder": ENCODER, "target": TargetEncoder(("t",), classes=("no", "yes"))}
    return Dataset(**(parts | changes))


@pytest.mark.parametrize("name", list(DOMAINS))
def test_planar_is_half_and_half_and_stratified(name):
    data = planar(name)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.shape == (4000, 2)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert y.sum() == 2000
    assert data.encoder.names == ("x1", "x2")
    assert (data.inputs, data.outputs, data.classes) == ((2,), 2, ("0", "1"))
    assert name in data.description
    assert "4000 for training and 4000 for testing" in data.description


@pytest.mark.parametrize("name", list(DOMAINS))
def test_planar_scaling_keeps_the_proportions(name):
    scaled, raw = planar(name, 500, 2), planar(name, 500, 2, standardize=False)
    ratio = np.ptp(raw.x_train, axis=0) / np.ptp(scaled.x_train, axis=0)
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-5)
    assert np.allclose(scaled.x_train.mean(axis=0), 0, atol=1e-6)
    assert scaled.x_train.var(axis=0).mean() == pytest.approx(1, rel=1e-5)
    # The test part was not looked at.
    assert np.abs(scaled.x_test.mean(axis=0)).max() > 1e-6
    assert "left as they are" in raw.description
    low, high = np.array(DOMAINS[name]).T
    assert (raw.x_test >= low).all()
    assert (raw.x_test <= high).all()


@pytest.mark.parametrize("standardize", [True, False])
def test_points_of_the_plane_are_what_their_encoder_makes_of_them(standardize):
    data = planar("double_moons", 100, 3, standardize=standardize)
    points, labels = double_moons(100, 3)
    train, test = split(100, test_fraction=0.5, seed=3, labels=labels)
    table = data.encoder.encode(pd.DataFrame(points, columns=["x1", "x2"]))
    assert np.array_equal(data.x_train, table[train])
    assert np.array_equal(data.x_test, table[test])


@pytest.mark.parametrize("size", [4, 5, 6, 7, 9, 31])
def test_planar_of_any_size(size):
    for name in DOMAINS:
        data = planar(name, size)
        assert len(data.x_train) + len(data.x_test) == size
        assert set(data.y_train.tolist()) == set(data.y_test.tolist()) == {0, 1}


def test_planar_errors_teach():
    with pytest.raises(ValueError, match="Did you mean 'double_moons'"):
        planar("double_moon")
    with pytest.raises(ValueError, match="at least 4 points; got `size=3`"):
        planar("swiss_roll", 3)
    with pytest.raises(ValueError, match="`size` counts the points"):
        planar("swiss_roll", 1)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(5, 40), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    fraction=st.floats(0.2, 0.8),
)
def test_split_shares_each_class_in_proportion(counts, seed, fraction):
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = split(len(labels), test_fraction=fraction, seed=seed, labels=labels)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert abs((labels[test] == label).sum() - fraction * count) <= 2
        assert (labels[train] == label).any()


def test_split_of_numbers_is_seeded():
    assert np.array_equal(split(50, seed=1)[0], split(50, seed=1)[0])
    assert not np.array_equal(split(50, seed=1)[0], split(50, seed=2)[0])
    assert [len(part) for part in split(2)] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 10, "test_fraction": 0}, "must lie between 0 and 1; got 0"),
        ({"rows": 10, "test_fraction": 1.0}, "must lie between 0 and 1"),
        ({"rows": 10, "test_fraction": float("nan")}, "must lie between 0 and 1"),
        ({"rows": 10, "test_fraction": "0.2"}, "must lie between 0 and 1"),
        ({"rows": 10, "seed": -1}, "`seed` must be a whole number from 0"),
        ({"rows": 10, "seed": 2**32}, "`seed` must be a whole number from 0"),
        ({"rows": 1}, "need at least 2 rows; got 1"),
        ({"rows": 4, "labels": np.array(["a"] * 4)}, "Every row has the class 'a'"),
        ({"rows": 5, "labels": np.array(list("aabbc"))}, "Class 'c' has a single row"),
        ({"rows": 5, "labels": np.array(list("abcdd"))}, r"Class 'a' \(and 2 other classes\) has a single"),
        ({"rows": 6, "labels": np.array(list("aabbcc"))}, "cannot both hold all 3 classes"),
        (
            {"rows": 102, "labels": np.array(["a"] * 100 + ["b"] * 2), "test_fraction": 0.9},
            "so rare that no row of it is left for training with `test_fraction=0.9`",
        ),
    ],
)
def test_split_errors_teach(arguments, message):
    with pytest.raises(ValueError, match=message):
        split(**arguments)


X, Y = np.ones((4, 1), np.float32), np.array([0, 1, 0, 1])
NUMBERS = TargetEncoder(("t",), mean=(0.0,), scale=(1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "the target is one of classification"),
        ({"x_train": X.astype(np.float64)}, r"needs float32 inputs \(s, 1\); got float64"),
        ({"x_test": np.ones((4, 2), np.float32)}, r"test part of 'd' needs float32 inputs \(s, 1\)"),
        ({"y_train": Y[:3]}, r"needs int64 targets \(4,\), one for each input"),
        ({"y_test": Y.astype(np.float32)}, "needs int64 targets"),
        ({"x_test": X[:0], "y_test": Y[:0]}, "test part of 'd' is empty"),
        ({"x_train": X * np.float32("nan")}, "infinite or not a number"),
        ({"y_test": Y + 1}, "class indices beyond 0 to 1"),
        ({"y_train": Y * 0}, "only one class, 'no': there is nothing to tell apart"),
        ({"task": "regression", "target": NUMBERS}, r"needs float32 targets \(4, 1\)"),
    ],
)
def test_a_dataset_checks_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        dataset(**changes)


def test_a_dataset_of_numbers():
    y = np.ones((4, 1), np.float32)
    data = dataset(task="regression", target=NUMBERS, y_train=y, y_test=y, notes=("as given",))
    assert (data.classes, data.outputs) == ((), 1)
    assert data.description == "d: 8 rows, 4 for training and 4 for testing; regression; as given"
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "e"


def test_importing_is_light():
    heavy = "{'pandas', 'sklearn', 'pooch', 'torch', 'pyarrow', 'scipy'}"
    code = f"import sys, hdnn.data; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
