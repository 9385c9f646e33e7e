"""Fitting: what depends on what, when it stops, what callbacks are told, and bad input."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import hdnn
from hdnn.training import Recipe, evaluate, fit, lengths, single, split, steps
from hdnn.training.steps import train_head

F64 = torch.float64


def network_of(seed=0, dtype=torch.float32, regression=False, classes=2, **choices):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = hdnn.h2(4, 3, horizon=1.0, dtype=dtype)
        if regression:
            return hdnn.vector_regressor(2, 1, flow, **choices)
        return hdnn.vector_classifier(2, classes, flow, **choices)


def rings(rows=200, seed=0, dtype=torch.float32):
    """Two rings, one around the other."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % 2
    angle = generator.uniform(0, 2 * np.pi, rows)
    radius = 0.7 + 0.8 * y + generator.normal(0, 0.1, rows)
    x = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    return torch.tensor(x, dtype=dtype), torch.tensor(y)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def result(recipe, network_seed=0, **choices):
    network = network_of(network_seed)
    history = fit(network, *rings(), recipe, **choices)
    return weights(network), [{k: v for k, v in record.items() if k != "seconds"} for record in history]


# What depends on what


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_the_same_seed_gives_the_same_bits(method):
    recipe = Recipe(epochs=3, batch_size=16, method=method, head_epochs=2, validation_fraction=0.2, seed=5)
    first, second = result(recipe), result(recipe)
    assert same(first[0], second[0])
    assert first[1] == second[1]


def test_the_global_generator_neither_matters_nor_moves():
    recipe = Recipe(epochs=2, batch_size=16, validation_fraction=0.25)
    torch.manual_seed(1)
    first = result(recipe)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = result(recipe)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first[0], second[0])


def batches_seen(monkeypatch, recipe, network_seed=0):
    seen, step_of = [], steps.step_of

    def spying(recipe):
        take_step = step_of(recipe)
        return lambda learner, batch: (seen.append(batch.x.clone()), take_step(learner, batch))[1]

    with monkeypatch.context() as patch:
        patch.setattr(steps, "step_of", spying)
        fit(network_of(network_seed), *rings(), recipe, backend="torch")
    return seen


def test_the_order_of_samples_depends_on_the_seed_alone(monkeypatch):
    first = batches_seen(monkeypatch, Recipe(epochs=2, batch_size=32, seed=1))
    others = batches_seen(monkeypatch, Recipe(epochs=2, batch_size=32, seed=1, learning_rate=0.3), network_seed=9)
    reseeded = batches_seen(monkeypatch, Recipe(epochs=2, batch_size=32, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first, others, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, reseeded, strict=True))
    # An epoch sees every sample once, and two epochs see them in different order.
    x = rings()[0]
    one, two = torch.cat(first[:7]), torch.cat(first[7:])
    assert not torch.equal(one, two)
    for epoch in (one, two):
        assert torch.equal(epoch[epoch[:, 0].argsort()], x[x[:, 0].argsort()])
    assert [len(batch) for batch in first[:7]] == [32] * 6 + [8]


def test_lbfgs_takes_all_samples_at_once(monkeypatch):
    seen = batches_seen(monkeypatch, Recipe(epochs=2, batch_size=8, optimizer="lbfgs", learning_rate=1.0))
    assert [len(batch) for batch in seen] == [200, 200]


# It learns


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.05), ("adamw", 0.05), ("sgd", 0.1), ("lbfgs", 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_every_optimizer_lowers_the_loss(optimizer, rate, dtype):
    network, (x, _) = network_of(dtype=dtype), rings(dtype=dtype)
    y = (x[:, 0] > x[:, 1]).long()
    before = evaluate(network, x, y)["loss"]
    fit(network, x, y, Recipe(epochs=15, batch_size=20, optimizer=optimizer, learning_rate=rate))
    assert evaluate(network, x, y)["loss"] < 0.6 * before
    assert {p.dtype for p in network.parameters()} == {dtype}


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_two_rings_are_told_apart(schedule):
    network, (x, y) = network_of(), rings(400)
    fit(network, x, y, Recipe(epochs=40, batch_size=20, learning_rate=0.05, decay=0.97, schedule=schedule))
    fresh = rings(400, seed=1)
    assert evaluate(network, *fresh)["accuracy"] > 0.97


def test_the_alternating_method_tells_them_apart_too():
    network, (x, y) = network_of(lift="linear"), rings(400)
    lifted = network.lift.weight.detach().clone()
    fit(network, x, y, Recipe(epochs=20, batch_size=50, learning_rate=0.05, method="alternating"))
    assert evaluate(network, *rings(400, seed=1))["accuracy"] > 0.97
    assert not torch.equal(network.lift.weight, lifted)


def test_regression_learns_a_line():
    network = network_of(regression=True)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] - 0.5 * x[:, 1:]
    history = fit(network, x, y, Recipe(epochs=40, batch_size=20, learning_rate=0.05, validation_fraction=0.2))
    assert history[-1]["validation_error"] < 0.1
    assert {"train_error", "validation_error"} < history[-1].keys()


