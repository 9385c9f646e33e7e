"""The native step is the step of PyTorch, however a training is called, told of, broken off and gone on with."""

from __future__ import annotations

import dataclasses
import math
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

import hdnn
from hdnn.kernels import native
from hdnn.kernels.training import Session
from hdnn.training import Pace, Recipe, TrainingState, fit, fit_together, training_backend
from hdnn.training.pace import Audience
from hdnn.training.state import TogetherState

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

F64 = torch.float64
X = torch.randn(61, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05, seed=3)
BACKENDS = ["native", "torch"]


def network_of(outputs=2, *, task="classification", lift="linear", seed=1, dtype=F64, model=hdnn.h2, **choices):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = model(4, choices.pop("layers", 3), horizon=1.0, dtype=dtype, **choices)
        make = hdnn.vector_classifier if task == "classification" else hdnn.vector_regressor
        network = make(3, outputs, flow, lift=lift)
        torch.nn.init.normal_(network.head.weight, std=0.3)
        return network


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def distance(ours, theirs):
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def same(ours, theirs):
    return [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def without_times(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def drawn(seed):
    """A network, its data and a recipe, by lot."""
    lot = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=lot))]

    outputs, task = pick((2, "classification"), (4, "classification"), (2, "regression"))
    model = pick(hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3)
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

Y = (X[:, 0] > 0).long()


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


# Who is told


@pytest.mark.parametrize("backend", BACKENDS)
def test_callbacks_are_told_at_their_pace_and_change_no_bit(backend):
    expected = network_of()
    quiet = fit(expected, X, Y, RECIPE, backend=backend)
    told = {"plain": [], "threes": [], "epochs": [], "seconds": []}
    callbacks = [
        lambda progress: told["plain"].append(progress.iteration),
        hdnn.every(steps=3)(lambda progress: told["threes"].append(progress.iteration)),
        hdnn.every(epochs=2)(lambda progress: told["epochs"].append(progress.iteration)),
        hdnn.every(seconds=3600)(lambda progress: told["seconds"].append(progress.iteration)),
    ]
    for chosen in ([0, 1, 2, 3], [1, 2], [2], [3], [1, 3]):
        for seen in told.values():
            seen.clear()
        network = network_of()
        history = fit(network, X, Y, RECIPE, callbacks=[callbacks[k] for k in chosen], backend=backend)
        assert same(weights(network), weights(expected))
        assert without_times(history) == without_times(quiet)
        steps = {"plain": [*range(1, 13)], "threes": [3, 6, 9, 12], "epochs": [8], "seconds": [4, 8, 12]}
        assert told == {name: steps[name] if k in chosen else [] for k, name in enumerate(steps)}


def test_time_tells_of_steps_within_an_epoch(monkeypatch):
    clock, told, done = [0.0], [], 0
    monkeypatch.setattr("hdnn.training.pace.time.perf_counter", lambda: clock[0])
    audience = Audience([hdnn.every(seconds=0.02)(lambda progress: told.append(clock[0]))])
    while done < 3000:
        stop = audience.stop(1, done, 3000)
        clock[0] += 1e-3 * (stop - done) * (1 if done < 1000 else 3)  # a step takes one millisecond, then three
        done = stop
        audience.tell(1, done, 3000, lambda: None)
    assert max(later - before for before, later in pairwise(told)) < 0.065
    assert min(later - before for before, later in pairwise(told[:-1])) > 0.019
    assert told[-1] == clock[0]


def test_a_method_may_have_a_pace():
    class Counting:
        def __init__(self):
            self.told = []

        @hdnn.every(steps=4.0)
        def look(self, progress):
            self.told.append(progress.iteration)

    counting = Counting()
    fit(network_of(), X, Y, RECIPE, callbacks=[counting.look])
    assert counting.told == [4, 8, 12]


def test_a_pace_that_makes_no_sense_is_refused():
    for wrong in ({}, {"steps": 2, "epochs": 1}, {"steps": -1}, {"seconds": math.nan}, {"steps": 1.5}):
        with pytest.raises(ValueError, match="pace"):
            Pace(**wrong)


