"""Folders of pictures: how they may be laid out, what is refused, and sets that stay in files."""

import os
import sys

import numpy as np
import pytest

from hdnn.data import pictures, stored
from hdnn.data.pictures import labelled, pictures_in
from hdnn.data.pixels import Held
from hdnn.data.stored import Stored
from picture_cases import jpeg, noise, png
from samples import picture_folder


def test_one_folder_a_class(tmp_path):
    data = pictures(picture_folder(tmp_path, count=10, side=6))
    assert data.classes == ("bright", "dark", "striped")
    assert data.inputs == (3, 6, 6)
    assert (len(data.x_train), len(data.x_test)) == (24, 6)
    assert np.bincount(data.y_test).tolist() == [2, 2, 2]
    assert "6 x 6 pixels as they are" in data.description
    inputs = data.x_train[np.arange(24)]
    assert np.allclose(inputs.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(inputs.std((0, 2, 3)), 1, atol=1e-5)
    assert not np.allclose(data.x_test[np.arange(6)].mean((0, 2, 3)), 0, atol=1e-5)  # which decides nothing


def test_train_and_test_beside_each_other(tmp_path):
    picture_folder(tmp_path / "train", count=5)
    picture_folder(tmp_path / "Test", count=3)
    data = pictures(tmp_path)
    assert (len(data.x_train), len(data.x_test)) == (15, 9)
    assert "split as the folders are" in data.description


def test_train_alone_is_split(tmp_path):
    picture_folder(tmp_path / "train", count=5)
    data = pictures(tmp_path, seed=3)
    assert (len(data.x_train), len(data.x_test)) == (12, 3)
    assert "seed 3, stratified" in data.description


def test_pictures_of_several_sizes_are_made_equal(tmp_path):
    picture_folder(tmp_path, count=4, side=6)
    (tmp_path / "dark" / "large.png").write_bytes(png(noise(50, 90)))
    data = pictures(tmp_path)
    assert data.inputs == (3, 32, 32)
    assert data.encoder.fit == "centre"
    assert "of 2 sizes, the middle square of each resized to 32 x 32" in data.description
    assert pictures(tmp_path, image_size=10).inputs == (3, 10, 10)


def test_grey_pictures_have_one_channel(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(3):
            (tmp_path / name / f"{k}.png").write_bytes(png(noise(5, 5, 1, k + 10 * (name == "a"))))
    assert pictures(tmp_path).inputs == (1, 5, 5)
    (tmp_path / "a" / "0.png").write_bytes(png(noise(5, 5)))
    (tmp_path / "a" / "1.png").write_bytes(png(noise(5, 5)))
    (tmp_path / "a" / "2.png").write_bytes(png(noise(5, 5)))
    assert pictures(tmp_path).inputs == (3, 5, 5)


def test_other_files_are_left_out_and_named(tmp_path):
    picture_folder(tmp_path, count=4)
    (tmp_path / "dark" / "notes.txt").write_text("dark")
    (tmp_path / "dark" / ".DS_Store").write_text("hidden")
    data = pictures(tmp_path)
    assert data.cautions == ("1 file that does not end in .png, .jpg, .jpeg was left out: dark/notes.txt.",)
    (tmp_path / "stray.png").write_bytes(png(noise(5, 5)))
    assert pictures(tmp_path).cautions == (
        "1 picture that is in no folder of a class was left out: stray.png. "
        "1 file that does not end in .png, .jpg, .jpeg was left out: dark/notes.txt.",
    )


def test_the_same_picture_in_both_parts_is_told(tmp_path):
    picture_folder(tmp_path / "train", count=4)
    picture_folder(tmp_path / "test", count=2, seed=9)
    assert pictures(tmp_path).cautions == ()
    copy = (tmp_path / "train" / "dark" / "1.png").read_bytes()
    (tmp_path / "test" / "dark" / "1.png").write_bytes(copy)
    assert "1 picture of the test part is in the training part, too" in pictures(tmp_path).cautions[0]


def test_order_of_a_directory_does_not_matter(tmp_path, monkeypatch):
    data = pictures(picture_folder(tmp_path, count=5))
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: listed(place)[::-1])
    again = pictures(tmp_path)
    assert np.array_equal(data.x_train[:], again.x_train[:])


def link(place, target):
    place.symlink_to(target)


BAD_FOLDERS = {
    "There is no folder": lambda root: None,
    "must hold one folder of pictures for each class; there is none": lambda root: root.mkdir(),
    "must hold one folder of pictures for each class; there is only one, dark": lambda root: (root / "dark").mkdir(
        parents=True
    ),
    "holds 2 files and no folders": lambda root: (
        root.mkdir(),
        [(root / f"{k}.png").write_bytes(png(noise(4, 4))) for k in range(2)],
    ),
    "odd is the folder of a class, and holds nothing": lambda root: (picture_folder(root), (root / "odd").mkdir()),
    r"odd is the folder of a class, and holds a.txt, but no picture": lambda root: (
        picture_folder(root),
        (root / "odd").mkdir(),
        (root / "odd" / "a.txt").write_text("x"),
    ),
    "dark is the folder of a class, and holds the folder more": lambda root: (
        picture_folder(root),
        (root / "dark" / "more").mkdir(),
    ),
    "holds train and validation beside it": lambda root: (
        picture_folder(root / "train"),
        picture_folder(root / "validation"),
    ),
    "test has the class odd, which train lacks": lambda root: (
        picture_folder(root / "train"),
        picture_folder(root / "test"),
        (root / "test" / "dark").rename(root / "test" / "odd"),
    ),
    "odd holds a single picture": lambda root: (
        picture_folder(root),
        (root / "odd").mkdir(),
        (root / "odd" / "1.png").write_bytes(png(noise(4, 4))),
    ),
    "out.png is a link to /etc/passwd, and links are not followed": lambda root: (
        picture_folder(root),
        link(root / "dark" / "out.png", "/etc/passwd"),
    ),
    "loop is a link to ., and links are not followed": lambda root: (picture_folder(root), link(root / "loop", ".")),
}


@pytest.mark.parametrize("message", BAD_FOLDERS)
def test_a_folder_that_is_laid_out_otherwise(tmp_path, message):
    BAD_FOLDERS[message](tmp_path / "data")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pictures(tmp_path / "data")


# In memory or in files


@pytest.mark.parametrize("few", [256, 2], ids=["in this process", "in processes beside it"])
def test_streaming_gives_the_same_bits(tmp_path, monkeypatch, few):
    monkeypatch.setattr(stored, "_FEW", few)
    picture_folder(tmp_path, count=30)
    held, streamed = pictures(tmp_path), pictures(tmp_path, in_memory=0)
    assert isinstance(held.x_train, Held)
    assert isinstance(streamed.x_train, Stored)
    assert "read from their files" in streamed.description
    assert held.encoder == streamed.encoder
    rows = [np.array([5, 3, 5]), slice(10, 20), np.array([0])]
    for one, other in zip(held.x_train.read(rows), streamed.x_train.read(rows), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(held.x_test[:], streamed.x_test[:])
    assert np.array_equal(streamed.x_train.part(np.array([7, 2]))[:], held.x_train[np.array([7, 2])])


@pytest.mark.parametrize("few", [256, 2], ids=["in this process", "in processes beside it"])
def test_a_picture_that_is_gone_by_then_is_named(tmp_path, monkeypatch, few):
    monkeypatch.setattr(stored, "_FEW", few)
    data = pictures(picture_folder(tmp_path, count=6), in_memory=0)
    for path in (tmp_path / "dark").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no file .*dark.*A picture was expected there\.$"):
        list(data.x_train.parts(2))


def test_other_pictures_have_another_digest(tmp_path):
    picture_folder(tmp_path, count=4)
    one = b"".join(map(bytes, pictures(tmp_path, in_memory=0).x_train.digest()))
    assert one == b"".join(map(bytes, pictures(tmp_path, in_memory=0).x_train.digest()))
    for path in (tmp_path / "dark").iterdir():
        path.write_bytes(png(noise(8, 8, seed=5)))
    assert one != b"".join(map(bytes, pictures(tmp_path, in_memory=0).x_train.digest()))


# For a trained network


def test_all_pictures_below_a_folder_are_found(tmp_path):
    picture_folder(tmp_path, count=1)
    (tmp_path / "top.jpg").write_bytes(jpeg(8))
    (tmp_path / "dark" / "more.txt").write_text("x")
    found, left_out = pictures_in(tmp_path)
    assert found == ["top.jpg", "bright/0.png", "dark/0.png", "striped/0.png"]
    assert left_out == ["dark/more.txt"]
    link(tmp_path / "dark" / "away", "/etc")
    with pytest.raises(ValueError, match="links are not followed"):
        pictures_in(tmp_path)


def test_labelled_pictures_of_a_trained_network(tmp_path):
    data = pictures(picture_folder(tmp_path / "old", count=4))
    picture_folder(tmp_path / "new", count=2)
    (tmp_path / "new" / "dark").rename(tmp_path / "new" / "odd")
    pixels, labels, new, _ = labelled(tmp_path / "new", data.encoder, data.classes)
    assert (len(pixels), labels.tolist(), new) == (4, [0, 0, 2, 2], 2)
    assert pixels[:].shape == (4, 3, 8, 8)
    with pytest.raises(ValueError, match=r"no folder of a class that the network knows\. There are: x, y"):
        labelled(tmp_path / "new", data.encoder, ("x", "y"))


def test_files_that_belong_to_no_class_are_named_wherever_they_are(tmp_path):
    for part in ("train", "test"):
        picture_folder(tmp_path / part, count=3)
    strays = ["a.png", "train/b.jpg", "test/c.PNG"]
    for name in strays:
        (tmp_path / name).write_bytes(png(noise(8, 8)))
    (tmp_path / "test" / "labels.csv").write_text("x")
    caution = pictures(tmp_path).cautions[0]
    assert caution.startswith("3 pictures in no class were left out: a.png, train/b.jpg, test/c.PNG.")
    assert caution.endswith("left out: test/labels.csv.")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are letters there")
def test_a_class_whose_name_is_no_text_is_refused(tmp_path):
    picture_folder(tmp_path, count=2)
    (tmp_path / "dark").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with pytest.raises(ValueError, match="its name is no UTF-8"):
        pictures(tmp_path)


def test_parts_are_no_classes_to_score(tmp_path):
    data = pictures(picture_folder(tmp_path / "data", count=4, side=6))
    for part in ("train", "test"):
        picture_folder(tmp_path / "parts" / part, count=2, side=6)
    with pytest.raises(
        ValueError, match=r"holds test, train, with folders in them.*Name the one .* as in .*parts/test\."
    ):
        labelled(tmp_path / "parts", data.encoder, data.classes)
