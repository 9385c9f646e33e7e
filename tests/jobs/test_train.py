"""From data to a run folder, in a few epochs of tiny networks."""

import json
import math
import re
import sys

import numpy as np
import pytest
import torch

from hdnn import options
from hdnn.jobs import SETUPS, Choices, Source, evaluate, predict, train
from hdnn.jobs.train import chosen_recipe, require_device, seeded_network
from hdnn.networks import NetworkConfig
from hdnn.runs import Run
from samples import flowers, houses, mnist_like

MODULE = sys.modules["hdnn.jobs.train"]  # as an attribute of the package the function of that name hides it
SMALL = Choices(layers=2, epochs=2, batch_size=32)
FILES = {"config.json", "model.safetensors", "history.csv", "metrics.json", "report.html", "figures"}


def source_of(kind, folder):
    if kind == "images":
        return Source("mnist", folder=str(mnist_like(folder / "images")))
    if kind in ("flowers", "houses"):
        path = folder / f"{kind}.csv"
        (flowers() if kind == "flowers" else houses()).to_csv(path, index=False)
        return Source(str(path), target="kind" if kind == "flowers" else "price")
    return Source("double-moons", size=200) if kind == "moons" else Source("digits")


def stop_in_epoch(number):
    def stop(progress):
        if progress.epoch == number:
            raise KeyboardInterrupt

    return stop


@pytest.fixture
def quick(monkeypatch):
    """Without pictures, which take most of the time of a small run."""
    monkeypatch.setattr("hdnn.jobs.task.write_summary", lambda run, *results: run.write_report("a page"))


@pytest.fixture(
    params=["moons", pytest.param("digits", marks=pytest.mark.long), "flowers", "houses", "images"], scope="module"
)
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    said = []
    outcome = train(source_of(request.param, folder), SMALL, folder / "run", announce=said.append, command="hdnn x")
    return request.param, outcome, said


def test_a_run_is_complete(trained):
    kind, outcome, said = trained
    folder = outcome.run.folder
    assert {path.name for path in folder.iterdir()} == FILES
    assert Run.open(folder).config == outcome.run.config
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == outcome.metrics
    assert not outcome.interrupted
    assert metrics["epochs"] == 2
    assert len(outcome.run.read_history()) == 2
    assert len(said) == 3  # data, network, what takes the steps
    score = "test_r2" if kind == "houses" else "test_accuracy"
    assert np.isfinite(metrics[score])
    assert metrics["test_rows"] + metrics["train_rows"] == {"moons": 200, "digits": 1797, "images": 80}.get(kind, 120)
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert "training.png" in pictures
    assert ("regions.png" in pictures) == (kind == "moons")
    assert ("confusion.png" in pictures) == (kind != "houses")
    assert ("predicted_0.png" in pictures) == (kind == "houses")
    assert ("features.gif" in pictures) == (kind != "houses")


def test_the_report_says_what_was_done(trained):
    _, outcome, _ = trained
    page = outcome.run.report.read_text(encoding="utf-8")
    assert "hdnn x" in page
    accuracy = outcome.metrics.get("test_accuracy")
    assert (f"{100 * accuracy:.2f} %" if accuracy is not None else f"{outcome.metrics['test_r2']:.3f}") in page
    assert "Interrupted" not in page


def test_every_picture_says_what_is_seen_and_the_title_names_the_run(trained):
    _, outcome, _ = trained
    page = outcome.run.report.read_text(encoding="utf-8")
    texts = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(texts) == page.count("<img") == len(list((outcome.run.folder / "figures").iterdir()))
    assert len(set(texts)) == len(texts)
    assert all(re.search(r"[0-9]", text) and len(text) > 40 for text in texts)  # more than a title: numbers
    captions = re.findall(r"<figcaption>(.*)</figcaption>", page)
    assert len(captions) == len(texts)
    assert not any(caption in text for caption in captions for text in texts)
    title = re.search("<title>(.*)</title>", page)[1]
    assert title.startswith(f"{outcome.run.folder.name}: {outcome.run.config.network.model} on ")


def test_evaluation_of_the_run_gives_the_test_scores_again(trained):
    kind, outcome, _ = trained
    scores = evaluate(outcome.run.folder)
    classes = ("loss", "accuracy", "balanced_accuracy", "roc_auc", "calibration_error")
    names = ("loss", "error", "absolute_error", "r2", "spread") if kind == "houses" else classes
    assert scores == {**{name: outcome.metrics[f"test_{name}"] for name in names}, "rows": outcome.metrics["test_rows"]}


