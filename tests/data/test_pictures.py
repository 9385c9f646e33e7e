"""A folder of pictures: what is done to each, how folders are laid out, and every way in which one is refused."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hdnn.data import decoding, pictures, stored
from hdnn.data.decoding import decode, look
from hdnn.data.pictures import labelled, pictures_in
from hdnn.data.pixels import Held
from hdnn.data.stored import Stored
from samples import picture_folder


def png(values, mode=None, **options):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(values), mode).save(stream, "PNG", **options)
    return stream.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def announcing(width, height, bits=8, colour=2):
    """A PNG that promises that many pixels and holds a few bytes."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# One picture


def test_a_picture_of_the_wanted_size_keeps_its_pixels(tmp_path):
    values = noise(5, 7)
    (tmp_path / "a.png").write_bytes(png(values))
    assert np.array_equal(decode(tmp_path / "a.png", (3, 5, 7)), values.transpose(2, 0, 1))
    assert look(tmp_path / "a.png") == (7, 5, False)


def test_what_it_is_decides_and_not_its_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(png(noise(4, 4)))
    assert np.array_equal(decode(tmp_path / "a.jpg", (3, 4, 4)), noise(4, 4).transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width"), [(8, 20), (20, 8), (9, 8), (1, 3000)])
def test_the_middle_square_is_taken(tmp_path, height, width):
    values = noise(height, width)
    (tmp_path / "a.png").write_bytes(png(values))
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = values[top : top + side, left : left + side]
    found = decode(tmp_path / "a.png", (3, side, side))
    assert np.array_equal(found, square.transpose(2, 0, 1))


def test_new_pixels_are_means_of_those_under_them(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.kron(noise(4, 4), np.ones((8, 8, 1), dtype=np.uint8))))
    found = decode(tmp_path / "a.png", (3, 1, 1))
    assert np.allclose(found[:, 0, 0], noise(4, 4).mean((0, 1)), atol=12)


def alpha(mode, level):
    values = np.full((2, 2, len(mode)), 100, dtype=np.uint8)
    values[..., -1] = level
    return png(values, mode)


def palette():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 210, 220])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=1)
    return stream.getvalue()


def cmyk():
    stream = io.BytesIO()
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "pixel"),
    [
        (png(np.full((2, 2), 77, dtype=np.uint8)), (77, 77, 77)),
        (png(np.full((2, 2), 0xAB12, dtype=np.uint16)), (0xAB,) * 3),  # 16 bits: the higher 8
        (alpha("RGBA", 255), (100, 100, 100)),
        (alpha("RGBA", 0), (255, 255, 255)),  # what is transparent lies on white
        (alpha("LA", 0), (255, 255, 255)),
        (palette(), (10, 20, 30)),
        (cmyk(), (255, 0, 0)),
    ],
    ids=["grey", "16 bits", "opaque", "transparent", "transparent grey", "palette", "CMYK"],
)
def test_every_kind_becomes_plain_colours(tmp_path, content, pixel):
    (tmp_path / "a").write_bytes(content)
    assert np.allclose(decode(tmp_path / "a", (3, 2, 2))[:, 0, 0].astype(int), pixel, atol=2)
    grey = decode(tmp_path / "a", (1, 2, 2))[0, 0, 0]
    assert abs(int(grey) - np.dot((0.299, 0.587, 0.114), pixel)) <= 2
    assert decode(tmp_path / "a", (3, 2, 2)).flags.writeable


def test_a_transparent_palette_lies_on_white(tmp_path):
    (tmp_path / "a.png").write_bytes(palette())
    assert decode(tmp_path / "a.png", (3, 2, 2))[:, 0, 1].tolist() == [255, 255, 255]


def test_a_camera_held_sideways_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.zeros((8, 16, 3), dtype=np.uint8)
    values[:, :8] = 255
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert look(tmp_path / "a.jpg")[:2] == (8, 16)
    found = decode(tmp_path / "a.jpg", (1, 16, 8))[0]
    assert found[:4].min() > 200
    assert found[-4:].max() < 50


def animated():
    frames = [Image.fromarray(noise(4, 4, seed=k)) for k in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def gif():
    stream = io.BytesIO()
    Image.fromarray(noise(4, 4, 1)).save(stream, "GIF")
    return stream.getvalue()


def jpeg(side=64):
    stream = io.BytesIO()
    Image.fromarray(noise(side, side)).save(stream, "JPEG")
    return stream.getvalue()


def with_text_bomb():
    whole = png(noise(4, 4))
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**25)))
    return whole[:33] + bomb + whole[33:]


HOSTILE = {
    "is empty (0 bytes)": b"",
    "is neither PNG nor JPEG: it begins with 47 49 46 38 .* (a GIF)": gif(),
    "is neither PNG nor JPEG: it begins with 23 21 2f 62": b"#!/bin/sh\nrm -rf .\n",
    "announces 9,000 x 9,000 pixels; at most 67,108,864 are read": announcing(9000, 9000),
    "announces more than 134,217,728 pixels; at most 67,108,864": announcing(2_000_000_000, 2_000_000_000),
    "is animated (3 frames)": animated(),
    "is a damaged JPEG (image file is truncated": jpeg()[:900],
    "is a damaged PNG (": png(noise(64, 64))[:5000],
    "is a damaged PNG (its head is none)": png(noise(4, 4))[:40] + b"x" + png(noise(4, 4))[41:],
    "is a damaged PNG (Decompressed data too large": with_text_bomb(),
    "is a damaged JPEG": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_picture_is_refused_by_name_and_in_words(tmp_path, message):
    pattern = re.escape(message).replace(r"\.\*", ".*")
    (tmp_path / "bad.png").write_bytes(HOSTILE[message])
    with pytest.raises(ValueError, match=rf"bad\.png.*({pattern})") as caught:
        decode(tmp_path / "bad.png", (3, 8, 8))
    assert "\n" not in str(caught.value)
    assert re.search("Fetch|Save|move it away", str(caught.value))


@pytest.mark.parametrize("message", list(HOSTILE)[:6])
def test_a_training_never_begins_with_one(tmp_path, message):
    picture_folder(tmp_path / "data", count=4)
    (tmp_path / "data" / "bright" / "bad.png").write_bytes(HOSTILE[message])
    with pytest.raises(ValueError, match=r"bright.bad\.png "):
        pictures(tmp_path / "data")


def test_a_promise_of_many_pixels_takes_no_memory(tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_bytes(announcing(9000, 9000))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match="announces 9,000 x 9,000"):
        decode(tmp_path / "bad.png", (3, 8, 8))


def test_a_file_of_many_bytes_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(noise(4, 4)))
    monkeypatch.setattr(decoding, "_LARGEST_FILE", 10)
    with pytest.raises(ValueError, match="bytes; pictures of at most 10 are read"):
        decode(tmp_path / "a.png", (3, 4, 4))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is a named pipe; pictures are read from plain files alone"):
        decode(tmp_path / "a.png", (3, 4, 4))


def test_a_picture_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.png"):
        decode(tmp_path / "a.png", (3, 4, 4))


# A folder


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
    pixels, labels, new = labelled(tmp_path / "new", data.encoder, data.classes)
    assert (len(pixels), labels.tolist(), new) == (4, [0, 0, 2, 2], 2)
    assert pixels[:].shape == (4, 3, 8, 8)
    with pytest.raises(ValueError, match=r"no folder of a class that the network knows\. There are: x, y"):
        labelled(tmp_path / "new", data.encoder, ("x", "y"))
