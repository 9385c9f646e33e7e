"""Training that stands still and goes on: the same bits as without the pause, whatever is trained and however."""

import dataclasses
import math

import pytest
import torch

import hdnn
from hdnn.training import Recipe, TrainingState, fit

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] * X[:, 1] > 0).long()
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05, seed=3, head_epochs=2)
RECIPES = {
    "adam": RECIPE,
    "adamw": dataclasses.replace(RECIPE, optimizer="adamw", weight_decay=0.1, clip=0.5),
    "sgd": dataclasses.replace(RECIPE, optimizer="sgd", schedule="exponential", alpha=1e-3),
    "lbfgs": dataclasses.replace(RECIPE, optimizer="lbfgs", learning_rate=1.0),
    "alternating": dataclasses.replace(RECIPE, method="alternating"),
    "patience": dataclasses.replace(RECIPE, epochs=12, learning_rate=0.3, validation=0.3, patience=2),
}


def network_of(lift="linear", dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return hdnn.vector_classifier(2, 2, hdnn.h2(4, 3, horizon=1.0, dtype=dtype), lift=lift)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def without_times(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def states(recipe, **choices):
    """Weights, history and the state after every step."""
    found = []
    network = network_of()
    history = fit(network, X, Y, recipe, callbacks=[lambda p: found.append((p, p.state()))], **choices)
    return weights(network), history, found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("name", RECIPES)
def test_from_every_step_on_the_bits_are_those_without_the_pause(name):
    expected, history, found = states(RECIPES[name])
    if name == "patience":
        assert len(history) < 12  # else this would not test the end by patience
    for progress, state in found[:: 1 if len(found) < 10 else 3]:
        told = []
        network = network_of(lift="linear")
        torch.nn.init.ones_(network.head.weight)
        tensors = state.to_tensors()
        state = TrainingState.from_tensors({name: tensors[name] for name in sorted(tensors, reverse=True)})
        again = fit(network, X, Y, RECIPES[name], callbacks=[told.append], resume=state)
        assert_same(weights(network), expected)
        assert without_times(again) == without_times(history)
        assert [list(record) for record in again] == [list(record) for record in history]
        assert [p.iteration for p in told] == list(range(progress.iteration + 1, found[-1][0].iteration + 1))


def test_weights_of_samples_and_double_precision_survive_too():
    weight = torch.linspace(0.1, 2, 60)
    expected, _, found = states(RECIPE, sample_weight=weight)
    network = network_of()
    fit(network, X, Y, RECIPE, sample_weight=weight, resume=found[5][1])
    assert_same(weights(network), expected)


def test_a_state_stays_as_it_is_while_training_goes_on():
    _, _, found = states(RECIPE)
    state = found[2][1]
    before = state.to_tensors()
    before = {name: value.clone() for name, value in before.items()}
    fit(network_of(), X, Y, RECIPE, resume=state)
    assert_same(state.to_tensors(), before)
    assert (state.epochs, state.batches) == (0, 3)


def test_a_finished_training_goes_on_to_more_epochs():
    recipe = dataclasses.replace(RECIPE, schedule="constant")
    expected, _, found = states(dataclasses.replace(recipe, epochs=6))
    last = []
    network = network_of()
    fit(network, X, Y, recipe, callbacks=[last.append])
    history = fit(network, X, Y, dataclasses.replace(recipe, epochs=6), resume=last[-1].state())
    assert_same(weights(network), expected)
    assert len(history) == 6
    assert len(found) == 24


def test_where_an_epoch_has_ended_other_data_are_accepted():
    _, _, found = states(RECIPE)
    history = fit(network_of(), X[:31], Y[:31], RECIPE, resume=found[3][1])
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="other data or another recipe"):
        fit(network_of(), X[:20], Y[:20], RECIPE, resume=found[2][1])


def test_a_state_of_another_network_recipe_or_optimizer_is_refused():
    _, _, found = states(RECIPE)
    state = found[3][1]
    small = network_of(lift="zeros")
    before = weights(small)
    for network, recipe, word in [
        (small, RECIPE, "another network: 'lift"),
        (network_of(dtype=torch.float64), RECIPE, "float64"),
        (network_of(), RECIPES["sgd"], "SGD remembers nothing called"),
        (network_of(), RECIPES["lbfgs"], "LBFGS remembers nothing"),
    ]:
        x = X.to(network.head.weight.dtype)
        with pytest.raises(ValueError, match=word):
            fit(network, x, Y, recipe, resume=state)
    assert_same(weights(small), before)


def test_a_progress_of_no_training_has_no_state():
    progress = hdnn.training.Progress(1, 1, 1, 1, torch.zeros(()), None)
    with pytest.raises(ValueError, match="not told by `fit`"):
        progress.state()


# Tensors from elsewhere


def spoilt():
    _, _, found = states(RECIPES["lbfgs"])
    good = found[1][1].to_tensors()
    eleven = good["history.1.loss"].new_zeros(11)
    yield "missing", {name: value for name, value in good.items() if name != "order"}
    yield "unknown", {**good, "more": good["order"]}
    yield "no epoch", {**good, "history.1.loss": eleven}
    yield "history has no axis", {**good, "history.1.loss": eleven[0]}
    yield "order", {**good, "order": good["order"][:-1]}
    yield "order of zeros", {**good, "order": torch.zeros_like(good["order"])}
    yield "count", {**good, "number.0.n_iter": torch.tensor(0.5)}
    yield "counts", {**good, "number.0.n_iter": torch.tensor([1, 2])}
    yield "waited", {**good, "waited": torch.tensor(0.5)}
    yield "losses", {**good, "losses": torch.zeros(2, 2)}
    yield "outputs", {**good, "outputs": torch.zeros(2)}
    yield "weights", {**good, "network.head.bias": torch.zeros(9)}
    yield "kinds", {**good, "network.head.bias": good["network.head.bias"].double()}
    yield "parameter", {**good, "optimizer.1.d": good["optimizer.0.d"]}
    yield "huge parameter", {**good, "optimizer.99999999999999999999.d": good["optimizer.0.d"]}
    yield "shape", {**good, "optimizer.0.d": torch.zeros(3)}
    yield "lists", {name: value for name, value in good.items() if name != "optimizer.0.old_dirs.0"}
    yield "no lists", {name: value for name, value in good.items() if not name.startswith("optimizer.0.ro")}
    yield "no direction", {name: value for name, value in good.items() if name != "optimizer.0.d"}
    tensors = {name: value for name, value in good.items() if name != "optimizer.0.d"}
    yield "number for tensor", {**tensors, "number.0.d": torch.tensor(1.0)}
    one = {name.replace("0.ro.0", "0.ro.1"): value for name, value in good.items()}
    yield "list that starts late", one


def test_tensors_that_are_no_state_are_refused():
    for name, tensors in spoilt():
        try:
            fit(network_of(), X, Y, RECIPES["lbfgs"], resume=TrainingState.from_tensors(tensors))
        except ValueError:  # each in its own words
            continue
        pytest.fail(f"{name} was accepted")


def test_infinite_scores_come_back():
    _, _, found = states(RECIPES["patience"])
    state = found[0][1]
    assert state.best_score == (-math.inf, -math.inf)
    assert TrainingState.from_tensors(state.to_tensors()).best_score == (-math.inf, -math.inf)
