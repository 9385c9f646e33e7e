"""Trainings that native steps cannot take as a whole find their gradients, and fit their output layers, natively."""

import dataclasses

import pytest
import torch
from torch import nn

import hdnn
from hdnn.kernels import native
from hdnn.training import heads
from hdnn.training.batches import Batch
from hdnn.training.learners import Single
from hdnn.training.objective import objective_of
from hdnn.training.recipe import Recipe
from hdnn.training.sloped import sloped_of

pytestmark = pytest.mark.skipif(not native.available(), reason="the native backend is not installed")

F64 = torch.float64
FLOWS = {
    "h1": lambda **more: hdnn.h1(4, 5, step=0.2, **more),
    "h2": lambda **more: hdnn.h2(4, 5, step=0.2, **more),
    "ms1": lambda **more: hdnn.ms1(4, 5, step=0.2, **more),
    "ms2, shared": lambda **more: hdnn.ms2(4, 5, step=0.2, shared=True, **more),
    "learned J": lambda **more: hdnn.h1(
        4, 5, step=0.2, interconnection=hdnn.Learned(hdnn.upper_ones(4).to(F64)), **more
    ),
}
TASKS = ("two classes", "three classes", "regression")


def case(task="two classes", flow="h1", lift="linear", dtype=F64):
    torch.manual_seed(0)
    made = FLOWS[flow](dtype=dtype)
    x, weight = torch.randn(9, 3, dtype=dtype), torch.rand(9, dtype=dtype)
    if task == "regression":
        network, y = hdnn.vector_regressor(3, 2, made, lift=lift), torch.randn(9, 2, dtype=dtype)
    else:
        classes = 2 if task == "two classes" else 3
        network, y = hdnn.vector_classifier(3, classes, made, lift=lift), torch.randint(classes, (9,))
    nn.init.normal_(network.head.weight)
    nn.init.normal_(network.head.bias)
    return network, Batch(x, y), weight


def penalty(network):
    return network.flow.bias.square().sum() + network.head.weight.sum().square()


RECIPE = Recipe(smoothness=0.3, head_decay=0.2, optimizer="sgd")


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("lift", ["zeros", "linear"])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("task", TASKS)
def test_objective_outputs_and_gradients_are_those_of_autograd(task, flow, lift, weighed):
    network, batch, weight = case(task, flow, lift)
    batch = batch._replace(weight=weight if weighed else None)
    smoothing = 0.0 if task == "regression" else 0.1
    recipe = dataclasses.replace(RECIPE, label_smoothing=smoothing)
    objective = objective_of(network, recipe, penalties=[(0.5, penalty)])
    sloped = sloped_of(objective, recipe)
    loss, output = Single(objective, recipe).pull(batch)
    expected = {name: p.grad for name, p in network.named_parameters()}
    found_loss, found_output = Single(objective, recipe, sloped).pull(batch)
    torch.testing.assert_close(found_loss, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_output, output, rtol=1e-12, atol=1e-12)
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-10, atol=1e-12, msg=name)
        assert p.grad is not expected[name]


def _hinge(output, y):
    """A loss that writes to what it is given."""
    return output.neg_().add_(1).clamp(min=0).mean()


LOSSES = {
    "hinge": _hinge,
    "constant": lambda output, y: torch.tensor(2.0, dtype=output.dtype),
    "of each": lambda output, y: output.square().flatten(1).sum(1),
}


@pytest.mark.parametrize("penalties", [[], [(0.5, penalty)]])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("flow", FLOWS)
def test_losses_of_the_user_are_followed_by_autograd_and_the_network_natively(flow, loss, penalties):
    network, batch, weight = case("three classes", flow)
    batch = batch._replace(weight=weight if loss == "of each" else None)
    objective = objective_of(network, RECIPE, loss=LOSSES[loss], penalties=penalties)
    value, _ = Single(objective, RECIPE).pull(batch)
    expected = {name: p.grad for name, p in network.named_parameters()}
    sloped = sloped_of(objective, RECIPE)
    found, output = sloped.pull(batch)
    torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(output, network(batch.x).detach(), rtol=1e-12, atol=1e-12)
    for name, p in network.named_parameters():
        wanted = torch.zeros_like(p) if expected[name] is None else expected[name]
        torch.testing.assert_close(p.grad, wanted, rtol=1e-10, atol=1e-12, msg=name)


