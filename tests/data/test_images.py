import gzip
import hashlib
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hdnn.data import ImageEncoder, digits, fashion_mnist, idx_images, images, mnist, read_idx
from hdnn.data import idx as reader
from idx_cases import NAMES, files, idx, packed, put

# IDX


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    compress=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_was_written_is_read(tmp_path_factory, shape, compress, seed):
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(values)) if compress else idx(values))
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert found.flags.writeable  # torch.from_numpy warns otherwise
    assert np.array_equal(found, values)


GOOD = idx([[1, 2, 3], [4, 5, 6]])
BAD = {
    "is empty (0 bytes)": b"",
    "is no IDX file: it begins with 00 00, but": b"\0\0",
    "is no IDX file: it begins with 50 4b 03 04": b"PK\3\4" + GOOD,
    "of type 0x0d; only bytes (0x08)": idx([1], kind=13),
    "announces 0 dimensions": idx(7),
    "announces 5 dimensions": idx(np.ones((1, 1, 1, 1, 1))),
    "ends inside its header of 12 bytes": GOOD[:9],
    "announces (0,) = 0 values": idx([]),
    "announces (2, 3) = 6 values but holds 5": GOOD[:-1],
    "goes on after the 6 values of (2, 3)": GOOD + b"x",
    "announces (65536, 65536) = 4294967296 values; 1 to 1073741824": idx([1], shape=(2**16, 2**16)),
    "announces (1073741824,) = 1073741824 values but holds 1": idx([1], shape=(2**30,)),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("message", BAD)
def test_each_defect_has_its_own_message(tmp_path, message, compress):
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(BAD[message]) if compress else BAD[message])
    if compress and not BAD[message]:
        message = "is no IDX file: it begins with nothing"
    with pytest.raises(ValueError, match="labels") as caught:
        read_idx(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:5],
        lambda packed: packed[:-8] + bytes(8),
        lambda packed: packed[:10] + b"\xff" + packed[11:],
        lambda packed: packed + b"rubbish",
    ],
)
def test_damaged_gzip_is_named(tmp_path, damage):
    path = tmp_path / "labels.gz"
    path.write_bytes(damage(gzip.compress(idx(np.arange(100)))))
    with pytest.raises(ValueError, match=r"labels\.gz is damaged gzip .*Fetch the file again"):
        read_idx(path)


def drained(stream, place):
    for _ in reader._values(stream, place, reader._shape(stream, place), 2**20):
        pass


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(GOOD) + b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    (tmp_path / "bomb.gz").write_bytes(bomb)

    class Counting:
        def __init__(self, stream):
            self.stream, self.taken = stream, 0

        def read(self, count):
            self.taken += count
            return self.stream.read(count)

    with gzip.open(tmp_path / "bomb.gz") as stream:
        counting = Counting(stream)
        with pytest.raises(ValueError, match="goes on after the 6 values"):
            drained(counting, tmp_path / "bomb.gz")
    assert counting.taken == len(GOOD) + 1


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\. An IDX file was expected"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a file"):
        read_idx(tmp_path)


@settings(max_examples=150, deadline=None)
@given(start=st.sampled_from([b"", b"\0\0\x08", b"\x1f\x8b\x08", GOOD[:6]]), rest=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, start, rest):
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(start + rest)
    try:
        values = read_idx(path)
    except ValueError as error:
        # Nothing but the house's own words: they name the file.
        if "fuzz" not in str(error):
            raise
    else:
        assert values.dtype == np.uint8


# Digits


def test_digits_are_split_and_scaled_by_the_training_part():
    data = digits()
    assert data.x_train.shape == (1437, 64)
    assert data.x_test.shape == (360, 64)
    assert data.encoder.names[:2] == ("pixel_0_0", "pixel_0_1")
    assert data.encoder.names[-1] == "pixel_7_7"
    assert data.classes == tuple("0123456789")
    assert data.x_train.mean(dtype=float) == pytest.approx(0, abs=1e-5)
    assert data.x_train.std(dtype=float) == pytest.approx(1, abs=1e-5)
    assert abs(data.x_test.mean(dtype=float)) > 1e-5
    assert len({(column.mean, column.scale) for column in data.encoder.columns}) == 1
    counts = np.bincount(data.y_test)
    assert counts.min() >= 34
    assert counts.max() <= 37
    raw = data.x_test * data.encoder.columns[0].scale + data.encoder.columns[0].mean
    assert np.allclose(raw, raw.round(), atol=1e-4)
    assert raw.max().round() == 16
    assert "1437 for training and 360 for testing" in data.description


@pytest.mark.parametrize("carried", [True, False], ids=["its file", "a release that keeps it elsewhere"])
def test_digits_are_those_of_scikit_learn_as_a_table_would_read_them(carried, monkeypatch):
    if not carried:
        monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    data = digits(5)
    pixels, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(1797), test_size=0.2, stratify=labels, random_state=5)
    table = data.encoder.encode(pd.DataFrame(pixels, columns=data.encoder.names))
    for part, rows in (("train", train), ("test", test)):
        assert np.array_equal(getattr(data, f"x_{part}"), table[rows])
        assert np.array_equal(getattr(data, f"y_{part}"), labels[rows])


def test_digits_are_seeded():
    assert np.array_equal(digits(3).x_train, digits(3).x_train)
    assert not np.array_equal(digits(3).x_train, digits(4).x_train)