@pytest.mark.usefixtures("quick")
def test_a_seed_repeats_a_run_and_another_does_not(tmp_path):
    source = source_of("moons", tmp_path)
    torch.manual_seed(0)
    first = train(source, SMALL, tmp_path / "a", seed=4)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    second = train(source, SMALL, tmp_path / "b", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    third = train(source, SMALL, tmp_path / "c", seed=5)
    weights = [(outcome.run.folder / "model.safetensors").read_bytes() for outcome in (first, second, third)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.usefixtures("quick")
def test_every_choice_reaches_network_and_recipe(tmp_path):
    choices = Choices(
        model="h1",
        layers=3,
        step=0.07,
        features=6,
        width=5,
        activation="relu",
        interconnection="upper_ones",
        integrator="runge_kutta4",
        lift="linear",
        shared=True,
        init_std=0.0,
        epochs=1,
        batch_size=40,
        optimizer="sgd",
        learning_rate=0.003,
        smoothness=1e-5,
        head_decay=2e-5,
        weight_decay=3e-5,
        label_smoothing=0.01,
        clip=2.0,
        method="joint",
        validation_fraction=0.3,
        patience=4,
        restarts=2,
        average=0.5,
        precision="bfloat16",
        class_weight=("0=2",),
        folds=2,
        seeds=2,
    )
    outcome = train(source_of("moons", tmp_path), choices, tmp_path / "run", seed=9)
    found = {**vars(outcome.run.config.network), **outcome.run.config.recipe, **outcome.run.config.start}
    assert found.pop("class_weight") == ("0=2",)
    for name, value in choices.items():
        if name != "class_weight":
            assert found[name] == value, name
    assert (found["seed"], outcome.run.config.seed) == (9, 9)
    assert choices.keys() == {entry.name for entry in options.entries(Choices)} - (
        {"horizon", "damping", "augment", "units", "channels", "normalization"}
    )
    damped = train(source_of("moons", tmp_path), Choices(epochs=1, model="h2", damping=0.3), tmp_path / "damped")
    assert damped.run.config.network.damping == 0.3


@pytest.mark.usefixtures("quick")
def test_horizon_and_setup_decide_the_step(tmp_path):
    source = source_of("moons", tmp_path)
    run = train(source, Choices(layers=5, horizon=1.5, epochs=1), tmp_path / "a").run
    assert run.config.network.step == pytest.approx(0.3)
    # The set-up's horizon is kept when the depth changes.
    run = train(source, Choices(layers=5, epochs=1), tmp_path / "b").run
    assert run.config.network.step == pytest.approx(SETUPS["double-moons"].horizon / 5)
    run = train(source, Choices(layers=0, epochs=1), tmp_path / "c").run
    assert run.config.network.layers == 0


@pytest.mark.parametrize("choices", [{"horizon": 0.0}, {"step": 0.0}, {"step": float("nan")}, {"horizon": -1.0}])
def test_a_time_of_nothing_is_refused_not_replaced(tmp_path, choices):
    with pytest.raises(ValueError, match=r"step|horizon"):
        train(source_of("moons", tmp_path), Choices(**choices), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_initial_deviation_of_zero_is_taken_at_its_word():
    config = NetworkConfig("classification", (2,), 2, model="h1", features=4, layers=2, step=0.1)
    assert not seeded_network(config, 0.0, seed=0).flow.weight.any()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lbfgs"])
def test_every_optimizer_can_be_chosen_for_every_setup(optimizer):
    for setup in SETUPS.values():
        recipe = chosen_recipe(setup, Choices(optimizer=optimizer), seed=0)
        assert recipe.optimizer == optimizer
        # A decoupled decay of 0.1 would be ruin as part of Adam's gradient.
        assert recipe.weight_decay == (setup.recipe.weight_decay if optimizer == setup.recipe.optimizer else 0.0)
    assert chosen_recipe(SETUPS["digits"], Choices(optimizer="adam", weight_decay=0.2), seed=0).weight_decay == 0.2


@pytest.mark.usefixtures("quick")
def test_held_out_rows_come_from_the_training_part(tmp_path):
    choices = {**SMALL, "validation_fraction": 0.25, "patience": 1}
    outcome = train(source_of("moons", tmp_path), choices, tmp_path / "run")
    assert "validation_accuracy" in outcome.run.read_history()[0]
    assert outcome.metrics["test_rows"] == 100


def test_a_validation_part_of_everything_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="leaves none to train on"):
        train(Source("double-moons", size=4), {**SMALL, "validation_fraction": 0.9}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["joint", "alternating"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupt_leaves_a_run_that_can_be_loaded(tmp_path, method, epoch):
    choices = {**SMALL, "epochs": 5, "method": method}
    source = source_of("moons", tmp_path)
    outcome = train(source, choices, tmp_path / "run", callbacks=(stop_in_epoch(epoch),))
    assert outcome.interrupted
    assert outcome.metrics["interrupted"] is True
    assert outcome.metrics["epochs"] == epoch - 1 == len(outcome.run.read_history())
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert evaluate(tmp_path / "run")["accuracy"] == outcome.metrics["test_accuracy"]
    assert "interrupted" in outcome.run.report.read_text(encoding="utf-8")


def test_an_interrupt_while_the_report_is_drawn_keeps_the_weights(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hdnn.jobs.task.write_summary", interrupt)
    said = []
    with pytest.raises(KeyboardInterrupt):
        train(source_of("moons", tmp_path), SMALL, tmp_path / "run", announce=said.append)
    assert "can be loaded" in said[-1]
    assert evaluate(tmp_path / "run")["rows"] == 100


def test_divergence_is_an_error_and_the_run_has_no_weights(tmp_path):
    wild = {"learning_rate": 1e30, "optimizer": "sgd", "activation": "identity", "epochs": 9}
    choices = {**SMALL, **wild, "clip": math.inf, "restarts": 1}
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(source_of("moons", tmp_path), choices, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="stopped before it had any weights"):
        evaluate(tmp_path / "run")


def test_the_place_is_checked_before_the_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Source, "load", lambda *_: pytest.fail("read"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        train(Source("digits"), SMALL, tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_run_is_replaced_where_asked(tmp_path):
    source = source_of("moons", tmp_path)
    train(source, SMALL, tmp_path / "run")
    outcome = train(source, {**SMALL, "epochs": 1}, tmp_path / "run", overwrite=True)
    assert len(Run.open(tmp_path / "run").read_history()) == 1 == outcome.metrics["epochs"]


@pytest.mark.parametrize(
    ("device", "word"),
    [
        ("gpu", "no device 'gpu'. Use cpu"),
        ("", "no device ''"),
        ("meta", "does not work"),
        pytest.param("cuda", "CUDA", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")),
        pytest.param("cuda:7", "CUDA", marks=pytest.mark.skipif(torch.cuda.device_count() > 7, reason="has 8")),
        pytest.param("mps", "mps", marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="has MPS")),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, word):
    with pytest.raises(ValueError, match=word):
        require_device(device)


def test_the_cpu_is_there():
    assert require_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"model": "h3"}, "Did you mean"),
        ({"layers": -1}, "`layers`.*-1"),
        ({"step": 0.1, "horizon": 1.0}, "not both; got 0.1 and 1"),
        ({"activation": "tahn"}, "Did you mean 'tanh'"),
        ({"interconnection": "upperones"}, "Did you mean 'upper_ones'"),
        ({"features": 5}, "even"),
        ({"features": 1}, "even"),
        ({"width": 0}, "width"),
        ({"width": -3}, "width"),
        ({"init_std": -1.0}, "init_std"),
        ({"epochs": 0}, "`epochs`"),
        ({"epochs": -2}, "`epochs`"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"patience": 0}, "`patience`"),
    ],
)
def test_choices_that_make_no_sense_leave_nothing_behind(tmp_path, choices, word):
    with pytest.raises(ValueError, match=word):
        train(Source("double-circles", size=40), Choices(**choices), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_take_no_lift(tmp_path):
    with pytest.raises(ValueError, match="a convolution lifts images"):
        train(source_of("images", tmp_path), Choices(lift="linear"), tmp_path / "run")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_at_least_one(tmp_path, threads):
    with pytest.raises(ValueError, match="threads"):
        train(Source("digits"), SMALL, tmp_path / "run", threads=threads)


@pytest.mark.usefixtures("quick")
def test_the_number_of_threads_is_put_back(tmp_path):
    before = torch.get_num_threads()
    outcome = train(source_of("moons", tmp_path), SMALL, tmp_path / "run", threads=1)
    assert outcome.metrics["threads"] == 1
    assert torch.get_num_threads() == before


def test_strange_names_do_no_harm(tmp_path):
    frame = flowers()
    frame["kind"] = np.where(frame["kind"] == "rose", "<script>alert(1)</script>", "US$5 to $\\frac{")
    frame = frame.rename(columns={"width": "a,b\n$x_", "length": "长さ"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    outcome = train(Source(str(tmp_path / "t.csv"), target="kind"), SMALL, tmp_path / "run")
    assert "<script>alert" not in outcome.run.report.read_text(encoding="utf-8")
    assert set(predict(tmp_path / "run", tmp_path / "t.csv").frame["kind"]) <= set(frame["kind"])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["images", "flowers"])
@pytest.mark.parametrize("model", ["ms1", "ms2", "ms3"])
def test_every_model_trains_on_vectors_and_images(tmp_path, model, kind):
    source = source_of(kind, tmp_path)
    outcome = train(source, {**SMALL, "model": model, "epochs": 1}, tmp_path / "run")
    assert outcome.run.config.network.model == model
    assert evaluate(tmp_path / "run")["accuracy"] == outcome.metrics["test_accuracy"]
