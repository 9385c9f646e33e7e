"""Dates of new rows and marks among them, whether their files write them or have a type for them."""

import numpy as np
import pandas as pd
import pytest

from hdnn.data import TableEncoder, table
from hdnn.data.absent import without
from hdnn.data.dialect import Dialect
from hdnn.data.moments import ISO, QUARTERS, TYPED, days
from hdnn.data.reading import parts

DATES = pd.Series(pd.to_datetime(["1900-01-01", "2021-01-01", None]))


@pytest.mark.parametrize("format", [ISO, TYPED, QUARTERS, "%d.%m.%Y"])
@pytest.mark.parametrize("cells", [[np.nan, np.nan], [None, None], ["", " NA"], ["?", None]])
def test_a_column_of_dates_may_be_empty_in_all_new_rows(format, cells):
    assert np.isnan(days("d", pd.Series(cells), format, ("?", "1900-01-01"))).all()


def trained(folder, mark="1900-01-01"):
    frame = pd.DataFrame({"d": pd.date_range("2021-01-01", periods=40), "x": np.arange(40) % 7, "y": np.arange(40) % 2})
    frame.loc[:5, "d"] = pd.Timestamp("1900-01-01")
    frame.to_csv(folder / "t.csv", index=False)
    return frame, table(folder / "t.csv", "y", missing=[mark]).encoder


def test_an_empty_column_of_a_file_is_filled_in(tmp_path):
    frame, encoder = trained(tmp_path)
    frame.assign(d=None).to_csv(tmp_path / "n.csv", index=False)
    (part,) = parts(tmp_path / "n.csv", encoder.names, Dialect())
    assert encoder.report(part).missing == {"d": 40}
    assert (encoder.encode(part)[:, 0] == encoder.encode(part)[0, 0]).all()


def test_marks_of_written_dates_are_found_among_typed_ones(tmp_path):
    frame, encoder = trained(tmp_path)
    assert encoder.columns[0].format == ISO
    (written,) = parts(tmp_path / "t.csv", encoder.names, Dialect())
    frame.to_parquet(tmp_path / "t.parquet")
    (typed,) = parts(tmp_path / "t.parquet", encoder.names, Dialect())
    for cells in (typed, typed.astype({"d": object})):
        assert encoder.report(cells).missing == {"d": 6}
        np.testing.assert_array_equal(encoder.encode(cells), encoder.encode(written))
    assert TableEncoder.from_dict(encoder.to_dict()).report(typed).missing == {"d": 6}


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    "mark", ["1900-01-01", "1900-01-01 00:00:00", "01.01.1900", "19000101", "1900/1/1", "01/01/1900"]
)
def test_a_mark_means_the_local_day_in_any_form_that_is_beyond_doubt(mark, zone):
    for column in (DATES.dt.tz_localize(zone), DATES.dt.tz_localize(zone).astype(object)):
        assert np.isnan(days("d", column, TYPED, (mark,))).tolist() == [True, False, True]
        assert without(column.to_frame("d"), [mark])["d"].isna().tolist() == [True, False, True]


def test_a_mark_with_a_zone_means_that_moment():
    column = pd.Series(pd.to_datetime(["2021-01-01 01:00", "2021-01-01 00:00"])).dt.tz_localize("Europe/Berlin")
    assert np.isnan(days("d", column, TYPED, ("2021-01-01T00:00:00Z",))).tolist() == [True, False]
    assert np.isnan(days("d", column, TYPED, ("2021-01-01",))).tolist() == [False, True]


@pytest.mark.parametrize("mark", ["02/01/2021", "02-01-2021", "-999", "2021", "0:00", "31/31/2021", "", "2021-99-99"])
def test_a_mark_in_doubt_or_of_another_kind_is_no_date(mark):
    column = pd.Series(pd.to_datetime(["2021-01-02", "2021-02-01", "1900-01-01", "2021-01-01"]))
    assert not np.isnan(days("d", column, TYPED, (mark,))).any()


def test_the_format_of_the_column_decides_what_a_mark_is():
    column = pd.Series(pd.to_datetime(["2021-01-02", "2021-02-01"]))
    assert np.isnan(days("d", column, "%d/%m/%Y", ("02/01/2021",))).tolist() == [True, False]
    assert np.isnan(days("d", column, "%m/%d/%Y", ("02/01/2021",))).tolist() == [False, True]


def test_texts_with_the_year_first_are_dates_where_dates_had_a_type():
    right = ["2021/1/5", "2021-1-5", "2021.01.05", "20210105", "2021/01/05 00:00"]
    assert set(days("d", pd.Series(right), TYPED).tolist()) == {18632.0}
    for wrong in ("2021/13/01", "2021/1-5", "2021", "01/05/2021", "01.05.2021"):
        with pytest.raises(ValueError, match="must hold dates"):
            days("d", pd.Series(["2021-01-05", wrong]), TYPED)
