"""Where a loss of the user's alone keeps a training from native steps, these move the network along it all the same."""

import dataclasses

import pytest
import torch
from torch import nn

import hdnn
from hdnn.kernels import native
from hdnn.training.batches import Batch
from hdnn.training.learners import Single
from hdnn.training.objective import objective_of
from hdnn.training.recipe import Recipe
from hdnn.training.sloped import sloped_of
from hdnn.training.steps import joint_step

pytestmark = pytest.mark.skipif(not native.available(), reason="the native backend is not installed")

F64 = torch.float64
RECIPE = Recipe(smoothness=0.3, head_decay=0.2, learning_rate=0.05)


def network_of():
    torch.manual_seed(0)
    network = hdnn.vector_classifier(3, 3, hdnn.h1(4, 5, step=0.2, dtype=F64), lift="linear")
    nn.init.normal_(network.head.weight)
    return network


def batch_of(rows=9):
    torch.manual_seed(1)
    return Batch(torch.randn(rows, 3, dtype=F64), torch.randint(3, (rows,)))


def own(output, y):
    return nn.functional.multi_margin_loss(output, y)


def learners(recipe, loss=own):
    """One that asks the native way, and one that does not."""
    natively, network = network_of(), network_of()
    objective = objective_of(natively, recipe, loss=loss)
    return (
        Single(objective, recipe, sloped_of(objective, recipe)),
        Single(objective_of(network, recipe, loss=loss), recipe),
    )


def same(natively, other):
    """Whether two stand at the same weights, gradients and memories."""
    natively.show_gradient()
    theirs = dict(other.objective.network.named_parameters())
    for name, p in natively.objective.network.named_parameters():
        torch.testing.assert_close(p, theirs[name], rtol=1e-10, atol=1e-11, msg=name)
        torch.testing.assert_close(p.grad, theirs[name].grad, rtol=1e-9, atol=1e-11, msg=name)
    torch.testing.assert_close(natively.memory(), other.memory(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        dataclasses.replace(RECIPE, optimizer="adamw", weight_decay=0.1, clip=0.2),
        dataclasses.replace(RECIPE, optimizer="sgd", weight_decay=0.1),
    ],
    ids=lambda recipe: recipe.optimizer,
)
def test_steps_are_those_of_autograd_and_the_optimizer(recipe):
    both, batch = learners(recipe), batch_of()
    for k in range(4):
        told = []
        for learner in both:
            learner.set_rate(1 - k / 5)
            told.append(joint_step(learner, batch))
        torch.testing.assert_close(told[0], told[1], rtol=1e-10, atol=1e-12)
        assert both[0].sloped.leads
    assert both[0].is_finite()
    same(*both)


@pytest.mark.parametrize("first", [1, 3])
def test_a_loss_that_looks_at_parameters_is_followed_by_the_optimizer(first):
    both, batch = learners(RECIPE), batch_of()
    for learner in both:
        head, calls = learner.objective.network.head, []

        def loss(output, y, head=head, calls=calls):
            calls.append(len(calls))
            return own(output, y) + (head.weight.square().sum() if len(calls) >= first else 0.0)

        learner.objective.loss = loss
        for _ in range(4):
            joint_step(learner, batch)
        assert len(calls) == 4  # never twice for a step
    assert not both[0].sloped.moves
    assert not both[0].sloped.leads
    same(*both)


def test_the_optimizer_takes_over_while_somebody_watches_and_hands_back():
    both, batch = learners(RECIPE), batch_of()
    leads = []
    for k in range(6):
        for learner in both:
            hook = learner.objective.network.flow.register_forward_hook(lambda *_: None) if k in (2, 3) else None
            joint_step(learner, batch)
            if hook is not None:
                hook.remove()
        leads.append(both[0].sloped.leads)
    assert leads == [True, True, False, False, True, True]
    same(*both)


def test_what_is_frozen_in_between_stays():
    both, batch = learners(RECIPE), batch_of()
    for learner in both:
        joint_step(learner, batch)
        bias = learner.objective.network.flow.bias.requires_grad_(False)
        before = bias.clone()
        joint_step(learner, batch)
        assert torch.equal(bias, before)
        bias.requires_grad_(True)
        for _ in range(2):  # by now the optimizer has moved it less often than the others
            joint_step(learner, batch)
    assert not both[0].sloped.moves
    same(*both)


def test_numbers_that_a_loss_puts_into_parameters_count_and_aliases_see_what_is_learned():
    both, batch = learners(RECIPE), batch_of()
    for learner in both:
        network = learner.objective.network
        held = network.flow.bias.data.fill_(3.0)

        def loss(output, y, held=held):
            held.clamp_(-0.1, 0.1)
            return own(output, y)

        learner.objective.loss = loss
        joint_step(learner, batch)
        network.flow.weight.data = torch.full_like(network.flow.weight, 0.5)
        joint_step(learner, batch)
        assert torch.equal(held, network.flow.bias)
        assert 0 < held.abs().max() < 0.1 + 2.1 * RECIPE.learning_rate
    assert both[0].sloped.leads


def test_callbacks_may_keep_gradients():
    kept = []
    for backend in ("sloped", "autograd"):
        network, batch = network_of(), batch_of(12)
        if backend == "autograd":
            network.head.register_forward_hook(lambda *_: None)
        grads = []
        hdnn.fit(
            network,
            *batch[:2],
            Recipe(epochs=2, batch_size=4),
            own,
            callbacks=[lambda progress, network=network, grads=grads: grads.append(network.flow.weight.grad)],
        )
        kept.append([*grads, network.flow.weight.grad])
    torch.testing.assert_close(kept[0], kept[1], rtol=1e-7, atol=1e-10)
    assert not any(torch.equal(a, b) for a, b in zip(kept[0][:-1], kept[0][1:-1], strict=False))


@pytest.mark.parametrize("pause", [2, 3])
def test_a_pause_leaves_no_trace(pause):
    def trained(**more):
        network = network_of().float()
        x, y, *_ = batch_of(12)
        hdnn.fit(network, x.float(), y, Recipe(epochs=3, batch_size=4), own, **more)
        return network.state_dict()

    states = []

    def keep(progress):
        if progress.iteration == pause:
            states.append(progress.state())

    expected = trained(callbacks=[keep])
    found = trained(resume=states[0])
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_rate_that_overflows_is_told_as_ever():
    network, (x, y, *_) = network_of(), batch_of(12)
    recipe = Recipe(epochs=4, batch_size=4, optimizer="sgd", learning_rate=1e300)
    with pytest.raises(FloatingPointError, match="epoch"):
        hdnn.fit(network, x, y, recipe, lambda output, y: output.square().mean())
