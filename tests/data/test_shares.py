"""The parts that are drawn are those of scikit-learn, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from hdnn.data.shares import drawn


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=12),
    place=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    named=st.booleans(),
    mixed=st.booleans(),
)
def test_the_rows_are_those_of_scikit_learn(
    sizes: list[int], place: float, seed: int, named: bool, mixed: bool
) -> None:
    rows, classes = sum(sizes), len(sizes)
    first = round(classes + place * (rows - 2 * classes))  # each part holds every class
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), sizes))
    given = None if not mixed else labels.astype(str) if named else labels
    expected = train_test_split(
        np.arange(rows), train_size=first, test_size=rows - first, random_state=seed, stratify=given
    )
    found = drawn(first, rows - first, seed, given)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mixed", [False, True])
def test_every_row_lies_in_one_part(mixed: bool) -> None:
    train, test = drawn(70, 30, 3, np.arange(100) % 7 if mixed else None)
    assert len(train) == 70
    assert sorted([*train, *test]) == list(range(100))
