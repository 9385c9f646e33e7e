"""A folder of pictures: what is done to each, how folders are laid out, and every way in which one is refused."""

import io
import os
import re
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hdnn.data import decoding, pictures
from hdnn.data.decoding import decode, look
from picture_cases import announcing, chunk, jpeg, noise, png
from samples import picture_folder

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
        (png(np.full((2, 2), 0xAB12, dtype=np.uint16), transparency=0xAB12), (255, 255, 255)),
        (png(np.full((2, 2), 0xAB12, dtype=np.uint16), transparency=0xAB13), (0xAB,) * 3),
        (palette(), (10, 20, 30)),
        (cmyk(), (255, 0, 0)),
    ],
    ids=[
        *("grey", "16 bits", "opaque", "transparent", "transparent grey", "16 bits, transparent", "16 bits, opaque"),
        *("palette", "CMYK"),
    ],
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


def raw_profile():
    """An orientation as ImageMagick writes it into a PNG."""
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n", zip=True)
    return info


def xmp():
    """An orientation as Adobe's programs write it."""
    tiff = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {tiff}/></x:xmpmeta>')
    return info


@pytest.mark.parametrize("mark", [raw_profile, xmp])
def test_a_turned_png_has_the_size_that_it_is_read_with(tmp_path, mark):
    values = noise(8, 16)
    (tmp_path / "a.png").write_bytes(png(values, pnginfo=mark()))
    assert look(tmp_path / "a.png")[:2] == (8, 16)
    assert np.array_equal(decode(tmp_path / "a.png", (3, 16, 8)), np.rot90(values, -1).transpose(2, 0, 1))


def animated():
    frames = [Image.fromarray(noise(4, 4, seed=k)) for k in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def gif():
    stream = io.BytesIO()
    Image.fromarray(noise(4, 4, 1)).save(stream, "GIF")
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
    with pytest.raises(ValueError, match=rf"(?i)bad\.png.*({pattern})") as caught:
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
