"""Runs of networks in stages, from training to predictions, analyses and exports, and what they refuse in words."""

import functools
import json

import numpy as np
import pytest
import torch

from hdnn.jobs import Choices, Source, analyze, as_run, evaluate, image_setup, predict, resume, train, trained
from hdnn.jobs.choices import chosen_recipe, network_config
from hdnn.jobs.export import export
from hdnn.jobs.findings import find
from hdnn.jobs.setups import SETUPS
from hdnn.runs import Run
from samples import mnist_like, picture_folder

SMALL = {"units": (1, 1), "channels": (4, 8), "epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files like those of MNIST and a whole run on them, with its report."""
    place = tmp_path_factory.mktemp("stages")
    mnist_like(place / "mnist", train=60, test=20, size=8)
    train(source(place), {**SMALL, "model": "stages"}, place / "run", threads=1)
    return place


def source(place):
    return Source("mnist", folder=str(place / "mnist"))


def weights(folder):
    return dict(Run.open(folder).load_network().state_dict())


@pytest.mark.long
def test_the_report_shows_images_through_the_stages_and_mistakes(made):
    figures = {path.name for path in (made / "run" / "figures").iterdir()}
    assert figures >= {"stages.png", "features.png", "mistakes.png", "confusion.png", "training.png"}
    page = (made / "run" / "report.html").read_text()
    for words in ("1-1 layers of 4-8 channels", "Images through the stages", "Mistakes", "every stage by itself"):
        assert words in page
    network = Run.open(made / "run").config.network
    assert (network.model, network.units, network.channels) == ("stages", (1, 1), (4, 8))
    assert (network.normalization, network.activation, network.step) == ("units", "relu", 1.0)


def test_scores_and_predictions_are_found_again(made):
    metrics = json.loads((made / "run" / "metrics.json").read_text())
    assert evaluate(made / "run")["accuracy"] == metrics["test_accuracy"]
    found = predict(made / "run", made / "mnist" / "t10k-images-idx3-ubyte").frame
    assert len(found) == 20
    assert np.allclose(found.filter(like="probability").sum(axis=1), 1)


class Killed(BaseException):
    pass


def test_a_run_that_was_killed_goes_on_to_the_same_bits(made, tmp_path, quick):
    choices = {**SMALL, "augment": ("crop",)}
    train(source(made), choices, tmp_path / "whole", threads=1)

    def kill(progress):
        if (progress.epoch, progress.batch) == (2, 2):
            raise Killed

    with pytest.raises(Killed):
        train(source(made), choices, tmp_path / "cut", threads=1, checkpoint_every=0.0, callbacks=(kill,))
    assert not resume(tmp_path / "cut").interrupted
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_an_analysis_goes_through_the_stages(made, tmp_path):
    found = analyze(trained(made / "run", samples=4), tmp_path / "analysis")
    assert found.summary["symplecticity_residual"] < 1e-12
    assert found.summary["lower_bound"] is None
    assert set(found.left_out) == {"Singular values by depth", "Energy along depth", "Spectra", "Lyapunov exponents"}
    numbers = json.loads((tmp_path / "analysis" / "numbers.json").read_text())
    assert numbers["norms"]["depths"] == [0, 1, 2]
    assert len(numbers["gradients"]["parameters"]["weight"]) == 2
    assert {row["promised"] for row in numbers["structure"]["stages"]} == {"M J Mᵀ = J"}
    assert all(row["reversal"] < 1e-12 for row in numbers["structure"]["stages"])
    with pytest.raises(ValueError, match="Leave `compare` out"):
        analyze(trained(made / "run", samples=4), tmp_path / "other", compare=["resnet"])


def test_norms_are_those_of_the_whole_matrix(made):
    subject = trained(made / "run", samples=2)
    norms = next(each for each in find(subject) if each.key == "norms")
    for j, (low, high) in enumerate(zip(norms.numbers["minimum"], norms.numbers["maximum"], strict=True)):
        behind = subject.flow.links()[j:]
        found = []
        for y in subject.states[j].split(1):
            M = torch.autograd.functional.jacobian(
                lambda y, behind=behind: functools.reduce(lambda y, f: f(y), behind, y), y
            )
            found.append(float(torch.linalg.matrix_norm(M.reshape(-1, y.numel()), 2)))
        assert (low, high) == (pytest.approx(min(found)), pytest.approx(max(found)))


@pytest.mark.long
def test_exported_files_answer_alike(made, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for each in export(made / "run", onnx=tmp_path / "a.onnx", program=tmp_path / "a.pt2"):
        assert each.difference < 1e-5


def test_another_run_can_be_made_like_it(made, tmp_path, quick):
    known = as_run(made / "run")
    outcome = train(Source(**known.data), known.with_choices({}), tmp_path / "like", setup=known.setup, threads=1)
    first, second = weights(made / "run"), weights(tmp_path / "like")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert outcome.run.config.network == Run.open(made / "run").config.network
    wider = known.with_choices({"channels": (6, 8)})
    network = network_config(source(made).load(), known.setup, wider)
    assert (network.channels, network.units, network.features) == ((6, 8), (1, 1), 6)
    with pytest.raises(ValueError, match="`h2` is of one flow, and the set-up for these data is stages"):
        network_config(source(made).load(), known.setup, known.with_choices({"model": "h2"}))


def test_choices_say_which_set_up_they_lie_over(made):
    data = source(made).load()
    mnist, pictures = SETUPS["mnist"], image_setup((3, 32, 32), 1000)
    assert network_config(data, mnist, Choices()).model == "h1"
    assert network_config(data, mnist, Choices(channels=(4, 6, 8))).model == "stages"
    assert network_config(data, pictures, Choices()).units == (2, 2, 2)
    assert network_config(data, pictures, Choices(layers=3)).model == "h2"
    assert network_config(data, pictures, Choices(model="h2")).layers == 6
    large = network_config(data, mnist, Choices(model="hamiltonian74"))
    assert (large.model, large.units, large.normalization) == ("stages", (6, 6, 6), "batch")
    assert network_config(data, mnist, Choices(model="hamiltonian74", normalization="units")).normalization == "units"
    assert chosen_recipe(mnist, Choices(model="stages"), 0).schedule == "one_cycle"
    assert chosen_recipe(mnist, Choices(), 0).schedule == "cosine"
    assert chosen_recipe(pictures, Choices(layers=3), 0).optimizer == "adamw"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("mnist --model stages --layers 3", "has no --layers to choose; give it --units"),
        ("mnist --model stages --horizon 3", "has no --horizon"),
        ("mnist --units 2,x --channels 4,4", "--units are whole numbers, one for each stage, as in 2,2,2"),
        ("mnist --units 2,2 --channels 4", "one number for each stage"),
        ("mnist --units 0,2 --channels 4,4", "are positive"),
        ("mnist --channels 5,6,8", "are even"),
        ("mnist --model stages --width 4", "take no --width"),
        ("mnist --model h1 --units 2,2", "--units is of a network in stages, and h1 is none"),
        ("mnist --normalization layer", "is not one of"),
        (
            "digits --channels 4,4",
            "--channels is of a network in stages, and the set-up for these data is h2, one flow",
        ),
        ("digits --model hamiltonian74", "hamiltonian74 is of a network in stages"),
        ("mnist --model stages --average 1", "--average is a share"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_words_of_the_command_line(made, tmp_path, hdnn, options, words):
    folder = f" --data-folder {made / 'mnist'}" if options.startswith("mnist") else ""
    code, _, err = hdnn(f"train {options}{folder} --output", tmp_path / "run")
    assert code == 2
    assert words in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_pictures_go_through_stages_by_themselves(tmp_path, quick):
    picture_folder(tmp_path / "data", count=8, side=12)
    train(Source(str(tmp_path / "data")), {"epochs": 1}, tmp_path / "run", threads=1)
    assert Run.open(tmp_path / "run").config.network.units == (2, 2, 2)
    assert len(predict(tmp_path / "run", tmp_path / "data").frame) == 24


# Batches of CIFAR-10


@pytest.fixture
def on_cifar(tmp_path, cifar10_batches, quick):
    (tmp_path / "cifar").mkdir()
    for name, content in cifar10_batches.items():
        (tmp_path / "cifar" / name).write_bytes(content)
    train(Source("cifar10", folder=str(tmp_path / "cifar")), SMALL, tmp_path / "run", threads=1)
    return tmp_path


def test_a_part_of_a_test_batch_is_evaluated_and_predicted(on_cifar, cifar10_batches):
    import lzma

    content = cifar10_batches["test_batch.bin"]
    (on_cifar / "some.bin.xz").write_bytes(lzma.compress(content[: 7 * 3073]))
    found = evaluate(on_cifar / "run", on_cifar / "some.bin.xz")
    said = predict(on_cifar / "run", on_cifar / "some.bin.xz").frame
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog")
    assert found["rows"] == len(said) == 7
    assert found["accuracy"] == pytest.approx(np.mean(said["class"].to_numpy() == np.array(names)))
    whole = evaluate(on_cifar / "run", on_cifar / "cifar" / "test_batch.bin")
    assert whole["accuracy"] == evaluate(on_cifar / "run")["accuracy"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 bytes unpacked"),
        (bytes(3072), "a multiple of 3073"),
        (bytes(3073 * 21), "more than"),
        (b"\x0a" + bytes(3072), "record 1 is of class 10, and there are 10, from 0"),
    ],
)
def test_broken_batches_are_refused(on_cifar, content, words):
    (on_cifar / "bad.bin").write_bytes(content)
    for job in (evaluate, predict):
        with pytest.raises(ValueError, match=words):
            job(on_cifar / "run", on_cifar / "bad.bin")
    (on_cifar / "bad.bin.gz").write_bytes(b"\x1f\x8b\x00")
    with pytest.raises(ValueError, match="is damaged"):
        evaluate(on_cifar / "run", on_cifar / "bad.bin.gz")


def test_a_network_of_other_images_takes_no_batch(made, tmp_path):
    (tmp_path / "some.bin").write_bytes(bytes(3073))
    for job in (evaluate, predict):
        with pytest.raises(ValueError, match="this network reads 1 x 8 x 8 of 10 classes of its own"):
            job(made / "run", tmp_path / "some.bin")


def test_a_study_of_stages_tries_rates_and_leaves_sizes_alone(made):
    searches = pytest.importorskip("hdnn.jobs.searches")
    data, setup = source(made).load(), SETUPS["mnist"]
    space = searches.space(data, setup, Choices(model="stages"))
    assert set(space) == {"learning_rate", "weight_decay"}
    assert searches.beginning(space, setup.of({"model": "stages"})) == {"learning_rate": 0.1, "weight_decay": 5e-4}
    assert set(searches.space(data, setup, Choices())) >= {"model", "layers", "horizon", "features"}
    assert not searches.space(data, setup, Choices(channels=(4, 6, 8), learning_rate=0.1, weight_decay=0.0))
