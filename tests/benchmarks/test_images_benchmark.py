"""The benchmark of networks of images: what is counted, what stands beside, and that a pause changes no bit."""

import json

import pytest
import torch

import hdnn
import image_networks
import images


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Of a run on few small images."""
    lot = torch.Generator().manual_seed(0)
    x = torch.randint(256, (120, 1, 12, 12), generator=lot, dtype=torch.uint8)
    y = torch.arange(120) % 10
    parts = images.Images(x[:100], y[:100]), 20, images.Images(x[100:], y[100:])
    monkeypatch.setattr(images, "mnist", lambda folder: parts)
    arguments = ["mnist", "--folder", str(tmp_path), "--units", "1,1", "--channels", "4,8", "--batch", "16"]

    def made(*more):
        return images.parsed([*arguments, "--epochs", "2", "--look", "2", *more])

    return made


def test_multiply_adds_are_those_of_the_formula(options):
    task = images.task_of(options())
    model = images.model_of(options(), task)
    of_flows = 4 * 9 * 144 * 2**2 * 2  # a layer has four convolutions of half the channels
    assert image_networks.multiply_adds(model, task.numbers(task.test.x[:2])) == (
        of_flows + 9 * 4 * 144 + 8 * 10,
        of_flows,
    )


def test_beside_it_stand_a_resnet_of_its_size_and_the_same_without_flows(options):
    task = images.task_of(options())
    own = images.model_of(options("--channels", "8,16"), task)
    for equal, size in (
        ("multiply_adds", lambda model: image_networks.multiply_adds(model, task.numbers(task.test.x[:2]))[0]),
        ("parameters", image_networks.parameters),
    ):
        beside = images.model_of(
            options("--channels", "8,16", "--model", "resnet", "--equal", equal, "--blocks", "1"), task
        )
        assert 0.5 < size(beside) / size(own) < 2
    bare = images.model_of(options("--without-flows"), task)
    assert not any(isinstance(module, hdnn.Stage) for module in bare.modules())
    assert bare(task.numbers(task.test.x)).shape == (20, 10)


@pytest.mark.parametrize("more", [(), ("--optimizer", "adamw", "--float32"), ("--average", "0.9", "--final")])
def test_a_pause_changes_no_bit(options, tmp_path, more):
    whole = images.Training(options(*more))
    whole.run()
    stored = options(*more, "--store", str(tmp_path / "store.pt"))
    cut = images.Training(stored)
    for _, x, y in images.batches(cut.task, stored, 5, 0):
        cut.move(x, y)
    cut.save()
    again = images.Training(stored)
    assert again.step == 5
    again.run()
    for name, value in whole.best.state_dict().items():
        assert torch.equal(value, again.best.state_dict()[name]), name
    assert images.run(stored)["parameters"] == image_networks.parameters(whole.model)


def test_the_test_part_is_scored_in_final_runs_alone_and_choices_in_others(options):
    found, final = images.run(options()), images.run(options("--final"))
    assert (found["test"], final["validation"]) == (None, None)
    assert found["validation"] is not None
    assert final["test"] is not None
    assert len(images.task_of(options("--final")).train.y) == 100
    assert len(images.task_of(options()).train.y) == 80
    few = images.task_of(options("--images", "20")).train.y
    assert few.bincount().tolist() == [2] * 10


def test_what_comes_in_from_outside_is_black_and_nothing_is_lost(options):
    task = images.task_of(options())
    x = task.train.x[:16]
    moved = images.changed(x, task, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape
    inside = moved[:, :, 2:-2, 2:-2]
    assert float(inside.min()) >= 0
    assert {*moved.flatten().tolist()} <= {0.0, *x.float().flatten().tolist()}


def test_the_curve_goes_on_where_it_was(options, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        images, "run", lambda chosen: seen.append(chosen) or {**vars(chosen), "folder": "", "out": "", "test": 0.0}
    )
    out = tmp_path / "curve.jsonl"
    line = {"images": 500, "model": "stages", "seed": 0}
    out.write_text(json.dumps(line) + "\n")
    images.curve(options("--out", str(out)))
    assert len(seen) == 5 * 3 * 2 - 1
    assert {(each.most_steps, each.equal, each.final) for each in seen} == {(1500, "parameters", True)}
