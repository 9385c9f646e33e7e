"""Time series from files: what the format says is read, what it does not say is refused with its line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdnn.data import read_ts, series_of

HEAD = "@problemName p\n@timeStamps false\n@univariate false\n@classLabel true a b\n"


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "x.ts"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_what_a_file_says(tmp_path):
    text = (
        "# words\n%more\n"
        + HEAD
        + "@equalLength true\n@seriesLength 3\n@dimensions 2\n@DATA\n\n1,2,3:4,5,-6e-1:a\n 1, ?,3:4,5,6 : b \n"
    )
    series = read_ts(written(tmp_path, text))
    assert series.name == "p"
    assert series.labels == ("a", "b")
    assert series.targets.tolist() == ["a", "b"]
    np.testing.assert_array_equal(series.array[0], [[1, 4], [2, 5], [3, -0.6]])
    assert np.isnan(series.array[1, 1, 0])


def test_lengths_and_numbers_as_targets(tmp_path):
    series = read_ts(written(tmp_path, "\ufeff@targetLabel true\n@data\n1,2,3:0.5\n4:-1\n"))
    assert [each.shape for each in series.values] == [(3, 1), (1, 1)]
    assert series.targets.tolist() == [0.5, -1.0]
    with pytest.raises(ValueError, match="from 1 to 3 steps"):
        series.array  # noqa: B018
    assert read_ts(written(tmp_path, "@data\n1,2\n")).targets is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line @data"),
        ("@data\n", "no series behind"),
        ("1,2:a\n@data\n", "line 1: expected @data"),
        ("@colour red\n@data\n1\n", "@colour is none"),
        ("@\n@data\n1\n", "line 1: @ is none"),
        ("@timestamps true\n@data\n(1,2):a\n", "time stamps are not read"),
        ("@univariate\n@data\n1\n", "says nothing behind"),
        ("@univariate maybe\n@data\n1\n", "true or false"),
        ("@univariate true x\n@data\n1\n", "more behind it"),
        ("@univariate true\n@univariate true\n@data\n1\n", "a second time"),
        ("@seriesLength 0\n@data\n1\n", "at least 1"),
        ("@seriesLength 99999999999999999999\n@data\n1\n", "at least 1"),
        ("@seriesLength -3\n@data\n1\n", "at least 1"),
        ("@classLabel true a a\n@data\n1:a\n", "announced twice"),
        (HEAD + "@data\n1,2:c\n", "line 6: the label 'c' is none"),
        (HEAD + "@data\na\n", "a series, a colon and its label"),
        (HEAD + "@data\n1,x:a\n", "Values are numbers"),
        (HEAD + "@data\n1,:a\n", "Values are numbers"),
        (HEAD + "@data\n1_0,2:a\n", "'1_0' is no number"),
        (HEAD + "@data\n1,inf:a\n", "infinite"),
        (HEAD + "@data\n1,1e999:a\n", "infinite"),
        (HEAD + "@missing false\n@data\n1,?:a\n", "@missing says that none is"),
        (HEAD + "@data\n1,2:3:a\n", "channels of 1 to 2 steps"),
        (HEAD + "@data\n1,2:3,4:a\n1,2:a\n", "line 7: 1 channels, where the first series has 2"),
        (HEAD + "@dimensions 3\n@data\n1,2:3,4:a\n", "announces 3"),
        ("@univariate true\n@data\n1:2\n", "there is one"),
        ("@equalLength true\n@data\n1,2\n1\n", "one length"),
        ("@equalLength true\n@seriesLength 4\n@data\n1,2\n", "@seriesLength says 4"),
        ("@targetLabel true\n@data\n1,2:x\n", "no number"),
        ("@targetLabel true\n@data\n1,2:nan\n", "not finite"),
        (b"@data\n1,\xff\n", "no text in UTF-8"),
        (b"\x00\x01\x02", "line 1: expected @data"),
    ],
)  # fmt: skip
def test_damaged_files(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_ts(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_ts(tmp_path / "none.ts")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["@data", "@classLabel true a", "@missing false", "@dimensions 2", "1,2:a", ":", ",", "?"])
        | st.text(max_size=12)
    )
)  # fmt: skip
def test_any_text_is_read_or_refused(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("any") / "x.ts"
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        series = read_ts(file)
    except ValueError as error:
        found, named = [], "x.ts" in str(error)
    else:
        found, named = series.values, True
    assert named
    assert all(each.ndim == 2 and each.size for each in found)


LONG = pd.DataFrame(
    {"id": list("bbaab"), "t": [2, 0, 1, 0, 1], "v": [3.0, 1, 2, 1, 2], "w": range(5), "y": list("qqppq")}
)


def test_a_table_of_one_row_a_step():
    series = series_of(LONG, "id", "t", "y")
    assert [each[:, 0].tolist() for each in series.values] == [[1, 2, 3], [1, 2]]
    assert series.targets.tolist() == ["q", "p"]
    assert series_of(LONG.drop(columns="y"), "id", "t").targets is None


@pytest.mark.parametrize(
    ("frame", "names", "message"),
    [
        (LONG, ("ids", "t", "y"), "no column 'ids'. Did you mean 'id'"),
        (LONG.assign(t=0), ("id", "t", "y"), "the same 't'"),
        (LONG.assign(y=range(5)), ("id", "t", "y"), "changes within"),
        (LONG, ("id", "t", None), "no number"),
        (LONG.assign(t=[None, 0, 1, 0, 1]), ("id", "t", "y"), "filled in every row"),
        (LONG[["id", "t"]], ("id", "t", None), "column of numbers"),
        (LONG[:0], ("id", "t", "y"), "has rows"),
    ],
)
def test_tables_that_are_no_series(frame, names, message):
    with pytest.raises(ValueError, match=message):
        series_of(frame, *names)


@pytest.mark.parametrize(
    "times",
    [
        [str(t) for t in range(12)],
        [f"{d}.{m}.2021" for m in (1, 2) for d in (1, 2, 3, 9, 10, 20)],
        [f"{t / 2:.1f}".replace(".", ",") for t in range(12)],
    ],
    ids=["numbers", "dates", "decimal commas"],
)
def test_times_that_are_texts_order_as_what_they_say(times):
    """As texts, 10 would come before 2, and the first of February before the second of January."""
    frame = pd.DataFrame({"id": 1, "t": times, "v": np.arange(12.0)}).sample(frac=1, random_state=0)
    assert series_of(frame, "id", "t").values[0].ravel().tolist() == list(range(12))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"t": list("edcba")}, "'t' is to order the steps, but holds .* Name a column of numbers or dates"),
        ({"t": ["1", "2", "3", "?", "4"]}, r"'t' says no time in row 4: '\?'"),
        ({"t": [f"0{d}/0{m}/2021" for m in (1, 2) for d in (1, 2, 3)][:5]}, "but its '0.*' may be a date written as"),
        ({"v": [1.0, 2, np.inf, 0, 0]}, "Series 'a' has an infinite value in 'v'"),
        ({"v": pd.date_range("2020", periods=5)}, "'v' holds dates or times, and channels are numbers"),
    ],
)
def test_times_and_channels_that_say_nothing(changed, message):
    with pytest.raises(ValueError, match=message):
        series_of(LONG.drop(columns="y").assign(**changed), "id", "t")