def test_callbacks_see_weights_and_gradients_of_their_step():
    found = {}
    for backend in BACKENDS:
        network, seen = network_of(), []

        def look(progress, network=network, seen=seen):
            gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
            seen.append((weights(network), gradients, float(progress.loss)))

        fit(network, X, Y, dataclasses.replace(RECIPE, clip=0.2, weight_decay=0.1), callbacks=[look], backend=backend)
        found[backend] = seen
    for mine, other in zip(found["native"], found["torch"], strict=True):
        assert max(distance(mine[0], other[0]), distance(mine[1], other[1]), abs(mine[2] - other[2])) < 1e-10


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_callback_may_change_weights(backend):
    def halve_in_place(progress):
        with torch.no_grad():
            network.head.weight.mul_(0.5)

    def halve_anew(progress):
        network.head.weight.data = network.head.weight.data * 0.5

    found = []
    for callback in (halve_in_place, halve_anew):
        network = network_of()
        fit(network, X, Y, RECIPE, callbacks=[callback], backend=backend)
        found.append(weights(network))
    plain = network_of()
    fit(plain, X, Y, RECIPE, backend=backend)
    assert same(*found)
    assert not same(found[0], weights(plain))


@pytest.mark.parametrize("change", ["head", "assign"])
def test_a_callback_that_puts_parameters_in_the_place_of_others_is_refused(change):
    network = network_of()

    def replace(progress):
        if change == "head":
            network.head = torch.nn.Linear(4, 1, dtype=F64)
        else:
            network.load_state_dict(weights(network), assign=True)

    with pytest.raises(ValueError, match="another parameter in the place"):
        fit(network, X, Y, RECIPE, callbacks=[replace])


def test_a_callback_may_freeze_after_the_last_step():
    network = network_of()
    history = fit(network, X, Y, RECIPE, callbacks=[lambda p: network.requires_grad_(p.iteration < 12)])
    assert len(history) == 3


def test_what_a_callback_keeps_stays_as_it_is():
    network, kept = network_of(), []
    fit(network, X, Y, RECIPE, callbacks=[lambda progress: kept.append(network.head.weight.grad)])
    assert len({float(gradient.norm()) for gradient in kept}) == 12


def test_weights_put_in_place_before_a_callback_raises_stay():
    network = network_of()

    def end(progress):
        network.head.weight.data = torch.full_like(network.head.weight, 7.0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(network, X, Y, RECIPE, callbacks=[end])
    assert bool((network.head.weight == 7).all())


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


def test_a_callback_that_freezes_is_refused():
    network = network_of()
    with pytest.raises(ValueError, match="frozen a parameter"):
        fit(network, X, Y, RECIPE, callbacks=[lambda progress: network.flow.bias.requires_grad_(False)])


@pytest.mark.parametrize("fails", [False, True])
def test_parameters_keep_their_memory(fails):
    network, recipe = network_of(), RECIPE
    places = [p.data_ptr() for p in network.parameters()]
    view = network.head.weight.detach()

    def stop(progress):
        if fails and progress.iteration == 5:
            raise RuntimeError

    if fails:
        with pytest.raises(RuntimeError):
            fit(network, X, Y, recipe, callbacks=[stop])
    else:
        fit(network, X, Y, recipe, callbacks=[stop])
    assert [p.data_ptr() for p in network.parameters()] == places
    assert torch.equal(view, network.head.weight)
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in network.parameters())


# Pauses and ends


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("restarts", [1, 3])
def test_a_training_goes_on_by_the_backend_that_wrote_its_state(backend, restarts):
    recipe = dataclasses.replace(RECIPE, restarts=restarts, restart_epochs=2)
    states, expected = [], network_of()

    def keep(progress):
        states.append(TrainingState.from_tensors(progress.state().to_tensors()))

    fit(expected, X, Y, recipe, callbacks=[keep], start_callbacks=[keep], backend=backend)
    assert {state.backend for state in states} == {backend}
    for state in states[::3]:
        network = network_of()
        fit(network, X, Y, recipe, resume=state)
        assert same(weights(network), weights(expected))
    other = BACKENDS[1 - BACKENDS.index(backend)]
    network = network_of()
    with pytest.warns(UserWarning, match=f"by the {backend} backend"):
        fit(network, X, Y, recipe, resume=states[-3], backend=other)
    assert distance(weights(network), weights(expected)) < 1e-10


@pytest.mark.parametrize("backend", BACKENDS)
def test_trainings_together_go_on_by_the_backend_that_wrote_their_state(backend):
    states, expected = [], [network_of(seed=k) for k in range(3)]
    each = X.expand(3, 61, 3), Y.expand(3, 61)

    def keep(progress):
        states.append(TogetherState.from_tensors(progress.state().to_tensors()))

    told = fit_together(expected, *each, RECIPE, seeds=[1, 2, 3], callbacks=[keep], backend=backend)
    for state in states[:-1:3]:
        networks = [network_of(seed=k) for k in range(3)]
        again = fit_together(networks, *each, RECIPE, seeds=[1, 2, 3], resume=state)
        assert [without_times(history) for history in again] == [without_times(history) for history in told]
        assert all(same(weights(a), weights(b)) for a, b in zip(networks, expected, strict=True))


