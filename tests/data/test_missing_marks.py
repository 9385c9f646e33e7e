"""What a user says stands for a missing value is read alike in text, in typed columns and in the target."""

import datetime
import io
import pickle

import numpy as np
import pandas as pd
import pytest

import hdnn
from hdnn.data import TableEncoder, TargetEncoder, read_table, table
from hdnn.data.absent import without
from hdnn.data.cells import numbers
from hdnn.data.columns import Numeric
from hdnn.data.dialect import Dialect
from hdnn.data.kinds import kinds
from hdnn.data.moments import TYPED, Moment, days
from hdnn.data.notation import Notation
from hdnn.data.reading import parts

MARKS = ("-999", "?", "none", "1900-01-01", "False")


def survey(rows=40):
    x = np.arange(rows) % 7 + 0.5
    return pd.DataFrame(
        {
            "x": np.where(np.arange(rows) % 5 == 0, -999.0, x),
            "town": np.resize(["Bern", "none", "Lund", "?"], rows),
            "day": pd.date_range("2021-03-01", periods=rows, freq="D").where(np.arange(rows) % 4 > 0, "1900-01-01"),
            "open": np.resize([True, False, True, True], rows),
            "y": np.where(np.arange(rows) % 8 == 0, -999, np.arange(rows) % 3),
        }
    )


def stored(frame, folder, ending):
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
    path = folder / f"t{ending}"
    write = {".csv": frame.to_csv, ".parquet": frame.to_parquet, ".xlsx": frame.to_excel}[ending]
    write(path, index=False)
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx", "frame"])
def test_marks_are_missing_however_a_table_is_kept(tmp_path, ending):
    frame = survey()
    kept = frame if ending == "frame" else stored(frame, tmp_path, ending)
    found = table(kept, "y", missing=MARKS, columns=["x", "town", "day"])
    assert "left out: 5 rows without y" in found.description
    assert len(found.x_train) + len(found.x_test) == 35
    x, town, day = found.encoder.columns
    assert x.range == (0.5, 6.5)
    assert town.categories == ("Bern", "Lund")
    assert day.mean > days("day", pd.Series(["2021-01-01"]), "ISO8601")[0]
    assert found.target.classes == ("0", "1", "2")
    again = TableEncoder.from_dict(found.encoder.to_dict())
    assert again == found.encoder
    assert not found.encoder.report(frame).outside
    if ending != ".csv":
        np.testing.assert_array_equal(found.encoder.encode(frame), found.encoder.encode(without(frame, MARKS)))
        assert found.encoder.report(without(frame, MARKS[1:3])).missing == {"x": 8, "town": 20, "day": 10}


def test_a_data_frame_is_told_the_same():
    encoder = hdnn.DataFrameEncoder(missing=MARKS, bins=0, without=["y", "open"]).fit(survey())
    assert encoder.report(survey()).missing == {"x": 8, "town": 20, "day": 10}


@pytest.mark.parametrize("ending", [".parquet", ".xlsx"])
def test_marks_of_new_rows_reach_cells_with_types(tmp_path, ending):
    path = stored(survey(), tmp_path, ending)
    (frame,) = parts(path, list(survey()), Dialect(missing=MARKS, also_missing=MARKS))
    assert frame.isna().sum().to_dict() == {"x": 8, "town": 20, "day": 10, "open": 10, "y": 5}
    (frame,) = parts(path, list(survey()), Dialect(missing=("-999",)))
    assert frame["x"].isna().sum() == 0  # what was said in training is in the encoders


def test_truth_is_no_number():
    column = pd.Series([*map(str, range(14)), *["TRUE"] * 7])
    kind = kinds(column.to_frame("x"), Dialect())["x"]
    encoder = Numeric.fit("x", column, kind.notation, kind.missing, apart=kind.apart)
    assert kind.apart == ("TRUE",)
    assert encoder.values(column)[:14].tolist() == [*range(14)]
    assert Numeric.from_dict(encoder.to_dict()) == encoder
    assert np.isnan(numbers("x", column, missing=("TRUE", "5"))).sum() == 8
    truth = pd.Series([True, False, True])
    assert np.isnan(numbers("x", truth, missing=("True",))).tolist() == [True, False, True]
    assert not np.isnan(numbers("x", truth, missing=("1",))).any()
    assert not np.isnan(numbers("x", truth.map({True: "true", False: "no"}).head(1), missing=("1",))).any()


def test_a_mark_is_read_as_the_column_is_written():
    column = pd.Series(["1,0", "1.000", "1.000,5", "-999 ", "2,0"])
    x = numbers("x", column, Notation(",", "."), ("1.000", "-999"))
    assert x[[0, 2, 4]].tolist() == [1.0, 1000.5, 2.0]
    assert np.isnan(x[[1, 3]]).all()


def test_runs_of_before_keep_their_reading_of_marks():
    column = pd.Series(["0", "1", "2", "TRUE", "3"])
    encoder = Numeric.fit("x", column, missing=("TRUE",))
    target = TargetEncoder.fit_numbers(pd.DataFrame({"y": [0.0, 1.0, 2.0]}).head(1), None, ("TRUE",))
    for made, read in ((encoder, Numeric.from_dict), (target, TargetEncoder.from_dict)):
        before = made.to_dict()
        assert before.pop("exact_marks") is True
        loaded = read(before)
        assert not loaded.exact_marks
        assert loaded.to_dict() == before
        assert read(made.to_dict()) == made
    assert np.isnan(Numeric.from_dict({**encoder.to_dict(), "exact_marks": True}).values(column)).sum() == 1
    old = encoder.to_dict()
    del old["exact_marks"]
    assert np.isnan(Numeric.from_dict(old).values(column)).sum() == 2
    with pytest.raises(ValueError, match="exact_marks"):
        Numeric.from_dict({**old, "exact_marks": 3})
    plain = Numeric.fit("x", column.drop(3), missing=("-999",)).to_dict()
    assert "exact_marks" not in plain
    assert Numeric.from_dict(plain).exact_marks


