"""Tables read whole and in parts."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hdnn.data import read_table, table_parts
from hdnn.data.dialect import Dialect
from hdnn.data.reading import parts

CELLS = [
    "1",
    "2.5",
    "-3",
    "",
    "NA",
    "True",
    "false",
    " 7",
    "1e3",
    "007",
    "12345678901234567890",
    "0.1",
    "1e999",
    "x",
    "1_0",
]
TEXTS = ["a", "", "1", "1.0", "True", '"q,\n"', '"', "NA", "ä"]


def joined(path, **options):
    return pd.concat(list(table_parts(path, numeric=["n"], text=["t"], **options)))


@settings(max_examples=30, deadline=None)
@example(cells=[("True", "a"), ("1e999", "a")], part=1, ends="\n", separator=",")
@example(
    cells=[("2.5", "True"), ("1e999", "a"), ("True", '"'), ("2.5", '"'), ("1e999", "a")],
    part=1,
    ends="\n",
    separator=",",
)
@given(
    cells=st.lists(st.tuples(st.sampled_from(CELLS), st.sampled_from(TEXTS)), min_size=1, max_size=12),
    part=st.integers(1, 60),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    separator=st.sampled_from([",", "\t"]),
)
def test_a_cell_depends_on_itself_alone(tmp_path_factory, cells, part, ends, separator):
    path = tmp_path_factory.getbasetemp() / f"cells.{'csv' if separator == ',' else 'tsv'}"
    lines = [separator.join(row) for row in [("n", "t"), *cells]]
    path.write_text(ends.join(lines) + ends, newline="")
    outcomes = []
    for size in (part, 2**22):
        try:
            outcomes.append(joined(path, part=size))
        except ValueError as error:
            outcomes.append(str(error))
    small, whole = outcomes
    if isinstance(whole, str):
        assert isinstance(small, str)
        if "data row" in whole and "cannot be read" not in small:
            assert small == whole
    else:
        assert small["n"].to_numpy().tobytes() == whole["n"].to_numpy().tobytes()
        pd.testing.assert_frame_equal(small, whole)
        assert list(small.index) == list(range(len(small)))


@settings(max_examples=50, deadline=None)
@given(body=st.text(alphabet='",\n\ra ', max_size=30), part=st.integers(1, 40))
@example(body="a\n1,2,3", part=4)  # pandas before 3.1 took the last row as 1,2
def test_rows_are_never_cut(tmp_path_factory, body, part):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_text("n,t\n" + body, newline="")

    def read(part):
        try:
            frame = pd.concat(list(table_parts(path, text=["n", "t"], part=part)))
        except ValueError as error:
            return str(error)
        return frame.fillna("missing").values.tolist()

    try:
        even = "n,t\n" + body.replace("\r\n", "\n").replace("\r", "\n")
        expected = pd.read_csv(io.StringIO(even), dtype=str, skipinitialspace=True)
    except ValueError:
        expected = None
    found = read(part)
    whole = read(2**22)
    assert found == whole or (isinstance(found, str) and isinstance(whole, str))
    if expected is not None and isinstance(expected.index, pd.RangeIndex) and len(expected):
        assert found == expected.fillna("missing").values.tolist()
    else:
        assert isinstance(found, str)


@pytest.mark.parametrize("read", [read_table, lambda path: joined(path, part=2000)])
def test_short_rows_under_a_wide_header_do_not_fill_the_memory(tmp_path, monkeypatch, read):
    monkeypatch.setattr("hdnn.data.reading._LEAST_BOUND", 2**16)
    path = tmp_path / "t.csv"
    head = ",".join(f"c{i}" for i in range(100))
    path.write_text(f"{head}\n" + "1\n" * 50)
    assert read_table(path).shape == (50, 100)
    path.write_text(f"{head}\n" + "1\n" * 5000)
    with pytest.raises(ValueError, match=r"has 100 names in its header and \d+ or more rows of far fewer fields"):
        read(path)


def test_a_chunk_of_short_rows_is_no_larger_than_one_of_full_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"c{i}" for i in range(100)) + "\n" + "1\n" * 40)
    assert max(len(frame) for frame in parts(path, ["c0"], Dialect(), 1000)) == 10


def test_a_byte_order_mark_and_empty_lines_stand_before_the_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf\n  \n"n","t"\r\n1,x\r\n')
    for part in (1, 100):
        assert joined(path, part=part).values.tolist() == [[1.0, "x"]]


@pytest.mark.parametrize("part", [1, 30, 10**6])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("n,t\n", "has a header .n, t. but no data rows"),
        ("n,t\n1,a\n2,b,c\n", "cannot be read|more fields than the header"),
        ("n,t\n1,a\nx,b\n", "data row 2 holds 'x'"),
        ("n,n\n1,2\n", "more than one column named 'n'"),
        ('n,t\n1,"a\n2,b\n', "cannot be read as a table: .*inside string"),
    ],
)
def test_defects_are_found_in_any_part(tmp_path, part, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        joined(tmp_path / "t.csv", part=part)


def test_parquet_cells_depend_on_themselves_alone(tmp_path):
    path = tmp_path / "t.parquet"
    numbers = [2**60 + 1, None, 3, *range(50)]
    texts = [str(number) for number in numbers]
    table = pa.table({"t": pa.array(texts), "n": pa.array(numbers), "nested": pa.array([[{"a": 1}]] * len(texts))})
    pq.write_table(table, path, row_group_size=7)
    whole = joined(path)
    for part in (1, 100, 1000):
        found = joined(path, part=part)
        assert found["n"].astype(float).tolist()[2:] == whole["n"].astype(float).tolist()[2:]
        assert found["n"].iloc[0] == 2**60 + 1
        assert found["t"].astype(str).tolist() == texts
        assert found["nested"].isna().all()


def test_whole_tables_are_read_to_the_nearest_number(tmp_path):
    generator = np.random.default_rng(0)
    cells = [repr(float(x)) for x in generator.normal(size=200) * 10.0 ** generator.integers(-200, 200, 200)]
    (tmp_path / "t.csv").write_text("\n".join(["n", *cells]))
    expected = [float(cell) for cell in cells]
    assert read_table(tmp_path / "t.csv")["n"].tolist() == expected
    assert joined(tmp_path / "t.csv", part=50)["n"].tolist() == expected


def test_of_a_packed_file_it_is_said_how_to_unpack_it(tmp_path):
    (tmp_path / "t.csv.xz").write_bytes(b"xz")
    with pytest.raises(
        ValueError, match=r"t\.csv\.xz is no table that can be read. It is packed: unpack it with `unxz`"
    ):
        read_table(tmp_path / "t.csv.xz")
