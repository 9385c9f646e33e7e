"""Whoever looks at a training sees the same by either backend, at the pace that he asks for, and changes no bit."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch.nn.utils import prune

import hdnn
from backend_cases import BACKENDS, F64, RECIPE, X, Y, distance, needs_native, network_of, same, weights, without_times
from hdnn.training import Pace, fit
from hdnn.training.pace import Audience

pytestmark = needs_native


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


@pytest.mark.parametrize(("task", "outputs"), [("classification", 2), ("classification", 3), ("regression", 2)])
def test_records_of_epochs_that_nobody_looks_into_are_those_of_each(task, outputs):
    x = X.float()
    y = (x[:, 0] * 2).long().clamp(0, outputs - 1) if task == "classification" else x[:, :outputs].sin()
    seen = {"quiet": [], "told": []}

    def found(**choices):
        network = network_of(outputs, task=task, dtype=torch.float32)

        def largest(output, y):  # asks for the rows of an epoch, and no others
            seen["told" if choices else "quiet"].append((len(output), float(y.double().sum())))
            return output.max()

        return without_times(fit(network, x, y, RECIPE, score={"largest": largest}, **choices))

    quiet, told = found(), found(callbacks=[hdnn.every(epochs=1)(lambda progress: None)])
    assert quiet == told
    assert [list(record) for record in quiet] == [list(record) for record in told]
    assert seen["quiet"] == seen["told"] == [(61, pytest.approx(float(y.double().sum())))] * RECIPE.epochs


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


def test_a_callback_may_prune_the_head_where_pytorch_takes_the_steps():
    def pruned(backend):
        network = network_of()

        def halve(progress):
            if progress.iteration == 6:
                prune.l1_unstructured(network.head, "weight", 0.5)

        fit(network, X, Y, RECIPE, callbacks=[halve], backend=backend)
        return network.head

    with pytest.raises(ValueError, match=r'or use fit\(\.\.\., backend="torch"\)'):
        pruned("native")
    head = pruned("torch")
    assert head.weight.count_nonzero() == head.weight_orig.numel() // 2


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
