import contextlib
import os

import pytest

from hdnn import files
from hdnn.files import write_whole


@pytest.mark.parametrize("content", ["Länge, naïve ☃\n", b"\x00\xff\x00", ""])
def test_what_is_written_is_read_and_nothing_stands_beside_it(tmp_path, content):
    path = tmp_path / "a.txt"
    assert write_whole(path, content) == path
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a much longer old content")
    write_whole(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device", "/somewhere/else")

    if call == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(files.Path, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_interrupt_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent.* to write a\.txt to"):
        write_whole(tmp_path / "absent" / "a.txt", "x")


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "place").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_whole(tmp_path / "place", "x")
    assert os.listdir(tmp_path) == ["place"]


def test_a_file_is_no_folder_to_write_to(tmp_path):
    # Root may write anywhere, so lack of permission is played by a path that nobody can write: one below a file.
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="no folder"):
        write_whole(tmp_path / "file" / "a.txt", "x")


def test_pieces_take_the_name_together_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with files.writing_whole(path) as write:
        write("one")
        assert not path.exists()
        write(b" two")
    assert path.read_text() == "one two"
    with contextlib.suppress(KeyError), files.writing_whole(path) as write:
        write("three")
        raise KeyError
    with pytest.raises(OSError, match="elsewhere") as caught, files.writing_whole(path):
        raise OSError(5, "elsewhere", "input.csv")
    assert caught.value.filename == "input.csv"  # no fault of this file
    assert path.read_text() == "one two"
    assert os.listdir(tmp_path) == ["a.txt"]
