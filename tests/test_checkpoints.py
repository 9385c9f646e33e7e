"""Checkpoints on disk: the state comes back, whole or not at all, and nothing but a ValueError from a strange file."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hdnn import checkpoints
from hdnn.checkpoints import Saver, largest_checkpoint, read_checkpoint, write_checkpoint
from hdnn.networks import build_network
from hdnn.runs import Run
from hdnn.training import Progress, Recipe, fit

GOLDEN = Path(__file__).parent / "golden"
LARGEST = 2**20


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "format-1-unfinished", folder)
    return Run.open(folder)


def trained(run, callbacks):
    torch.manual_seed(0)
    network = build_network(run.config.network)
    recipe = Recipe(**{**run.config.recipe, "validation_fraction": 0.0, "patience": None})
    x = torch.randn(24, 2)
    fit(network, x, (x[:, 0] > 0).long(), recipe, callbacks=callbacks)
    return network


def same(a, b):
    a, b = a.to_tensors(), b.to_tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_state_comes_back_with_its_bits(run):
    states = []
    trained(run, [lambda progress: states.append(progress.state())])
    for state in states:
        write_checkpoint(run, state, run.digest)
        found = read_checkpoint(run, LARGEST)
        assert same(found, state)
        assert [list(record) for record in found.history] == [list(record) for record in state.history]


def test_without_a_file_there_is_no_state(run):
    run.checkpoint.unlink()
    assert read_checkpoint(run, LARGEST) is None


def test_a_checkpoint_is_written_when_it_is_time_and_writing_takes_its_share_only(run, monkeypatch):
    now = [0.0]
    written = []

    def write(run, state, digest):
        written.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    for every, expected in ((10.0, [10.0, 61.0, 112.0]), (0.0, [0.0, 1.0, 2.0]), (80.0, [80.0, 161.0])):
        now[0], written[:] = 0.0, []
        saver = Saver(run, every)
        while len(written) < len(expected):
            saver(Progress(1, 1, 1, 1, torch.zeros(()), None, lambda: None))
            now[0] = max(now[0], written[-1] + 1 if written else 0) + (1.0 if every else 0.0)
        assert [round(when) for when in written] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("every", [-1.0, float("nan"), float("inf")])
def test_seconds_that_make_no_sense_are_refused(run, every):
    with pytest.raises(ValueError, match="0 or more"):
        Saver(run, every)


def test_a_full_disk_ends_training_with_a_remedy_and_leaves_the_checkpoint_before(run, monkeypatch):
    before = run.checkpoint.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hdnn.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*the one before it stays.*hdnn train --resume"):
        trained(run, [Saver(run, 0.0)])
    assert run.checkpoint.read_bytes() == before
    assert {path.name for path in run.folder.iterdir()} == {"config.json", "checkpoint.safetensors"}


def test_the_largest_checkpoint_is_larger_than_any_and_not_much(run):
    for optimizer in ("adam", "lbfgs"):
        recipe = Recipe(optimizer=optimizer, epochs=8, learning_rate=0.5, validation_fraction=0.25, patience=8)
        network = build_network(run.config.network)
        x = torch.randn(400, 2)
        sizes = []

        def measure(progress, sizes=sizes):
            write_checkpoint(run, progress.state(), run.digest)
            sizes.append(run.checkpoint.stat().st_size)

        fit(network, x, (x[:, 0] > 0).long(), recipe, callbacks=[measure])
        assert max(sizes) < largest_checkpoint(network, recipe, 400) < 2**21


# Files from elsewhere


def test_damage_is_found_and_the_remedy_named(run):
    good = run.checkpoint.read_bytes()
    tensors = load_file(run.checkpoint)
    for cut in (0, 4, 8, 100, len(good) // 2, len(good) - 1):
        run.checkpoint.write_bytes(good[:cut])
        with pytest.raises(ValueError, match=r"is damaged.*Remove"):
            read_checkpoint(run, LARGEST)
    for metadata, word in [
        (None, "not of format"),
        ({"format": "2", "config": run.digest}, "newer hdnn"),
        ({"format": "1", "config": "0"}, "belongs to another run"),
    ]:
        save_file(tensors, run.checkpoint, metadata)
        with pytest.raises(ValueError, match=word):
            read_checkpoint(run, LARGEST)
    save_file({**tensors, "order": tensors["order"][1:]}, run.checkpoint, {"format": "1", "config": run.digest})
    with pytest.raises(ValueError, match="cannot be used: 'order'"):
        read_checkpoint(run, LARGEST)


def test_a_flipped_bit_in_the_head_is_a_value_error_or_no_harm(run):
    good = run.checkpoint.read_bytes()
    for place in range(0, min(len(good), 4000), 37):
        run.checkpoint.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
        try:
            read_checkpoint(run, LARGEST)
        except ValueError:
            continue


def test_a_monster_is_not_read(run):
    with run.checkpoint.open("r+b") as stream:
        stream.truncate(2**33)
    with pytest.raises(ValueError, match="larger than any checkpoint"):
        read_checkpoint(run, LARGEST)
