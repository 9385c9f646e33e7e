"""Studies: what is searched, that nothing is lost, that test rows take no part, and that the same comes out again."""

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
from optuna.trial import TrialState
from PIL import Image

from hdnn import files
from hdnn.data import pictures
from hdnn.jobs import Choices, DataSource, Source, as_file, load, searches, studies, train, trials, workers
from hdnn.jobs.choices import network_config
from hdnn.jobs.tuning import _of_images
from hdnn.networks import build_network
from samples import flowers, houses, picture_folder
from study_cases import MOONS, QUICK, told

# What is tried


@pytest.mark.parametrize("frame", [flowers, houses])
def test_every_corner_of_the_space_is_a_network(tmp_path, frame):
    frame().to_csv(tmp_path / "a.csv", index=False)
    source = Source(str(tmp_path / "a.csv"), target=frame().columns[-1])
    dataset = load(source)
    setup = source.setup(dataset)
    space = searches.space(dataset, setup, {})
    assert {"model", "layers", "horizon", "features", "learning_rate", "weight_decay"} <= space.keys()
    assert set(space["model"].choices) == {"ms1", "ms2", "ms3", "h1", "h2"}
    assert searches.beginning(space, setup)["learning_rate"] == setup.recipe.learning_rate
    for model in space["model"].choices:
        for end in ("low", "high"):
            values = {name: getattr(kind, end) for name, kind in space.items() if hasattr(kind, end)}
            chosen = searches.taken(dataset, {}, {**values, "model": model})
            assert (chosen["lift"] == "linear") == (values["features"] < dataset.inputs[0])
            build_network(network_config(dataset, setup, chosen), device="meta")
    first = searches.beginning(space, setup)
    assert all(space[name]._contains(space[name].to_internal_repr(value)) for name, value in first.items())


@pytest.mark.parametrize(
    ("choices", "gone"),
    [
        ({"model": "h1"}, {"model"}),
        ({"layers": 3}, {"layers"}),
        ({"step": 0.1}, {"horizon"}),
        ({"horizon": 0.1}, {"horizon"}),
        ({"features": 6}, {"features"}),
        ({"learning_rate": 0.1}, {"learning_rate"}),
        ({"weight_decay": 0.1}, {"weight_decay"}),
        ({"optimizer": "lbfgs"}, {"learning_rate", "weight_decay"}),
        ({"layers": 0}, {"layers", "horizon"}),
        ({"epochs": 3}, set()),
    ],
)
def test_what_is_chosen_is_not_searched(choices, gone):
    dataset = load(MOONS)
    setup = MOONS.setup(dataset)
    everything = searches.space(dataset, setup, {})
    assert everything.keys() - searches.space(dataset, setup, choices).keys() == gone


def test_only_models_that_fit_what_is_chosen_are_tried():
    dataset = load(MOONS)
    space = searches.space(dataset, MOONS.setup(dataset), {"width": 6})
    assert set(space["model"].choices) == {"h1", "h2"}


def test_the_first_trial_is_the_set_up(search, tmp_path):
    search(1)
    ((params, value, state, _),) = told(tmp_path / "study")
    setup = MOONS.setup(load(MOONS))
    assert state == TrialState.COMPLETE
    assert params["model"] == setup.model
    assert params["layers"] == setup.layers
    assert params["learning_rate"] == setup.recipe.learning_rate
    assert 0 <= value <= 1


# The same again


@pytest.mark.long
def test_a_study_in_one_process_comes_out_again_with_and_without_pauses(search, tmp_path):
    search(12, "one", seed=5)
    search(12, "two", seed=5)
    for number in (1, 11, 12):
        search(number, "pauses", seed=5)
    search(12, "other", seed=6)
    one = told(tmp_path / "one")
    assert one == told(tmp_path / "two") == told(tmp_path / "pauses")
    assert len(one) == 12
    assert len({json.dumps(params) for params, *_ in one}) == 12
    assert [params for params, *_ in one] != [params for params, *_ in told(tmp_path / "other")]


