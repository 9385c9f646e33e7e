"""Networks of images train by native steps as by PyTorch: the convolution, the flow of pixels, the head over all."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import hdnn
from backend_cases import BACKENDS, F64, distance, needs_native, same, weights
from hdnn.training import Recipe, TrainingState, fit, fit_together, training_backend
from native_cases import SETS, instruction_set, threads

pytestmark = needs_native

RECIPE = Recipe(epochs=2, batch_size=9, learning_rate=0.05, smoothness=0.1, head_decay=0.1, seed=3)
MODELS = (hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3)


def network_of(shape=(1, 5, 7), outputs=3, *, seed=1, dtype=F64, model=hdnn.h1, n=4, layers=3, **choices):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = model(n, layers, horizon=1.0, kernel_size=1, dtype=dtype, **choices)
        network = hdnn.image_classifier(shape[0], shape[1:], outputs, flow)
        nn.init.normal_(network.head.weight, std=0.1)
        return network


def data_of(shape=(1, 5, 7), outputs=3, rows=31, dtype=F64):
    lot = torch.Generator().manual_seed(0)
    return torch.randn(rows, *shape, generator=lot, dtype=dtype), torch.randint(outputs, (rows,), generator=lot)


def drawn(seed):
    """A network of images, its data and a recipe, by lot."""
    lot = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=lot))]

    shape = (pick(1, 2, 3), pick(1, 4, 7), pick(1, 5, 16))
    outputs, n = pick(2, 3, 11), pick(2, 4, 6, 8)
    choices = (
        {"interconnection": hdnn.upper_ones(n)} if (model := pick(*MODELS)) is hdnn.h1 and pick(True, False) else {}
    )
    network = network_of(shape, outputs, seed=seed, model=model, n=n, layers=pick(1, 3), **choices)
    if outputs == 11:  # as many numbers
        network.task = "regression"
    if pick(True, False, False):
        network.lift.requires_grad_(False)
    x, y = data_of(shape, outputs)
    if network.task == "regression":
        y = torch.randn(len(x), outputs, generator=lot, dtype=F64)
    recipe = Recipe(
        epochs=2,
        batch_size=pick(9, 31, 4),
        optimizer=pick("adam", "adamw", "sgd"),
        learning_rate=0.02,
        smoothness=pick(0.0, 0.1),
        head_decay=pick(0.0, 0.1),
        weight_decay=pick(0.0, 0.1),
        label_smoothing=pick(0.0, 0.1) if network.task == "classification" else 0.0,
        clip=pick(None, 0.1),
        validation_fraction=pick(0.0, 0.25),
        seed=seed,
    )
    return network, x, y, recipe, torch.rand(len(x), generator=lot, dtype=F64) if pick(True, False) else None


@pytest.mark.parametrize("seed", range(24))
def test_a_training_is_that_of_pytorch(seed):
    found = {}
    for backend in BACKENDS:
        network, x, y, recipe, weight = drawn(seed)
        found[backend] = fit(network, x, y, recipe, sample_weight=weight, backend=backend), weights(network)
    (told, ours), (expected, theirs) = found["native"], found["torch"]
    assert distance(ours, theirs) < 1e-10
    for mine, other in zip(told, expected, strict=True):
        assert list(mine) == list(other)
        assert all(mine[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12) for name in mine if name != "seconds")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_all_instruction_sets_train(name, dtype):
    shape = (2, 9, 28)
    x, y = data_of(shape, rows=20, dtype=dtype)
    expected, ours = network_of(shape, dtype=dtype), network_of(shape, dtype=dtype)
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=20, optimizer="sgd")
    fit(expected, x, y, recipe, backend="torch")
    with instruction_set(name):
        fit(ours, x, y, recipe, backend="native")
    assert distance(weights(ours), weights(expected)) < (1e-12 if dtype is F64 else 1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_is_no_further_than_another_order_of_images(model):
    x, y = data_of((1, 8, 8), rows=60, dtype=torch.float32)

    def trained(x, y, backend):
        network = network_of((1, 8, 8), model=model, dtype=torch.float32)
        fit(network, [(x[:30], y[:30]), (x[30:], y[30:])], recipe=Recipe(epochs=4, learning_rate=0.02), backend=backend)
        return weights(network)

    other = torch.cat((torch.arange(29, -1, -1), torch.arange(59, 29, -1)))
    expected = trained(x, y, "torch")
    apart = distance(trained(x[other], y[other], "torch"), expected)
    assert distance(trained(x, y, "native"), expected) <= 10 * apart


def test_together_alone_and_at_any_number_of_threads_the_bits_are_the_same():
    shape = (1, 28, 28)
    x, y = data_of(shape, rows=40, dtype=torch.float32)
    alone = [network_of(shape, seed=k, n=8, dtype=torch.float32) for k in range(2)]
    side, wide = copy.deepcopy(alone), copy.deepcopy(alone)
    for k, network in enumerate(alone):
        with threads(1):
            fit(network, x, y, dataclasses.replace(RECIPE, batch_size=40, seed=k))
        with threads(2):
            fit(wide[k], x, y, dataclasses.replace(RECIPE, batch_size=40, seed=k))
    recipe = dataclasses.replace(RECIPE, batch_size=40)
    fit_together(side, x.expand(2, *x.shape), y.expand(2, -1), recipe, seeds=range(2), backend="native")
    for networks in (side, wide):
        assert all(same(weights(a), weights(b)) for a, b in zip(networks, alone, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_goes_on_with_the_same_bits(backend):
    x, y = data_of()
    states, expected = [], network_of()

    def keep(progress):
        states.append(TrainingState.from_tensors(progress.state().to_tensors()))

    fit(expected, x, y, RECIPE, callbacks=[keep], backend=backend)
    for state in states[:-1]:
        network = network_of(seed=2)
        fit(network, x, y, RECIPE, resume=state)
        assert state.backend == backend
        assert same(weights(network), weights(expected))


def test_images_of_a_loader_and_in_other_layouts_are_read():
    x, y = data_of((2, 4, 6))
    found = []
    for given, backend in (
        (x, "torch"),
        (x, "native"),
        (x.contiguous(memory_format=torch.channels_last), "native"),
        (x.transpose(2, 3).contiguous().transpose(2, 3), "native"),
    ):
        network = network_of((2, 4, 6))
        fit(network, [(given[:20], y[:20]), (given[20:], y[20:])], recipe=RECIPE, backend=backend)
        whole = network_of((2, 4, 6))
        fit(whole, given, y, RECIPE, backend=backend)
        found.append((weights(network), weights(whole)))
    for ours in found[1:]:
        assert max(map(distance, ours, found[0])) < 1e-12
    with pytest.raises(ValueError, match=r"images \(B, 2, H, W\) of 24 pixels"):
        fit(network_of((2, 4, 6)), [(x[:, :1], y)], recipe=RECIPE)


def test_an_objective_that_is_no_number_is_told_as_by_pytorch():
    x, y = data_of()
    x[5, 0, 2, 3] = torch.inf
    said = []
    for backend in BACKENDS:
        network = network_of()
        with pytest.raises(FloatingPointError) as stopped:
            fit(network, x, y, RECIPE, backend=backend)
        said.append((str(stopped.value), weights(network)))
    assert said[0][0] == said[1][0]
    assert distance(said[0][1], said[1][1]) < 1e-10


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (RECIPE, {"loss": lambda output, y: functional.cross_entropy(output, y)}),
        (RECIPE, {"penalties": [(0.1, lambda network: network.head.bias.square().sum())]}),
        (dataclasses.replace(RECIPE, method="alternating", head_steps=3, head_epochs=2), {}),
        (dataclasses.replace(RECIPE, optimizer="lbfgs"), {}),
    ],
)
def test_losses_penalties_and_other_methods_take_the_gradient_natively(recipe, named, monkeypatch):
    x, y = data_of()
    found, pulled = [], []
    ways = {name: getattr(hdnn.training.sloped.Sloped, name) for name in ("pull", "step")}
    for natively in (True, False):
        for name, way in ways.items():
            monkeypatch.setattr(
                hdnn.training.sloped.Sloped,
                name,
                lambda self, *given, way=way if natively else lambda *_: None: (
                    pulled.append(way(self, *given)) or pulled[-1]
                ),
            )
        network = network_of()
        fit(network, x, y, recipe, **named)
        found.append(weights(network))
    assert any(told is not None for told in pulled)
    assert distance(*found) < 1e-8


class Strange(nn.Conv2d):
    """A lift of a user's own."""


@pytest.mark.parametrize(
    "lift",
    [
        nn.Conv2d(1, 4, 3, padding=1, dilation=1, stride=1, padding_mode="circular", dtype=F64),
        nn.Conv2d(1, 4, 5, padding=2, dtype=F64),
        nn.Conv2d(1, 4, 3, padding=2, dilation=2, dtype=F64),
        nn.Conv2d(1, 4, 3, padding=1, bias=False, dtype=F64),
        Strange(1, 4, 3, padding=1, dtype=F64),
    ],
)
def test_other_lifts_and_flows_are_left_to_pytorch(lift):
    network, (x, y) = network_of(), data_of()
    assert training_backend(network, x, y, RECIPE) == ("native", "")
    network.lift = lift
    backend, reason = training_backend(network, x, y, RECIPE)
    assert backend == "torch"
    assert reason
    fit(network, x, y, RECIPE)
    wide = hdnn.image_classifier(1, (5, 7), 3, hdnn.h1(4, 3, step=0.1, kernel_size=3, dtype=F64))
    assert training_backend(wide, x, y, RECIPE).backend == "torch"