def test_weight_decay_shrinks_weights():
    norms = []
    for decay in (0.0, 0.5):
        network = network_of()
        recipe = Recipe(epochs=10, batch_size=20, optimizer="adamw", learning_rate=0.05, weight_decay=decay)
        fit(network, *rings(), recipe)
        norms.append(float(sum(p.detach().square().sum() for p in network.parameters())))
    assert norms[1] < norms[0]


# The paper's alternating method


def test_the_last_head_is_trained_after_the_last_epoch_and_the_flow_then_rests(monkeypatch):
    flows = []

    def spy(learner, source, generators, *, stacked):
        flows.append(weights(learner.objective.network.flow))
        assert learner.recipe.head_epochs == 50
        train_head(learner, source, generators, stacked=stacked)

    monkeypatch.setattr(lengths, "train_head", spy)
    network = network_of()
    fit(network, *rings(100), Recipe(epochs=2, batch_size=25, method="alternating"))
    assert len(flows) == 1
    assert same(flows[0], weights(network.flow))


# Validation and early stopping


def test_the_split_is_stratified_and_whole():
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    train, held = split(y, 0.2, seed=3, stratify=True)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(100))
    assert y[held].bincount().tolist() == [12, 6, 2]
    again, other = split(y, 0.2, 3, stratify=True), split(y, 0.2, 4, stratify=True)
    assert torch.equal(again[1], held)
    assert not torch.equal(other[1], held)


@pytest.mark.parametrize("y", [[0, 0, 0, 0, 1], [0, 1, 2, 3] * 2, [0, 2] * 5])
def test_a_split_that_cannot_be_stratified_is_made_all_the_same(y):
    train, held = split(torch.tensor(y), 0.2, seed=0, stratify=True)
    assert len(held) == math.ceil(0.2 * len(y))
    assert len(train) + len(held) == len(y)


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"2 rows, `validation_fraction=0\.9` leaves none"):
        split(torch.tensor([0, 1]), 0.9, seed=0, stratify=True)


def test_held_out_rows_are_watched_and_never_trained_on(monkeypatch):
    x, y = rings()
    recipe = Recipe(epochs=2, batch_size=16, validation_fraction=0.25, seed=3)
    _, held = split(y, 0.25, 3, stratify=True)
    seen = torch.cat(batches_seen(monkeypatch, recipe))
    assert not (seen[:, None] == x[held]).all(-1).any()
    assert len(seen) == 2 * 150
    network = network_of()
    history = fit(network, x, y, recipe)
    found = evaluate(network, x[held], y[held])
    assert history[-1]["validation_accuracy"] == found["accuracy"]
    assert history[-1]["validation_loss"] == pytest.approx(found["loss"])


def test_validation_data_may_be_given():
    x, y = rings()
    fresh = rings(50, seed=7)
    network = network_of()
    history = fit(network, x, y, Recipe(epochs=2, batch_size=16, validation_fraction=0.25), validation=fresh)
    assert history[-1]["validation_loss"] == pytest.approx(evaluate(network, *fresh)["loss"])


def scripted(monkeypatch, scores):
    """Validation scores as if they came out so; the weights at each epoch are noted."""
    noted = []
    replies = iter(scores)

    def pretend(network, x, y, *_, **__):
        noted.append(weights(network))
        accuracy, loss = next(replies)
        return {"loss": loss, "accuracy": accuracy}

    monkeypatch.setattr(single, "evaluated", pretend)
    return noted


@pytest.mark.parametrize(
    ("scores", "stopped", "best"),
    [
        ([(0.5, 1.0), (0.7, 1.0), (0.6, 0.5), (0.6, 0.1), (0.9, 0.1)], 4, 2),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.5, 0.8), (0.4, 0.1), (0.5, 0.85), (0.9, 0)], 6, 4),
        ([(0.5, 1.0), (0.6, 1.0), (0.7, 1.0), (0.8, 1.0), (0.75, 1.0), (0.9, 1.0), (0.8, 1), (0.8, 1)], 8, 6),
        ([(0.5, 1.0), (0.5, math.nan), (0.4, math.nan)], 3, 1),
    ],
)
def test_early_stopping_brings_the_best_weights_back(monkeypatch, scores, stopped, best):
    noted = scripted(monkeypatch, scores)
    network = network_of()
    history = fit(network, *rings(), Recipe(epochs=len(scores), batch_size=16, validation_fraction=0.2, patience=2))
    assert len(history) == stopped
    assert same(weights(network), noted[best - 1])
    assert not same(noted[best - 1], noted[best % stopped])


