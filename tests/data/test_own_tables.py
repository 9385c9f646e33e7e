"""The tables of people, with what is wrong with them: each is used as it is meant, or refused in words that help."""

import gzip

import numpy as np
import pandas as pd
import pytest

from hdnn.data import read_table, table, table_parts
from hdnn.data.tables import table_again


def houses(rows=120, **columns):
    """A table of houses whose price follows their size."""
    generator = np.random.default_rng(0)
    size = generator.uniform(20, 200, rows).round(1)
    price = (3000 * size + generator.normal(0, 20000, rows)).round().astype(int)
    return pd.DataFrame({**columns, "size": size, "town": generator.choice(["Bern", "Lund"], rows), "price": price})


def saved(folder, frame, **how):
    frame.to_csv(folder / "t.csv", index=False, **how)
    return folder / "t.csv"


def test_a_blank_is_missing_in_training_as_in_prediction(tmp_path):
    frame = houses().astype({"size": object})
    frame.loc[3, "size"] = " "
    data = table(saved(tmp_path, frame), "price")
    assert "1 missing value (size 1) filled in" in data.description
    (again,) = table_parts(tmp_path / "t.csv", numeric=["size"])
    assert again["size"].isna().sum() == 1


def test_a_question_mark_is_missing_and_said(tmp_path):
    frame = houses().astype({"size": object})
    frame.loc[[3, 4], "size"] = "?"
    data = table(saved(tmp_path, frame), "price")
    assert "size ('?' as missing)" in data.description
    assert "2 missing values (size 2) filled in" in data.description


def test_a_target_with_separators_of_thousands_is_a_number(tmp_path):
    data = table(saved(tmp_path, houses().assign(price=houses()["price"].map("{:,}".format))), "price")
    assert data.task == "regression"
    assert "commas between thousands" in data.description
    shown = data.target.decode(data.y_train).ravel()
    assert set(shown.round()) <= set(houses()["price"])


def test_whole_valued_decimals_are_classes(tmp_path):
    frame = houses(sold=np.resize([0.0, 1.0], 120))
    data = table(saved(tmp_path, frame), "sold")
    assert data.classes == ("0", "1")
    assert data.target.encode(pd.DataFrame({"sold": ["1.0", "0", "1"]})).tolist() == [1, 0, 1]


def test_rows_without_a_target_are_left_out_and_counted(tmp_path):
    frame = houses().astype({"price": object})
    frame.loc[[2, 5, 7], "price"] = None
    data = table(saved(tmp_path, frame), "price")
    assert "left out: 3 rows without price" in data.description
    assert len(data.x_train) + len(data.x_test) == 117
    frame = houses(kind=np.resize(["a", "b", None], 120))
    assert "left out: 40 rows without kind" in table(saved(tmp_path, frame), "kind").description


def test_a_class_of_one_row_is_left_out_and_said(tmp_path):
    frame = houses(kind=np.resize(["hut", "villa"], 120))
    frame.loc[0, "kind"] = "castle"
    data = table(saved(tmp_path, frame), "kind")
    assert data.classes == ("hut", "villa")
    assert "left out: 1 row of a class that no other row has (castle)" in data.description


def test_ids_are_pointed_at_or_left_out(tmp_path):
    rising = 100000 + np.cumsum(np.random.default_rng(1).integers(1, 9, 120))
    shuffled = np.random.default_rng(1).permutation(rising)
    frame = houses(customer=rising, house_id=shuffled, year=np.arange(1900, 2020), n=np.arange(1, 121))
    data = table(saved(tmp_path, frame), "price")
    assert data.encoder.names == ("customer", "year", "size", "town")
    assert "n (counts the rows)" in data.description
    assert "house_id (whole numbers that differ in every row, like an id)" in data.description
    assert data.cautions == (
        "customer: whole numbers that only rise and never repeat, like an id. If so, leave it out with `without`.",
    )
    assert table(tmp_path / "t.csv", "price", without=["customer"]).encoder.names == ("year", "size", "town")


def test_what_gives_the_answer_away_gets_a_word(tmp_path):
    frame = houses()
    frame = frame.assign(euros=frame["price"] * 1.1, kind=np.where(frame["price"] > 300_000, "dear", "cheap"))
    (said,) = table(saved(tmp_path, frame.drop(columns="kind")), "price").cautions
    assert said.startswith("euros: gives the answer alone.")
    (said,) = table(saved(tmp_path, frame), "kind").cautions
    assert said.startswith("price, euros: each gives the answer alone.")
    same = frame.assign(word=frame["kind"].map({"dear": "D", "cheap": "C"})).drop(columns=["price", "euros"])
    assert table(saved(tmp_path, same), "kind").cautions[0].startswith("word: gives the answer alone.")


