"""Arguments that were renamed: the old names go on working, with a FutureWarning, and mean what the new ones mean."""

import copy
import dataclasses
import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
from sklearn.base import clone

import hdnn
from hdnn.cli import application
from hdnn.experiments import store
from hdnn.experiments.experiment import Outcome
from hdnn.hub.card import describe
from hdnn.jobs import resume
from hdnn.jobs.choices import given
from hdnn.renames import ESTIMATOR, RECIPE
from hdnn.runs import Run

GOLDEN = Path(__file__).parent / "golden"
OBJECTIVE = {old: RECIPE[old] for old in ("alpha", "alpha_c")}
ESTIMATORS = (hdnn.HamiltonianClassifier, hdnn.HamiltonianRegressor, hdnn.HamiltonianFeatures)


def objective(**options):
    return hdnn.Objective(hdnn.vector_classifier(2, 2, hdnn.h1(4, 2, step=0.1)), **options)


CASES = [
    pytest.param(made, old, new, id=f"{name} {old}")
    for name, made, names in (
        ("Recipe", hdnn.Recipe, RECIPE),
        ("Objective", objective, OBJECTIVE),
        *((kind.__name__, kind, ESTIMATOR) for kind in ESTIMATORS),
    )
    for old, new in names.items()
]


def value_of(name):
    return 7 if name == "n_iter_no_change" else 0.25


@pytest.mark.parametrize(("made", "old", "new"), CASES)
def test_old_names_are_understood_where_something_is_made_and_read(made, old, new):
    with pytest.warns(FutureWarning, match=f"`{old}` is called `{new}` now") as heard:
        thing = made(**{old: value_of(new)})
    assert heard[0].filename == __file__, "the warning shows the caller's line"
    assert getattr(thing, new) == value_of(new)
    with pytest.warns(FutureWarning, match=f"`{old}` is called `{new}` now") as heard:
        assert getattr(thing, old) == value_of(new)
    assert heard[0].filename == __file__


@pytest.mark.parametrize(("made", "old", "new"), CASES)
def test_what_was_pickled_by_an_earlier_version_is_understood(made, old, new):
    thing = made(**{new: value_of(new)})
    names = {new: old}
    state = {names.get(name, name): value for name, value in thing.__getstate__().items()}
    assert old in state
    empty = type(thing).__new__(type(thing))
    empty.__setstate__(state)
    assert getattr(empty, new) == value_of(new)
    assert getattr(pickle.loads(pickle.dumps(thing)), new) == getattr(copy.deepcopy(thing), new) == value_of(new)


def test_replacing_by_an_old_name_changes_the_value():
    recipe = hdnn.Recipe(smoothness=1.0, epochs=3)
    with pytest.warns(FutureWarning, match="smoothness"):
        changed = dataclasses.replace(recipe, alpha=2.0)  # type: ignore[call-arg]
    assert changed == dataclasses.replace(recipe, smoothness=2.0)


@pytest.mark.parametrize(("made", "old", "new"), CASES)
def test_both_names_at_once_are_refused(made, old, new):
    with pytest.raises(TypeError, match=f"`{old}` is what `{new}` was called before; got both"):
        made(**{old: value_of(new), new: value_of(new)})


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_both_names_at_once_are_refused_by_searches_too(kind):
    with pytest.raises(TypeError, match="`alpha` is what `smoothness` was called before"):
        kind().set_params(alpha=0.5, smoothness=0.25)


def test_jobs_know_both_names():
    with pytest.warns(FutureWarning, match="`alpha_c` is called `head_decay` now") as heard:
        assert given({"alpha_c": 0.5, "layers": None}) == {"head_decay": 0.5}
    assert heard[0].filename == __file__
    with pytest.raises(ValueError, match="There is no choice 'nonsense'"):
        given({"nonsense": 1})


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(("old", "new"), ESTIMATOR.items())
def test_searches_and_clones_know_both_names(kind, old, new):
    estimator = kind()
    assert new in estimator.get_params()
    assert old not in estimator.get_params()
    with pytest.warns(FutureWarning, match=f"`{old}` is called `{new}` now"):
        estimator.set_params(**{old: value_of(new)})
    assert clone(estimator).get_params()[new] == value_of(new)
    with pytest.warns(FutureWarning, match=f"`{old}` is called `{new}` now"):
        setattr(estimator, old, None)
    assert getattr(estimator, new) is None
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        estimator.set_params(nonsense=1)


@pytest.mark.usefixtures("quick")
def test_files_with_old_names_are_read_without_a_word(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "format-1-unfinished", folder)
    document = json.loads((folder / "config.json").read_text())
    assert document["recipe"].keys() >= RECIPE.keys()
    recipe = Run.open(folder).config.recipe
    assert recipe.keys() >= set(RECIPE.values())
    assert not recipe.keys() & RECIPE.keys()
    outcome = resume(folder)
    assert recipe["validation_fraction"] == document["recipe"]["validation"] == 0.2
    assert "validation_loss" in outcome.run.read_history()[0]
    assert "validation fraction" in describe(outcome.run.config, {})


def test_results_of_a_laboratory_with_old_names_go_on(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config:
        recipe: hdnn.Recipe

    config = Config(hdnn.Recipe(smoothness=0.5))
    record = store.Record(Outcome({"loss": 1.0}, {}), "", 1.0, 1.0, {})
    store.write(tmp_path, "cell", config, 0, record)
    place = store.path(tmp_path, "cell", 0)
    document = json.loads(place.read_text())
    for old, new in RECIPE.items():
        document["config"]["recipe"][old] = document["config"]["recipe"].pop(new)
    place.write_text(json.dumps(document))
    assert store.read(tmp_path, "cell", config, {}) == {0: record}
    with pytest.raises(ValueError, match=r"recipe\.smoothness was 0\.5, is now 0\.25"):
        store.read(tmp_path, "cell", Config(hdnn.Recipe(smoothness=0.25)), {})


@pytest.mark.usefixtures("quick")
def test_old_options_of_the_command_line_are_understood_and_hidden(hdnn, tmp_path):
    typed = "--alpha 0.125 --alpha-c=0.25 --validation 0.5"
    command = f"train double-moons --size 40 --epochs 1 --restarts 1 {typed} -o"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = hdnn(f"{command} {tmp_path / 'run'}")
    assert code == 0, err
    for old, new in (("--alpha", "--smoothness"), ("--alpha-c", "--head-decay")):
        assert f"Warning: {old} is called {new} now; the old name goes" in err
    assert "Warning: --validation is called --validation-fraction now" in err
    recipe = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert [recipe[name] for name in RECIPE.values()] == [0.125, 0.25, 0.5]
    _, page, _ = hdnn("train --help")
    assert "--alpha" not in page
    assert "--validation " not in page
    assert application.current_name("size") == "size"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train digits --alpha 1 --smoothness 2", "--alpha is what --smoothness was called before; got both. Leave"),
        ("train digits --head-decay=1 --alpha-c=1", "--alpha-c is what --head-decay was called before; got both."),
    ],
)
@pytest.mark.filterwarnings("ignore:`--alpha")
def test_both_names_of_an_option_are_refused(hdnn, line, said):
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert f"Error: {said}" in err


def test_of_one_name_the_last_counts_and_lists_take_all(hdnn):
    line = "train nothere.csv --target y --column a --column b --overwrite --overwrite"
    assert "There is no file nothere.csv" in hdnn(line)[2]
    assert "seed" in hdnn("train digits --seed 3 --seed -1")[2]
    assert hdnn("train --seed 1 --seed 2 --help")[0] == 0
