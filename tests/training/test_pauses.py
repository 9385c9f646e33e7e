"""Trainings that stand still, are broken off or go wrong, by either backend."""

import dataclasses
import gc
import math
import signal
import threading

import pytest
import torch

import hdnn
from backend_cases import BACKENDS, F64, RECIPE, X, Y, distance, needs_native, network_of, same, weights, without_times
from hdnn.kernels.training import Session
from hdnn.training import Recipe, TrainingState, fit, fit_together
from hdnn.training.state import TogetherState

pytestmark = needs_native


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
    gc.disable()  # what Ctrl-C raises is lost where it meets a callback of the collector, and hypothesis has one
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            fit(network := network_of(layers=32), x, y, Recipe(epochs=10_000, batch_size=20))
        timer.join()
    finally:
        gc.enable()
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
