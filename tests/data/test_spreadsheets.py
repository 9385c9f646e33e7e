"""Spreadsheets: read like other tables where openpyxl is there, else in words that help."""

import re
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from hdnn.data import read_table, spreadsheets, table, table_parts
from hdnn.data.dialect import Dialect
from hdnn.data.reading import parts


def test_without_openpyxl_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"t.xlsx is a spreadsheet. Save its sheet as CSV.*'hdnn\[excel\]'"):
        read_table(tmp_path / "t.xlsx")


@pytest.fixture
def place(tmp_path):
    pytest.importorskip("openpyxl")
    return tmp_path / "t.xlsx"


def houses(rows=40):
    generator = np.random.default_rng(0)
    size = generator.uniform(20, 200, rows).round(1).astype(object)
    size[3] = None
    day = pd.date_range("2024-01-01", periods=rows)
    return pd.DataFrame(
        {"size": size, "day": day, "town": np.resize(["Bern", "NA"], rows), "price": range(7, 7 + rows)}
    )


def test_a_sheet_is_a_table(place):
    frame = houses()
    frame.to_excel(place, index=False)
    data = table(place, "price")
    assert data.encoder.names == ("size", "day")
    frame.to_csv(place.with_suffix(".csv"), index=False)
    same = table(place.with_suffix(".csv"), "price")
    assert np.array_equal(data.x_train, same.x_train)
    assert np.array_equal(data.y_train, same.y_train)
    (rows,) = parts(place, ["size"], Dialect())
    assert np.array_equal(data.encoder.encode(rows), data.encoder.encode(frame))
    (rows,) = table_parts(place, numeric=["size"])
    assert rows["size"].isna().sum() == 1


def test_what_a_sheet_may_have_above_and_beside(place):
    frame = houses()
    frame.rename(columns={"size": ""}).to_excel(place, index=False, startrow=2)
    assert table(place, "price").encoder.names == ("column1", "day")
    with pd.ExcelWriter(place) as writer:
        pd.DataFrame({"Prices of 2026": []}).to_excel(writer, sheet_name="a", index=False)
        frame.to_excel(writer, sheet_name="a", index=False, startrow=1)
    with pytest.raises(ValueError, match=r"'Prices of 2026', looks like a title.*`skip_lines=1`"):
        table(place, "price")
    assert table(place, "price", skip_lines=1).encoder.names == ("size", "day")


def test_several_sheets_and_none_are_refused(place):
    with pd.ExcelWriter(place) as writer:
        for name in ("one", "two"):
            houses().to_excel(writer, sheet_name=name)
    with pytest.raises(ValueError, match=r"2 sheets with cells \(one, two\)\. Save the one"):
        read_table(place)
    pd.DataFrame().to_excel(place)
    with pytest.raises(ValueError, match="no cells"):
        read_table(place)


def test_damaged_and_hostile_files_are_refused(place, monkeypatch):
    houses().to_excel(place)
    content = place.read_bytes()
    for bad in (content[:-30], b"PK", content.replace(b"xl/workbook", b"xl/w0rkbook")):
        place.write_bytes(bad)
        with pytest.raises(ValueError, match="cannot be read as a spreadsheet"):
            read_table(place)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", bytes(2**22))
    monkeypatch.setattr("hdnn.data.spreadsheets._LEAST_BOUND", 2**20)
    with pytest.raises(ValueError, match="bytes unpack to 4194304"):
        read_table(place)
    monkeypatch.setattr("hdnn.data.spreadsheets._MOST_CELLS", 20)
    place.write_bytes(content)
    with pytest.raises(ValueError, match="more than 20 cells"):
        read_table(place)


def announced(place, size):
    """Let the one sheet of a file announce another size than it has."""
    with zipfile.ZipFile(place) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, part in parts.items():
            packed.writestr(name, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="' + size + b'"', part))


@pytest.mark.parametrize("size", [b"A1", b"A1:B3", b"B2:C3", b"A1:XFD9"])
def test_what_a_sheet_announces_does_not_count(place, size):
    """Some programs write a size of their own, and of a sheet read by that rows and columns were lost."""
    houses().to_excel(place, index=False)
    expected = read_table(place)
    announced(place, size)
    pd.testing.assert_frame_equal(read_table(place), expected)


def test_empty_rows_are_not_as_wide_as_a_sheet_announces(place, monkeypatch):
    sheet(place, ["a", "b"], [1, 2], *[[]] * 98, [3, 4])
    announced(place, b"A1:XFD1048576")
    lengths, of_rows = [], spreadsheets._rows

    def told(found):
        lengths.extend(len(row) for row in found.iter_rows(values_only=True))
        return of_rows(found)

    monkeypatch.setattr(spreadsheets, "_rows", told)
    assert len(read_table(place)) == 100
    assert (len(lengths), max(lengths)) == (101, 2)


def test_a_cell_far_from_the_table_does_not_fill_the_memory(place, monkeypatch):
    sheet(place, ["a", "b"], *[[1, 2]] * 30, [None] * 99 + [1])
    monkeypatch.setattr("hdnn.data.spreadsheets._MOST_CELLS", 1000)
    with pytest.raises(ValueError, match=r"its 32 rows up to column 100 are more than 1000 cells\. Remove"):
        read_table(place)


def sheet(place, *rows):
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(place)
    return place


def test_formulas_without_a_value_are_refused(place):
    sheet(place, ["x", "y"], *([i, f"=A{i + 2}*2" if i == 3 else i % 2] for i in range(12)))
    with pytest.raises(ValueError, match=r"the formula in B5 was never computed.*save it there"):
        read_table(place)
    with zipfile.ZipFile(place) as packed:
        held = {name: packed.read(name) for name in packed.namelist()}
    for value, cell in ((b'<c r="B5"><f>A5*2</f><v>7</v></c>', 7), (b'<c r="B5" t="str"><f>A5</f><v></v></c>', None)):
        with zipfile.ZipFile(place, "w") as packed:
            for name, body in held.items():
                packed.writestr(name, re.sub(rb'<c r="B5">.*?</c>', value, body))
        found = read_table(place)["y"][3]
        assert found == cell or (cell is None and pd.isna(found))


def test_a_header_of_a_sheet_is_read_as_that_of_a_text_table(place):
    data = [[i, i % 2, i * 0.5] for i in range(12)]
    with pytest.raises(ValueError, match=r"looks like data.*would call columns 5\.5, a"):
        read_table(sheet(place, [5.5, "a"], *([i, "ab"[i % 2]] for i in range(12))))
    (rows,) = parts(place, ["5.5"], Dialect())  # as a run of before learned it
    assert len(rows) == 12
    assert list(read_table(sheet(place, [None, "y", None], *data))) == ["column1", "y", "column3"]
    assert list(read_table(sheet(place, ["column2", None, "y"], *data))) == ["column2", "column2_2", "y"]
    title = ["Prices", None, None]
    for head in (title, title[::-1]):
        with pytest.raises(ValueError, match=r"'Prices', looks like a title.*`skip_lines=2`; if it is the header"):
            read_table(sheet(place, [], head, ["a", "b", "c"], *data))
    assert list(read_table(place, skip_lines=2)) == ["a", "b", "c"]
    assert list(read_table(sheet(place, [2019, 2020], *([i, i * 0.5] for i in range(12))))) == ["2019", "2020"]
