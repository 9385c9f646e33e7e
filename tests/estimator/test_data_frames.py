"""Data frames before an estimator: read as `hdnn train` reads the same table in a file, to the same score."""

import datetime
import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import hdnn
from estimator_cases import KINDS, scores
from hdnn import jobs

ROWS = 80
DAY = datetime.date(2020, 1, 1)


@parametrize_with_checks([hdnn.DataFrameEncoder(), hdnn.DataFrameEncoder(bins=0)])
def test_scikit_learn_finds_nothing(estimator, check):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Left out|x0", UserWarning)
        check(estimator)


def column(kind, rng, gaps):
    """Cells of one kind, as users have them in frames."""
    made = {
        "decimal": lambda: rng.normal(size=ROWS) * 10.0 ** rng.integers(-3, 9),
        "whole": lambda: rng.integers(0, 9, ROWS),
        "Int64": lambda: pd.array(rng.integers(-4, 5, ROWS), dtype="Int64"),
        "float32": lambda: rng.integers(0, 99, ROWS).astype(np.float32) / 4,
        "truth": lambda: rng.integers(0, 2, ROWS).astype(bool),
        "boolean": lambda: pd.array(rng.integers(0, 2, ROWS).astype(bool), dtype="boolean"),
        "words": lambda: rng.choice(["Bern", "Lund", " Oslo ", "São Paulo"], ROWS),
        "category": lambda: pd.Categorical(rng.choice(["low", "middle", "high"], ROWS)),
        "days": lambda: pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 900, ROWS), unit="D"),
        "times": lambda: pd.Timestamp("2019-03-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 10**6, ROWS), "s"),
        "dates": lambda: np.array([DAY + datetime.timedelta(int(each)) for each in rng.integers(0, 99, ROWS)], object),
        "written days": lambda: [f"{m + 9}.{m}.2021" for m in rng.integers(1, 13, ROWS)],
        "written numbers": lambda: [f"{each:,.2f} €" for each in rng.uniform(0, 9999, ROWS)],
        "a trace": lambda: np.where(rng.random(ROWS) < 0.4, "T", rng.integers(0, 60, ROWS).astype(str)),
        "spans": lambda: pd.to_timedelta(rng.integers(0, 10**6, ROWS), unit="s"),
        "constant": lambda: np.full(ROWS, 3),
        "counter": lambda: np.arange(ROWS) + 1,
        "ids": lambda: [f"{each:08x}" for each in rng.permutation(10**6)[:ROWS]],
        "mixed": lambda: np.array([1.5, 2, True, "3"] * (ROWS // 4), dtype=object),
    }  # fmt: skip
    cells = pd.Series(made[kind]())
    absent = rng.random(ROWS) < gaps
    if kind in ("words", "a trace", "written numbers") and gaps:
        return cells.mask(absent, "NA")
    return cells.mask(absent) if absent.any() and kind != "counter" else cells


COLUMNS = [
    "decimal", "whole", "Int64", "float32", "truth", "boolean", "words", "category", "days", "times", "dates",
    "written days", "written numbers", "a trace", "spans", "constant", "counter", "ids", "mixed",
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=5),
    seed=st.integers(0, 2**20),
    gaps=st.sampled_from([0.0, 0.1]),
    bins=st.sampled_from([0, 8]),
)
@pytest.mark.long
def test_a_frame_is_read_as_the_same_table_in_a_file(tmp_path, kinds, seed, gaps, bins):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({f"{kind} {i}": column(kind, rng, gaps) for i, kind in enumerate(kinds)})
    frame = frame.assign(always=rng.normal(size=ROWS))
    frame.assign(y=["a", "b"] * (ROWS // 2)).to_csv(tmp_path / "table.csv", index=False)
    read = hdnn.data.table(tmp_path / "table.csv", "y", seed=seed, bins=bins)
    train, test = hdnn.data.split(ROWS, seed=seed, labels=np.array(["a", "b"] * (ROWS // 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left out
        encoder = hdnn.DataFrameEncoder(bins=bins).fit(frame.iloc[train])
    assert encoder.encoder_.names == read.encoder.names
    np.testing.assert_allclose(encoder.transform(frame.iloc[train]), read.x_train, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(encoder.transform(frame.iloc[test]), read.x_test, rtol=2e-6, atol=1e-7)
    assert len(encoder.get_feature_names_out()) == read.inputs[0]


@pytest.mark.long
@pytest.mark.parametrize("target", ["class", "y"])
@pytest.mark.parametrize("rows", [300, 1200])  # a fixed number of epochs, and one that is found
def test_both_doors_give_the_same_score_on_a_table_of_any_columns(tmp_path, rows, target):
    rng, random_state = np.random.default_rng(3), 7
    frame = pd.DataFrame(
        {
            "rownames": np.arange(rows) + 1,
            "town": rng.choice(["Bern", "Lund", "Oslo"], rows),
            "day": pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "area": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(size=rows)),
            "rain": np.where(rng.random(rows) < 0.1, "T", rng.integers(0, 60, rows).astype(str)),
        }
    )
    y = np.where(frame.town == "Bern", frame.area.fillna(3), frame.rain == "T") + 0.1 * rng.normal(size=rows)
    answers = y if target == "y" else np.where(y > np.median(y), "up", "down")
    frame.assign(**{target: answers}).to_csv(tmp_path / "table.csv", index=False)
    seed = int(np.random.RandomState(random_state).randint(2**31 - 1))  # what an estimator draws from it
    source = jobs.Source(str(tmp_path / "table.csv"), seed=1, target=target)
    outcome = jobs.train(source, {"epochs": 10}, tmp_path / "run", seed=seed)

    train, test = hdnn.data.split(rows, seed=1, labels=answers if target == "class" else None)
    kind = hdnn.HamiltonianClassifier if target == "class" else hdnn.HamiltonianRegressor
    model = make_pipeline(hdnn.DataFrameEncoder(), kind(encode=False, epochs=10, random_state=random_state))
    with pytest.warns(UserWarning, match=r"Left out: rownames \(counts the rows\)|rain: 'T' in .* among numbers"):
        model.fit(frame.iloc[train], answers[train])
    expected = outcome.metrics["test_accuracy" if target == "class" else "test_r2"]
    assert outcome.metrics["epochs"] == model[-1].n_iter_
    assert model.score(frame.iloc[test], answers[test]) == pytest.approx(expected, abs=1e-4)


FRAME = pd.DataFrame(
    {
        "town": ["Bern", "Lund"] * 30,
        "area": np.arange(60.0) * 7 % 60 + 0.5,
        "id": np.arange(60) * 37 % 97,
        "land": ["", None] * 30,
    }
)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_are_encoded_are_taken_as_they_are(kind):
    encoder = hdnn.DataFrameEncoder(without=["id", "land"]).fit(FRAME)
    x, y = encoder.transform(FRAME), [0, 1] * 30
    model = kind(encode=False, epochs=1, random_state=0).fit(x, y)
    assert (model._fitted.inputs(x).numpy() == x).all()
    assert model.network_.head.weight.dtype == model.network_.flow.weight.dtype
    assert np.isfinite(scores(model, x)).all()
    as_numbers = kind(bins=0, standardize=False, epochs=1, random_state=0).fit(x, y)
    if kind is hdnn.HamiltonianClassifier:
        assert (scores(as_numbers, x) == scores(model, x)).all()


def test_what_is_left_out_is_said_and_so_is_what_may_mislead():
    like = "whole numbers that differ in every row, like an id"
    with pytest.warns(UserWarning, match=rf"^Left out: id \({like}\), land \(empty\)\.$"):
        encoder = hdnn.DataFrameEncoder().fit(FRAME)
    assert encoder.left_out_ == {like: ["id"], "empty": ["land"]}
    with pytest.warns(UserWarning, match=rf"^id: {like}\. If so, leave it out with `without`\.$"):
        hdnn.DataFrameEncoder(columns=["id"]).fit(FRAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hdnn.DataFrameEncoder(without=["id", "land"]).fit(FRAME).encoder_.names == ("town", "area")
        assert hdnn.DataFrameEncoder(columns=["area"], bins=0).fit(FRAME).get_feature_names_out() == ["area"]


def test_a_row_counter_is_known_among_rows_that_were_drawn():
    frame = FRAME[["town"]].assign(n=np.arange(60))
    with pytest.warns(UserWarning, match=r"Left out: n \(counts the rows\)\."):
        hdnn.DataFrameEncoder().fit(frame.sample(frac=0.5, random_state=0))


def test_it_is_a_transformer_like_others():
    encoder = hdnn.DataFrameEncoder(without=["id", "land"], bins=2)
    copy = clone(encoder).set_params(bins=0)
    assert (encoder.bins, copy.bins, copy.without) == (2, 0, ["id", "land"])
    found = encoder.set_output(transform="pandas").fit_transform(FRAME[:40])
    assert found.columns.tolist() == ["town_Bern", "town_Lund", "area", "area_1", "area_2"]
    again = pickle.loads(pickle.dumps(encoder))
    assert again.transform(FRAME).equals(encoder.transform(FRAME))
    arrow = hdnn.DataFrameEncoder(without=["id", "land"], bins=2).fit(pa.Table.from_pandas(FRAME[:40]))
    assert (arrow.transform(pa.Table.from_pandas(FRAME)) == encoder.transform(FRAME).to_numpy()).all()
    assert encoder.report(FRAME.assign(town="Oslo")).description.startswith(
        "60 values not in the training part (town 60)"
    )


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        ({"a": ["1.234", "567", "2.001"] * 9}, {}, "Column 'a' holds '1.234', which may be .* Give `decimal='.'`"),
        ({"a": [[1], [2]] * 9, "b": range(18)}, {"columns": ["a"]}, "Column 'a' holds object, neither"),
        ({"a": [1.0, 2.0]}, {"without": ["b"]}, "There is no column 'b'"),
        ({"a": [1.0, 2.0]}, {"without": "a"}, "`without` is a list of names"),
        ({"a": [1.0, 2.0]}, {"without": ["a"], "columns": ["a"]}, "asked for and left out at once"),
        ({"a": [1.0, 1.0]}, {}, r"No column is left to learn from; left out: a \(constant"),
        ({"a": [1.0, 2.0]}, {"without": ["a"]}, "No column is left to learn from beside what is predicted"),
        ({"a": [1.0, 2.0]}, {"bins": 999}, "can be cut into 0 to 256 bins"),
        ({"a": [1.0]}, {}, "X has 1 sample, too few"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(frame, options, message):
    with pytest.raises(ValueError, match=message):
        hdnn.DataFrameEncoder(**options).fit(pd.DataFrame(frame))


def test_marks_in_texts_are_gaps_unless_told():
    frame = pd.DataFrame({"continent": ["NA", "EU", "None"] * 4})
    assert hdnn.DataFrameEncoder(missing=[]).fit(frame).encoder_.columns[0].categories == ("EU", "NA", "None")
    with pytest.raises(ValueError, match="constant in the training part"):
        hdnn.DataFrameEncoder().fit(frame)
