"""Recurrent networks that begin as oscillators, each alone and of a frequency of its own."""

import math

import pytest
import torch

import hdnn
from families import F64


def test_each_oscillator_turns_by_its_angle_a_step():
    rnn = hdnn.HamiltonianRNN(2, 10, num_layers=2, step=0.3, frequencies=(0.05, 2.5), dtype=F64)
    angles = torch.linspace(0.05, 2.5, 5, dtype=F64)
    for cell in rnn.cells:
        assert cell.bias.count_nonzero() == 0
        y = 1e-5 * torch.eye(10, dtype=F64)
        states = cell.trajectory(
            y, inputs=torch.zeros(12, 10, rnn.input_size if cell is rnn.cells[0] else 10, dtype=F64)
        )
        one = (states[1] / 1e-5).mT  # the linear map of a step
        found = torch.linalg.eigvals(one)
        assert torch.allclose(found.abs(), torch.ones(10, dtype=F64), atol=1e-8)
        assert torch.allclose(found.angle().abs().sort().values[::2], angles, atol=1e-8)
        assert torch.allclose(states[12] / 1e-5, torch.linalg.matrix_power(one, 12).mT, atol=1e-7)


def test_units_begin_apart():
    K = hdnn.HamiltonianRNN(1, 8, step=0.1, frequencies=(0.1, 0.5)).cells[0].K[0]
    assert torch.equal(K, K.diag().diag())
    assert torch.allclose(K.diag()[0] ** 2 * 0.1, torch.tensor(2 * math.sin(0.05)))


@pytest.mark.parametrize("model", ["h2", "ms2", "unicornn", "cornn"])
def test_inputs_begin_with_the_deviation_that_is_asked_for(model):
    rnn = hdnn.HamiltonianRNN(40, 200, model=model, input_std=0.02)
    V = rnn.cells[0].input_weight.detach()
    assert abs(float(V.std()) / 0.02 - 1) < 0.05
    assert "input_std=0.02" in repr(rnn)


def test_a_reset_begins_there_again():
    rnn = hdnn.HamiltonianRNN(1, 6, frequencies=(0.1, 0.2), input_std=0.5)
    K = rnn.cells[0].weight.detach().clone()
    torch.manual_seed(3)
    for parameter in rnn.parameters():
        torch.nn.init.normal_(parameter)
    rnn.reset_parameters()
    assert torch.equal(rnn.cells[0].weight, K)
    assert rnn.cells[0].bias.count_nonzero() == 0
    assert "frequencies=(0.1, 0.2)" in repr(rnn)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frequencies": (0.1, 0.5), "model": "ms2"}, "those that h2 begins with"),
        ({"frequencies": (0.0, 0.5)}, "0 < lowest"),
        ({"frequencies": (0.1, 0.5), "activation": "relu"}, "that is u for small u"),
        ({"frequencies": (0.1, 0.5), "activation": hdnn.activations.softplus}, "got softplus"),
        ({"frequencies": (0.5, 0.1)}, "lowest <= highest"),
        ({"frequencies": (0.5, 3.2)}, "highest < π"),
        ({"frequencies": (0.5, math.nan)}, "highest < π"),
        ({"frequencies": (0.1, 0.5), "init_std": 1.0}, "got both"),
        ({"input_std": -1.0}, "at least 0"),
        ({"input_std": math.inf}, "at least 0"),
    ],
)
def test_what_cannot_be_is_said(options, said):
    with pytest.raises(ValueError, match=said):
        hdnn.HamiltonianRNN(1, 6, **options)


def test_networks_of_before_have_neither():
    rnn = hdnn.HamiltonianRNN(1, 6)
    state = {name: value for name, value in vars(rnn).items() if name not in ("frequencies", "input_std")}
    old = hdnn.HamiltonianRNN.__new__(hdnn.HamiltonianRNN)
    old.__setstate__(state)
    assert repr(old) == repr(rnn)
    old.reset_parameters()


def test_frequencies_are_two_numbers():
    for given in (0.5, (0.1, 0.2, 0.3), "ab"):
        with pytest.raises(TypeError, match="two numbers"):
            hdnn.HamiltonianRNN(1, 6, frequencies=given)
