import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def bind(place):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))


def nodes():
    """What may stand where a file should go, by how it is made."""
    kinds = {
        "a link to ": lambda place: place.symlink_to("elsewhere"),
        "a named pipe": os.mkfifo,
        "a socket": bind,
        "a folder": Path.mkdir,
    }
    if os.geteuid() == 0:  # the twin of /dev/null
        kinds["a device"] = lambda place: os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return kinds


@pytest.mark.parametrize("what", nodes())
def test_only_plain_files_are_replaced(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    place = Path("place")
    try:
        nodes()[what](place)
    except PermissionError:
        pytest.skip("no devices can be made here")
    before = os.lstat(place)
    with pytest.raises(OSError, match=f"place is {what}"):
        write_whole(place, "new")
    assert os.listdir() == ["place"]
    assert (os.lstat(place).st_mode, os.lstat(place).st_ino) == (before.st_mode, before.st_ino)
    with pytest.raises(FileExistsError, match=rf"place is {what}.*nothing was changed"):
        files.require_own(Path(), files=["place"])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    with files.writing_whole(path) as write:
        write("new")
        (aside,) = [each for each in tmp_path.iterdir() if each != path]
        assert stat.S_IMODE(aside.stat().st_mode) == mode  # before it takes the name, too
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    write_whole(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_the_longest_names_are_written(tmp_path, name):
    write_whole(tmp_path / name, "x")
    write_whole(tmp_path / name, "y")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "message"), [("n" * 300, "too long"), ("a\0b", "NUL"), ("..", "folder"), ("", "folder")]
)
def test_impossible_names_are_refused_in_words(tmp_path, name, message):
    with pytest.raises(OSError, match=message):
        write_whole(f"{tmp_path}/{name}", "x")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from hdnn.files import writing_whole
with writing_whole(sys.argv[1]) as write:
    write("half")
    print("writing", flush=True)
    signal.pause()
"""


def test_what_a_killed_writer_leaves_is_removed_by_the_next_and_nothing_else(tmp_path):
    path = tmp_path / "out.csv"
    mine = [
        ".out.csv",
        ".out.csv." + "0" * 32,
        ".out.csv.0123456789abcdef0123456789abcdef",
        "out.csv.bak",
        ".other.csv",
    ]
    for name in mine:
        (tmp_path / name).write_text("mine")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        (aside,) = {each.name for each in tmp_path.iterdir()} - set(mine)
        assert files.leftovers(tmp_path, ["out.csv"]) == []  # its writer is alive
        write_whole(path, "first")
        assert (tmp_path / aside).exists()
        process.send_signal(signal.SIGKILL)
    assert files.leftovers(tmp_path, ["out.csv"]) == [tmp_path / aside]
    assert files.leftovers(tmp_path, ["other.csv", "out"]) == []
    (tmp_path / ".other.csv.").with_name(aside.replace("out.csv", "other.csv")).write_text("mine")  # another's proof
    write_whole(tmp_path / "other.csv", "x")
    write_whole(path, "second")
    assert sorted(os.listdir(tmp_path)) == sorted(
        [*mine, "out.csv", "other.csv", aside.replace("out.csv", "other.csv")]
    )
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


def test_writers_beside_each_other_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"

    def write(i):
        for _ in range(30):
            write_whole(path, str(i) * 5000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(set(path.read_text())) == 1
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_names_of_new_folders_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.make_folder(tmp_path / "file" / "d")


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    files.require_makeable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    with pytest.raises(NotADirectoryError, match=r"file/a/b cannot be written: .*file is a file, and no folder\."):
        files.require_makeable(tmp_path / "file" / "a" / "b")
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write anywhere, so this is played
    with pytest.raises(PermissionError, match=r"a cannot be written: .* is closed to you\. Choose another folder\."):
        files.require_makeable(tmp_path / "a")
