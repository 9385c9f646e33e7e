"""Numbers that go bad: the message names where they did, which is known here because it is where they were spoilt."""

import math

import pytest
import torch
from torch import nn

import hdnn
from hdnn.training import Recipe, fit

X = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
RECIPE = Recipe(epochs=3, batch_size=8)


def network_of(**choices):
    torch.manual_seed(0)
    return hdnn.vector_classifier(2, 2, hdnn.h1(4, 8, step=0.1, **choices))


def message(network, x=X, y=Y, recipe=RECIPE, **choices):
    with pytest.raises(FloatingPointError) as caught:
        fit(network, x, y, recipe, **choices)
    text = str(caught.value)
    assert "so training stopped." in text
    assert "smaller learning rate or step, clip the gradient (`clip=1.0`), add a regulariser" in text
    return text


def test_weights_that_begin_as_no_numbers_are_called_so():
    network = network_of()
    with torch.no_grad():
        network.flow.weight[3] = math.nan
    text = message(network)
    assert "not finite in `flow.weight`, layer 3 of 0 … 7 (1 of 8 layers). They were so before the first step." in text


@pytest.mark.parametrize("layer", [0, 3, 7])
def test_the_layer_in_which_a_state_overflows_is_named(layer):
    network = network_of(activation=hdnn.relu)
    with torch.no_grad():
        network.flow.bias[layer] = 1e38
        network.flow.weight[layer] = 1e38
    text = message(network)
    assert f"The state overflows in layer {layer} of 0 … 7" in text
    assert "epoch 1, step 1 of 4" in text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_no_number_is_named(value):
    x = X.clone()
    x[5, 1] = value
    text = message(network_of(), x, recipe=Recipe(epochs=1, batch_size=32))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0)).tolist()
    assert f"The inputs of sample {order.index(5)} of the batch are infinite or not a number." in text


class Spoilt(torch.autograd.Function):
    """The same bias, whose gradient is infinite in one layer."""

    @staticmethod
    def forward(ctx, bias, layer):
        ctx.layer = layer
        return bias.clone()

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        g[ctx.layer] = math.inf
        return g, None


@pytest.mark.parametrize("layer", [0, 5])
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_layer_of_a_gradient_that_went_bad_is_named(layer, epochs):
    penalty = (1.0, lambda network: Spoilt.apply(network.flow.bias, layer).sum())
    recipe = Recipe(epochs=epochs, batch_size=32)
    text = message(network_of(), recipe=recipe, penalties=[penalty])
    assert f"The weights are not finite in `flow.bias`, layer {layer} of 0 … 7 (1 of 8 layers)." in text
    assert (
        f"The gradient of the last step was infinite or not a number, norm inf, in `flow.bias`, layer {layer}" in text
    )


def test_a_penalty_that_refuses_such_weights_does_not_hide_them():
    def penalty(network):
        if not bool(network.flow.bias.isfinite().all()):
            raise ValueError("weights must be finite")
        return Spoilt.apply(network.flow.bias, 2).sum()

    text = message(network_of(), penalties=[(1.0, penalty)])
    assert "epoch 1, step 2 of 4" in text
    assert "`flow.bias`, layer 2" in text
    bound = (1e-3, lambda network: hdnn.analysis.log_upper_bound(network.flow))
    assert "`flow.bias`" in message(
        network_of(), penalties=[(1.0, lambda n: Spoilt.apply(n.flow.bias, 1).sum()), bound]
    )


def test_an_error_of_a_penalty_stays_an_error():
    calls = []

    def penalty(network):
        calls.append(1)
        if len(calls) > 2:
            raise ValueError("something else")
        return network.flow.bias.sum()

    with pytest.raises(ValueError, match="something else"):
        fit(network_of(), X, Y, RECIPE, penalties=[(1.0, penalty)])


def test_a_loss_that_overflows_by_itself_is_told_from_states_that_do():
    text = message(network_of(), penalties=[(1e38, lambda network: network.flow.bias.square().sum() * 1e38)])
    assert "so it is the loss, a regulariser or a penalty that overflows" in text


def test_a_squared_gradient_that_overflows_is_not_passed_over():
    # Adam would hold these weights for ever: 1e25 / √inf = 0.
    text = message(network_of(), penalties=[(1e25, lambda network: network.flow.bias.sum())])
    assert "The memory of the optimizer became infinite" in text
    assert "squares overflowed" in text


def test_a_step_that_is_too_long_is_called_so():
    recipe = Recipe(epochs=2, batch_size=32, optimizer="sgd", learning_rate=1e38, schedule="constant")
    text = message(network_of(), recipe=recipe, penalties=[(1e3, lambda network: network.flow.bias.sum())])
    assert "The last gradient was finite, of norm" in text
    assert "the step was too long" in text


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_every_way_to_train_stops(optimizer, method):
    if (optimizer, method) == ("lbfgs", "alternating"):
        pytest.skip("a recipe that cannot be made")
    x = X.clone()
    x[0] = math.nan
    text = message(network_of(), x, recipe=Recipe(epochs=2, batch_size=8, optimizer=optimizer, method=method))
    assert "epoch 1" in text


def test_no_state_is_taken_of_weights_that_are_no_numbers():
    network = network_of()

    def spoil(progress):
        nn.init.constant_(network.head.bias, math.nan)
        with pytest.raises(FloatingPointError, match=r"`head\.bias`"):
            progress.state()

    message(network, callbacks=[spoil])


def test_a_flow_of_the_users_own_is_diagnosed_as_far_as_it_goes():
    class Blow(nn.Module):
        features, kernel_size = 2, None

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, y):
            return y * self.weight * 1e38 * 1e38

    network = hdnn.Network(nn.Identity(), Blow(), nn.Linear(2, 1), "classification")
    assert "`flow` (Blow) overflows: what it gets reaches" in message(network)
