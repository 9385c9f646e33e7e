"""Training a flow whose calls say how many layers it has: the core of a recurrent network."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import hdnn
from hdnn.training import Recipe, fit

F64 = torch.float64
U = torch.randn(48, 12, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = U[..., 0].mean(1, keepdim=True)


class Recurrent(nn.Module):
    """Reads a sequence (B, T, 2) into a state, and that out."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.core = hdnn.h2(features=8, step=0.3, shared=True, inputs=2, dtype=F64)
            self.out = nn.Linear(8, 1, dtype=F64)

    def forward(self, u):
        return self.out(self.core(u.new_zeros(len(u), 8), inputs=u.transpose(0, 1)))


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ({}, {}),
        ({}, {"validation": (U[:8, :5], Y[:8])}),
        ({"validation_fraction": 0.25, "patience": 2}, {}),
        ({"smoothness": 1e-3}, {}),
        ({"restarts": 2, "restart_epochs": 2}, {}),
        ({"optimizer": "lbfgs"}, {}),
    ],
)
def test_it_learns_from_tensors(recipe, options):
    model = Recurrent()
    before = weights(model)
    history = fit(model, U, Y, Recipe(epochs=3, batch_size=16, **recipe), mse_loss, **options)
    assert history[-1]["loss"] < history[0]["loss"]
    assert not torch.equal(before, weights(model))


def test_it_learns_from_sequences_of_several_lengths():
    batches = [(U[:16, :5], Y[:16]), (U[16:32], Y[16:32]), (U[32:, :7], Y[32:])]
    history = fit(Recurrent(), batches, recipe=Recipe(epochs=8), loss=mse_loss, validation=batches[:2])
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_first_bits_are_those_of_a_plain_loop():
    model, plain = Recurrent(), Recurrent()
    fit(model, [(U, Y)], recipe=Recipe(epochs=4, schedule="constant", learning_rate=0.01), loss=mse_loss)
    optimizer = torch.optim.Adam(plain.parameters(), 0.01, fused=True)
    for _ in range(4):
        optimizer.zero_grad()
        mse_loss(plain(U), Y).backward()
        optimizer.step()
    assert torch.equal(weights(model), weights(plain))


def test_what_overflows_is_told():
    model = Recurrent()
    with torch.no_grad():
        model.core.weight.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match=r"not finite in `core.weight`\. They were so before the first step"):
        fit(model, U, Y, Recipe(epochs=1), mse_loss)
    model = Recurrent()
    with torch.no_grad():
        model.core.weight.fill_(1e200)
        model.core.activation = "relu"
    with pytest.raises(FloatingPointError, match=r"in layer \d+ of 0 … 11"):
        fit(model, U, Y, Recipe(epochs=1), mse_loss)
