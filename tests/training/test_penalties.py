"""Penalties are added to the objective, with the right gradients, and do what they are for."""

import math

import pytest
import torch

import hdnn
from hdnn.analysis import log_upper_bound, norms, sensitivities
from hdnn.training import Objective, Recipe, evaluate, fit

F64 = torch.float64


def network_of(model=hdnn.h2, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return hdnn.vector_classifier(2, 2, model(4, 4, horizon=2.0, dtype=F64, init_std=1.0))


def data(rows=200):
    x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def bound(network):
    return log_upper_bound(network.flow)


def size(network):
    return network.flow.weight.square().sum()


def test_the_objective_grows_by_the_weighted_sum():
    network, (x, y) = network_of(), data()
    plain, _ = Objective(network, smoothness=0.1)(x, y)
    penalized, _ = Objective(network, smoothness=0.1, penalties=[(0.3, bound), (2.0, size)])(x, y)
    expected = plain + 0.3 * bound(network) + 2.0 * network.flow.weight.detach().pow(2).sum()
    assert float(penalized.detach()) == pytest.approx(float(expected.detach()), rel=1e-14)


@pytest.mark.parametrize("model", [hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2])
def test_gradients_agree_with_finite_differences(model):
    network, (x, y) = network_of(model), data(20)
    objective = Objective(network, penalties=[(0.7, bound)])
    names = ["network.flow.weight", "network.flow.bias"]
    start = {name: objective.get_parameter(name).detach() for name in names}

    def loss(*values):
        return torch.func.functional_call(objective, dict(zip(names, values, strict=True)), (x, y))[0]

    assert torch.autograd.gradcheck(loss, [value.clone().requires_grad_() for value in start.values()])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=20, batch_size=20, learning_rate=0.03),
        Recipe(epochs=10, batch_size=20, learning_rate=0.03, method="alternating", head_epochs=5),
        Recipe(epochs=20, optimizer="lbfgs", learning_rate=1.0),
    ],
    ids=["joint", "alternating", "lbfgs"],
)
def test_bounding_the_norms_keeps_gradients_from_exploding(recipe):
    x, y = data()
    found = {}
    for factor in (0.0, 0.03):
        network = network_of()
        fit(network, x, y, recipe, penalties=[(factor, bound)] if factor else ())
        largest = norms(sensitivities(network.flow, network.lift(x)))[0].max()
        found[factor] = float(bound(network).detach()), float(largest), evaluate(network, x, y)["accuracy"]
    (free, free_norm, best), (kept, kept_norm, accuracy) = found[0.0], found[0.03]
    assert kept < 0.7 * free
    assert kept_norm < 0.5 * free_norm
    assert accuracy > best - 0.05


def test_records_hold_the_whole_objective():
    network, (x, y) = network_of(), data()
    told = []
    recipe = Recipe(epochs=1, batch_size=len(x))
    expected = math.log(2) + 5.0 * float(size(network).detach())  # the output layer starts at zero
    history = fit(network, x, y, recipe, penalties=[(5.0, size)], callbacks=[told.append])
    assert history[0]["loss"] == pytest.approx(expected) == float(told[0].loss)


@pytest.mark.parametrize(
    ("penalty", "word"),
    [
        ((math.nan, size), r"weight of penalty 0 must be finite; got nan"),
        ((1.0, lambda network: 0.5), r"one number, a tensor without axes; got float"),
        ((1.0, lambda network: network.flow.weight.square()), r"got \(4, 2, 2, 2\)\. Sum it up"),
        ((1.0, lambda network: size(network).detach()), r"depends on no parameter"),
        ((1.0, lambda network: norms(sensitivities(network.flow, torch.zeros(1, 4, dtype=F64))).max()), r"no_grad"),
    ],
)
def test_penalties_that_cannot_be_minimized_are_refused_before_training(penalty, word):
    network, (x, y) = network_of(), data()
    before = network.flow.weight.detach().clone()
    with pytest.raises(ValueError, match=word):
        fit(network, x, y, Recipe(epochs=1), penalties=[penalty])
    assert torch.equal(network.flow.weight, before)
