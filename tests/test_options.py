"""The list of options is the one list: what checks itself by it, and what offers it, names nothing else."""

import dataclasses
import inspect
import math
import re
from typing import get_args

import numpy as np
import pytest
import torch
import typer

import hdnn
from families import PRESETS
from hdnn import options, presets
from hdnn.activations import ACTIVATIONS
from hdnn.cli import application
from hdnn.integrators import INTEGRATORS, Splitting
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.jobs import Choices, Source, untrained
from hdnn.jobs.choices import given
from hdnn.networks import NetworkConfig, build_network
from hdnn.training import Recipe

COMMANDS = typer.main.get_command(application.app).commands
LISTS = (options.NetworkOptions, options.RecipeOptions, options.SourceChoices)
ESTIMATORS = (hdnn.HamiltonianClassifier, hdnn.HamiltonianRegressor, hdnn.HamiltonianFeatures)


def names(choices):
    return {entry.name for entry in options.entries(choices)}


def fields(kind):
    return {field.name for field in dataclasses.fields(kind)}


def test_what_keeps_to_the_list_has_its_names():
    assert fields(Recipe) == names(options.RecipeOptions)
    assert fields(NetworkConfig) - names(options.NetworkOptions) == {"task", "inputs"}
    assert names(options.NetworkOptions) - fields(NetworkConfig) == {"horizon", "init_std"}  # h = T / N, and not of it
    assert fields(Source) - names(options.SourceChoices) == {"data", "seed"}
    assert names(Choices) == names(options.NetworkChoices) | names(options.TrainingChoices) | names(options.RunChoices)
    known = inspect.signature(hdnn.Flow).parameters
    assert set(presets.Options.__annotations__) <= known.keys()


def test_commands_offer_the_whole_list():
    offered = {each.name: each.opts[0] for each in COMMANDS["train"].params}
    assert offered.keys() >= names(Choices) | names(options.SourceChoices)
    assert (offered["columns"], offered["folder"]) == ("--column", "--data-folder")
    assert {each.name for each in COMMANDS["analyze"].params} >= names(options.FlowChoices) | {"model"}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_estimators_take_it_but_for_what_tables_decide(kind):
    missing = names(Choices) - kind().get_params().keys()
    assert ("class_weight" in missing) == (kind is not hdnn.HamiltonianClassifier)
    left_to_tables = {"step", "method", "patience", "restarts", "augment", "average", "precision"}
    of_images = {"units", "channels", "normalization"}
    assert missing - {"label_smoothing", "class_weight", "folds", "seeds"} == left_to_tables | of_images
    assert ("label_smoothing" in missing) == (kind is hdnn.HamiltonianRegressor)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_help_on_presets_shows_every_keyword(preset):
    shown = inspect.signature(preset).parameters
    assert {"features", "layers", "integrator", *presets.Options.__annotations__} <= shown.keys()
    assert all(each.kind is not each.VAR_KEYWORD for each in shown.values())
    assert shown["activation"].default is hdnn.tanh
    with pytest.raises(TypeError, match=r"`stepp`\. Did you mean 'step'"):
        preset(4, 2, stepp=0.1)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("model", PRESETS),
        ("activation", ACTIVATIONS),
        ("interconnection", INTERCONNECTIONS),
        ("integrator", INTEGRATORS),
    ],
)
def test_sentences_name_all_that_there_is(name, known):
    (entry,) = [entry for entry in options.entries(options.NetworkChoices) if entry.name == name]
    assert set(known) <= set(re.findall(r"\w+", entry.option.text))
    with pytest.raises(ValueError, match=f"There is no {name} 'nonsense'"):
        NetworkConfig(
            "classification", (2,), 2, **{"model": "h2", "features": 4, "layers": 1, "step": 0.1, name: "nonsense"}
        )


@pytest.mark.parametrize("choices", LISTS)
def test_every_bound_is_kept_and_named(choices):
    for name, kind, optional, option in options.entries(choices):
        options.check(choices, {} if not optional else {name: None})
        bad = {option.least - 1, option.above, option.below, 2 * option.most} - {None, math.inf, -math.inf}
        if option.must:
            bad |= {math.nan, "x", True}
        if not optional and (option.must or kind in map(type, get_args(kind))):
            bad.add(None)
        for value in bad:
            with pytest.raises(ValueError, match=f"`{name}`"):
                options.check(choices, {name: value})
        assert option.text.endswith(".")


