"""Runs on folders of pictures and on CIFAR-10, from training to predictions, through both doors."""

import csv
import dataclasses
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdnn.data import pictures
from hdnn.data.cifar import ARCHIVE
from hdnn.jobs import Source, as_run, evaluate, predict, predictions, resume, train, trained
from hdnn.jobs.beginnings import beginning
from hdnn.runs import Run
from samples import mnist_like, picture_folder

SMALL = {"epochs": 2, "layers": 2, "features": 4, "batch_size": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with pictures and a run on them."""
    place = tmp_path_factory.mktemp("pictures")
    picture_folder(place / "data", count=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdnn.jobs.task.write_summary", lambda run, *results: run.write_report("a page"))
        train(Source(str(place / "data")), {**SMALL, "epochs": 6}, place / "run", threads=1)
    return place


def test_a_run_holds_all_that_new_pictures_need(made):
    config = json.loads((made / "run" / "config.json").read_text())
    assert config["encoder"]["fit"] == "centre"
    assert len(config["encoder"]["mean"]) == 3
    assert config["recipe"]["augment"] == ["crop"]
    assert Run.open(made / "run").config.encoder == pictures(made / "data").encoder.to_dict()


def test_predictions_of_a_folder_name_each_picture(made, tmp_path):
    picture_folder(tmp_path / "new", count=3, seed=5)
    Image.new("RGB", (70, 30)).save(tmp_path / "new" / "wide.jpg")
    (tmp_path / "new" / "notes.txt").write_text("x")
    found = predict(made / "run", tmp_path / "new")
    assert list(found.frame) == ["file", "class", "probability_bright", "probability_dark", "probability_striped"]
    assert found.frame["file"][:2].tolist() == ["wide.jpg", "bright/0.png"]
    assert len(found.frame) == 10
    assert np.allclose(found.frame.filter(like="probability").sum(axis=1), 1)
    assert "1 file that does not end in .png, .jpg, .jpeg was left out: notes.txt" in found.remarks
    one = predict(made / "run", tmp_path / "new" / "bright" / "0.png").frame
    assert one["file"].tolist() == ["0.png"]
    assert one["class"][0] == found.frame["class"][1]


def test_parts_make_no_difference(made):
    whole = predict(made / "run", made / "data").frame
    parts = [part.frame for part in predictions(made / "run", made / "data", part=1)]
    assert sum(map(len, parts)) == len(whole) == 30
    assert np.array_equal(np.concatenate([part.to_numpy() for part in parts]), whole.to_numpy())


def test_scores_on_a_labelled_folder_are_those_of_the_predictions(made, tmp_path):
    picture_folder(tmp_path / "new", count=4, seed=6)
    shutil.copytree(tmp_path / "new" / "dark", tmp_path / "new" / "odd")
    scores = evaluate(made / "run", tmp_path / "new")
    said = predict(made / "run", tmp_path / "new").frame
    right = [name.startswith(label + "/") for name, label in zip(said["file"], said["class"], strict=True)]
    known = [not name.startswith("odd/") for name in said["file"]]
    assert scores["rows"] == 12
    assert scores["rows_of_new_classes"] == 4
    assert scores["accuracy"] == pytest.approx(sum(right) / sum(known))


def test_the_test_part_is_found_again(made):
    metrics = json.loads((made / "run" / "metrics.json").read_text())
    assert evaluate(made / "run")["accuracy"] == metrics["test_accuracy"]


def test_a_folder_may_have_moved(made, tmp_path):
    shutil.copytree(made / "data", tmp_path / "moved")
    assert evaluate(made / "run", mnist_folder=str(tmp_path / "moved")) == evaluate(made / "run")
    (tmp_path / "moved" / "dark" / "0.png").unlink()
    with pytest.raises(ValueError, match="has changed since it was trained"):
        evaluate(made / "run", mnist_folder=str(tmp_path / "moved"))


def test_a_hostile_picture_stops_predictions_by_name(made, tmp_path):
    picture_folder(tmp_path / "new", count=2)
    (tmp_path / "new" / "dark" / "bad.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"dark.bad\.png is neither PNG nor JPEG"):
        predict(made / "run", tmp_path / "new")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        predict(made / "run", tmp_path / "none")


def test_a_run_on_idx_files_reads_pictures_too(tmp_path, quick):
    train(Source("mnist", folder=str(mnist_like(tmp_path / "idx"))), {"epochs": 1}, tmp_path / "run", threads=1)
    picture_folder(tmp_path / "new", count=1)
    assert list(predict(tmp_path / "run", tmp_path / "new").frame)[:2] == ["file", "digit"]
    with pytest.raises(ValueError, match="on a folder of pictures with one folder a class"):
        evaluate(tmp_path / "run", tmp_path / "idx" / "t10k-images-idx3-ubyte")


def test_a_size_that_an_earlier_run_on_idx_files_names_is_ignored(tmp_path, quick):
    source = Source(str(mnist_like(tmp_path / "idx")))
    train(source, {**SMALL, "epochs": 1}, tmp_path / "run", threads=1)
    found, place = evaluate(tmp_path / "run"), tmp_path / "run" / "config.json"
    config = json.loads(place.read_text())
    config["data"]["image_size"] = 4
    place.write_text(json.dumps(config))
    assert evaluate(tmp_path / "run") == found
    assert trained(tmp_path / "run", samples=2).states.shape[1] == 2
    assert as_run(tmp_path / "run").data["image_size"] is None
    assert beginning(Run.open(tmp_path / "run"))[0].load().inputs == (1, 8, 8)
    with pytest.raises(ValueError, match=r"`image_size` is for folders of pictures; .*idx holds IDX files"):
        train(dataclasses.replace(source, image_size=4), SMALL, tmp_path / "new", threads=1)


# Streaming, and going on


class Killed(BaseException):
    pass


def weights(folder):
    return dict(Run.open(folder).load_network().state_dict())


@pytest.mark.parametrize("where", ["in memory", "in files"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(made, tmp_path, monkeypatch, quick, where):
    if where == "in files":
        monkeypatch.setattr(pictures, "__kwdefaults__", {**pictures.__kwdefaults__, "in_memory": 0})
    source, choices = Source(str(made / "data")), {**SMALL, "augment": ("crop", "flip", "cutout")}
    train(source, choices, tmp_path / "whole", threads=1)

    def kill(progress):
        if (progress.epoch, progress.batch) == (2, 2):
            raise Killed

    with pytest.raises(Killed):
        train(source, choices, tmp_path / "cut", threads=1, checkpoint_every=0.0, callbacks=(kill,))
    outcome = resume(tmp_path / "cut")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not outcome.interrupted
    if where == "in files":
        monkeypatch.undo()
        monkeypatch.setattr("hdnn.jobs.task.write_summary", lambda run, *results: run.write_report("a page"))
        train(source, choices, tmp_path / "held", threads=1)
        held = weights(tmp_path / "held")
        assert all(torch.equal(whole[name], held[name]) for name in whole)


def test_other_pictures_end_a_resumption(made, tmp_path, quick):
    shutil.copytree(made / "data", tmp_path / "data")

    def kill(progress):
        raise Killed

    with pytest.raises(Killed):
        train(Source(str(tmp_path / "data")), SMALL, tmp_path / "run", threads=1, callbacks=(kill,))
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "dark" / "0.png")
    with pytest.raises(ValueError, match="have changed since it began"):
        resume(tmp_path / "run")


def test_a_test_part_that_is_another_is_told_of(tmp_path, quick):
    for part in ("train", "test"):
        picture_folder(tmp_path / "data" / part, count=3)
    train(Source(str(tmp_path / "data")), {**SMALL, "epochs": 1}, tmp_path / "run", threads=1)
    said = []
    assert evaluate(tmp_path / "run", announce=said.append)["rows"] == 9
    assert said == []
    shutil.copy(tmp_path / "data/train/dark/0.png", tmp_path / "data/test/dark/9.png")  # which was learned from
    assert evaluate(tmp_path / "run", announce=said.append)["rows"] == 10
    assert "are not to the bit those that it was trained and tested on" in said[0]


def test_files_that_are_no_pictures_of_a_class_are_told_of(made, tmp_path):
    new = picture_folder(tmp_path / "new", count=2)
    (new / "dark" / "9.gif").write_text("x")
    shutil.copy(new / "dark" / "0.png", new / "stray.png")
    said = []
    assert evaluate(made / "run", new, announce=said.append)["rows"] == 6
    assert said == [
        "1 picture that is in no folder of a class was left out: stray.png. 1 file that does not end in .png, .jpg, "
        ".jpeg was left out: dark/9.gif."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are letters there")
def test_a_folder_whose_name_is_no_text(tmp_path, quick):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    picture_folder(place, count=5)
    train(Source(str(place)), {**SMALL, "epochs": 1}, tmp_path / "run", threads=1, command=f"train {place}")
    assert Run.open(tmp_path / "run").config.data["data"] == str(place)
    assert evaluate(tmp_path / "run")["rows"] == 3


def test_folds_and_seeds_of_pictures(made, tmp_path, quick):
    outcome = train(
        Source(str(made / "data")), {**SMALL, "epochs": 1, "folds": 2, "seeds": 2}, tmp_path / "run", threads=1
    )
    assert outcome.metrics["folds"]["count"] == outcome.metrics["seeds"]["count"] == 2


# CIFAR-10


@pytest.mark.long
def test_a_held_out_batch_is_said_everywhere(tmp_path, cifar10_batches, hdnn):
    del cifar10_batches["test_batch.bin"]
    (tmp_path / "cifar10").mkdir()
    for name, content in cifar10_batches.items():
        (tmp_path / "cifar10" / name).write_bytes(content)
    line = f"train cifar10 --data-folder {tmp_path / 'cifar10'} --epochs 1 --layers 1 --features 4 --threads 1"
    code, out, err = hdnn(f"{line} --json -o {tmp_path / 'run'}")
    assert code == 0, err
    assert "Note: The test part is batch 5 of the training images, held out" in err
    assert json.loads(out)["test_part"].startswith("batch 5 of the training images, held out")
    assert "batch 5 of the training images, held out" in (tmp_path / "run" / "report.html").read_text()
    code, out, _ = hdnn(f"evaluate {tmp_path / 'run'}")
    assert code == 0


def test_a_run_of_before_the_archive_was_looked_into_goes_on(tmp_path, cifar10_batches, quick):
    place = tmp_path / "cifar10"
    place.mkdir()
    for name, content in cifar10_batches.items():
        if name != "test_batch.bin":
            (place / name).write_bytes(content)

    def kill(progress):
        raise Killed

    source = Source("cifar10", folder=str(place))
    train(source, {**SMALL, "epochs": 1}, tmp_path / "run", threads=1)
    with pytest.raises(Killed):
        train(source, {**SMALL, "epochs": 1}, tmp_path / "cut", threads=1, callbacks=(kill,))
    found = evaluate(tmp_path / "run")
    with tarfile.open(place / ARCHIVE, "w:gz") as archive:
        for name, content in cifar10_batches.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert len(source.load().x_train) == 100
    said = []
    assert evaluate(tmp_path / "run", announce=said.append) == found
    assert said == []
    assert not resume(tmp_path / "cut").interrupted
    assert all(
        torch.equal(a, b) for a, b in zip(*(weights(tmp_path / n).values() for n in ("run", "cut")), strict=True)
    )


# The command line


def test_the_command_line(made, tmp_path, hdnn, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture_folder(tmp_path / "new", count=2, seed=7)
    code, out, err = hdnn(f"predict {made / 'run'} new")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows][:2] == ["bright/0.png", "bright/1.png"]
    code, out, _ = hdnn(f"predict {made / 'run'} new --json")
    assert len(json.loads(out)) == 6
    code, out, _ = hdnn(f"evaluate {made / 'run'} new")
    assert code == 0
    assert "accuracy" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train data --size 5", "--size is for swiss-roll"),
        ("train data --image-size 0", "--image-size must be a whole number"),
        ("train data --augment turn", "--augment"),
        ("train digits --augment flip", "--augment changes images"),
        ("train empty", "must hold one folder of pictures for each class"),
        ("train data/away", "or a folder of pictures"),
        ("predict run empty", "holds no picture"),
        ("predict run nowhere.png", "There is no nowhere.png. Pictures were expected there, or images in an IDX file"),
        ("predict run run/config.json", "run/config.json holds no images that can be read: pictures are PNG or JPEG"),
        ("predict run link.png", "link.png is a link to data/dark/0.png; pictures are read from plain files alone"),
        ("predict run /dev/null", "/dev/null is a device"),
    ],
)
def test_what_cannot_be_is_said_in_the_words_of_the_command_line(made, line, message, hdnn, monkeypatch):
    monkeypatch.chdir(made)
    (made / "empty").mkdir(exist_ok=True)
    (made / "link.png").unlink(missing_ok=True)
    (made / "link.png").symlink_to("data/dark/0.png")
    code, _, err = hdnn(f"{line} {'-o other' if 'train' in line else ''}")
    assert code == 2
    assert message in err
    assert not (made / "other").exists()


@pytest.mark.parametrize(
    ("options", "said", "advice"),
    [
        ("", "The last batch of 9 rows has one row alone, of which", "Take another --batch-size than 8"),
        ("--batch-size 1", "With --batch-size 1 every batch has one row alone, of which", "Take a larger --batch-size"),
    ],
)
def test_a_batch_of_one_pixel_is_refused_before_the_run(options, said, advice, hdnn, tmp_path):
    picture_folder(tmp_path / "few", count=4)  # 9 rows to learn from, batches of 8
    line = f"train {tmp_path / 'few'} --units 1,1,1,1,1 --channels 2,2,2,2,2 --epochs 1 -o {tmp_path / 'run'}"
    code, _, err = hdnn(f"{line} {options}")
    assert code == 2
    assert f"{said} batch normalization sees one pixel" in err
    assert advice in err
    assert not (tmp_path / "run").exists()
