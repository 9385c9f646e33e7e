"""What estimators make of the columns of a table, and how they find the number of epochs."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

import hdnn
from estimator_cases import X, Y, answer, each, scores


@each
def test_the_number_of_epochs_is_found_and_no_row_is_lost(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 2))
    y = (x[:, 0] * x[:, 1] + rng.normal(size=1000) > 0).astype(int)
    chosen = {"layers": 2, "epochs": 6, "random_state": 0}
    model = kind(**chosen).fit(x, y)  # by itself for so many rows
    assert 1 <= model.n_iter_ <= len(model.search_history_) <= 6
    assert "validation_loss" in model.search_history_[0]
    by_hand = kind(**chosen | {"epochs": model.n_iter_, "early_stopping": False}).fit(x, y)
    assert (scores(model, x) == scores(by_hand, x)).all()
    assert kind(**chosen).fit(x[1:], y[1:]).search_history_ == []
    assert len(kind(**chosen, early_stopping=True).fit(x[1:], y[1:]).search_history_) > 0


@each
def test_who_watches_rows_keeps_what_that_meant(kind):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    model = kind(layers=2, epochs=2, validation_fraction=0.2, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    assert model.search_history_ == []
    assert "validation_loss" in model.history_[0]


@each
def test_early_stopping_that_makes_no_sense(kind):
    with pytest.raises(ValueError, match="`early_stopping` must be true, false or \"auto\"; got 'yes'"):
        kind(early_stopping="yes").fit(X, Y)
    with pytest.raises(ValueError, match="`early_stopping` trains on the rows that were held back"):
        kind(early_stopping=True, validation_fraction=0.0).fit(X, Y)


@each
def test_columns_enter_in_pieces(kind):
    model = kind(epochs=1, random_state=0).fit(X, Y)
    expected = hdnn.PiecewiseLinearEncoder().fit_transform(X)
    np.testing.assert_allclose(model._fitted.inputs(X).numpy(), expected, rtol=1e-6)
    assert kind(epochs=1, bins=0).fit(X, Y).network_.lift.inputs == 4


@each
def test_what_an_earlier_version_pickled_answers_as_then(kind):
    model = kind(epochs=1, bins=0, random_state=0).fit(X, Y)
    fitted, encoder = vars(model._fitted), model._fitted.encoder
    old = pickle.loads(pickle.dumps(model))
    old._fitted.__setstate__(
        {name: value for name, value in fitted.items() if name not in ("encoder", "search")}
        | {"scaler": encoder.scaler_}
    )
    vars(old._fitted).pop("scaler", None)
    for name in ("bins", "early_stopping"):
        vars(old).pop(name)  # there were none
    old = pickle.loads(pickle.dumps(old))
    assert (scores(old) == scores(model)).all()
    old.set_params(epochs=1).fit(X, Y)


@each
def test_texts_and_missing_values_are_refused_in_words_that_name_what_helps(kind):
    frame = pd.DataFrame({"a": [1.0, None] * 20, "b": ["x", "y"] * 20})
    model = kind(epochs=1).fit(pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)}), [0, 1] * 20)
    helps = "`hdnn.DataFrameEncoder.*`encode=False`; or skrub's `TableVectorizer.*`SimpleImputer"
    for x, what in ((frame, "no texts"), (frame.assign(b=0.0), "no missing values")):
        for asked in (lambda x=x: kind().fit(x, [0, 1] * 20), lambda x=x: answer(model, x)):
            with pytest.raises(ValueError, match=f"{what}.*{helps}"):
                asked()


@each
def test_skrub_turns_any_table_into_numbers_before_it(kind):
    skrub = pytest.importorskip("skrub")
    rng = np.random.default_rng(0)
    town = rng.choice(["Bern", "Lund", "Oslo"], 120)
    frame = pd.DataFrame(
        {
            "town": town,
            "day": pd.date_range("2020-01-01", periods=120).astype(str),
            "area": np.where(rng.random(120) < 0.1, np.nan, rng.uniform(20, 200, 120)),
        }
    )
    y = np.where(town == "Bern", 1, 0)
    cleaning = (skrub.TableVectorizer(), SimpleImputer(add_indicator=True))
    pipeline = make_pipeline(*cleaning, kind(epochs=10, random_state=0)).fit(frame[:80], y[:80])
    if kind is hdnn.HamiltonianFeatures:
        assert np.isfinite(pipeline.transform(frame[80:])).all()
    else:
        assert pipeline.score(frame[80:], y[80:]) > 0.8
