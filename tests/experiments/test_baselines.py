"""Plain networks trained many at once: their gradients are those of autograd, their members those of one alone."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from hdnn.chains import SMALLEST, Chains, passage
from hdnn.experiments.baselines import train_chains
from hdnn.networks import Network, ZeroPadding
from hdnn.training import Recipe, fit

BOTH = pytest.mark.parametrize("steps", [[1.0, 0.3], None], ids=["resnet", "mlp"])


def chain(seeds, layers, steps):
    made = Chains(seeds, 4, layers, steps=steps).double()
    with torch.no_grad():
        made.head_weight.normal_(generator=torch.Generator().manual_seed(1))
    return made


class Residual(nn.Module):
    def __init__(self, linear, step):
        super().__init__()
        self.linear, self.step = linear, step

    def forward(self, y):
        z = torch.tanh(self.linear(y))
        return z if self.step is None else y + self.step * z


def alone(chains, member):
    """The same network as modules of PyTorch."""
    step = None if chains.step is None else chains.step[member].item()
    layers = nn.Sequential()
    for K, b in zip(chains.weight[:, member], chains.bias[:, member], strict=True):
        linear = nn.Linear(4, 4, dtype=torch.float64)
        linear.weight.data.copy_(K)
        linear.bias.data.copy_(b.squeeze(-1))
        layers.append(Residual(linear, step))
    head = nn.Linear(4, 1, dtype=torch.float64)
    head.weight.data.copy_(chains.head_weight[member])
    head.bias.data.copy_(chains.head_bias[member, 0])
    return Network(ZeroPadding(2, 4), layers, head, "classification")


@BOTH
def test_outputs_and_gradients_are_those_of_modules(steps):
    chains = chain([3, 5], 9, steps)
    x = torch.randn(2, 7, 2, dtype=torch.float64)
    logits = chains(x)
    with torch.no_grad():
        assert torch.equal(chains(x), logits)
    cotangent = torch.randn_like(logits)
    found = torch.autograd.grad(logits, list(chains.parameters()), cotangent)
    for member in range(2):
        network = alone(chains, member)
        output = network(x[member]).squeeze(-1)
        torch.testing.assert_close(logits[member], output)
        output.backward(cotangent[member])
        for j, layer in enumerate(network.flow):
            torch.testing.assert_close(found[0][j, member], layer.linear.weight.grad)
            torch.testing.assert_close(found[1][j, member, :, 0], layer.linear.bias.grad)
        torch.testing.assert_close(found[2][member], network.head.weight.grad)


@pytest.mark.parametrize("backend", ["native", "torch"])
@BOTH
def test_a_member_trains_as_fit_trains_it(steps, backend, monkeypatch):
    if backend == "torch":
        monkeypatch.setattr("hdnn.kernels.training.why_not", lambda *_: "for this test")
    chains = chain([3, 5], 5, steps)
    x = torch.randn(2, 60, 2, dtype=torch.float64)
    y = (x[..., 0] > 0).long()
    networks = [alone(chains, member) for member in range(2)]
    rates = (0.01, 0.1)
    recipe = Recipe(epochs=3, batch_size=25, clip=0.1)
    train_chains(chains, x, y, recipe, torch.tensor(rates, dtype=torch.float64), [7, 8])
    for member, network in enumerate(networks):
        rate = {"learning_rate": rates[member], "seed": 7 + member}
        fit(network, x[member], y[member], Recipe(epochs=3, batch_size=25, clip=0.1, **rate))
        with torch.no_grad():
            torch.testing.assert_close(chains(x)[member], network(x[member]).squeeze(-1), rtol=1e-5, atol=1e-6)


def test_a_member_that_diverges_leaves_the_others_alone():
    x = torch.randn(1, 20, 2).expand(2, 20, 2).contiguous()
    y = (x[..., 0] > 0).long()
    rates, recipe = torch.tensor([0.01, math.inf]), Recipe(epochs=2, batch_size=10)
    both = Chains([0, 0], 4, 3, steps=[1.0, 1.0])
    losses = train_chains(both, x, y, recipe, rates, [0, 0])
    one = Chains([0], 4, 3, steps=[1.0])
    torch.testing.assert_close(losses[:, 0], train_chains(one, x[:1], y[:1], recipe, rates[:1], [0])[:, 0])
    assert not losses[-1, 1].isfinite()


@BOTH
def test_layers_of_a_member_are_its_layers(steps):
    chains = chain([3, 5], 4, steps)
    x = torch.randn(6, 2, dtype=torch.float64)
    y = functional.pad(x, (0, 2))
    for layer in chains.layers(1):
        y = layer(y)
    torch.testing.assert_close(y, alone(chains, 1).flow(functional.pad(x, (0, 2))))


@pytest.mark.parametrize("weights", ["pytorch", "orthogonal", "xavier"])
def test_weights_begin_as_they_are_called(weights):
    made = Chains([3, 3, 4], 4, 500, steps=None, weights=weights, gains=[1.0, 2.0, 1.0]).double()
    K, other = made.weight[:, 0].detach(), made.weight[:, 2]
    torch.testing.assert_close(made.weight[:, 1], 2 * K)
    assert not torch.equal(other, K)
    if weights == "orthogonal":
        torch.testing.assert_close(K.mT @ K, torch.eye(4).double().expand(500, 4, 4), atol=1e-5, rtol=0)
        assert abs(K.mean()) < 0.02  # both signs
    else:
        like = nn.init.xavier_uniform_(torch.empty(500, 4, 4)[0]) if weights == "xavier" else nn.Linear(4, 4).weight
        bound = math.sqrt(3 / 4) if weights == "xavier" else 1 / 2
        assert like.abs().max() <= bound
        assert 0.99 * bound < K.abs().max() <= bound
    assert (made.bias.abs().max() == 0) == (weights != "pytorch")


def test_without_layers_it_is_a_logistic_regression():
    x = torch.randn(1, 200, 2)
    y = (x[..., 0] + 0.3 > 0).long()
    made = Chains([0], 4, 0, steps=None)
    train_chains(made, x, y, Recipe(epochs=20, batch_size=20), torch.tensor([0.1]), [0])
    assert ((made(x) > 0) == y.bool()).double().mean() > 0.95
    assert passage(made.layers(0), torch.randn(5, 4, dtype=torch.float64)) == [0.0]


def test_passage_is_a_power_of_ten_of_known_layers():
    y0 = torch.randn(5, 3, dtype=torch.float64)
    found = passage([lambda y: y / 10, lambda y: 100 * y, lambda y: y.clone()], y0)
    assert found == pytest.approx([1.0, 2.0, 0.0, 0.0])
    assert passage([lambda y: y * 1e-200] * 3, y0)[0] == SMALLEST