def test_rows_that_are_sorted_by_the_answer_get_a_word(tmp_path):
    frame = houses().sort_values("price").assign(n=range(1, 121))
    data = table(saved(tmp_path, frame), "price")
    assert data.cautions[-1].startswith("The rows are sorted by 'price'")
    assert not table(frame.drop(columns="n"), "price").cautions
    assert not table(houses().assign(n=range(1, 121)), "price").cautions


def test_numbers_that_stand_for_missing_values_are_pointed_at(tmp_path):
    frame = houses()
    frame.loc[[1, 2, 3], "size"] = -999
    (said,) = table(saved(tmp_path, frame), "price").cautions
    assert said.startswith("size: -999 in 3 rows is far from all other values.")
    data = table(tmp_path / "t.csv", "price", missing=["-999"])
    assert not data.cautions
    assert "3 missing values (size 3) filled in" in data.description


def test_all_bad_columns_are_named_at_once(tmp_path):
    frame = houses(a=houses()["size"].astype(object), b=houses()["size"].astype(object), c=["1.234", "567"] * 60)
    frame.loc[7, "a"] = "oops"
    frame.loc[8, "b"] = "ouch"
    frame["size"] = 3
    with pytest.raises(ValueError, match=r"'a' .*'oops' in data row 8.*'b' .*'ouch' in data row 9") as error:
        table(saved(tmp_path, frame.astype(str), sep=";"), "price")
    assert "'c' holds '1.234', which may be" in str(error.value)


def test_names_and_texts_lose_the_blanks_around_them(tmp_path):
    (tmp_path / "t.csv").write_text("x , kind\n" + '1.5, "a, b"\n2.5,a \n' * 20)
    data = table(tmp_path / "t.csv", "kind")
    assert (data.encoder.names, data.classes) == (("x",), ("a", "a, b"))


def test_a_column_without_a_name_is_called_by_its_place(tmp_path):
    path = saved(tmp_path, houses().rename(columns={"size": ""}))
    data = table(path, "price")
    assert data.encoder.names == ("column1", "town")
    assert "without a name in the header, so called by its place: column1" in data.description
    assert read_table(path)["column1"].tolist() == houses()["size"].tolist()


def test_any_name_is_a_name(tmp_path):
    path = saved(tmp_path, houses(self=range(120), kind=1.5, columns=2.5, index=3.5))
    assert list(read_table(path).columns) == ["self", "kind", "columns", "index", "size", "town", "price"]


def test_a_packed_table_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 300_000))
    assert len(read_table(tmp_path / "t.csv.gz")) == 300_000
    monkeypatch.setattr("hdnn.data.reading._LEAST_BOUND", 2**20)
    for read in (read_table, lambda path: list(table_parts(path))):
        with pytest.raises(ValueError, match="unpacks to more than 1048576 bytes"):
            read(tmp_path / "t.csv.gz")
    content = (tmp_path / "t.csv.gz").read_bytes()
    for bad in (content[:-20], content[:50] + b"x" + content[51:], b"no gzip"):
        (tmp_path / "t.csv.gz").write_bytes(bad)
        with pytest.raises(ValueError, match="cannot be unpacked"):
            read_table(tmp_path / "t.csv.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,2\n".encode("utf-16-le"), "NUL bytes; it may be text in utf-16-le.*`encoding='utf-16-le'`"),
        (b"\xff\xfex\0,\0y\0\n\0\x31", "not UTF-16 text"),
        ("имя,y\n1,2\n".encode("cp1251"), "not UTF-8 text .* position 0.*`encoding='cp1252'`"),
        (b"x,y\n1,caf\xe9\n2,\xe2\x82\xac\n", "not UTF-8"),
    ],
)
def test_letters_that_are_in_doubt_are_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv")


def test_dates_are_said(tmp_path):
    path = saved(tmp_path, houses(day=pd.date_range("2019-01-01", periods=120).astype(str)))
    assert "read in a way of their own: day (dates)" in table(path, "price").description


def test_decisions_are_kept_for_another_reading(tmp_path):
    frame = houses(
        day=pd.date_range("2019-01-01", periods=120).strftime("%d.%m.%Y"), street=[f"s {i}" for i in range(120)]
    )
    frame = frame.assign(price=frame["price"].map("€{:,}".format))
    frame.loc[3, "price"] = None
    path = saved(tmp_path, frame)
    first = table(path, "price")
    again = table_again(path, first.encoder, first.target)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert (again.encoder, again.target) == (first.encoder, first.target)
    read = type(first.encoder).from_dict(first.encoder.to_dict()), type(first.target).from_dict(first.target.to_dict())
    assert read == (first.encoder, first.target)


