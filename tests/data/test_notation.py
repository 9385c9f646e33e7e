"""Numbers and dates as people write them: read as exactly what they are, or refused, never taken for names."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hdnn.data import read_table, table
from hdnn.data.cells import numbers
from hdnn.data.dialect import Dialect
from hdnn.data.kinds import kinds
from hdnn.data.moments import days
from hdnn.data.notation import Notation, notations, tidy
from hdnn.data.reading import cells

# How lands write: what stands before decimals, between thousands, and between the columns of their files.
LANDS = {
    "US": (".", ",", ","),
    "Germany": (",", ".", ";"),
    "France": (",", "\u202f", ";"),
    "Sweden": (",", "\u00a0", "\t"),
    "Switzerland": (".", "’", ";"),
    "Austria": (",", "'", "|"),
    "plain": (".", "", ","),
    "plain comma": (",", "", ";"),
}
TIMES = datetime.datetime(1971, 1, 1), datetime.datetime(2060, 1, 1)
AFFIXES = [("", ""), ("$", ""), ("€ ", ""), ("", " €"), ("", "%"), ("", " kg"), ("", " km/h"), ("USD ", "")]


def written(value, places, decimal, thousands, minus="-"):
    """A number as a land writes it."""
    text = f"{abs(value):,.{places}f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
    return (minus if value < 0 else "") + text


def read(text, separator, **given):
    """The columns of a table of texts as it is decided to read them."""
    return kinds(text, Dialect(**given), separator)


@settings(max_examples=120, deadline=None)
@example(values=[1234, 5678, 9012], places=0, land="Germany", affix=("", ""), minus="-")
@example(values=[1.234, 5.678, 9.012], places=3, land="plain", affix=("", ""), minus="-")
@given(
    values=st.lists(st.integers(-10_000_000, 10_000_000).map(lambda n: n / 1000), min_size=2, max_size=12, unique=True),
    places=st.integers(0, 3),
    land=st.sampled_from(sorted(LANDS)),
    affix=st.sampled_from(AFFIXES),
    minus=st.sampled_from("-−"),
)
def test_a_table_of_any_land_is_read_exactly_or_refused(tmp_path_factory, values, places, land, affix, minus):
    decimal, thousands, separator = LANDS[land]
    shown = [written(round(value, places), places, decimal, thousands, minus) for value in values]
    texts = [affix[0] + text + affix[1] for text in shown]
    path = tmp_path_factory.getbasetemp() / "land.csv"
    pd.DataFrame({"name": ["a"] * len(texts), "x": texts}).to_csv(path, sep=separator, index=False)
    found = cells(path, Dialect())
    kind = kinds(found.frame, Dialect(), found.separator)["x"]
    if kind.doubt:
        assert "1000" in kind.doubt or "`decimal" in kind.doubt
        kind = kinds(found.frame, Dialect(decimal=decimal), found.separator)["x"]
    assert kind.what == "number"
    assert not kind.doubt
    expected = np.array([round(value, places) for value in values])
    got = kind.notation.read(tidy(found.frame["x"]))
    if kind.caution:  # a table of commas, whose numbers are all written as 1.234: said, and a decimal point
        assert decimal == "."
    assert np.array_equal(got, expected / 100 if affix[1] == "%" else expected)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text("0123456789.,' -+$€%kg()e", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=6
    ),
    decimal=st.sampled_from([None, ".", ","]),
)
def test_what_a_notation_reads_all_of_its_readers_agree_on(texts, decimal):
    found = notations(tidy(pd.Series(texts)), decimal)
    read = [notation.read(tidy(pd.Series(texts))) for notation in found]
    assert not any(np.isnan(x).any() for x in read)
    assert not any(np.array_equal(read[i], read[j]) for i in range(len(read)) for j in range(i))


@settings(max_examples=60, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_read_to_the_nearest(value):
    for text in (repr(value), f"{value:.17e}", f" {value!r} ", f"+{abs(value)!r}"):
        assert Notation().read(tidy(pd.Series([text])))[0] == float(text)


@pytest.mark.parametrize(
    ("texts", "given", "outcome"),
    [
        (["1.234", "567", "2.001"], {}, "may be 1.234 or 1234"),
        (["1.234", "567", "2.001"], {"decimal": "."}, [1.234, 567, 2.001]),
        (["1.234", "567", "2.001"], {"decimal": ","}, [1234, 567, 2001]),
        (["144,225", "120,500"], {}, "may be 144.225 or 144225"),
        (["144,225", "1,120,500"], {}, [144225, 1120500]),
        (["12,34,567", "1,000"], {}, [1234567, 1000]),
        (["0,125", "1,125"], {}, [0.125, 1.125]),
        (["٣٫٥", "٤"], {}, [3.5, 4]),
        (["12", "?", "7"], {}, [12, np.nan, 7]),
        (["5 kg", "300 g", "4 kg", "2 kg", "1 g"], {}, "looks like numbers"),
        (["$5", "€6", "$7", "$8", "$9"], {}, "looks like numbers"),
        (["(5)", "(6)", "7", "8", "9"], {}, "looks like numbers"),
        (["1_000", "2_000", "3"], {}, "text"),
        (["007", "010"], {}, [7, 10]),
    ],
)
def test_what_is_in_doubt_is_said(texts, given, outcome):
    frame = pd.DataFrame({"x": texts}, dtype=str)
    kind = read(frame, ";", **given)["x"]
    if isinstance(outcome, str):
        assert outcome in kind.doubt + kind.caution + kind.what
    else:
        assert not kind.doubt
        assert np.array_equal(numbers("x", frame["x"], kind.notation, kind.missing), outcome, equal_nan=True)


def test_other_columns_show_what_stands_before_decimals():
    frame = pd.DataFrame({"a": ["1.234", "5.678"], "b": ["0,5", "2,25"], "c": ["144,225", "120,500"]}, dtype=str)
    assert read(frame[["a", "b"]], ";")["a"].notation == Notation(",", ".")
    assert read(frame.assign(b=["0.5", "2.25"]), ";")["c"].notation == Notation(".", ",")
    assert read(frame.assign(b=["0.5", "2.25"]), ";")["a"].notation == Notation()


# Dates


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(
        st.datetimes(datetime.datetime(1971, 1, 1), datetime.datetime(2060, 1, 1)), min_size=2, max_size=8
    ),
    format=st.sampled_from(
        ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y", "%B %d, %Y", "%Y/%m/%d %H:%M"]
    ),
)
def test_dates_of_any_format_are_read_exactly_or_refused(moments, format):
    texts = [moment.strftime(format) for moment in moments]
    assume(len(set(texts)) > 1)
    expected = [datetime.datetime.strptime(text, format) for text in texts]
    frame = pd.DataFrame({"t": texts}, dtype=str)
    kind = read(frame, ",")["t"]
    if kind.what == "other":
        assert "`date_format`" in kind.note
        kind = read(frame, ",", date_format=format)["t"]
    assert kind.what == "date"
    since = [(moment - datetime.datetime(1970, 1, 1)).total_seconds() / 86400 for moment in expected]
    assert days("t", frame["t"], kind.format) == pytest.approx(since)


def test_a_date_that_may_be_read_in_two_ways_is_left_out_by_that_name():
    cells = [f"{day:02}/{month:02}/2021" for day in range(1, 6) for month in range(1, 6)]
    frame = pd.DataFrame({"day": cells, "x": np.random.default_rng(0).normal(size=25)})
    said = table(frame, "x", columns=None, date_format="%d/%m/%Y").description
    assert "day (dates written as %d/%m/%Y)" in said
    with pytest.raises(ValueError, match=r"day \('01/01/2021' may be a date written as %d/%m/%Y or %m/%d/%Y"):
        table(frame, "x")


def test_a_typing_error_among_dates_is_named():
    cells = [f"{hour:02}:{minute:02}" for hour in range(5) for minute in range(0, 60, 15)]
    cells[7] = "1.45"
    frame = pd.DataFrame({"t": cells, "x": np.random.default_rng(0).normal(size=20)})
    with pytest.raises(ValueError, match=r"'t' holds dates written as %H:%M, except for '1\.45' in data row 8"):
        table(frame, "x")


def test_what_comes_again_is_seen_in_time():
    t = pd.date_range("2019-01-01", "2022-12-31", freq="97h")
    season = np.cos(2 * np.pi * t.day_of_year / 365.25)
    data = table(pd.DataFrame({"t": t.astype(str), "season": season}), "season")
    assert data.encoder.columns[0].parts == ("day", "week", "year")
    x = np.concatenate([data.x_train, np.ones((len(data.x_train), 1), np.float32)], axis=1)
    left = np.linalg.lstsq(x, data.y_train, rcond=None)[1]
    assert left < 1e-2 * len(x)  # a line through the parts of the year tells the season


# Tables as they come


def rows(**columns):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=60).round(2), generator.normal(size=60).round(2)
    return pd.DataFrame({"x": x, **columns, "y": y})


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.tab", "t.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_separators_endings_and_encodings_are_found(tmp_path, separator, name, encoding):
    frame = rows(stadt=np.resize(["Zürich", "Bern, West", "a;b|c"], 60))
    frame.to_csv(tmp_path / name, index=False, sep=separator, encoding=encoding)
    found = read_table(tmp_path / name)
    assert found["x"].equals(frame["x"])
    assert found["stadt"].tolist() == frame["stadt"].tolist()


def test_blanks_that_align_columns_separate_them(tmp_path):
    (tmp_path / "t.txt").write_text(rows().to_string(index=False))
    assert read_table(tmp_path / "t.txt").equals(rows())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "x,y,z\na,b,c\n" + "1,2,\n3,4,q\n" * 2,
            "second line.*'a,b,c', looks like another line of names.*`skip_lines=1`",
        ),
        (
            "x,y,z\nmm,mm,\n" + "1,,r\n3,4,q\n" * 2,
            "second line.*'mm,mm,', looks like another line of names, or of units",
        ),
        ("Prices 2026\n\nx,y\n1,2\n3,4\n", "first line.*'Prices 2026', looks like a title.*`skip_lines=1`"),
        ("# a\n# b\nx,y\n1,2\n3,4\n", "first 2 lines.*`skip_lines=2`"),
        ("a:b\n\nc\nx,y,\n1,2\n3,4\n", "first 3 lines.*`skip_lines=3`"),
        ("x y\na 1 2\nb 3 4\n", "more fields than the header, which has 2"),
        ("5.1,3.5\n4.9,3.0\n4.7,3.2\n", "looks like data.*`no_header=True`"),
        ("a;b,c;d\n1;2,3;4\n5;6,7;8\n", "may be separated by commas or semicolons. Say which with `separator`"),
        ("x\ty\nd\tc\n\tclass\n1\t2\n", "second line.*types"),
    ],
)
def test_what_is_no_header_is_named(tmp_path, text, said):
    name = "t.txt" if ";" in text else "t.csv"
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        table(tmp_path / name, "d" if "d\n" in text else "y")


def test_any_year_is_one():
    frame = pd.DataFrame({"t": ["1150-01-01", "1970-01-02", "9000-12-31"]}, dtype=str)
    kind = read(frame, ",")["t"]
    assert days("t", frame["t"], kind.format).tolist() == [-299499.0, 1.0, 2568019.0]


def test_quarters_are_dates():
    frame = pd.DataFrame({"q": ["1974Q1", "1974-Q4", "1975 Q2"]}, dtype=str)
    kind = read(frame, ",")["q"]
    assert np.diff(days("q", frame["q"], kind.format)).tolist() == [273, 182]


def test_years_are_names(tmp_path):
    (tmp_path / "t.csv").write_text("land,1990,1991,1992\nA,1,2,3\nB,4,5,7\n")
    assert list(read_table(tmp_path / "t.csv").columns) == ["land", "1990", "1991", "1992"]


def test_what_a_user_says_is_taken(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("Städte\n1,5|Zürich\n2,25|\n".encode("cp1252"))
    found = read_table(path, separator="|", no_header=True, skip_lines=1, encoding="cp1252", decimal=",")
    assert found["column1"].tolist() == [1.5, 2.25]
    assert found["column2"].tolist()[0] == "Zürich"


def test_marks_of_missing_values(tmp_path):
    frame = rows(town=np.resize(["None", "NA", "Bern"], 60), n=np.resize(["7", "NA", "12", "off"], 60))
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = table(tmp_path / "t.csv", "y", missing=["off"])
    assert data.encoder.columns[1].categories == ("Bern", "NA", "None")
    assert "missing values (n 30)" in data.description
    data = table(tmp_path / "t.csv", "y", columns=["town"])
    assert data.encoder.columns[0].categories == ("Bern",)


def test_a_class_may_be_called_none(tmp_path):
    frame = rows(kind=np.resize(["None", "oak"], 60))
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert table(tmp_path / "t.csv", "kind", missing=[""]).classes == ("None", "oak")
    with pytest.raises(ValueError, match="Every row has the class 'oak'"):
        table(tmp_path / "t.csv", "kind")


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["950", "1.2K", "3.4M", "-4.35k"], [950, 1200, 3.4e6, -4350]),
        (["$1.25M", "$800K", "$2B"], [1.25e6, 8e5, 2e9]),
        (["0:45", "1:30", "75:05"], [45, 90, 4505]),
        (["0:45:00", "101:00:30.5"], [2700, 363630.5]),
        (["2h 15m", "45 min", "1 day, 2 hours", "3 hrs 5 mins 2 secs"], [8100, 2700, 93600, 11102]),
        (["0 days 00:05:00", "1 days 02:03:04.5"], [300, 93784.5]),
    ],
)
def test_letters_and_colons_among_digits_are_read_exactly(written, numbers):
    (notation,) = notations(pa.array(written, pa.large_string()))
    assert notation.words
    assert not notation.is_plain
    assert notation.read([*written, "x"]).tolist()[:-1] == numbers
    assert np.isnan(notation.read([*written, "x"])[-1])
    assert Notation.from_dict(notation.to_dict()) == notation


@pytest.mark.parametrize(
    "written", [["12", "12B", "14K"], ["5.5 m", "3 s"], ["1:05", "1:05:03"], ["1:75", "2:10"], ["XL", "2XL"]]
)
def test_what_only_looks_like_them_is_no_number(written):
    assert notations(pa.array(written, pa.large_string())) == []


def test_a_column_of_durations_says_nothing_of_the_decimals_of_others():
    frame = pd.DataFrame({"lap": [f"{30 + i}:{i}5" for i in range(6)] * 5, "x": ["1.234", "567", "2.001"] * 10})
    found = kinds(frame, Dialect())
    assert found["lap"].words == "whole numbers, durations such as 1:30"
    assert "which may be 1.234 or 1234" in found["x"].doubt