# MNIST


@pytest.mark.parametrize("pack", [packed, dict])
def test_a_folder_of_four_files(tmp_path, pack):
    put(tmp_path, pack(files()))
    data = mnist(tmp_path)
    assert data.x_train.shape == (30, 1, 5, 5)
    assert data.x_test.shape == (10, 1, 5, 5)
    assert data.encoder == ImageEncoder(0.1307, 0.3081, 1, 5, 5)
    assert data.y_train.tolist() == [n % 10 for n in range(30)]
    assert data.classes == tuple("0123456789")
    raw = read_idx(tmp_path / next(iter(pack(files()))))
    assert np.allclose(data.x_train[:, 0], (raw / 255 - 0.1307) / 0.3081, rtol=1e-6)


def test_missing_files_are_named(tmp_path):
    contents = files()
    del contents["t10k-labels-idx1-ubyte"]
    put(tmp_path, contents)
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 4 .*t10k-labels.*give `download=True`"):
        mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks 4 of the 4"):
        mnist(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NAMES[0]: idx(np.arange(30) % 10)}, "train-images must have 3 dimensions"),
        ({NAMES[1]: idx(np.arange(29) % 10)}, "train-images has 30 images, but train-labels has 29 labels"),
        ({NAMES[3]: idx(np.arange(10) + 1)}, "t10k-labels must run from 0 to 9; got 10"),
        ({NAMES[2]: idx(np.ones((10, 4, 5)))}, r"training images are \(5, 5\) pixels, but the test images \(4, 5\)"),
        ({NAMES[1]: idx(np.zeros(30))}, "only one class, '0'"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, changes, message):
    put(tmp_path, files() | changes)
    with pytest.raises(ValueError, match=message):
        mnist(tmp_path)


# Its kin


def test_bytes_become_the_same_inputs(tmp_path):
    put(tmp_path, files())
    whole, in_bytes = mnist(tmp_path), mnist(tmp_path, in_bytes=True)
    assert in_bytes.x_train.images.dtype == np.uint8
    assert in_bytes.x_train.shape == whole.x_train.shape
    assert np.array_equal(in_bytes.x_train[:], whole.x_train)
    assert np.array_equal(in_bytes.x_test[np.array([2, 0])], whole.x_test[[2, 0]])


def test_clothes_are_standardised_by_the_training_part(tmp_path):
    put(tmp_path, files())
    data = fashion_mnist(tmp_path)
    assert data.name == "fashion-mnist"
    assert data.classes[9] == "ankle boot"
    assert data.x_train[:].mean() == pytest.approx(0, abs=1e-5)
    assert data.x_train[:].std() == pytest.approx(1, abs=1e-5)
    assert data.x_test[:].mean() != pytest.approx(0, abs=1e-5)
    with pytest.raises(FileNotFoundError, match="lacks 4 of the 4 Fashion-MNIST files"):
        fashion_mnist(tmp_path / "nowhere")


def test_any_folder_of_idx_files(tmp_path):
    made = dict(zip(NAMES, files(labels=3).values(), strict=True))
    put(tmp_path, {f"emnist-{name}": content for name, content in made.items()})
    data = idx_images(tmp_path)
    assert data.classes == ("0", "1", "2")
    assert (len(data.x_train), len(data.x_test), data.inputs) == (30, 10, (1, 5, 5))
    assert "split as the files are" in data.description


def test_idx_files_with_channels_and_without_a_test_part(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4))
    put(tmp_path, {"train-images-idx4-ubyte": idx(values), "train-labels-idx1-ubyte": idx(np.arange(40) % 2)})
    data = idx_images(tmp_path, seed=7)
    assert (len(data.x_train), len(data.x_test), data.inputs) == (32, 8, (3, 4, 4))
    assert np.bincount(data.y_test).tolist() == [4, 4]
    assert "a fifth held out for testing, seed 7, stratified" in data.description
    assert len(data.encoder.mean) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NAMES[1]: None}, "lacks a file of train labels"),
        ({NAMES[0]: None, NAMES[3]: None}, "lacks a file of train images and of test labels"),
        ({"other-train-images-idx3-ubyte": GOOD}, r"holds 2 files of train images: other-train-images.*, train-images"),
        ({NAMES[1]: idx(np.arange(29) % 10)}, "train-images has 30 images, but train-labels has 29"),
        ({NAMES[2]: idx(np.ones((10, 4, 5)))}, "the test images"),
        ({NAMES[1]: idx(np.zeros(30))}, "only one class, '0'"),
    ],
)
def test_a_folder_of_idx_files_that_is_not_whole(tmp_path, changes, message):
    contents = files() | changes
    put(tmp_path, {name: content for name, content in contents.items() if content is not None})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        idx_images(tmp_path)


def test_the_published_hashes_are_complete():
    assert len(images.SHA256) == 4
    assert all(len(value) == 64 for value in images.SHA256.values())


def test_mnist_itself(mnist_folder):
    data = mnist(mnist_folder)
    assert data.x_train.shape == (60000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.x_train.mean(dtype=float) == pytest.approx(0, abs=1e-3)
    assert data.x_train.std(dtype=float) == pytest.approx(1, abs=1e-3)
    for name, expected in images.SHA256.items():
        if (mnist_folder / name).exists():
            assert hashlib.sha256((mnist_folder / name).read_bytes()).hexdigest() == expected