def rains(words=("T",), times=15, rows=200):
    """A table whose column of numbers holds words here and there."""
    frame = houses(rows)
    rain = frame["size"].astype(str).astype(object)
    for k, word in enumerate(words):
        rain[k * times : (k + 1) * times] = word
    return frame.drop(columns="size").assign(rain=rain)


def test_a_word_that_comes_again_among_numbers_is_a_value_of_its_own(tmp_path):
    frame = rains(("T", "below limit"))
    frame.loc[199, "rain"] = ""
    data = table(saved(tmp_path, frame), "price", bins=4)
    column = data.encoder.columns[-1]
    assert column.apart == ("T", "below limit")
    assert "'T' in 15 rows, 'below limit' in 15 rows among numbers" in data.cautions[0]
    assert "1 missing value (rain 1) filled in" in data.description
    cells = read_table(tmp_path / "t.csv")["rain"]
    encoded, _ = column.encode(cells)
    assert np.array_equal(encoded[:, -2:] == 1, np.stack([cells == "T", cells == "below limit"], axis=1))
    median, _ = column.encode(pd.Series([column.fill]))
    assert np.array_equal(encoded[0, :5], median[0, :5])
    assert type(data.encoder).from_dict(data.encoder.to_dict()) == data.encoder


def test_words_among_numbers_are_read_part_by_part_as_in_one_piece(tmp_path):
    data = table(saved(tmp_path, rains()), "price", bins=4)
    assert "rain" not in data.encoder.plain_columns
    parts = table_parts(tmp_path / "t.csv", part=500, numeric=data.encoder.plain_columns)
    encoded = np.concatenate([data.encoder.encode(part) for part in parts])
    assert np.array_equal(encoded, data.encoder.encode(read_table(tmp_path / "t.csv")))


@pytest.mark.parametrize(("words", "times"), [(("T",), 4), (("1O5",), 15)])
def test_a_slip_of_the_pen_among_numbers_is_refused(words, times):
    with pytest.raises(ValueError, match=f"holds numbers, except for '{words[0]}' in data row 1"):
        table(rains(words, times), "price")


def test_a_target_of_numbers_and_words_is_refused_in_words_that_help():
    with pytest.raises(
        ValueError, match=r"Target 'rain' holds numbers and 'T'\. Give `missing='T'` to leave those rows"
    ):
        table(rains(), "rain")
    assert "left out: 15 rows without rain" in table(rains(), "rain", missing=["T"]).description


def test_whole_numbers_beyond_what_floats_tell_apart_are_called_so():
    frame = pd.DataFrame({"x": np.arange(40) % 7, "y": [2**60 + i % 2 for i in range(40)]})
    with pytest.raises(ValueError, match=r"tell no two of them apart\. Subtract 1152921504606846976 from it"):
        table(frame, "y")
    frame["y"] = [2**60 + 2**40 * i for i in range(40)]
    assert "numbers beyond 2^53, so regression" in table(frame, "y").description


def test_a_line_that_says_the_separator_is_no_header(tmp_path):
    path = tmp_path / "t.csv"
    for first, sign in (("sep=;", ";"), ('"sep=;"', ";"), ("SEP=\t", "\t")):
        path.write_text(f"{first}\nx{sign}y\n" + "".join(f"{i},5{sign}{i % 2}\n" for i in range(9)))
        assert read_table(path)["x"].tolist() == [i + 0.5 for i in range(9)]
        (part,) = table_parts(path, text=["y"])
        assert len(part) == 9
        assert list(read_table(path, skip_lines=1)) == ["x", "y"]
        assert list(read_table(path, separator=sign)) == ["x", "y"]
        with pytest.raises(ValueError, match=r"says that its columns .*, but `separator` is ','. Give"):
            read_table(path, separator=",")
    path.write_text("sep=;\nx,y\n" + "".join(f"{i},{i % 2}\n" for i in range(9)))
    assert list(read_table(path, separator=",")) == ["x", "y"]  # which fits


def test_a_name_that_a_place_would_give_is_kept(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("column2,,y\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(9)))
    assert list(read_table(path)) == ["column2", "column2_2", "y"]


def test_a_short_row_between_blanks_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    rows = [f"{i} {i % 3} {i % 2}" for i in range(9)]
    path.write_text("a b y\n" + "\n".join([*rows, "9 NA NA", '10 1 ""']) + "\n")
    assert read_table(path)["y"].isna().sum() == 2
    path.write_text("a b y\n" + "\n".join([*rows[:4], "4 0", *rows]) + "\n")
    with pytest.raises(ValueError, match="data row 5, has 2 of 3 values, and where blanks separate"):
        read_table(path)
