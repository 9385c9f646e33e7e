"""Arguments of training that stand in the wrong place, or are of another kind, are told so."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import hdnn
from hdnn.training import Recipe, evaluate, fit, fit_together, outputs

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
SHORT = Recipe(epochs=1)
MODEL = nn.Sequential(hdnn.h2(4, 2, step=0.1), nn.Linear(4, 2))
SAMPLES = TensorDataset(X, Y)
LOADER = DataLoader(SAMPLES, batch_size=5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit(MODEL, X, Y, cross_entropy), r"got the function cross_entropy\. .*Recipe\(epochs=10\), loss\)"),
        (lambda: fit(MODEL, X, Y, nn.CrossEntropyLoss()), r"got CrossEntropyLoss\. .*Recipe\(epochs=10\), loss\)"),
        (lambda: fit(MODEL, X, Y, Recipe, cross_entropy), "got the class Recipe"),
        (lambda: fit(MODEL, X, Y, {"epochs": 1}, cross_entropy), r"got dict\..*`Recipe\(\*\*mapping\)`"),
        (lambda: fit(MODEL, X, Y, 5, cross_entropy), r"got int\. It follows the targets"),
        (lambda: fit(MODEL, LOADER, SHORT, cross_entropy), r"in the place of the targets.*fit\(model, loader, recipe="),
        (lambda: fit(MODEL, LOADER, SHORT), "in the place of the targets"),
        (lambda: fit(MODEL, LOADER), "How to train is said by a recipe"),
        (lambda: fit_together([MODEL], X[None], Y[None], cross_entropy, seeds=[0]), "got the function cross_entropy"),
    ],
)
def test_what_is_no_recipe(call, words):
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss])
def test_a_loss_is_no_class(loss):
    words = rf"`loss` is the class {loss.__name__} .*loss={loss.__name__}\(\)"
    for door in (partial(fit, MODEL, X, Y, SHORT), partial(evaluate, MODEL, X, Y), partial(hdnn.Objective, MODEL)):
        with pytest.raises(TypeError, match=words):
            door(loss=loss)


def test_what_calls_bring_has_names():
    edges = torch.tensor([[0], [1]])
    for door in (
        partial(fit, MODEL, X, Y, SHORT, cross_entropy),
        partial(evaluate, MODEL, X, Y, cross_entropy),
        partial(outputs, MODEL, X),
    ):
        with pytest.raises(TypeError, match=r"`call` names what.*edge_index.*got Tensor"):
            door(call=edges)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda output, y: 1.0, "`score` names what its functions find.*got the function <lambda>"),
        ({"accuracy": 0.5}, "score 'accuracy' must be a function of outputs and targets; got float"),
        ({"accuracy": lambda output, y: output.argmax(-1) == y}, r"'accuracy' must be one number.*shape \(20,\).*mean"),
        ({"accuracy": lambda output, y: None}, "'accuracy' must be one number for all samples; got NoneType"),
    ],
)
def test_scores_have_names_and_find_one_number(score, words):
    with pytest.raises(TypeError, match=words):
        fit(MODEL, X, Y, SHORT, cross_entropy, score=score)
    with pytest.raises(TypeError, match=words):
        evaluate(MODEL, X, Y, cross_entropy, score=score)


def test_a_data_set_of_samples_is_no_loader():
    one, targets = TensorDataset(X[:, :1], X[:, 1:2]), nn.functional.mse_loss  # samples of one number, as long as (1,)
    words = "TensorDataset gives single samples.*DataLoader"
    with pytest.raises(TypeError, match=words):
        fit(nn.Linear(1, 1), one, recipe=SHORT, loss=targets)
    with pytest.raises(TypeError, match=words):
        evaluate(nn.Linear(1, 1), one, loss=targets)
    fit(nn.Linear(1, 1), DataLoader(one, batch_size=None), recipe=SHORT, loss=targets)


@pytest.mark.parametrize("given", [LOADER, SAMPLES])
def test_a_loader_brings_its_targets(given):
    words = rf"A {type(given).__name__} brings its targets itself.*fit\(model, loader, recipe=recipe\)"
    for door in (partial(fit, recipe=SHORT), evaluate):
        with pytest.raises(TypeError, match=words):
            door(MODEL, given, Y, loss=cross_entropy)
