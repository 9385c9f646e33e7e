"""The piecewise linear encoding: what a piece says, where edges stand, and scikit-learn's own checks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import hdnn
from hdnn.data.pieces import edges_of, pieces

finite = st.floats(allow_nan=False, allow_infinity=False)


@parametrize_with_checks([hdnn.PiecewiseLinearEncoder(), hdnn.PiecewiseLinearEncoder(bins=0)])
def test_scikit_learn_finds_nothing(estimator, check):
    check(estimator)


@settings(deadline=None)
@given(st.lists(finite, min_size=1, max_size=40), st.integers(1, 9))
def test_edges_are_numbers_of_the_column_and_pieces_rise_from_0_to_1(values, bins):
    x = np.array(values)
    edges = edges_of(x, bins)
    assert set(edges) <= set(values)
    assert len(edges) != 2
    assert len(edges) <= bins + 1
    found = pieces(np.sort(x), edges)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found, axis=0) >= 0).all()
    if edges:
        assert (edges[0], edges[-1]) == (x.min(), x.max())
        assert (found[0] == 0).all()
        assert (found[-1] == 1).all()
        inside = np.sort(x)[(np.sort(x) >= edges[0])]
        places = np.searchsorted(edges, inside, side="right") - 1
        # A piece is not full while the next has begun.
        assert all(found[i, :place].min(initial=1.0) == 1.0 for i, place in enumerate(places))


def test_bins_hold_about_as_many_rows_each():
    x = np.random.default_rng(0).lognormal(size=800)
    counts, _ = np.histogram(x, edges_of(x, 8))
    assert counts.min() >= 98


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_number_of_rows(seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=30), rng.integers(0, 4, 30)
    assert edges_of(x, 5, weight.astype(float)) == edges_of(np.repeat(x, weight), 5)
    assert edges_of(x, 5, weight / 7) == edges_of(np.repeat(x, weight), 5)


def test_a_line_over_pieces_is_any_line_that_bends_at_the_edges():
    x = np.linspace(-2, 2, 400)
    encoder = hdnn.PiecewiseLinearEncoder(bins=4).fit(x[:, None])
    heights = np.array([0.0, 3.0, -1.0, 2.0, 2.5])
    y = np.interp(x, encoder.edges_[0], heights)
    assert make_pipeline(encoder, LinearRegression()).fit(x[:, None], y).score(x[:, None], y) == pytest.approx(1.0)


def test_beyond_the_training_rows_the_number_alone_goes_on():
    encoder = hdnn.PiecewiseLinearEncoder(bins=2).fit(np.arange(9.0)[:, None])
    low, high = encoder.transform([[-100.0], [100.0]])
    assert low[1:].tolist() == [0, 0]
    assert high[1:].tolist() == [1, 1]
    assert low[0] < -10 < 10 < high[0]


def test_names_say_which_column_a_piece_is_of():

    frame = pd.DataFrame({"age": np.arange(9.0), "two": [0.0, 1.0, 0.0] * 3})
    encoder = hdnn.PiecewiseLinearEncoder(bins=3).fit(frame)
    assert encoder.get_feature_names_out().tolist() == ["age", "age_1", "age_2", "age_3", "two"]
    assert encoder.set_output(transform="pandas").transform(frame).columns.tolist() == [
        "age", "age_1", "age_2", "age_3", "two",
    ]  # fmt: skip


@pytest.mark.parametrize("bins", [-1, 257])
def test_bins_out_of_bounds_are_refused(bins):
    with pytest.raises(ValueError, match="`bins` must be from 0 to 256"):
        hdnn.PiecewiseLinearEncoder(bins=bins).fit(np.zeros((3, 1)))