def test_a_loss_may_hold_what_learns_by_itself_and_read_the_network():
    network, batch, _ = case()
    factor = nn.Parameter(torch.tensor(2.0, dtype=F64))
    objective = objective_of(
        network, RECIPE, loss=lambda output, y: factor * output.mean() + network.head.bias.sum() * factor
    )
    learners = Single(objective, RECIPE), Single(objective, RECIPE, sloped_of(objective, RECIPE))
    grads = []
    for learner in learners:
        factor.grad = None
        learner.pull(batch)
        grads.append([factor.grad, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


def test_it_is_asked_for_where_native_steps_do_not_serve_alone():
    network, _, _ = case()
    own = nn.functional.binary_cross_entropy_with_logits

    def sloped(recipe=RECIPE, **more):
        return sloped_of(objective_of(network, recipe, **more), recipe)

    assert sloped(penalties=[(0.5, penalty)]) is not None
    assert sloped(Recipe(method="alternating")) is not None
    assert sloped(Recipe(optimizer="lbfgs")) is not None
    assert sloped() is None  # native steps serve, and who wants PyTorch's asks for those
    assert sloped(loss=own) is not None
    assert sloped(loss=own, call={"more": 1}) is None
    network.flow.register_forward_hook(lambda *_: None)
    assert sloped(penalties=[(0.5, penalty)]) is None


def test_frozen_parameters_keep_what_gradient_they_have():
    network, batch, _ = case()
    network.flow.bias.requires_grad_(False)
    objective = objective_of(network, RECIPE, penalties=[(0.5, lambda network: network.head.weight.sum())])
    learner = Single(objective, RECIPE, sloped_of(objective, RECIPE))
    learner.pull(batch)
    assert network.flow.bias.grad is None
    assert network.flow.weight.grad is not None
    network.flow.bias.requires_grad_(True)  # unknown to the native call, which then is not asked
    learner.pull(batch)
    expected = Single(objective, RECIPE)
    bias = network.flow.bias.grad
    expected.pull(batch)
    assert torch.equal(network.flow.bias.grad, bias)


@pytest.mark.parametrize(
    "batch",
    [
        lambda b: b._replace(x=b.x.to(torch.float32)),
        lambda b: b._replace(x=b.x[None]),
        lambda b: b._replace(weight=torch.ones(9, dtype=torch.float32)),
        lambda b: b._replace(x=b.x.clone().requires_grad_()),
    ],
)
def test_other_batches_are_left_to_autograd(batch):
    network, given, _ = case()
    objective = objective_of(network, RECIPE, penalties=[(0.5, penalty)])
    assert sloped_of(objective, RECIPE).pull(batch(given)) is None


def test_an_objective_that_is_no_number_is_told_as_ever():
    network, batch, _ = case()
    with torch.no_grad():
        network.flow.bias[2, 1] = float("nan")
    recipe = Recipe(epochs=1, batch_size=9)
    with pytest.raises(FloatingPointError, match=r"flow\.bias"):
        hdnn.fit(network, batch.x, batch.y, recipe, penalties=[(1e-3, lambda network: network.head.bias.sum())])


@pytest.mark.parametrize("loss", [None, nn.functional.binary_cross_entropy_with_logits])
@pytest.mark.parametrize("recipe", [Recipe(epochs=3, batch_size=4), Recipe(epochs=3, optimizer="lbfgs")])
def test_a_training_with_penalties_ends_where_that_of_autograd_does(recipe, loss, monkeypatch):
    ends = []
    for native_too in (True, False):
        network, batch, _ = case()
        if not native_too:
            monkeypatch.setattr("hdnn.training.lengths.sloped_of", lambda *_: None)
        y = batch.y if loss is None else batch.y[:, None].to(F64)
        history = hdnn.fit(network, batch.x, y, recipe, loss=loss, penalties=[(0.1, penalty)])
        ends.append((history[-1]["loss"], *(p.detach().clone() for p in network.parameters())))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_an_output_layer_is_fitted_as_by_autograd_and_adam(task, weighed):
    network, (_, y, *_), weight = case(task)
    features = torch.randn(9, 4, dtype=F64)
    data = Batch(features, y, weight if weighed else None)
    recipe = Recipe(head_decay=0.02, head_learning_rate=0.1, label_smoothing=0.0 if task == "regression" else 0.1)
    objective = objective_of(network, recipe)
    assert heads.serves(objective, data)
    orders = [torch.randperm(9) for _ in range(4)]
    heads.fit_head(objective, recipe, data, orders, size=4)
    found = [p.detach().clone() for p in network.head.parameters()]
    with torch.no_grad():
        for p in network.head.parameters():
            p.zero_()
    adam = torch.optim.Adam(network.head.parameters(), lr=0.1)
    for order in orders:
        for chosen in order.split(4):
            adam.zero_grad()
            objective.head_loss(*data.each(lambda part, chosen=chosen: part[chosen])[:3]).backward()
            adam.step()
    torch.testing.assert_close(found, [p.detach() for p in network.head.parameters()], rtol=1e-8, atol=1e-10)


def test_output_layers_of_other_kinds_are_fitted_by_autograd():
    network, (_, y, *_), _ = case()
    data = Batch(torch.randn(9, 4, dtype=F64), y)
    objective = objective_of(network, Recipe())
    assert not heads.serves(objective, data._replace(x=data.x.float()))
    network.head.register_forward_hook(lambda *_: None)
    assert not heads.serves(objective, data)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_part_that_a_callback_freezes_stays(optimizer):
    network, batch, _ = case()
    recipe = Recipe(epochs=6, batch_size=9, optimizer=optimizer, learning_rate=0.05)
    seen = []

    def freeze(progress):
        network.flow.weight.requires_grad_(False)
        seen.append(network.flow.weight.detach().clone())

    hdnn.fit(network, batch.x, batch.y, recipe, penalties=[(0.5, penalty)], callbacks=[freeze])
    assert all(torch.equal(one, seen[0]) for one in seen)


def test_parameters_may_lie_in_any_order():
    found = []
    for turned in (False, True):
        network, batch, _ = case("three classes")
        if turned:
            network.head.weight.data = network.head.weight.data.t().contiguous().t()
        hdnn.fit(network, batch.x, batch.y, Recipe(epochs=3, batch_size=3), penalties=[(0.5, penalty)])
        found.append(network.head.weight.detach().clone())
    torch.testing.assert_close(*found)


def test_the_alternating_method_leaves_gradients_of_the_output_layer():
    network, batch, _ = case()
    recorder = hdnn.GradientRecorder([network.head])
    hdnn.fit(network, batch.x, batch.y, Recipe(epochs=2, batch_size=9, method="alternating"), callbacks=[recorder])
    assert recorder.norms.shape == (2, 1)
    assert (recorder.norms > 0).all()
