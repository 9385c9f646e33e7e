"""The native step is the step of PyTorch, for every network and recipe, and says what it cannot be."""

import dataclasses
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.nn import functional

import hdnn
from backend_cases import BACKENDS, F64, RECIPE, X, Y, distance, needs_native, network_of, same, weights
from hdnn.training import Recipe, fit, fit_together, training_backend

pytestmark = needs_native


def drawn(seed):
    """A network, its data and a recipe, by lot."""
    lot = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=lot))]

    outputs, task = pick((2, "classification"), (4, "classification"), (2, "regression"))
    damped = hdnn.StormerVerlet("q", 0.3, learn_damping=True)
    ours = partial(hdnn.h2, integrator=damped), partial(hdnn.h1, integrator=hdnn.RungeKutta4())
    model = pick(hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3, *ours)
    network = network_of(outputs, task=task, lift=pick("linear", "zeros"), seed=seed, model=model, layers=pick(1, 2, 5))
    y = torch.randint(outputs, (61,), generator=lot)
    if task == "regression":
        y = torch.randn(61, outputs, generator=lot, dtype=F64)
    if pick(True, False, False):
        network.flow.bias.requires_grad_(False)
    recipe = Recipe(
        epochs=2,
        batch_size=pick(16, 61, 7),
        optimizer=pick("adam", "adamw", "sgd"),
        learning_rate=0.02,
        schedule=pick("cosine", "exponential", "constant"),
        smoothness=pick(0.0, 0.1),
        head_decay=pick(0.0, 0.1),
        weight_decay=pick(0.0, 0.1),
        label_smoothing=pick(0.0, 0.1) if task == "classification" else 0.0,
        clip=pick(None, 0.1),
        validation_fraction=pick(0.0, 0.25),
        restarts=pick(1, 3) if network.flow.bias.requires_grad else 1,
        restart_epochs=2,
        seed=seed,
    )
    weight = torch.rand(61, generator=lot, dtype=F64) if pick(True, False) else None
    return network, y, dataclasses.replace(recipe, patience=pick(None, 1)), weight


@pytest.mark.parametrize("seed", range(16))
def test_a_training_is_that_of_pytorch(seed):
    found = {}
    for backend in BACKENDS:
        network, y, recipe, weight = drawn(seed)
        history = fit(network, X, y, recipe, sample_weight=weight, backend=backend)
        found[backend] = weights(network), history
    (ours, told), (theirs, expected) = found["native"], found["torch"]
    assert distance(ours, theirs) < 1e-10
    assert len(told) == len(expected)
    for mine, other in zip(told, expected, strict=True):
        assert list(mine) == list(other)
        assert all(mine[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12) for name in mine if name != "seconds")


@pytest.mark.parametrize("seed", range(12))
def test_trainings_together_are_those_of_pytorch(seed):
    found = {}
    for backend in BACKENDS:
        _, y, recipe, weight = drawn(seed)
        recipe = dataclasses.replace(recipe, validation_fraction=0.0, patience=None)
        networks = [drawn(seed)[0] for _ in range(3)]
        for k, network in enumerate(networks):
            torch.nn.init.constant_(network.head.weight, 0.1 * k)
        each = [None if value is None else value.expand(3, *value.shape) for value in (X, y, weight)]
        histories = fit_together(networks, *each[:2], recipe, seeds=[1, 2, 3], sample_weight=each[2], backend=backend)
        found[backend] = [weights(network) for network in networks], histories
    for ours, theirs in zip(found["native"][0], found["torch"][0], strict=True):
        assert distance(ours, theirs) < 1e-10
    for told, expected in zip(found["native"][1], found["torch"][1], strict=True):
        for mine, other in zip(told, expected, strict=True):
            assert list(mine) == list(other)
            assert mine["loss"] == pytest.approx(other["loss"], rel=1e-9)


@pytest.mark.parametrize("layers", [1, 8, 64])
@pytest.mark.parametrize("model", [hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3])
def test_single_precision_is_no_further_than_another_order_of_rows(model, layers):
    x, y = X.float().repeat(8, 1), (X[:, 0] * X[:, 1] > 0).long().repeat(8)
    batches = [(x[k : k + 61], y[k : k + 61]) for k in range(0, len(x), 61)]
    turned = [(x.flip(0), y.flip(0)) for x, y in batches]
    shifted = [(x.roll(7, 0), y.roll(7, 0)) for x, y in batches]

    def trained(given, backend):
        network = network_of(model=model, layers=layers, dtype=torch.float32)
        fit(network, given, recipe=Recipe(epochs=1, learning_rate=0.02), backend=backend)
        return weights(network)

    expected = trained(batches, "torch")
    apart = max(distance(trained(other, "torch"), expected) for other in (turned, shifted))
    assert distance(trained(batches, "native"), expected) <= 10 * apart