@pytest.mark.parametrize("mark", ["-999", "TRUE"])
def test_pickles_of_before_keep_their_reading_of_marks(mark):
    def of_before(made):
        """The same as a pickle without its last field gives it."""
        found = object.__new__(type(made))
        found.__setstate__(made.__getstate__()[:-1])
        return found

    encoder = Numeric.fit("x", pd.Series(["0", "1", "2", "3"]), missing=(mark,))
    target = TargetEncoder.fit_numbers(pd.DataFrame({"y": [0.0]}), None, (mark,))
    for made in (encoder, target):
        old = of_before(made)
        assert old.exact_marks == (mark == "-999")
        assert type(made).from_dict(old.to_dict()) == old
        assert pickle.loads(pickle.dumps(made)) == made
    assert np.isnan(of_before(encoder).values(pd.Series(["1", "2"]))).sum() == (mark == "TRUE")
    given = Dialect(missing=(mark,))
    assert of_before(given) == given == pickle.loads(pickle.dumps(given))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_marks_that_only_new_rows_hold_are_missing(tmp_path, ending):
    frame = pd.DataFrame({"town": ["u", "v"] * 20, "x": np.arange(40) % 7, "y": ["a"] * 20 + ["b"] * 20})
    found = table(stored(frame, tmp_path, ending), "y", missing=["zz"])
    new = frame.head(3).assign(town=["zz", "u", "w"], y=["a", "zz", "c"])
    (part,) = parts(stored(new, tmp_path, ending), list(frame), Dialect(missing=("zz",)))
    report = found.encoder.report(part)
    assert report.missing == {"town": 1}
    assert "town" in report.description
    assert found.target.gaps(part).tolist() == [False, True, False]
    assert found.target.answered(part).tolist() == [True, False, False]


def test_texts_among_typed_dates_are_read_as_programs_write_them_or_refused():
    typed = Moment.fit("day", pd.Series(pd.date_range("2020-01-01", periods=5)))
    assert typed.format == TYPED
    right = ["2020-05-02", "2020-05-02 00:00:00", "20200502", "2020-05-02T00:00:00Z"]
    assert set(typed.values(pd.Series(right)).tolist()) == {18384.0}
    for wrong in ("05/02/2020", "13/02/2020", "01.02.2020", "01-02-20", "today", "now", "2020"):
        with pytest.raises(ValueError, match=rf"holds '{wrong}'.*|2021-12-31"):
            typed.values(pd.Series(["2020-05-02", wrong]))
        with pytest.raises(ValueError, match="must hold dates"):
            days("day", pd.Series(["today"]), "%d/%m/%Y")


def test_a_mark_among_typed_dates_is_missing_and_said(tmp_path):
    pytest.importorskip("openpyxl")
    days_ = [datetime.datetime(2021, 1, 1) + datetime.timedelta(days=i) for i in range(30)]
    frame = pd.DataFrame({"day": [*days_, "-", None], "x": np.arange(32) % 5, "y": np.arange(32) % 2})
    path = tmp_path / "t.xlsx"
    frame.to_excel(path, index=False)
    for kept in (frame, path):
        found = table(kept, "y")
        assert "day ('-' as missing)" in found.description
        assert found.encoder.report(frame).missing == {"day": 2}
    encoder = hdnn.DataFrameEncoder(without=["y"]).fit(frame)
    assert encoder.report(frame).missing == {"day": 2}


@pytest.mark.parametrize("absent", [(), (3, 8)])
def test_durations_are_numbers_however_a_table_is_kept(tmp_path, absent):
    openpyxl = pytest.importorskip("openpyxl")
    took = pd.Series(pd.to_timedelta(np.arange(30) * 90 % 700, unit="s"))
    took[list(absent)] = pd.NaT
    frame = pd.DataFrame({"took": took, "y": np.arange(30) % 2})
    frame.to_parquet(tmp_path / "t.parquet")
    book = openpyxl.Workbook()
    cells = [None if each is pd.NaT else each.to_pytimedelta() for each in took]
    for row in (["took", "y"], *zip(cells, frame["y"].tolist(), strict=True)):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")  # pandas writes durations as shares of a day
    encoders = [table(kept, "y").encoder for kept in (frame, tmp_path / "t.parquet", tmp_path / "t.xlsx")]
    assert all(each.names == ("took",) for each in encoders)
    for each in encoders:
        assert each.columns[0].mean == pytest.approx(encoders[0].columns[0].mean)
    (part,) = parts(tmp_path / "t.parquet", ["took"], Dialect())
    np.testing.assert_array_equal(
        encoders[1].encode(part), encoders[0].encode(pd.read_csv(io.StringIO(frame.to_csv())))
    )


def test_a_table_is_read_without_its_marks(tmp_path):
    frame = survey().assign(y=lambda frame: frame["y"] + 2**60 * (frame["y"] > 0))
    found = read_table(stored(frame, tmp_path, ".parquet"), missing=MARKS)
    assert found.isna().sum().to_dict() == {"x": 8, "town": 20, "day": 10, "open": 10, "y": 5}
    assert found["y"].max() == 2**60 + 2


def test_a_table_without_marks_is_left_as_it_is(tmp_path):
    frame = survey()
    assert without(frame, ()) is frame
    pd.testing.assert_frame_equal(read_table(stored(frame, tmp_path, ".parquet")), frame)