def test_where_nothing_is_held_back_patience_watches_the_objective():
    network, recipe = network_of(), Recipe(epochs=60, batch_size=16, learning_rate=1.0, schedule="constant", patience=2)
    losses = [record["loss"] for record in fit(network, *rings(), recipe)]
    assert 3 <= len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 3
    whole = network_of()
    fit(whole, *rings(), dataclasses.replace(recipe, epochs=len(losses) - 2, patience=None))
    assert same(weights(network), weights(whole))


def test_without_patience_the_last_weights_stay(monkeypatch):
    noted = scripted(monkeypatch, [(0.9, 0.1), (0.1, 5.0), (0.1, 9.0)])
    network = network_of()
    history = fit(network, *rings(), Recipe(epochs=3, batch_size=16, validation_fraction=0.2))
    assert len(history) == 3
    assert same(weights(network), noted[2])


# Records and callbacks


def test_callbacks_are_told_once_a_step_and_the_record_comes_with_the_last():
    told, also = [], []
    x, y = rings(100)
    history = fit(network_of(), x, y, Recipe(epochs=3, batch_size=30), callbacks=(told.append, also.append))
    assert [(p.epoch, p.batch) for p in told] == [(e, b) for e in (1, 2, 3) for b in (1, 2, 3, 4)]
    assert told == also
    assert {(p.epochs, p.batches) for p in told} == {(3, 4)}
    assert all((p.record is not None) == (p.batch == 4) for p in told)
    assert [p.record for p in told if p.record] == history
    assert all(p.loss.dim() == 0 and not p.loss.requires_grad for p in told)


def test_a_record_holds_means_over_the_samples_of_the_epoch():
    told = []
    x, y = rings(100)
    recipe = Recipe(epochs=2, batch_size=30, learning_rate=0.03, schedule="exponential", decay=0.5)
    history = fit(network_of(), x, y, recipe, callbacks=[told.append])
    losses = [float(p.loss) for p in told[:4]]
    assert history[0]["loss"] == pytest.approx(np.average(losses, weights=[30, 30, 30, 10]))
    assert [record["epoch"] for record in history] == [1.0, 2.0]
    assert [record["learning_rate"] for record in history] == pytest.approx([0.03, 0.015])
    for record in history:
        assert set(record) == {"epoch", "loss", "learning_rate", "train_accuracy", "seconds"}
        assert all(type(value) is float for value in record.values())
        assert round(100 * record["train_accuracy"], 9) in range(101)
        assert record["seconds"] > 0


def test_an_exception_of_a_callback_ends_training_and_leaves_usable_weights():
    network, (x, y) = network_of(), rings()

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    before = weights(network)
    with pytest.raises(KeyboardInterrupt):
        fit(network, x, y, Recipe(epochs=5, batch_size=16), callbacks=[stop])
    assert not same(before, weights(network))
    assert math.isfinite(evaluate(network, x, y)["loss"])


# Bad input


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "got 0 and 0"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), "got 3 and 4"),
        (torch.zeros(3, 2, dtype=F64), torch.zeros(3, dtype=torch.int64), "float64"),
        (torch.zeros(3, 2), torch.zeros(3), "class indices"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64), "class indices"),
        (torch.zeros(3, 2), torch.tensor([1, 2, 1]), "from 0 to 1; got 1 to 2"),
        (torch.zeros(3, 2), torch.tensor([-1, 1, 1]), "from 0 to 1; got -1 to 1"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]), r"\(\.\.\., 2\); got \(4, 3\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(x, y, word):
    network = network_of()
    before = weights(network)
    with pytest.raises(ValueError, match=word):
        fit(network, x, y, Recipe(epochs=1))
    assert same(before, weights(network))


@pytest.mark.parametrize("y", [torch.zeros(5), torch.zeros(5, 2), torch.zeros(5, 1, dtype=F64)])
def test_regression_targets_have_one_number_an_output(y):
    with pytest.raises(ValueError, match=r"\(5, 1\)"):
        fit(network_of(regression=True), torch.zeros(5, 2), y, Recipe(epochs=1))


def test_validation_data_are_checked_too():
    with pytest.raises(ValueError, match="class indices"):
        fit(network_of(), *rings(), Recipe(epochs=1), validation=(torch.zeros(3, 2), torch.zeros(3)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_stop_training_with_a_remedy(value):
    x, y = rings()
    x[3, 1] = value
    with pytest.raises(FloatingPointError, match=r"objective .* epoch 1.*smaller learning rate.*clip.*inputs"):
        fit(network_of(), x, y, Recipe(epochs=3, batch_size=16))


def test_divergence_in_the_very_last_step_is_found():
    class Overflow(nn.Module):
        """Its gradient is infinite where its value is not."""

        features, kernel_size = 2, None

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, y):
            return y + torch.sqrt(self.weight)

    flow = Overflow()
    network = hdnn.Network(nn.Identity(), flow, nn.Linear(2, 1), "classification")
    with pytest.raises(FloatingPointError, match="weights"):
        fit(network, *rings(16), Recipe(epochs=1, batch_size=16))
