"""Spreadsheets: read like other tables where openpyxl is there, else in words that help."""

import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from hdnn.data import read_table, table, table_parts
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
