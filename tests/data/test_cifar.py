"""CIFAR-10 from its binary batches: in every form, whole or damaged, with the official test batch and without."""

import gzip
import io
import lzma
import runpy
import sys
import tarfile

import numpy as np
import pytest

from hdnn.data import cifar, cifar10

TRAINING = list(cifar.MD5)[:5]
TEST = "test_batch.bin"


@pytest.fixture
def batches(cifar10_batches):
    return cifar10_batches


PACKED = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def put(folder, contents, ending="", inside=False):
    place = folder / "cifar-10-batches-bin" if inside else folder
    place.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (place / f"{name}{ending}").write_bytes(PACKED[ending](content))
    return folder


def archive(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder


def values(contents, names):
    records = np.concatenate([np.frombuffer(contents[name], dtype=np.uint8).reshape(-1, 3073) for name in names])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("ending", PACKED)
def test_all_batches_are_the_published_split(tmp_path, batches, ending, inside):
    data = cifar10(put(tmp_path, batches, ending, inside))
    x, y = values(batches, TRAINING)
    assert np.array_equal(next(data.x_train.read([slice(None)])), x)
    assert data.y_train.tolist() == y.tolist()
    assert np.array_equal(next(data.x_test.read([slice(None)])), values(batches, [TEST])[0])
    assert data.held_out == ""
    assert data.cautions == ()
    assert data.classes[0] == "airplane"
    inputs = data.x_train[:]
    assert np.allclose(inputs.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(inputs.std((0, 2, 3)), 1, atol=1e-4)
    assert np.allclose(data.encoder.mean, x.mean((0, 2, 3)) / 255)


def test_the_archive_serves_as_it_is(tmp_path, batches):
    data = cifar10(archive(tmp_path, batches))
    other = cifar10(put(tmp_path / "out", batches))
    assert np.array_equal(data.x_train[:], other.x_train[:])
    assert sorted(path.name for path in tmp_path.iterdir()) == [cifar.ARCHIVE, "out"]  # nothing is unpacked


def test_without_the_test_batch_batch_5_is_held_out_and_it_is_said(tmp_path, batches):
    del batches[TEST]
    data = cifar10(put(tmp_path, batches))
    assert (len(data.x_train), len(data.x_test)) == (80, 20)
    assert np.array_equal(next(data.x_test.read([slice(None)])), values(batches, TRAINING[4:])[0])
    assert data.held_out.startswith("batch 5 of the training images, held out")
    assert "held out" in data.cautions[0]
    assert "batches 1 to 4 for training" in data.description
    assert np.allclose(data.encoder.mean, values(batches, TRAINING[:4])[0].mean((0, 2, 3)) / 255)


def test_a_test_batch_in_the_archive_serves_beside_training_batches(tmp_path, batches):
    whole = cifar10(archive(tmp_path, batches))
    put(tmp_path, {name: batches[name] for name in TRAINING})
    data = cifar10(tmp_path)
    assert data.held_out == ""
    assert np.array_equal(data.x_test[:], whole.x_test[:])
    assert len(data.x_train) == 100


def test_a_damaged_archive_beside_training_batches_may_be_moved_away(tmp_path, batches):
    del batches[TEST]
    put(tmp_path, batches)
    (tmp_path / cifar.ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(
        ValueError, match=r"is damaged .*Fetch the file again\. Or move it away: the five batches beside"
    ):
        cifar10(tmp_path)
    (tmp_path / cifar.ARCHIVE).rename(tmp_path / "away")
    assert cifar10(tmp_path).held_out
    (tmp_path / "away").rename(tmp_path / cifar.ARCHIVE)
    (tmp_path / TRAINING[0]).unlink()
    with pytest.raises(ValueError, match=r"is damaged .*Fetch the file again\.$"):
        cifar10(tmp_path)


def test_what_is_missing_is_named(tmp_path, batches):
    del batches[TRAINING[2]]
    with pytest.raises(
        FileNotFoundError, match=r"lacks 1 of the 5 training batches .*data_batch_3\.bin.*`download=True`"
    ):
        cifar10(put(tmp_path, batches))


def bomb(content):
    return gzip.compress(content + bytes(2**24))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TRAINING[1], lambda content: content[:-1], r"data_batch_2\.bin has 61,459 bytes unpacked; .* has 61,460"),
        (TRAINING[1], lambda content: content + b"x", "has more than 61,460 bytes unpacked"),
        (TRAINING[1], lambda content: b"\1" + content[1:], "has the MD5 .*, but the published one is .*Fetch the file"),
        (TEST, lambda content: content[:-1] + b"?", r"test_batch\.bin has the MD5"),
    ],
)
def test_a_batch_that_is_not_as_published(tmp_path, batches, name, change, message):
    batches[name] = change(batches[name])
    for ending in PACKED:
        with pytest.raises(ValueError, match=message):
            cifar10(put(tmp_path / f"x{ending}", batches, ending))
    with pytest.raises(ValueError, match=message.replace("61,459", ".*")):
        cifar10(archive(tmp_path / "tar", batches))


@pytest.mark.parametrize("ending", [".gz", ".xz"])
@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: b"no" + packed[2:]])
def test_damage_of_a_packed_batch(tmp_path, batches, ending, damage):
    path = put(tmp_path, batches, ending) / f"{TRAINING[3]}{ending}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"data_batch_4\.bin.* is damaged .*Fetch the file again"):
        cifar10(tmp_path)


def test_damage_of_the_archive(tmp_path, batches):
    path = archive(tmp_path, batches) / cifar.ARCHIVE
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz (is damaged|lacks)"):
            cifar10(tmp_path)
    archive(tmp_path, {name: batches[name] for name in TRAINING})
    with pytest.raises(ValueError, match=r"lacks test_batch\.bin"):
        cifar10(tmp_path)


def test_a_member_that_would_unpack_without_end_is_not(tmp_path, batches):
    batches[TRAINING[0]] += bytes(2**22)
    with pytest.raises(ValueError, match=r"data_batch_1\.bin has more than 61,460 bytes"):
        cifar10(archive(tmp_path, batches))


def test_a_python_without_xz_reads_all_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lzma", None)
    runpy.run_path(cifar.__file__)
    path = tmp_path / "a.bin.xz"
    path.write_bytes(b"")
    with pytest.raises(OSError, match=r"which this Python was built without. Unpack it by `xz -d a\.bin\.xz`"):
        cifar.batch(path)


def test_no_mirror_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(cifar, "MIRRORS", ("http://127.0.0.1:1/",))
    with pytest.raises(OSError, match=r"Could not fetch cifar-10-binary\.tar\.gz.*put the file into"):
        cifar10(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_of_the_real_one(cifar10_folder):
    records = cifar._of_file(cifar10_folder, TRAINING[4])  # which has looked at its sum
    assert records.shape == (10_000, 3073)
    assert np.bincount(records[:, 0]).tolist() == [1014, 1014, 952, 1016, 997, 1025, 980, 977, 1003, 1022]


@pytest.mark.slow
def test_the_real_one(cifar10_folder):
    data = cifar10(cifar10_folder)
    assert data.inputs == (3, 32, 32)
    assert len(data.x_test) == 10_000
    if data.held_out:
        assert len(data.x_train) == 40_000
    assert np.allclose(data.encoder.mean, (0.4914, 0.4822, 0.4465), atol=1e-3)
    assert np.allclose(data.encoder.std, (0.2470, 0.2435, 0.2616), atol=1e-3)
    assert np.bincount(data.y_train).min() > 3900
