"""What the report says of the columns of a table."""

import pandas as pd
import pytest

from hdnn.data import planar, table
from hdnn.jobs import Choices, Source, train


def frame():
    return pd.DataFrame(
        {
            "id": range(1, 41),
            "size": [1.5, None, 3.25, 4.0] * 10,
            "town": ["Bern", "Lund"] * 20,
            "day": [f"2021-03-{day:02}" for day in range(1, 21)] * 2,
            "secret": ["a", "b"] * 20,
            "sold": ["yes", "no", "no", "no"] * 10,
        }
    )


def test_every_column_is_described_those_used_first():
    data = table(frame(), "sold", without=["secret"])
    found = {each.name: each for each in data.columns}
    assert list(found) == ["sold", "size", "town", "day", "id"]
    assert {name: each.use for name, each in found.items()} == {
        "sold": "target", "size": "input", "town": "input", "day": "input", "id": "left out",
    }  # fmt: skip
    assert found["size"].missing == 10
    assert found["town"].missing == 0
    assert found["sold"].missing is None
    assert found["size"].examples == ("1.5", "3.25", "4.0")
    assert (found["town"].kind, found["id"].kind) == ("texts", "whole numbers")
    assert found["day"].kind.startswith("date")


def test_examples_come_from_the_whole_of_a_sorted_table():
    sorted_by_town = pd.DataFrame({"town": ["Bern"] * 500 + ["Lund"] * 500, "x": range(1000), "y": [0, 1] * 500})
    (town,) = (each for each in table(sorted_by_town, "y").columns if each.name == "town")
    assert town.examples == ("Bern", "Lund")


def test_data_that_are_no_table_have_no_columns_to_describe():
    assert planar("swiss_roll", 100).columns == ()


@pytest.mark.long
def test_the_report_shows_them(tmp_path):
    frame().to_csv(tmp_path / "sold.csv", index=False)
    outcome = train(Source(str(tmp_path / "sold.csv"), target="sold"), Choices(layers=2, epochs=1), tmp_path / "run")
    page = outcome.run.report.read_text(encoding="utf-8")
    page = page[page.index("As they were read") :]
    assert page.index(">sold</th>") < page.index(">size</th>") < page.index(">id</th>")
    assert "left out" in page