def test_an_interrupted_trial_is_tried_again(search, tmp_path, monkeypatch):
    search(6, "peace")
    scored, calls = trials.scored, []

    def interrupted(*asked):
        calls.append(1)
        if len(calls) in (2, 3):
            raise KeyboardInterrupt
        return scored(*asked)

    monkeypatch.setattr(workers, "scored", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(6)
    found = search(6)
    assert found.trials == 6
    assert told(tmp_path / "study") == told(tmp_path / "peace")


# What decides


class Moons(DataSource):
    """Whose test rows are nonsense where that is asked for."""

    def __init__(self, broken):
        self.broken = broken

    def load(self, progress=None):
        dataset = load(MOONS)
        if self.broken:
            changed = {"x_test": 100 * dataset.x_test[::-1].copy(), "y_test": 1 - dataset.y_test}
            return dataclasses.replace(dataset, **changed)
        return dataset


def test_test_rows_take_no_part(search, tmp_path):
    found = [search(5, name, Moons(broken)) for name, broken in (("a", False), ("b", True))]
    assert told(tmp_path / "a") == told(tmp_path / "b")
    assert found[0].choices == found[1].choices


@pytest.mark.parametrize("frame", [flowers, houses])
def test_rows_held_back_are_not_trained_on_and_the_run_takes_all(search, tmp_path, frame):
    frame().to_csv(tmp_path / "a.csv", index=False)
    source = Source(str(tmp_path / "a.csv"), target=frame().columns[-1])
    dataset = load(source)
    rows = trials.held_back(dataset, 0.25, 3)
    apart, whole = [
        np.sort(np.concatenate([*map(np.ravel, part)]))
        for part in zip(
            *(
                (np.concatenate([rows.fitted[i].numpy(), rows.held[i].numpy()]), (dataset.x_train, dataset.y_train)[i])
                for i in (0, 1)
            ),
            strict=True,
        )
    ]
    assert (apart == whole).all()
    assert len(rows.held[0]) == np.ceil(0.25 * len(dataset.x_train))
    found = search(3, source=source, choices=Choices(epochs=3, validation_fraction=0.25))
    assert found.score == ("accuracy" if dataset.task == "classification" else "r2")
    run = found.outcome.run
    assert run.folder == tmp_path / "study" / f"trial-{found.best}"
    assert found.outcome.metrics["train_rows"] == len(dataset.x_train)
    assert run.config.recipe["validation_fraction"] == source.setup(dataset).recipe.validation_fraction
    assert found.value == max(value for _, value, state, _ in told(tmp_path / "study") if state == TrialState.COMPLETE)
    known = as_file(tmp_path / "study" / "best.json")
    train(source, known.with_choices({}), tmp_path / "again", threads=1)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.folder, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_the_encoding_of_numbers_is_searched_where_a_table_is_read(search, tmp_path):
    flowers().to_csv(tmp_path / "a.csv", index=False)
    source = Source(str(tmp_path / "a.csv"), target="kind")
    found = search(8, source=source, choices=Choices(epochs=2, layers=1), bins=(0, 3, source.bins))
    tried = [params["bins"] for params, *_ in told(tmp_path / "study")]
    assert tried[0] == source.bins
    assert {*tried} <= {0, 3, source.bins}
    assert len({*tried}) > 1
    assert found.outcome.run.config.data["bins"] == found.encoding["bins"]
    known = as_file(tmp_path / "study" / "best.json")
    assert known.data == {"bins": found.encoding["bins"]}
    again = dataclasses.replace(source, **known.data)
    outcome = train(again, known.with_choices({}), tmp_path / "again", threads=1)
    assert outcome.metrics["test_loss"] == found.outcome.metrics["test_loss"]
    assert not search(1, "fixed", source=source, choices=Choices(epochs=2), bins=()).encoding


@pytest.mark.parametrize("weights", [{}, {"class_weight": ("1=3",)}])
def test_a_score_is_that_of_a_training_on_the_other_rows(search, weights):
    source = Moons(False)
    dataset = load(MOONS)
    rows = trials.held_back(dataset, 0.2, 0)
    part = [each.numpy() for each in (*rows.fitted, *rows.held)]
    names = ("x_train", "y_train", "x_test", "y_test")

    class Parts(DataSource):
        def load(self, progress=None):
            return dataclasses.replace(dataset, **dict(zip(names, part, strict=True)))

    found = search(3, source=source, choices=Choices(**QUICK, **weights))
    outcome = train(Parts(), found.choices, found.folder / "own", threads=1)
    assert outcome.metrics["test_accuracy"] == pytest.approx(found.value)


def test_rows_weigh_in_trials_what_their_classes_do():
    rows = trials.held_back(load(MOONS), 0.25, 3, ("1=3",))
    weights = {tuple(rows.weight[rows.fitted[1] == label].unique().tolist()) for label in (0, 1)}
    small, large = sorted(weights)
    assert large[0] / small[0] == pytest.approx(3)
    assert trials.held_back(load(MOONS), 0.25, 3).weight is None


def test_trials_that_others_outdo_are_stopped_early(search, tmp_path):
    found = search(16, choices=Choices(epochs=16, batch_size=8, restarts=1))
    assert found.pruned
    for _, _, state, reports in told(tmp_path / "study"):
        assert (state == TrialState.PRUNED) == (max(reports) < 15)
        assert min(reports) == 1


# What goes wrong


def test_a_trial_that_goes_wrong_is_one_of_them_and_says_why(search, tmp_path, monkeypatch):
    scored, ends = trials.scored, [None, FloatingPointError("loss is nan"), ValueError("no"), MemoryError("1 GiB")]

    def wrong(*asked):
        error = ends.pop(0) if ends else None
        if error:
            raise error
        return scored(*asked)

    monkeypatch.setattr(workers, "scored", wrong)
    heard = []
    found = search(6, announce=heard.append)
    assert (found.trials, found.pruned, found.failed) == (6, 1, 2)
    assert [state.name for _, _, state, _ in told(tmp_path / "study")[:4]] == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert "Trial 1 diverged." in heard
    assert "Trial 2 failed: no" in heard


def test_a_study_without_a_trial_to_its_end_says_why(search, monkeypatch):
    def wrong(*asked):
        raise ValueError("no luck")

    monkeypatch.setattr(workers, "scored", wrong)
    with pytest.raises(ValueError, match=r"No trial of 3 came to its end\. The first ended so: ValueError: no luck"):
        search(3)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"source": Source("double-circles", size=60)}, "data"),
        ({"source": Source("double-moons", size=62)}, "options of the data"),
        ({"choices": Choices(**{**QUICK, "epochs": 5})}, "choices"),
        ({"choices": Choices(**{**QUICK, "layers": 5})}, "choices, values to search"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_study_of_something_else_is_not_gone_on_with(search, tmp_path, other, words):
    search(1)
    before = (tmp_path / "study" / "journal.log").read_bytes()
    with pytest.raises(ValueError, match=f"was begun with other {words}"):
        search(2, **other)
    assert (tmp_path / "study" / "journal.log").read_bytes() == before


def test_a_table_whose_contents_changed_is_other_data_and_one_that_moved_is_not(search, tmp_path):
    frame = flowers()
    for name in ("a.csv", "b.csv"):
        frame.to_csv(tmp_path / name, index=False)
    frame.iloc[:-1].to_csv(tmp_path / "c.csv", index=False)
    sources = {name: Source(str(tmp_path / f"{name}.csv"), target="kind") for name in "abc"}
    search(1, source=sources["a"], choices=Choices(epochs=1))
    assert search(2, source=sources["b"], choices=Choices(epochs=1)).trials == 2
    with pytest.raises(ValueError, match="other data"):
        search(3, source=sources["c"], choices=Choices(epochs=1))
    with pytest.raises(ValueError, match="options of the data"):
        search(3, source=dataclasses.replace(sources["a"], without=("width",)), choices=Choices(epochs=1))


def test_pictures_that_changed_are_other_data_and_those_that_moved_are_not(search, tmp_path):
    folders = [picture_folder(tmp_path / name, count=5) for name in ("a", "b", "c")]
    shutil.copy(tmp_path / "c" / "dark" / "0.png", tmp_path / "c" / "dark" / "1.png")
    sources = [Source(str(folder)) for folder in folders]
    choices = Choices(epochs=1, layers=1, features=4, batch_size=8)
    search(1, source=sources[0], choices=choices)
    assert search(2, source=sources[1], choices=choices).trials == 2
    with pytest.raises(ValueError, match="other data"):
        search(3, source=sources[2], choices=choices)


def test_a_study_that_knows_pictures_by_their_folder_goes_on(search, tmp_path, monkeypatch):
    sources = [Source(str(picture_folder(tmp_path / name, count=5))) for name in ("a", "b")]
    choices = Choices(epochs=1, layers=1, features=4, batch_size=8)
    with monkeypatch.context() as earlier:
        earlier.setattr("hdnn.jobs.tuning._of_images", lambda dataset: sources[0].data)
        search(1, source=sources[0], choices=choices)
    with pytest.raises(ValueError, match="other data"):
        search(2, source=sources[1], choices=choices)
    assert search(2, source=sources[0], choices=choices).trials == 2


def test_pictures_in_files_are_known_without_reading_them_again(tmp_path, monkeypatch):
    folder = picture_folder(tmp_path / "a")
    known = [pictures(folder, in_memory=0)]
    Image.new("RGB", (8, 8)).save(folder / "dark" / "0.png")
    known += [pictures(folder, in_memory=0) for _ in range(2)]
    monkeypatch.delattr("hdnn.data.stored.read_pictures")
    one, other, again = map(_of_images, known)
    assert one != other == again


def test_a_file_system_without_locks_is_named(search, monkeypatch):
    def no_lock(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("hdnn.locks.lock", no_lock)
    with pytest.raises(OSError, match="knows no locks, so processes could not take turns"):
        search(1)


def test_patience_is_counted_on_the_rows_held_back(search, tmp_path):
    search(3, choices=Choices(epochs=40, batch_size=8, restarts=1, patience=2, learning_rate=0.3))
    for _, value, state, reports in told(tmp_path / "study"):
        if state == TrialState.COMPLETE:
            assert value >= max(reports.values())


def test_a_study_that_another_process_begins_at_this_moment_is_no_strange_folder(search, tmp_path):
    (tmp_path / "study").mkdir()
    with files.writing_whole(tmp_path / "study" / "study.json"):
        assert len([*(tmp_path / "study").iterdir()]) == 1
        studies._require_study(tmp_path / "study", None)


def test_folders_of_others_are_left_alone(search, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else than a study \(thesis.tex\)"):
        search(1)
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        search(1, "file")


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", "{"])
def test_a_mark_that_is_none_of_ours_is_named(search, tmp_path, text):
    search(1)
    (tmp_path / "study" / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json is"):
        search(2)


@pytest.mark.parametrize("number", [0, -1, 2.0, True])
def test_trials_are_counted_in_whole_numbers(search, number):
    with pytest.raises(ValueError, match="`trials` must be a whole number, at least 1"):
        search(number)


def test_without_optuna_the_remedy_is_named(search, tmp_path, monkeypatch):
    monkeypatch.setattr("hdnn.jobs.tuning.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hdnn\[tune\]'"):
        search(1)
    assert not (tmp_path / "study").exists()


def test_where_all_is_chosen_nothing_is_searched(search):
    fixed = {"model": "h2", "layers": 2, "step": 0.1, "features": 4, "learning_rate": 0.1, "weight_decay": 0.0}
    with pytest.raises(ValueError, match="chosen already"):
        search(1, choices=Choices(**QUICK, **fixed))
