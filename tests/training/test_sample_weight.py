"""Weights of samples: against repeated and left-out samples, and sums written out."""

import pytest
import torch
from torch.nn import functional

import hdnn
from hdnn.training import Objective, Recipe, fit, split

F64 = torch.float64
X = torch.randn(24, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
W = torch.arange(24) % 4
FULL = Recipe(epochs=4, batch_size=1000, learning_rate=0.05, smoothness=1e-3, head_decay=1e-3)


def case(kind):
    torch.manual_seed(0)
    flow = hdnn.h2(4, 3, step=0.3, dtype=F64)
    if kind == "regression":
        return hdnn.vector_regressor(2, 2, flow), torch.stack([X[:, 0], X.sum(1)], 1)
    return hdnn.vector_classifier(2, int(kind), flow), torch.arange(24) % int(kind)


@pytest.mark.parametrize("kind", ["2", "3", "regression"])
def test_the_loss_is_the_weighted_mean(kind):
    network, y = case(kind)
    torch.nn.init.normal_(network.head.weight)
    out = network(X).detach()
    if kind == "regression":
        each = ((out - y) ** 2).mean(1)
    elif kind == "3":
        each = -functional.log_softmax(out, 1)[torch.arange(24), y]
    else:
        each = functional.softplus(torch.where(y == 1, -out[:, 0], out[:, 0]))
    w = W.to(F64)
    objective = Objective(network)
    torch.testing.assert_close(objective.data_loss(out, y, w), (w * each).sum() / w.sum())
    torch.testing.assert_close(objective.data_loss(out, y, torch.ones_like(w)), objective.data_loss(out, y))
    assert float(objective.data_loss(out, y, 0 * w)) == 0


@pytest.mark.parametrize("method", ["joint", "alternating"])
@pytest.mark.parametrize("kind", ["2", "3", "regression"])
def test_in_full_batches_a_weight_is_a_number_of_repetitions_in_any_unit(kind, method):
    recipe = Recipe(**{**vars(FULL), "method": method, "head_epochs": 3})
    found = []
    repeated, w = torch.arange(24).repeat_interleave(W), W.to(F64)
    for rows, weight in ((repeated, None), (slice(None), w), (slice(None), w * 1e-300)):
        network, y = case(kind)
        fit(network, X[rows], y[rows], recipe, sample_weight=weight)
        found.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[1], found[2])


def test_weights_stay_with_their_samples_in_batches_and_splits():
    # Of class 1 all held back or weightless: what is learned does not depend on what those samples say.
    recipe = Recipe(epochs=3, batch_size=5, validation_fraction=0.25, seed=2)
    _, y = case("2")
    train, _ = split(y, 0.25, 2, stratify=True)
    weight = torch.ones(24, dtype=F64)
    weight[train[:6]] = 0
    spoilt = X.clone()
    spoilt[train[:6]] += 100
    found = []
    for x in (X, spoilt):
        network, _ = case("2")
        fit(network, x, y, recipe, sample_weight=weight)
        found.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("weight", "word"),
    [
        (torch.ones(23), r"shape \(24,\).*got \(23,\)"),
        (torch.ones(24, 1), r"got \(24, 1\)"),
        (-torch.ones(24), "not negative; got -1 to -1"),
        (torch.full((24,), float("nan")), "finite"),
        (torch.full((24,), float("inf")), "finite"),
        (torch.zeros(24), "weight 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weight, word):
    network, y = case("2")
    with pytest.raises(ValueError, match=word):
        fit(network, X, y, FULL, sample_weight=weight)
