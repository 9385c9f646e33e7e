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
    "sgd": dataclasses.replace(RECIPE, optimizer="sgd", schedule="exponential", smoothness=1e-3),
    "lbfgs": dataclasses.replace(RECIPE, optimizer="lbfgs", learning_rate=1.0),
    "alternating": dataclasses.replace(RECIPE, method="alternating"),
    "patience": dataclasses.replace(RECIPE, epochs=12, learning_rate=0.3, validation_fraction=0.3, patience=2),
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


# Starts

STARTS = dataclasses.replace(RECIPE, restarts=3, restart_epochs=2, restart_learning_rate=0.02)
START_RECIPES = {
    "adam": STARTS,
    "sgd, clipped": dataclasses.replace(STARTS, optimizer="sgd", clip=0.5, smoothness=1e-3),
    "alternating": dataclasses.replace(STARTS, method="alternating", head_epochs=1, head_steps=2),
    "validation": dataclasses.replace(STARTS, optimizer="adamw", validation_fraction=0.3, patience=3),
}


def start_states(recipe, **choices):
    found = []
    network = network_of()
    history = fit(network, X, Y, recipe, start_callbacks=[lambda p: found.append((p, p.state()))], **choices)
    return weights(network), history, found


@pytest.mark.parametrize("name", START_RECIPES)
def test_from_every_step_of_the_starts_on_the_bits_are_those_without_the_pause(name):
    weight = torch.linspace(0.5, 1.5, 60) if name == "adam" else None
    expected, history, found = start_states(START_RECIPES[name], sample_weight=weight)
    steps = len(found)
    assert [progress.iteration for progress, _ in found] == list(range(1, steps + 1))
    for k, (_, state) in enumerate(found):
        again = TrainingState.from_tensors(state.to_tensors())
        assert again.is_starting
        left, ended = [], []
        network = network_of()
        torch.nn.init.ones_(network.flow.weight)
        records = fit(
            network,
            X,
            Y,
            START_RECIPES[name],
            sample_weight=weight,
            resume=again,
            start_callbacks=[left.append],
            callbacks=[lambda progress, ended=ended: ended.append(progress.state())],
        )
        assert len(left) == steps - k - 1
        assert without_times(records) == without_times(history)
        assert_same(weights(network), expected)
        assert ended[-1].starts.is_over
        assert [len(told) for told in ended[-1].starts.history] == [2, 2, 2]


def test_a_state_of_the_starts_belongs_to_its_recipe_network_and_data():
    _, _, [(_, state), *_] = start_states(STARTS)
    other = hdnn.vector_classifier(2, 2, hdnn.h2(4, 5, horizon=1.0), lift="linear")
    for network, recipe, x in [
        (network_of(), dataclasses.replace(STARTS, restarts=1), X),
        (network_of(), dataclasses.replace(STARTS, restarts=4), X),
        (network_of(), dataclasses.replace(STARTS, optimizer="sgd"), X),
        (network_of(), dataclasses.replace(STARTS, batch_size=60), X),
        (other, STARTS, X),
    ]:
        before = weights(network)
        with pytest.raises(ValueError, match=r"belongs? to|it is another|remembers nothing"):
            fit(network, x, Y, recipe, resume=state)
        assert_same(weights(network), before)


def test_tensors_that_are_no_state_of_starts_are_refused():
    good = start_states(STARTS)[2][4][1].to_tensors()
    for name, value in {
        "starts.members": torch.tensor(0),
        "starts.chosen": torch.tensor(3),
        "starts.batches": torch.tensor(-1),
        "starts.orders": good["starts.orders"][:2],
        "starts.losses": good["starts.losses"].float(),
        "starts.history.0.epoch": good["starts.history.0.epoch"][1:],
        "starts.strange": torch.tensor(1),
        "circumstances": torch.zeros(3),
    }.items():
        with pytest.raises(ValueError, match=r"\w \w"):
            TrainingState.from_tensors({**good, name: value})
    for name in good:
        if name.startswith("starts.") and name.count(".") == 1 and name != "starts.native":  # earlier ones have none
            with pytest.raises(ValueError, match="missing or unknown"):
                TrainingState.from_tensors({key: value for key, value in good.items() if key != name})
    broken = TrainingState.from_tensors({**good, "starts.orders": torch.zeros_like(good["starts.orders"])})
    with pytest.raises(ValueError, match="order of the batches"):
        fit(network_of(), X, Y, STARTS, resume=broken)


def test_members_that_train_together_stand_still_too():
    def members():
        return [network_of(), network_of(lift="linear")]

    together = {"x": X.expand(2, *X.shape), "y": Y.expand(2, 60), "recipe": RECIPE, "seeds": [1, 2]}
    found, networks, again = [], members(), members()
    expected = hdnn.fit_together(networks, **together, callbacks=[lambda p: found.append(p.state())])
    histories = hdnn.fit_together(again, **together, resume=found[5])
    for one, other, history, told in zip(networks, again, expected, histories, strict=True):
        assert_same(weights(other), weights(one))
        assert without_times(told) == without_times(history)


# Circumstances


def test_other_circumstances_are_said(monkeypatch):
    _, _, found = states(RECIPE)
    state = found[5][1]
    assert {"hdnn's instruction set", "threads", "PyTorch"} <= state.circumstances.keys()
    monkeypatch.setattr("hdnn.kernels.native.instruction_set", lambda: "another")
    with pytest.warns(UserWarning, match=r"hdnn's instruction set \w+ \(now another\).*last bits") as told:
        fit(network_of(), X, Y, RECIPE, resume=state)
    assert len(told) == 1
    assert told[0].filename == __file__
    fit(network_of(), X, Y, RECIPE, resume=dataclasses.replace(state, circumstances=None))  # of an earlier version