def test_a_state_of_an_earlier_version_is_of_pytorch():
    states = []
    fit(network_of(), X, Y, RECIPE, callbacks=[lambda progress: states.append(progress.state())], backend="torch")
    tensors = states[4].to_tensors()
    del tensors["native"]
    assert TrainingState.from_tensors(tensors).backend == "torch"


def test_ctrl_c_within_steps_leaves_what_was_told_last(monkeypatch):
    network, told, take = network_of(), [], Session.take

    def broken_off(session, *given):
        found = take(session, *given)
        if len(told) == 2:
            raise KeyboardInterrupt  # as after some of the steps
        return found

    monkeypatch.setattr(Session, "take", broken_off)
    note = hdnn.every(epochs=1)(lambda progress: told.append((weights(network), progress)))
    with pytest.raises(KeyboardInterrupt):
        fit(network, X, Y, RECIPE, callbacks=[note])
    seen, progress = told[-1]
    assert same(weights(network), seen)
    monkeypatch.undo()
    expected, again = network_of(), network_of()
    fit(expected, X, Y, RECIPE)
    fit(again, X, Y, RECIPE, resume=progress.state())
    assert same(weights(again), weights(expected))


def test_ctrl_c_ends_a_long_epoch():
    x, y = torch.randn(20_000, 3, dtype=F64), torch.randint(2, (20_000,))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(network := network_of(layers=32), x, y, Recipe(epochs=10_000, batch_size=20))
    timer.join()
    assert all(bool(p.isfinite().all()) for p in network.parameters())


@pytest.mark.parametrize("spoilt", ["inputs", "weights", "rate", "late"])
def test_numbers_that_go_bad_are_told_in_the_same_words(spoilt):
    found = []
    for backend in BACKENDS:
        network, x, recipe = network_of(model=hdnn.h1, activation=hdnn.relu), X.clone(), RECIPE
        if spoilt == "inputs":
            x[17, 1] = math.inf
        if spoilt == "weights":
            with torch.no_grad():
                network.flow.weight[2] = math.nan
        if spoilt == "late":  # after some epochs, that are taken at once
            x = 1e30 * x
            recipe = dataclasses.replace(RECIPE, epochs=30, schedule="constant", learning_rate=1e7, optimizer="sgd")
        if spoilt == "rate":
            recipe = dataclasses.replace(RECIPE, learning_rate=1e160, optimizer="sgd")
        with pytest.raises(FloatingPointError) as error:
            fit(network, x, Y, recipe, backend=backend)
        found.append(str(error.value))
    assert found[0] == found[1]


def test_a_member_that_failed_stays_so_after_a_pause():
    x, states = torch.stack([X, X]), []
    x[0, 40] = math.inf

    def trained(**options):
        networks = [network_of(seed=k) for k in range(2)]
        told = fit_together(networks, x, Y.expand(2, 61), RECIPE, seeds=[5, 6], **options)
        return [weights(network) for network in networks], [[record["loss"] for record in history] for history in told]

    expected, losses = trained(callbacks=[lambda progress: states.append(progress.state())])
    for state in states[:-1]:
        found, again = trained(resume=TogetherState.from_tensors(state.to_tensors()))
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))
        assert str(again) == str(losses)


def test_a_frozen_part_may_have_learned_before_the_pause():
    states = []
    fit(network_of(), X, Y, RECIPE, callbacks=[lambda progress: states.append(progress.state())])
    network = network_of()
    network.flow.bias.requires_grad_(False)
    assert len(fit(network, X, Y, RECIPE, resume=states[3])) == 3
    frozen, states = network_of(), []
    frozen.flow.bias.requires_grad_(False)
    fit(frozen, X, Y, RECIPE, callbacks=[lambda progress: states.append(progress.state())])
    with pytest.raises(ValueError, match="frozen then and learns now"):
        fit(network_of(), X, Y, RECIPE, resume=states[3])


def test_a_member_that_diverges_disturbs_nobody_and_says_nan():
    networks, alone = [network_of(seed=k) for k in range(2)], network_of(seed=1)
    x = torch.stack([X, X])
    x[0, 40] = math.inf
    histories = fit_together(networks, x, Y.expand(2, 61), RECIPE, seeds=[5, 6])
    assert all(math.isnan(record["loss"]) for record in histories[0])
    fit(alone, X, Y, dataclasses.replace(RECIPE, seed=6))
    assert same(weights(networks[1]), weights(alone))


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
