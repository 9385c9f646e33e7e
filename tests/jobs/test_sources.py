import numpy as np
import pytest

import hdnn
from hdnn.jobs import NAMED, Source, load, mnist_folder
from samples import flowers, houses, mnist_like, picture_folder


@pytest.mark.parametrize("name", ["swiss-roll", "double-moons", "double-circles"])
def test_planar_sets_have_the_size_and_the_seed_that_are_asked_for(name):
    data, again, other = (load(Source(name, seed=seed, size=40)) for seed in (1, 1, 2))
    assert len(data.x_train) + len(data.x_test) == 40
    assert np.array_equal(data.x_train, again.x_train)
    assert not np.array_equal(data.x_train, other.x_train)


def test_a_planar_set_has_8000_points_unless_told_otherwise():
    data = load(Source("double-moons"))
    assert (len(data.x_train), len(data.x_test)) == (4000, 4000)


def test_digits_come_with_scikit_learn():
    data = load(Source("digits", seed=3))
    assert data.inputs == (64,)
    assert len(data.classes) == 10


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_are_read_as_hdnn_data_reads_them(tmp_path, suffix):
    path = tmp_path / f"flowers{suffix}"
    frame = flowers()
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    data = load(Source(str(path), seed=2, target="kind"))
    expected = hdnn.data.table(path, "kind", seed=2, bins=8)
    assert np.array_equal(data.x_train, expected.x_train)
    assert data.description == expected.description


def test_task_and_columns_of_a_table_are_the_users(tmp_path):
    path = tmp_path / "houses.csv"
    houses().assign(rooms=np.arange(120) % 4).to_csv(path, index=False)
    assert load(Source(str(path), target="rooms")).task == "classification"
    data = load(Source(str(path), target="rooms", task="regression", columns=("area", "age")))
    assert data.task == "regression"
    assert data.encoder.names == ("area", "age")
    alone = load(Source(str(path), target="rooms", task="regression", columns=("area", "age"), bins=0))
    assert alone.inputs == (2,)


def test_mnist_comes_from_the_folder(tmp_path):
    data = load(Source("mnist", folder=str(mnist_like(tmp_path / "images"))))
    assert data.inputs == (1, 8, 8)
    assert (len(data.x_train), len(data.x_test)) == (60, 20)


def test_mnist_without_files_says_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"4 of the 4 MNIST files.*give `download=True`"):
        load(Source("mnist", folder=str(tmp_path)))


def test_mnist_has_a_place_of_its_own():
    assert mnist_folder().name == "mnist"
    assert mnist_folder().is_absolute()


def test_a_download_reports_its_progress(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        "hdnn.data.mnist", lambda folder, download, progress, in_bytes: progress("file", 1, 2) or download
    )
    assert load(Source("mnist", folder=str(tmp_path), download=True), lambda *state: told.append(state)) is True
    assert told == [("file", 1, 2)]


@pytest.mark.parametrize("name", NAMED)
def test_a_folder_of_the_same_name_does_not_hide_a_data_set(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert not Source(name).is_table


def test_a_folder_of_pictures_or_of_idx_files(tmp_path):
    data = load(Source(str(picture_folder(tmp_path / "pictures")), seed=2, image_size=5))
    assert data.inputs == (3, 5, 5)
    assert "seed 2" in data.description
    data = load(Source(str(mnist_like(tmp_path / "idx"))))
    assert data.inputs == (1, 8, 8)
    assert (len(data.x_train), len(data.x_test)) == (60, 20)
    with pytest.raises(ValueError, match="`size` is for swiss-roll"):
        Source(str(tmp_path / "idx"), size=10)
    with pytest.raises(ValueError, match="`image_size` must be a whole number, at least 1"):
        Source(str(tmp_path / "pictures"), image_size=0)
    with pytest.raises(ValueError, match=r"`image_size` is for folders of pictures; .*idx holds IDX files"):
        load(Source(str(tmp_path / "idx"), image_size=4))


def test_a_class_may_be_called_as_idx_files_are(tmp_path):
    (picture_folder(tmp_path) / "dark").rename(tmp_path / "dark-idx")
    assert load(Source(str(tmp_path))).classes == ("bright", "dark-idx", "striped")


def test_a_folder_must_be_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"There is no .*away\. A table was expected there .*or a folder of pict"
    ):
        Source(str(tmp_path / "away"))


def test_full_paths_are_kept_for_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowers().to_csv("flowers.csv", index=False)
    assert Source("flowers.csv", target="kind").located().data == str(tmp_path / "flowers.csv")
    assert Source("mnist", folder="images").located().folder == str(tmp_path / "images")
    assert Source("digits").located() == Source("digits")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("digts", "digits"), ("swiss_roll", "swiss-roll"), ("MNIST", "mnist"), ("moons", "double-moons")],
)
def test_an_unknown_name_gets_the_nearest(name, meant):
    with pytest.raises(ValueError, match=f"no data set '{name}'. Did you mean '{meant}'.*csv, .tsv, .*or .xlsx"):
        Source(name)


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"data": "digits", "target": "y"}, "for tables"),
        ({"data": "mnist", "task": "regression"}, "for tables"),
        ({"data": "digits", "columns": ("a",)}, "for tables"),
        ({"data": "digits", "size": 100}, "`size` is for swiss-roll"),
        ({"data": "swiss-roll", "size": 10**12}, "at most 10,000,000"),
        ({"data": "mnist", "image_size": 8}, "`image_size` is for folders of pictures"),
        ({"data": "digits", "folder": "x"}, "`folder` and `download` are for mnist"),
        ({"data": "swiss-roll", "download": True}, "are for mnist"),
    ],
)
def test_arguments_for_another_kind_of_data_are_refused(choices, word):
    with pytest.raises(ValueError, match=word):
        Source(**choices)


def test_a_table_must_be_there_and_have_a_target(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.csv"):
        Source(str(tmp_path / "absent.csv"), target="y")
    path = tmp_path / "flowers.csv"
    flowers().to_csv(path, index=False)
    with pytest.raises(ValueError, match="--target NAME"):
        Source(str(path))