def test_together_and_alone_are_the_same_bits():
    y = torch.randint(3, (4, 61))
    alone = [network_of(3, seed=k) for k in range(4)]
    networks = [network_of(3, seed=k) for k in range(4)]
    fit_together(networks, X.expand(4, 61, 3), y, RECIPE, seeds=range(4))
    for k, network in enumerate(alone):
        fit(network, X, y[k], dataclasses.replace(RECIPE, seed=k))
        assert same(weights(networks[k]), weights(network))


# What it serves


class Mine(hdnn.Network):
    """One of a user's own."""


def refusals():
    plain = network_of()
    entropy = functional.cross_entropy
    yield "the user's own", (plain, X, Y, RECIPE, entropy), {}
    yield "penalties", (plain, X, Y, RECIPE), {"penalties": [(0.1, lambda network: network.head.bias.sum())]}
    yield "L-BFGS", (plain, X, Y, Recipe(optimizer="lbfgs")), {}
    yield "alternating", (plain, X, Y, Recipe(method="alternating")), {}
    yield "Mine", (Mine(plain.lift, plain.flow, plain.head, plain.task), X, Y, RECIPE), {}
    yield "eager", (network_of(backend="eager"), X, Y, RECIPE), {}
    yield "integrator", (network_of(integrator=hdnn.ImplicitMidpoint(), backend="eager"), X, Y, RECIPE), {}
    yield "rows", (plain, X[:, :2], Y, RECIPE), {}


@pytest.mark.parametrize(("word", "given", "named"), list(refusals()), ids=[word for word, *_ in refusals()])
def test_what_is_not_served_has_a_reason(word, given, named):
    backend, reason = training_backend(*given, **named)
    assert backend == "torch"
    assert word in reason or word == "integrator"
    network, x, y, *rest = given
    with pytest.raises(ValueError, match='backend="native"'):
        fit(network, x, y, *rest, backend="native", **named)


def test_a_loader_is_served():
    batches = [(X[k : k + 20], Y[k : k + 20], torch.rand(len(Y[k : k + 20]), dtype=F64)) for k in (0, 20, 40, 60)]
    found = {}
    for backend in BACKENDS:
        network = network_of()
        told = fit(network, batches, recipe=RECIPE, backend=backend)
        found[backend] = weights(network), told
    assert distance(found["native"][0], found["torch"][0]) < 1e-10
    assert training_backend(network, batches, None, RECIPE).backend == "native"
    for given in ((X,), {"x": X}):
        assert len(fit(network_of(), [(given, Y)], recipe=RECIPE)) == 3
    for wrong in (X[:, :2], (X, X)):
        with pytest.raises(ValueError, match="rows of 3 numbers"):
            fit(network_of(), [(wrong, Y)], recipe=RECIPE)


def test_what_is_served_has_none():
    assert training_backend(network_of(), X, Y, RECIPE) == ("native", "")
    with pytest.raises(ValueError, match='"auto", "native" or "torch"'):
        fit(network_of(), X, Y, RECIPE, backend="eager")


@pytest.mark.parametrize("watch", ["global", "forward", "shared", "expanded", "overlapping"])
def test_who_looks_on_or_shares_is_left_to_pytorch(watch):
    network, other = network_of(), network_of()
    if watch == "global":
        handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        assert training_backend(network, X, Y, RECIPE).backend == "torch"
        handle.remove()
    if watch == "forward":
        network.lift.forward = lambda x: torch.nn.Linear.forward(network.lift, x)
    if watch == "expanded":
        network.head.weight.data = torch.zeros(1, 1, dtype=F64).expand(1, 4)
    if watch == "overlapping":
        numbers = torch.zeros(5, dtype=F64)
        network.head.weight.data, network.head.bias.data = numbers[:4].view(1, 4), numbers[3:4]
    if watch == "shared":
        other.flow = network.flow
        with pytest.raises(ValueError, match="share"):
            fit_together([network, other], X.expand(2, 61, 3), Y.expand(2, 61), RECIPE, seeds=[1, 2], backend="native")
    elif watch != "global":
        assert training_backend(network, X, Y, RECIPE).backend == "torch"
    assert training_backend(network_of(), X, Y, RECIPE).backend == "native"


@pytest.mark.long
def test_a_plain_training_does_not_import_what_it_does_not_need():
    program = (
        "import sys, torch, hdnn\n"
        "network = hdnn.vector_classifier(2, 2, hdnn.h1(4, 4, step=0.1))\n"
        "x = torch.randn(50, 2)\n"
        "hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=2))\n"
        "print([name for name in ('torch._dynamo', 'sympy', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
