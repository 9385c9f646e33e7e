"""The mean of the weights: what it is, what is watched and kept by it, and that it goes on to the same bits."""

import math

import pytest
import torch
from torch import nn

import hdnn
from hdnn.training import Recipe, TrainingState, evaluate, fit
from hdnn.training.averaging import Mean

RECIPE = Recipe(epochs=3, batch_size=10, optimizer="sgd", learning_rate=0.05, schedule="one_cycle", average=0.9)


def data_of(rows=45):
    lot = torch.Generator().manual_seed(0)
    return torch.randn(rows, 1, 6, 6, generator=lot), torch.randint(3, (rows,), generator=lot)


def network_of(normalization="units"):
    torch.manual_seed(1)
    return hdnn.image_network((1, 1), (4, 8), classes=3, inputs=1, normalization=normalization)


def trained(recipe=RECIPE, *, resume=None, callbacks=(), normalization="units", **more):
    network = network_of(normalization)
    history = fit(network, *data_of(), recipe, resume=resume, callbacks=callbacks, **more)
    return network, history


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("normalization", ["units", "batch"])
def test_the_end_is_the_mean_of_all_states_after_steps(normalization):
    seen = []
    network, _ = trained(
        callbacks=[lambda progress: seen.append(progress.state().network)], normalization=normalization
    )
    assert len(seen) == 15
    for name, found in network.state_dict().items():
        mean = seen[0][name].double()
        for k, state in enumerate(seen[1:], start=1):
            kept = min(0.9, (1 + k) / (10 + k))
            mean = kept * mean + (1 - kept) * state[name].double()
        expected = mean if found.is_floating_point() else seen[-1][name]
        assert torch.allclose(found.double(), expected.double(), rtol=1e-5, atol=1e-6), name


def test_running_moments_of_stages_and_of_batch_norms_are_averaged_and_counts_are_not():
    network = network_of("batch")
    mean = Mean(network, 0.5)
    stage, norm = network.flow[0], network.lift[1]
    for value in (1.0, 3.0):
        stage.mean.fill_(value)
        norm.running_var.fill_(value)
        norm.num_batches_tracked.fill_(int(value))
        mean.note(network)
    found = mean.network
    kept = 2 / 11
    assert torch.allclose(found.flow[0].mean, torch.tensor(kept + 3 * (1 - kept)))
    assert torch.allclose(found.lift[1].running_var, torch.tensor(kept + 3 * (1 - kept)))
    assert int(found.lift[1].num_batches_tracked) == 3


def test_counts_that_rounding_would_lower_stay():
    module = nn.BatchNorm1d(1)
    mean = Mean(module, 0.9)
    for count in (7, 7, 7, 7):
        module.num_batches_tracked.fill_(count)
        mean.note(module)
        assert int(mean.network.num_batches_tracked) == count


@pytest.mark.parametrize("step", [1, 5, 7, 14])
def test_a_pause_changes_no_bit(step):
    states = []
    whole, history = trained(callbacks=[lambda progress: states.append(progress.state())])
    state = TrainingState.from_tensors(states[step - 1].to_tensors())
    assert state.mean
    cut, continued = trained(resume=state)
    assert same(whole, cut)
    assert [row["loss"] for row in history] == [row["loss"] for row in continued]


def test_states_of_before_have_none_and_go_on():
    states = []
    trained(Recipe(**{**vars(RECIPE), "average": 0.0}), callbacks=[lambda progress: states.append(progress.state())])
    tensors = states[4].to_tensors()
    assert not any(name.startswith("mean") for name in tensors)
    network, history = trained(resume=TrainingState.from_tensors(tensors))
    assert len(history) == 3
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_the_mean_of_another_network_is_refused():
    states = []
    trained(callbacks=[lambda progress: states.append(progress.state())])
    tensors = states[0].to_tensors()
    name = next(name for name in tensors if name.startswith("mean.module") and name.endswith("head.weight"))
    tensors[name] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="mean of the weights"):
        trained(resume=TrainingState.from_tensors(tensors))


def test_what_is_watched_is_the_mean():
    x, y = data_of()
    network, history = trained(validation=(x, y))
    assert evaluate(network, x, y)["loss"] == pytest.approx(history[-1]["validation_loss"], rel=1e-6)
    best, history = trained(Recipe(**{**vars(RECIPE), "patience": 1, "epochs": 6}), validation=(x, y))
    accuracies = [(row["validation_accuracy"], -row["validation_loss"]) for row in history]
    assert evaluate(best, x, y)["accuracy"] == pytest.approx(max(accuracies)[0])


def test_an_interrupt_leaves_the_mean():
    seen = []

    def stop(progress):
        seen.append(progress.state())
        if progress.iteration == 6:
            raise KeyboardInterrupt

    network = network_of()
    with pytest.raises(KeyboardInterrupt):
        fit(network, *data_of(), RECIPE, callbacks=[stop])
    expected = {name.removeprefix("module."): x for name, x in seen[-1].mean.items() if name != "n_averaged"}
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_a_second_training_on_all_rows_has_a_mean_of_its_own():
    recipe = Recipe(**{**vars(RECIPE), "refit": True, "validation_fraction": 0.2})
    network, history = trained(recipe)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert history


def test_what_has_no_mean_refuses_it():
    x, y = torch.randn(20, 2), torch.arange(20) % 2
    networks = [hdnn.vector_classifier(2, 2, hdnn.h2(4, layers=2, step=0.1)) for _ in range(2)]
    for changed, word in (({"average": 0.9}, "`average`"), ({"precision": "bfloat16"}, "`precision`")):
        recipe = Recipe(epochs=1, **changed)
        with pytest.raises(ValueError, match=word):
            hdnn.fit_together(networks, x.expand(2, 20, 2), y.expand(2, 20), recipe, seeds=range(2))
        with pytest.raises(ValueError, match="cannot take the steps of this training: it"):
            fit(networks[0], x, y, recipe, backend="native")
        with pytest.raises(ValueError, match="average"):
            Recipe(optimizer="lbfgs", **changed)
    with pytest.raises(ValueError, match="alternating"):
        Recipe(method="alternating", average=0.9)
    fit(networks[0], x, y, Recipe(epochs=1, average=0.9, restarts=2, restart_epochs=1))


def test_sixteen_bits_are_of_the_network_alone():
    x, y = data_of()
    network = network_of()
    nn.init.normal_(network.head.weight)
    objective = hdnn.Objective(network.eval(), precision="bfloat16")
    seen = []
    network.head.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    loss, output = objective(x, y)
    assert (seen, loss.dtype, output.dtype) == ([torch.bfloat16], torch.float32, torch.float32)
    full = hdnn.Objective(network)(x, y)[0]
    assert loss != full
    assert math.isclose(float(loss.detach()), float(full.detach()), rel_tol=0.05)
    evaluate(network, x, y)
    assert seen[-1] is torch.float32
    double, _ = hdnn.Objective(network_of().double().eval(), precision="bfloat16")(x.double(), y)
    assert double.dtype is torch.float64
