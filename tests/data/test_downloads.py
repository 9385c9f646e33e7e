"""Files that are fetched: checked, from whichever mirror serves, and nothing left behind otherwise."""

import hashlib
import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hdnn.data import downloads, images, mnist
from idx_cases import NAMES, files, idx, packed, put


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Two mirrors on this machine: `first` and `second` are their folders, empty as yet."""
    place = tmp_path / "mirrors"
    for name in ("first", "second"):
        (place / name).mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=place)

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    contents = packed(files())
    monkeypatch.setattr(
        images, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(images, "MIRRORS", (f"{address}/first/", f"{address}/second/"))
        yield place
        server.shutdown()
        thread.join()


def test_download_is_quiet_and_checked(tmp_path, mirrors, capfd):
    put(mirrors / "first", packed(files()))
    folder = tmp_path / "new" / "mnist"
    assert mnist(folder, download=True).x_train.shape == (30, 1, 5, 5)
    assert sorted(path.name for path in folder.iterdir()) == sorted(images.SHA256)
    assert capfd.readouterr() == ("", "")
    # Now that they are there, no mirror is needed.
    put(mirrors / "first", dict.fromkeys(images.SHA256, b""))
    assert mnist(folder, download=True).x_test.shape == (10, 1, 5, 5)


def test_of_those_who_want_it_at_once_one_fetches_and_the_others_wait(tmp_path, mirrors, monkeypatch):
    put(mirrors / "first", packed(files()))
    fetch, fetched = downloads._fetched, []

    def counted(name, *given):
        fetched.append(name)
        time.sleep(0.02)  # so that all of them want it by then
        return fetch(name, *given)

    monkeypatch.setattr(downloads, "_fetched", counted)
    with ThreadPoolExecutor(3) as pool:
        read = [each.result() for each in [pool.submit(mnist, tmp_path / "mnist", download=True) for _ in range(3)]]
    assert [len(each.x_train) for each in read] == [30, 30, 30]
    assert sorted(fetched) == sorted(images.SHA256)
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(images.SHA256)


def test_where_files_cannot_be_locked_it_is_fetched_all_the_same(tmp_path, mirrors, monkeypatch):
    def refused(path):
        raise OSError("Function not implemented")

    monkeypatch.setattr(downloads, "waited_for", refused)
    put(mirrors / "first", packed(files()))
    assert len(mnist(tmp_path / "mnist", download=True).x_train) == 30


def test_only_absent_files_are_fetched(tmp_path, mirrors):
    contents = packed(files())
    put(mirrors / "first", contents)
    own = {NAMES[0]: idx(np.full((30, 5, 5), 9))}
    folder = tmp_path / "mnist"
    folder.mkdir()
    put(folder, own)
    data = mnist(folder, download=True)
    assert len(list(folder.iterdir())) == 4
    assert len(np.unique(data.x_train)) == 1


def test_the_second_mirror_serves_where_the_first_fails(tmp_path, mirrors):
    contents = packed(files())
    put(mirrors / "second", contents)  # the first has nothing: 404
    put(mirrors / "first", {f"{NAMES[0]}.gz": b"wrong"})
    folder = tmp_path / "mnist"
    assert mnist(folder, download=True).x_train.shape == (30, 1, 5, 5)
    assert (folder / f"{NAMES[0]}.gz").read_bytes() == contents[f"{NAMES[0]}.gz"]


def test_a_wrong_hash_leaves_nothing_behind(tmp_path, mirrors):
    for mirror in ("first", "second"):
        put(mirrors / mirror, packed(files(side=4)))
    folder = tmp_path / "mnist"
    with pytest.raises(OSError, match=r"first/train-images.*SHA-256 is .*, not .*discarded.*second/train-images"):
        mnist(folder, download=True)
    assert list(folder.iterdir()) == []


def test_no_mirror_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(images, "MIRRORS", ("http://127.0.0.1:1/",))
    with pytest.raises(OSError, match=r"Could not fetch train-images.*Check the connection.*put the file into"):
        mnist(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_to_the_one_who_asks(tmp_path, mirrors):
    contents = packed(files(train=20000))
    images.SHA256.update({name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
    put(mirrors / "first", contents)
    calls = []
    mnist(tmp_path / "mnist", download=True, progress=lambda *call: calls.append(call))
    for name, content in contents.items():
        steps = [done for called, done, total in calls if called == name and total == len(content)]
        assert steps == sorted(steps)
        assert steps[-1] == len(content)
    assert len(calls) > 4
