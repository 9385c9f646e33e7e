"""Trainings that start from the choices of a run or of a file: the same bits, or what was chosen beside them."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from hdnn.jobs import Choices, DataSource, Source, as_file, as_run, load, train
from hdnn.options import SourceChoices, entries
from hdnn.runs import Run

GOLDEN = Path(__file__).parents[1] / "golden"
MOONS = Source("double-moons", size=60, seed=3)
# Of every choice a value that is not the set-up's, on top of a small h2.
OTHER = {
    "model": "h1",
    "layers": 3,
    "step": 0.1,
    "horizon": 0.37,
    "features": 6,
    "width": 6,
    "activation": "relu",
    "interconnection": "canonical",
    "integrator": "stormer_verlet",
    "shared": True,
    "init_std": 0.3,
    "lift": "linear",
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "sgd",
    "learning_rate": 0.011,
    "smoothness": 0.01,
    "head_decay": 0.01,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "clip": 1.0,
    "method": "alternating",
    "validation_fraction": 0.25,
    "patience": 1,
    "restarts": 2,
}
SMALL = {"model": "h2", "layers": 2, "epochs": 2, "restarts": 1}


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def trained(folder, known, source=MOONS, **chosen):
    train(source, known.with_choices(chosen), folder, setup=known.setup, seed=3)
    return folder


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", OTHER)
def test_a_training_like_a_run_ends_in_its_bits_and_a_choice_over_it_as_one_over_the_set_up(tmp_path, name):
    chosen = {**SMALL, name: OTHER[name]}
    train(MOONS, Choices(**chosen), tmp_path / "run", seed=3)
    known = as_run(tmp_path / "run")
    assert known.data["data"] == "double-moons"
    assert known.seed == 3
    again = trained(tmp_path / "again", known)
    assert weights(again) == weights(tmp_path / "run")
    one, other = (Run.open(folder).config for folder in (tmp_path / "run", again))
    assert dataclasses.replace(one, start={}) == dataclasses.replace(other, start={})
    if name == "model":  # its own width and method are tested below
        return
    train(MOONS, Choices(**SMALL), tmp_path / "plain", seed=3)
    over = trained(tmp_path / "over", as_run(tmp_path / "plain"), **{name: OTHER[name]})
    found = Run.open(over).config
    assert found.network == one.network
    idle = {"restart_epochs": 0} if name == "epochs" else {}  # there are no restarts
    assert {**found.recipe, **idle} == {**one.recipe, **idle}


@pytest.mark.usefixtures("quick")
def test_a_step_is_kept_to_the_last_bit_and_another_depth_keeps_the_time(tmp_path):
    train(MOONS, Choices(model="h2", layers=3, step=0.1, epochs=1), tmp_path / "run", seed=3)
    known = as_run(tmp_path / "run")
    assert 3 * 0.1 / 3 != 0.1
    assert Run.open(trained(tmp_path / "same", known)).config.network.step == 0.1
    assert Run.open(trained(tmp_path / "deep", known, layers=6)).config.network.step == pytest.approx(0.05)
    assert Run.open(trained(tmp_path / "long", known, horizon=6.0)).config.network.step == 2.0


@pytest.mark.usefixtures("quick")
def test_what_was_chosen_for_one_model_is_not_for_another(tmp_path):
    choices = Choices(model="h2", width=6, interconnection="canonical", integrator="stormer_verlet", epochs=1, layers=2)
    train(MOONS, choices, tmp_path / "run", seed=3)
    network = Run.open(trained(tmp_path / "ms2", as_run(tmp_path / "run"), model="ms2")).config.network
    assert (network.width, network.integrator, network.interconnection) == (None, None, None)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("folder", ["format-1", "format-1-unfinished"])
def test_runs_of_early_formats_are_started_from(tmp_path, folder):
    known = as_run(GOLDEN / folder)
    early = Run.open(GOLDEN / folder).config
    source = Source(**known.data)
    train(source, known.with_choices({}), tmp_path / "run", setup=known.setup, seed=known.seed)
    now = Run.open(tmp_path / "run").config
    assert now.network == early.network
    assert dict(early.recipe).items() <= dict(now.recipe).items()
    assert now.start["init_std"] == 1 / early.network.features**0.5  # as weights were drawn then


def test_a_run_of_images_does_not_serve_vectors(tmp_path):
    known = as_run(GOLDEN / "format-1")
    pixels = dataclasses.replace(known, setup=dataclasses.replace(known.setup, kernel_size=1))
    with pytest.raises(ValueError, match="is for images, and these data are vectors"):
        trained(tmp_path / "run", pixels)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_data_that_a_run_cannot_name_must_be_given(tmp_path):
    class Own(DataSource):
        def load(self, progress=None):
            return load(MOONS)

    train(Own(), Choices(**SMALL), tmp_path / "run")
    with pytest.raises(ValueError, match="does not say from which file its data came"):
        as_run(tmp_path / "run")
    assert as_run(tmp_path / "run", data=False).setup.model == "h2"


# Files


def written(tmp_path, text):
    path = tmp_path / "choices.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", OTHER)
def test_a_choice_in_a_file_is_that_choice(tmp_path, name):
    chosen = {**SMALL, name: OTHER[name]}
    known = as_file(written(tmp_path, chosen))
    assert known.with_choices({}) == chosen
    assert known.with_choices({name: "other"})[name] == "other"


def test_a_file_may_name_data_and_all_that_is_said_of_them(tmp_path):
    said = {"data": "a.csv", "seed": 4, "target": "y", "columns": ["a", "b"], "missing": ["?"], "no_header": True}
    known = as_file(written(tmp_path, said))
    assert known.seed == 4
    assert "seed" not in known.data
    assert known.data["columns"] == ("a", "b")
    assert set(known.data) == {"data", "target", "columns", "missing", "no_header"}
    assert {entry.name for entry in entries(SourceChoices)} >= set(known.data) - {"data"}


def test_infinity_is_a_text_and_null_leaves_open(tmp_path):
    known = as_file(written(tmp_path, {"clip": "inf", "layers": None}))
    assert known.choices == {"clip": float("inf")}


def test_old_names_are_understood_with_a_warning(tmp_path):
    with pytest.warns(FutureWarning, match="`alpha` is called `smoothness` now"):
        assert as_file(written(tmp_path, {"alpha": 0.5})).choices == {"smoothness": 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ({"layer": 3}, "There is no choice 'layer'. Did you mean 'layers'?"),
        ({"restart_epochs": 3}, "There is no choice 'restart_epochs'. Did you mean 'restarts'?"),
        ({"layers": "3"}, "`layers` of the choices must be a whole number; got str '3'."),
        ({"layers": 3.0}, "`layers` of the choices must be a whole number; got float 3.0."),
        ({"layers": True}, "must be a whole number"),
        ({"learning_rate": "fast"}, "`learning_rate` of the choices must be a number"),
        ({"learning_rate": -1}, "`learning_rate` must be positive"),
        ({"learning_rate": "inf"}, "`learning_rate` must be positive and finite"),
        ({"model": "h3"}, "There is no model 'h3'"),
        ({"optimizer": "adagrad"}, "must be one of adam, adamw, sgd, lbfgs"),
        ({"step": 0.1, "horizon": 2.0}, "not both"),
        ({"columns": "a"}, "must be a list"),
        ({"shared": 1}, "must be true or false"),
        ({"format": 2, "network": {}, "recipe": {}}, "is the configuration of a run, no file of choices. To do as"),
        ({"epochs": 10**18}, "may be at most"),
        ({"epochs": 10**400}, "is beyond numbers of 64 bits"),
        ([1, 2], "must hold an object of choices"),
        ('{"layers": 3, "layers": 4}', "stands twice"),
        ('{"step": NaN}', "is no number of JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("layers: 3", "is not JSON"),
        (" " * 2**21, "too many for an object of choices"),
    ],
)
def test_files_that_make_no_sense_are_refused_with_their_name(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"choices\.json") as error:
        as_file(path)
    assert words in str(error.value)


def test_a_file_lies_over_a_run(tmp_path):
    run = as_run(GOLDEN / "format-1")
    both = run.under(as_file(written(tmp_path, {"layers": 5, "seed": 9, "size": 70})))
    assert both.setup == run.setup
    assert both.seed == 9
    assert both.data["data"] == "double-moons"
    assert both.data["size"] == 70
    choices = both.with_choices({})
    assert choices["layers"] == 5
    assert "step" not in choices  # another depth
    elsewhere = run.under(as_file(written(tmp_path, {"data": "digits"})))
    assert elsewhere.data == {"data": "digits"}


# On the command line


@pytest.fixture
def bits(hdnn, place, quick):
    """Runs `hdnn train` and gives the weights."""

    def run(line, folder):
        code, _, err = hdnn(f"train {line} -o {folder}")
        assert code == 0, err
        return weights(place / folder), err

    return run


def test_the_command_repeats_a_run_and_says_what_it_took(bits, place):
    first, _ = bits("flowers.csv --target kind --layers 2 --epochs 2 --seed 5 --without colour", "a")
    again, err = bits("--like a", "b")
    assert first == again
    assert f"As a: its data ({place / 'flowers.csv'}), network, recipe and seed 5, where nothing else is given." in err
    assert bits("--like a --seed 6", "c")[0] != first
    assert bits("--like a --epochs 3", "d")[0] != first
    shutil.copy("flowers.csv", "others.csv")
    same, err = bits("others.csv --target kind --without colour --like a", "e")
    assert same == first
    assert "As a: network, recipe and seed 5, where nothing else is given." in err
    config = json.loads((place / "d" / "config.json").read_text())
    assert config["recipe"]["epochs"] == 3
    assert config["network"]["layers"] == 2


def test_the_command_reads_choices_from_a_file(bits, place):
    chosen = {"target": "kind", "layers": 2, "epochs": 2, "seed": 5, "clip": "inf"}
    (place / "c.json").write_text(json.dumps(chosen))
    first, _ = bits("flowers.csv --target kind --layers 2 --epochs 2 --seed 5 --clip inf", "a")
    again, err = bits("flowers.csv --config c.json", "b")
    assert first == again
    assert "From c.json: target, layers, epochs, seed, clip." in err
    (place / "c.json").write_text(json.dumps({**chosen, "data": "flowers.csv", "epochs": 9}))
    assert bits("--config c.json --epochs 2", "c")[0] == first


@pytest.mark.usefixtures("place", "quick")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--like nowhere", "nowhere is not there"),
        ("--config nowhere.json", "nowhere.json: No such file or directory"),
        ("--config bad.json", "In bad.json: There is no choice 'epoch'. Did you mean 'epochs'?"),
        ("--resume a --like a", "--resume goes on with what the run was begun with, so it takes no --like"),
        ("digits --like a --features 8", "features"),
    ],
)
def test_the_command_refuses_in_its_own_words(hdnn, line, words):
    Path("bad.json").write_text('{"epoch": 3}')
    hdnn("train double-moons --size 60 --layers 2 --epochs 1 --restarts 1 -o a")
    code, out, err = hdnn(f"train {line}")
    assert (code, out) == (2, "")
    assert words in err
    assert "`" not in err
