"""Single steps, joint and alternating, and what they must leave alone."""

import pytest
import torch
from torch import nn

import hdnn
from hdnn.training import Objective, Recipe
from hdnn.training.batches import Batch, Rows
from hdnn.training.learners import Single
from hdnn.training.steps import alternating_step, joint_step, train_head

F64 = torch.float64


def make(lift="zeros", seed=0, **choices):
    torch.manual_seed(seed)
    network = hdnn.vector_classifier(2, 3, hdnn.h2(4, 3, step=0.2, dtype=F64), lift=lift)
    x = torch.randn(30, 2, dtype=F64)
    return Objective(network, **choices), x, torch.arange(30) % 3


def without_head(network):
    return [p for name, p in network.named_parameters() if not name.startswith("head.")]


def fit_head(objective, x, y, recipe):
    rows = Rows(Batch(x, y), recipe.batch_size, [torch.Generator()])
    train_head(Single(objective, recipe), rows, [torch.Generator().manual_seed(recipe.seed)], stacked=False)


def copies(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def moved(network, before):
    return {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}


def test_a_joint_step_moves_everything_against_the_gradient():
    objective, x, y = make()
    nn.init.normal_(objective.network.head.weight)
    before = copies(objective.network)
    loss = objective(x, y)[0]
    gradients = torch.autograd.grad(loss, list(objective.network.parameters()))
    recipe = Recipe(optimizer="sgd", learning_rate=0.1)
    found, output = joint_step(Single(objective, recipe), Batch(x, y))
    assert torch.equal(found, loss)
    assert not found.requires_grad
    assert not output.requires_grad
    for (name, p), gradient in zip(objective.network.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(p.detach(), before[name] - 0.1 * gradient)


@pytest.mark.parametrize("clip", [1e-3, 0.1])
def test_clipping_bounds_the_norm_of_the_step(clip):
    objective, x, y = make()
    nn.init.normal_(objective.network.head.weight, std=50.0)
    before = copies(objective.network)
    recipe = Recipe(optimizer="sgd", learning_rate=1.0, clip=clip)
    joint_step(Single(objective, recipe), Batch(x, y))
    steps = [(p.detach() - before[name]).square().sum() for name, p in objective.network.named_parameters()]
    assert float(sum(steps)) ** 0.5 == pytest.approx(clip, rel=1e-4)


def test_a_small_gradient_is_not_clipped():
    def after(clip):
        objective, x, y = make()
        recipe = Recipe(optimizer="sgd", learning_rate=0.1, clip=clip)
        joint_step(Single(objective, recipe), Batch(x, y))
        return copies(objective.network)

    plain, clipped = after(None), after(1e6)
    assert all(torch.equal(plain[name], clipped[name]) for name in plain)


def test_clipping_in_the_alternating_method_sees_the_flow_alone():
    # The output layer keeps the gradient of its own last step, which must not shrink the step of the flow.
    objective, x, y = make()
    before = copies(objective.network)
    recipe = Recipe(method="alternating", optimizer="sgd", learning_rate=1.0, clip=1e-4, head_steps=1)
    alternating_step(Single(objective, recipe), Batch(x, y))
    steps = [
        (p.detach() - before[name]).square().sum()
        for name, p in objective.network.named_parameters()
        if not name.startswith("head.")
    ]
    assert float(sum(steps)) ** 0.5 == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("lift", ["zeros", "linear"])
def test_an_alternating_step_is_a_fresh_head_and_then_one_step_of_the_rest(lift):
    """The paper's recipe, done once more by hand."""
    recipe = Recipe(method="alternating", optimizer="sgd", learning_rate=0.1, head_steps=10, head_learning_rate=0.05)
    objective, x, y = make(lift, smoothness=0.01, head_decay=0.02)
    nn.init.normal_(objective.network.head.weight)  # left by the batch before; must not matter
    alternating_step(Single(objective, recipe), Batch(x, y))

    expected, x, y = make(lift, smoothness=0.01, head_decay=0.02)
    network = expected.network
    W = torch.zeros(3, 4, dtype=F64, requires_grad=True)
    mu = torch.zeros(3, dtype=F64, requires_grad=True)
    features = network.features(x).detach()
    adam = torch.optim.Adam([W, mu], lr=0.05)
    for _ in range(10):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(features @ W.T + mu, y)
        (loss + 0.02 * (W.square().sum() + mu.square().sum())).backward()
        adam.step()
    with torch.no_grad():
        network.head.weight.copy_(W)
        network.head.bias.copy_(mu)
    rest = without_head(network)
    gradients = torch.autograd.grad(expected(x, y)[0], rest)
    with torch.no_grad():
        for p, gradient in zip(rest, gradients, strict=True):
            p -= 0.1 * gradient
    for (name, p), q in zip(objective.network.named_parameters(), network.parameters(), strict=True):
        # As many samples of each class: the first gradient of μ is rounding alone, which Adam divides by itself + 1e-8.
        torch.testing.assert_close(p, q, msg=name, atol=1e-9, rtol=1e-8)
    if lift == "linear":
        assert any(name.startswith("lift.") for name in moved(objective.network, copies(make(lift)[0].network)))


def test_the_head_can_be_trained_again_after_an_interrupted_step():
    objective, x, y = make()
    recipe = Recipe(method="alternating")
    learner = Single(objective, recipe)

    def interrupt():
        raise KeyboardInterrupt

    learner.optimizer.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        alternating_step(learner, Batch(x, y))
    assert all(p.requires_grad for p in objective.network.parameters())


@pytest.mark.parametrize("lift", ["zeros", "linear"])
def test_the_last_head_is_trained_on_frozen_features(lift):
    objective, x, y = make(lift, head_decay=1e-4)
    nn.init.normal_(objective.network.head.weight, std=30.0)
    before = copies(objective.network)
    worse = float(objective(x, y)[0].detach())
    fit_head(objective, x, y, Recipe(method="alternating", batch_size=8, head_epochs=50))
    assert moved(objective.network, before) == {"head.weight", "head.bias"}
    assert float(objective(x, y)[0].detach()) < min(worse, 1.0986)


def test_the_last_head_does_not_depend_on_the_one_before_but_on_the_seed():
    heads = []
    for std, seed in ((0.0, 1), (30.0, 1), (0.0, 2)):
        objective, x, y = make()
        nn.init.normal_(objective.network.head.weight, std=std)
        fit_head(objective, x, y, Recipe(method="alternating", batch_size=8, head_epochs=3, seed=seed))
        heads.append(objective.network.head.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