def test_numbers_of_any_kind_become_plain():
    found = options.plain(
        options.TrainingChoices, {"epochs": np.int64(3), "clip": None, "learning_rate": np.float32(0.5)}
    )
    assert found == {"epochs": 3, "learning_rate": 0.5, "clip": None}
    assert [type(found[name]) for name in ("epochs", "learning_rate")] == [int, float]
    with pytest.raises(TypeError, match="`epochs` must be a whole number"):
        options.plain(options.TrainingChoices, {"epochs": 2.5})


# The integrator, through every door.


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize("model", PRESETS)
def test_an_integrator_by_name_goes_where_it_fits(model, name):
    own = PRESETS[model](4, 2, step=0.1)
    if INTEGRATORS[name].separable_only and not own.hamiltonian.separable:
        with pytest.raises(ValueError, match="neither half may drive itself"):
            PRESETS[model](4, 2, step=0.1, integrator=name)
        return
    flow = PRESETS[model](4, 2, step=0.1, integrator=name)
    assert type(flow.integrator) is type(INTEGRATORS[name])
    if isinstance(flow.integrator, Splitting):
        assert flow.integrator.first == ("q" if model == "ms1" else "p")
    config = NetworkConfig("classification", (2,), 2, model, 4, 2, 0.1, integrator=name)
    assert build_network(config, device="meta").flow.integrator == flow.integrator
    assert untrained(model, layers=2, samples=1, integrator=name).flow.integrator == flow.integrator


@pytest.mark.parametrize("model", PRESETS)
def test_without_one_a_model_has_its_own(model):
    config = NetworkConfig("classification", (2,), 2, model, 4, 2, 0.1)
    assert build_network(config, device="meta").flow.integrator == PRESETS[model](4, 2, step=0.1).integrator


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_estimators_hand_the_integrator_on(kind):
    X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).numpy()
    fitted = kind(epochs=1, integrator="yoshida4", random_state=0).fit(X, X[:, 0] > 0)
    assert fitted.network_.flow.integrator == hdnn.Yoshida4()


@pytest.mark.usefixtures("quick")
def test_the_command_line_hands_the_integrator_on(hdnn, tmp_path):
    line = "train double-moons --size 40 --model h2 --layers 2 --epochs 1 --restarts 1 --integrator suzuki4 -o"
    code, _, err = hdnn(f"{line} {tmp_path / 'run'}")
    assert code == 0, err
    assert "suzuki4" in err
    code, _, err = hdnn(f"evaluate {tmp_path / 'run'}")
    assert code == 0, err
    code, _, err = hdnn(f"train double-moons --size 40 --model h1 --integrator suzuki4 -o {tmp_path / 'other'}")
    assert code == 2
    assert "--model h2" in err
    assert not (tmp_path / "other").exists()


def test_a_number_in_quotes_is_named_as_text():
    with pytest.raises(ValueError, match=r"`learning_rate` must be positive and finite; got '0\.1', which is text"):
        hdnn.Recipe(learning_rate="0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.bool_(True), 1, np.int64(1)])
def test_truths_of_numpy_and_one_are_true_and_become_those_of_python(value, tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n")
    table = Source(str(tmp_path / "a.csv"), target="column2", no_header=value)
    config = NetworkConfig("classification", (2,), 2, "h2", 4, 2, 0.1, shared=value)
    recipe = Recipe(refit=value, validation_fraction=0.5)
    found = [table.no_header, config.shared, recipe.refit, Source("mnist", download=value).download]
    found += [given({"shared": value})["shared"], hdnn.h2(4, 2, step=0.1, shared=value).shared]
    assert all(each is True for each in found)
    assert build_network(config).flow.shared
    flow = hdnn.h2(4, 2, step=0.1, unit_weights=2.0, learn_unit_weights=value)
    assert flow.unit_weight.requires_grad


@pytest.mark.parametrize("value", ["no", 2, 1.0, (), np.ones(1, bool)])
def test_other_things_are_no_truths(value):
    with pytest.raises(ValueError, match="`shared` must be true or false"):
        NetworkConfig("classification", (2,), 2, "h2", 4, 2, 0.1, shared=value)
    with pytest.raises(TypeError, match="`shared` must be True or False"):
        hdnn.h2(4, 2, step=0.1, shared=value)
