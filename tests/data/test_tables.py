import numpy as np
import pandas as pd
import pytest

from hdnn.data import read_table, table

ROWS = 60


def flowers():
    """A table of every kind of column, two of whose cells are missing."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "Id": np.arange(1, ROWS + 1),
            "length": generator.normal(5, 1, ROWS).round(2),
            "petals": generator.integers(3, 9, ROWS),
            "colour": np.resize(["red", "blue", "white"], ROWS),
            "wild": np.resize([True, False], ROWS),
            "garden": "Kew",
            "label": [f"specimen {i}" for i in range(ROWS)],
            "species": np.resize(["setosa", "virginica"], ROWS),
        }
    )
    frame.loc[3, "length"] = None
    frame.loc[4, "colour"] = None
    return frame


def numbers(**columns):
    return pd.DataFrame({"a": np.arange(ROWS) / 7 + np.random.default_rng(1).normal(size=ROWS)} | columns)


def changed(column, row, value):
    frame = numbers(t=np.resize([0, 1], ROWS))
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


# Reading


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".CSV"])
def test_each_format_is_read(tmp_path, suffix):
    path = tmp_path / f"flowers{suffix}"
    frame = flowers()
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    found = read_table(path)
    assert list(found.columns) == list(frame.columns)
    assert found["length"].equals(frame["length"])
    assert found["species"].tolist() == frame["species"].tolist()
    assert table(path, "species").name == "flowers"


def write(folder, content, name="t.csv"):
    path = folder / name
    path.write_bytes(content)
    return path


def test_text_stays_text_on_request(tmp_path):
    path = write(tmp_path, b"code,n\n007,1\n010,\n")
    assert read_table(path)["code"].tolist() == [7, 10]
    assert read_table(path, text=["code", "other"])["code"].tolist() == ["007", "010"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    assert list(read_table(write(tmp_path, "\ufeffa,b\n1,2\n".encode())).columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", r"t\.csv is empty \(0 bytes\)"),
        ("t.csv", b"\n\n", "cannot be read as a table: No columns"),
        ("t.csv", b"a,b\n", r"has a header \(a, b\) but no data rows"),
        ("t.csv", b"a,\xff\n1,2\n", r"not UTF-8 text \(byte 0xff at position 2\)"),
        ("t.csv", b"a,b\n1,\xcf\xf0\xe8\xe2\xe5\xf2\n", r"not UTF-8 text \(byte 0xcf.*`encoding='cp1252'`"),
        ("t.csv", b"a,b,a\n1,2,3\n", "more than one column named 'a'. Give each its own name"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as a table: .*Expected 2 fields in line 3, saw 3"),
        ("t.csv", b"a,b\n1,2,3\n1,2,3\n", "more fields than the header, which has 2"),
        ("t.csv", b'a,b\n"1,2\n', "cannot be read as a table"),
        ("t.parquet", b"", "is empty"),
        ("t.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("t.ods", b"PK", r"no table that can be read. Give a \.csv, .* or \.xlsx file"),
    ],
)
def test_each_unreadable_file_has_its_message(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path, content, name))


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.csv. A table was expected there: \.csv, \.tsv"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="no table that can be read"):
        read_table(tmp_path / "folder.csv")


def test_a_named_index_is_a_column_and_a_row_number_is_none(tmp_path):
    frame = numbers()
    frame.set_index(pd.Index(range(100, 100 + ROWS), name="year")).to_parquet(tmp_path / "named.parquet")
    frame[frame["a"] > 1].to_parquet(tmp_path / "bare.parquet")
    assert list(read_table(tmp_path / "named.parquet").columns) == ["year", "a"]
    assert list(read_table(tmp_path / "bare.parquet").columns) == ["a"]


# What a table becomes


def test_a_table_of_every_kind_of_column():
    data = table(flowers(), "species")
    assert data.encoder.names == ("length", "petals", "colour", "wild")
    assert data.inputs == (6,)
    assert (len(data.x_train), len(data.x_test)) == (48, 12)
    assert data.classes == ("setosa", "virginica")
    assert np.bincount(data.y_test).tolist() == [6, 6]
    assert data.description == (
        "table: 60 rows, 48 for training and 12 for testing; classification (2 classes); target 'species': "
        "text, so classes; split by seed 0, stratified; left out: Id (counts the "
        "rows), garden (constant in the training part), label (differs in nearly every row, like an id); "
        "columns: length, petals, colour, wild; 2 missing values (length 1, colour 1) filled in"
    )


def test_scaling_knows_the_training_part_only():
    frame = flowers()
    data = table(frame, "species", columns=["length"])
    length = data.encoder.columns[0]
    assert data.x_train.mean() == pytest.approx(0, abs=0.05)  # but for the filled gap
    assert length.mean != pytest.approx(frame["length"].mean(), rel=1e-6)
    whole = data.encoder.encode(frame)
    assert sorted(whole.ravel()) == sorted(np.concatenate([data.x_train, data.x_test]).ravel())


def test_the_split_is_seeded():
    frame = flowers()
    assert np.array_equal(table(frame, "species").x_test, table(frame, "species").x_test)
    assert not np.array_equal(table(frame, "species").x_test, table(frame, "species", seed=1).x_test)
    assert len(table(frame, "species", test_fraction=0.5).x_test) == 30


def test_categories_of_the_test_part_are_counted():
    frame = numbers(t=np.resize([0, 1], ROWS), town=np.resize(["a", "b"], ROWS).astype(object))
    frame.loc[7, "town"] = "c"
    found = [table(frame, "t", seed=seed) for seed in range(12)]
    for data in found:
        known = "c" in data.encoder.columns[1].categories
        assert ("1 value not in the training part (town 1) encoded as zeros" in data.description) != known
    assert {len(data.encoder.columns[1].categories) for data in found} == {2, 3}


@pytest.mark.parametrize(
    ("target", "task", "reason"),
    [
        (np.resize(["b", "a"], ROWS), "classification", "text, so classes"),
        (np.resize([True, False], ROWS), "classification", "true or false, so classes"),
        (np.resize(np.array([True, False], dtype=object), ROWS), "classification", "true or false, so classes"),
        (np.resize([3, 1, 2], ROWS), "classification", "3 different whole numbers, so classes"),
        (np.resize(np.array([3, 1], dtype=object), ROWS), "classification", "2 different whole numbers"),
        (pd.array([1, 2] * 30, dtype="Int64"), "classification", "2 different whole numbers, so classes"),
        (pd.Categorical([1, 2] * 30), "classification", "text, so classes"),
        (np.arange(ROWS), "regression", "60 different whole numbers, so regression"),
        (np.linspace(0, 1, ROWS), "regression", "decimal numbers, so regression"),
        (np.resize([0.0, 1.0], ROWS), "classification", "2 different whole numbers, so classes"),
        (np.resize(np.arange(11), ROWS), "regression", "11 different whole numbers, so regression"),
    ],
)
def test_the_task_is_decided_and_said(target, task, reason):
    data = table(numbers(t=target), "t")
    assert data.task == task
    assert f"target 't': {reason}" in data.description
    # Texts are classes and nothing else.
    assert ("(another task can be chosen)" in data.description) == (not reason.startswith("text"))


def test_the_user_decides_the_task():
    frame = numbers(t=np.resize([3, 1], ROWS))
    data = table(frame, "t", task="regression")
    assert data.task == "regression"
    assert "regression as asked" in data.description
    assert np.allclose(sorted(set(data.target.decode(data.y_test).ravel())), [1, 3])
    assert table(frame.astype(float), "t", task="classification").classes == ("1", "3")
    with pytest.raises(ValueError, match="`task` must be 'classification' or 'regression'; got 'classify'"):
        table(frame, "t", task="classify")
    with pytest.raises(ValueError, match="'t' must hold numbers, but data row 1 holds 'b'"):
        table(numbers(t=np.resize(["b", "a"], ROWS)), "t", task="regression")


def test_several_targets_are_numbers():
    frame = numbers(t=np.random.default_rng(1).normal(3, 2, ROWS), u=np.resize([1, 5], ROWS))
    data = table(frame, ["t", "u"])
    assert data.y_train.shape == (48, 2)
    assert data.encoder.names == ("a",)
    assert data.y_train.mean(axis=0) == pytest.approx([0, 0], abs=1e-5)
    with pytest.raises(ValueError, match="Classes come from one column; got 2"):
        table(frame, ["t", "u"], task="classification")
    with pytest.raises(ValueError, match="names a column twice"):
        table(frame, ["t", "t"])
    with pytest.raises(ValueError, match="names no column"):
        table(frame, [])


def test_a_named_column_is_used_even_if_constant():
    data = table(flowers(), "species", columns=["garden", "Id"])
    assert data.encoder.names == ("garden", "Id")
    assert (data.x_train[:, 0] == 1).all()


# What is refused


@pytest.mark.parametrize(
    ("arguments", "used"),
    [
        ({"target": "species", "columns": ["specie"]}, "species"),
        ({"target": "species", "columns": ["length", "lengt"]}, "length"),
        ({"target": "species", "without": ["specie"]}, "species"),
        ({"target": ["length", "lengt"]}, "length"),
    ],
)
def test_no_column_is_suggested_that_is_used_already(arguments, used):
    with pytest.raises(ValueError, match="There is no") as told:
        table(flowers(), **arguments)
    assert f"Did you mean '{used}'" not in str(told.value)


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        (flowers(), {"target": "specis"}, "no target column 'specis'. Did you mean 'species'"),
        (numbers(), {"target": "t"}, "There are: a"),
        (flowers(), {"target": "species", "columns": ["lenght"]}, "no column 'lenght'. Did you mean 'length'"),
        (flowers(), {"target": "species", "columns": ["species"]}, "'species' is the target"),
        (flowers(), {"target": "species", "columns": ["Id", "Id"]}, "names 'Id' twice"),
        (flowers(), {"target": "species", "columns": []}, "`columns` is empty"),
        (flowers(), {"target": "species", "columns": "Id"}, r"Write `columns=\['Id'\]`"),
        (flowers()[["Id", "species"]], {"target": "species"}, r"No column is left .*Id \(counts the rows\)"),
        (flowers()[["species"]], {"target": "species"}, "No column is left to learn from beside what is predicted"),
        (numbers(t="x"), {"target": "t"}, "Every row has the class 'x'"),
        (numbers(t=["x"] * 59 + ["y"]), {"target": "t"}, "Class 'y' has a single row.* leave its row out"),
        (numbers(t=[f"name {i}" for i in range(60)]), {"target": "t"}, r"\(and 59 other classes\) has a single"),
        (numbers(t=1.5), {"target": "t"}, "'t' is 1.5 in every training row"),
        (numbers(t=None), {"target": "t", "task": "classification"}, "'t' is missing in 60 of 60 rows"),
        (numbers(t=None), {"target": "t"}, "'t' is missing in 60 of 60 rows"),
        (changed("a", 5, np.inf), {"target": "t"}, "'a', data row 6: the value is infinite"),
        (changed("a", 5, "oops"), {"target": "t"}, "'a' holds numbers, except for 'oops' in data row 6"),
        (changed("a", 5, "oops"), {"target": "a"}, "give `task='classification'` if these are labels"),
        (
            numbers(t=np.resize([0, 1], 60), d=pd.date_range("2020", periods=60)),
            {"target": "d"},
            "Target 'd' holds dates, neither numbers nor text",
        ),
        (pd.concat([numbers(), numbers(t=1)], axis=1), {"target": "t"}, "more than one column named 'a'"),
    ],
)
def test_each_refusal_teaches(frame, arguments, message):
    with pytest.raises(ValueError, match=message):
        table(frame, **arguments)


def of_towns(town):
    """A table of 1200 rows with this column."""
    x = np.random.default_rng(1).normal(size=1200)
    return table(pd.DataFrame({"a": x, "town": np.resize(town, 1200), "t": np.resize([0, 1, 1, 0, 1], 1200)}), "t")


def test_many_categories_are_kept_where_frequent_ones_make_up_half_of_the_rows():
    rare = of_towns([f"town {i}" for i in range(600)])
    assert "town (many different texts, most of them in fewer than 5 rows)" in rare.description
    assert rare.inputs == (1,)
    frequent = of_towns([f"town {i}" for i in range(120)])
    assert frequent.inputs == (121,)
    mixed = of_towns(["Bern", "Lund"] * 500 + [f"town {i}" for i in range(200)])
    assert len(mixed.encoder.columns[1].categories) > 150  # a rare one says more than none
    assert "rare" not in mixed.description


def test_of_very_many_categories_the_most_frequent_are_kept():
    data = of_towns(["Bern", "Lund"] * 400 + [f"town {i}" for i in range(400)])
    assert len(data.encoder.columns[1].categories) == 256
    assert {"Bern", "Lund"} < set(data.encoder.columns[1].categories)
    assert "rare or new values (town " in data.description


def test_dates_become_numbers():
    frame = numbers(t=np.resize([0, 1], ROWS), day=pd.date_range("2020", periods=ROWS))
    assert table(frame, "t").encoder.columns[1].parts == ("week",)


def test_the_users_table_is_not_changed():
    frame = flowers()
    before = frame.copy()
    table(frame, "species")
    pd.testing.assert_frame_equal(frame, before)


def test_of_many_useless_columns_the_first_few_are_named_and_the_others_counted():
    frame = pd.DataFrame({"x": [1.0, 2.5, 3.0, 4.5] * 5, "t": ["a", "b"] * 10, "n": range(20)})
    frame = pd.concat([frame, pd.DataFrame(1.0, index=frame.index, columns=[f"c{i}" for i in range(3000)])], axis=1)
    said = table(frame, target="t").description
    assert "c6, c7 and 2992 more (constant in the training part)" in said
    assert "n (counts the rows)" in said
    assert len(said) < 400
