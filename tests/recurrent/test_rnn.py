"""The recurrent network: called as `torch.nn.RNN`, moving as the equations say."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import hdnn
from families import F64, random, tight
from hdnn.recurrent.rnn import MODELS

D, H = 3, 6
each_model = pytest.mark.parametrize("model", MODELS)
DAMPED = {"h2": 0.3, "ms1": 0.3, "ms2": 0.3, "ms3": 0.3, "cornn": 0.7}


def rnn(model="h2", damped=False, **options):
    made = hdnn.HamiltonianRNN(
        D, H, model=model, step=0.2, damping=DAMPED.get(model) if damped else None, dtype=F64, **options
    )
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(0.5 * random(*parameter.shape, seed=number))
    return made


@settings(max_examples=30, deadline=None)
@given(
    model=st.sampled_from(MODELS), layers=st.integers(1, 3), batch_first=st.booleans(), alone=st.booleans(),
    started=st.booleans(), T=st.integers(1, 4), B=st.integers(0, 3),
)  # fmt: skip
def test_shapes_are_those_of_pytorch(model, layers, batch_first, alone, started, T, B):
    ours, theirs = (make(D, H, layers, batch_first=batch_first) for make in (hdnn.HamiltonianRNN, nn.RNN))
    u = torch.randn((T, D) if alone else (B, T, D) if batch_first else (T, B, D))
    hx = torch.randn((layers, H) if alone else (layers, B, H)) if started else None
    for found, wanted in zip(ours(u, hx), theirs(u, hx), strict=True):
        assert found.shape == wanted.shape
    assert isinstance(rnn(model)(random(T, max(1, B), D))[0], torch.Tensor)


def step(model, cell, y, u, damping):
    """One step by the equations, in plain words."""
    if model in ("unicornn", "cornn"):
        z, x = y.chunk(2, -1)
        d = u @ cell.input_weight.mT + cell.bias
        if model == "unicornn":
            h = cell.step / (1 + torch.exp(-cell.steps))
            z = z - h * (torch.tanh(cell.weight * x + d) + cell.stiffness * x)
            return torch.cat((z, x + h * z), -1)
        W, W2 = cell.weight.chunk(2, -1)
        z = z + cell.step * (torch.tanh(x @ W.mT + z @ W2.mT + d) - cell.stiffness * x - cell.damping * z)
        return torch.cat((z, x + cell.step * z), -1)
    h, b, n = cell.step, cell.bias[0] + u @ cell.input_weight[0].mT, H // 2
    K = cell.K[0]
    if model in ("ms2", "h1"):
        z = torch.tanh(y @ K.mT + b)
        if model == "ms2":
            return y + h * z
        return y + h * (z @ K) @ hdnn.canonical(H, dtype=F64).mT
    p, q = y.chunk(2, -1)
    p = math.exp(-damping * h) * p
    if model == "h2":
        Kp, Kq = K[:n, :n], K[n:, n:]
        p = p + h * torch.tanh(q @ Kq.mT + b[..., n:]) @ Kq
        return torch.cat((p, q - h * torch.tanh(p @ Kp.mT + b[..., :n]) @ Kp), -1)
    if model == "ms3":
        K1, K2 = K[:n, n:], K[n:, :n]
        p = p + h * torch.tanh(q @ K1.mT + b[..., :n]) @ K1
        return torch.cat((p, q - h * torch.tanh(p @ K2.mT + b[..., n:]) @ K2), -1)
    q = q + h * torch.tanh(p @ K[n:, :n].mT + b[..., n:])
    return torch.cat((p + h * torch.tanh(q @ K[:n, n:].mT + b[..., :n]), q), -1)


@pytest.mark.parametrize("damped", [False, True])
@each_model
def test_it_is_the_loop_of_the_equations(model, damped):
    made, u, hx = rnn(model, damped, num_layers=2), random(5, 4, D, seed=20), random(2, 4, H, seed=21)
    y, ends = u, []
    for cell, h in zip(made.cells, hx, strict=True):
        states = [h]
        for each in y:
            states.append(step(model, cell, states[-1], each, made_damping(model, damped)))
        y = torch.stack(states[1:])
        ends.append(states[-1])
    output, h_n = made(u, hx)
    tight(output, y)
    tight(h_n, torch.stack(ends))


def made_damping(model, damped):
    return DAMPED.get(model, 0.0) if damped else 0.0


@each_model
def test_gradients_are_those_of_the_loop(model):
    made, u, hx = rnn(model, True), random(4, 3, D, seed=20), random(1, 3, H, seed=21)
    parameters = list(made.parameters())

    def loss(output):
        return (output * random(*output.shape, seed=22)).sum()

    y, states = hx[0], []
    for each in u:
        y = step(model, made.cells[0], y, each, DAMPED.get(model, 0.0))
        states.append(y)
    wanted = torch.autograd.grad(loss(torch.stack(states)), parameters)
    for found, want in zip(torch.autograd.grad(loss(made(u, hx)[0]), parameters), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layers", [1, 2])
@each_model
def test_packed_sequences_run_each_alone(model, layers):
    made, sequences = rnn(model, num_layers=layers), [random(T, D, seed=T) for T in (2, 5, 3, 5)]
    hx = random(layers, 4, H, seed=30)
    packed = pack_sequence(sequences, enforce_sorted=False)
    output, h_n = made(packed, hx)
    theirs, _ = nn.RNN(D, H, dtype=F64)(packed)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(output, name), getattr(theirs, name))
    padded, _ = pad_packed_sequence(output)
    for i, u in enumerate(sequences):
        alone, end = made(u, hx[:, i])
        tight(padded[: len(u), i], alone)
        tight(h_n[:, i], end)


def test_packed_sequences_in_order_and_without_beginnings():
    made, u = rnn(batch_first=True), random(2, 4, D)
    output, h_n = made(pack_padded_sequence(u, torch.tensor([4, 3]), batch_first=True))
    tight(pad_packed_sequence(output, batch_first=True)[0][0], made(u)[0][0])
    tight(h_n[:, 1], made(u[1:, :3])[1][:, 0])


def test_the_last_step_is_the_last_output():
    made, u = rnn(num_layers=2, batch_first=True), random(4, 7, D)
    output, h_n = made(u)
    tight(output[:, -1], h_n[-1])
    half, h = made(u[:, :3])
    rest, end = made(u[:, 3:], h)
    tight(torch.cat((half, rest), 1), output)
    tight(end, h_n)


@each_model
def test_state_and_copies(model):
    made, u = rnn(model, True, num_layers=2), random(3, 2, D)
    other = hdnn.HamiltonianRNN(D, H, 2, model=model, step=0.2, damping=DAMPED.get(model), dtype=F64)
    other.load_state_dict(made.state_dict())
    buffer = io.BytesIO()
    torch.save(made, buffer)
    buffer.seek(0)
    for each in (other, copy.deepcopy(made), torch.load(buffer, weights_only=False)):
        tight(each(u)[0], made(u)[0])
    before = copy.deepcopy(made)
    made.reset_parameters()
    assert not torch.equal(before(u)[0], made(u)[0])


def test_dropout_acts_between_layers_while_training():
    made, u = rnn(num_layers=2, dropout=0.5), random(3, 2, D)
    first, second = made(u)[0], made(u)[0]
    assert not torch.equal(first, second)
    made.eval()
    assert torch.equal(made(u)[0], made(u)[0])
    with pytest.warns(UserWarning, match="between layers"):
        hdnn.HamiltonianRNN(D, H, dropout=0.5)


@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_sensitivities_of_h2_do_not_vanish(damping):
    made, T = hdnn.HamiltonianRNN(D, H, step=0.2, damping=damping, dtype=F64), 60
    u = random(T, 1, D, seed=4)
    M = torch.func.jacrev(lambda y: made(u, y.reshape(1, 1, H))[1].flatten())(random(H, seed=5))
    assert torch.linalg.matrix_norm(M, 2) >= math.exp(-damping * 0.2 * T / 2) * (1 - 1e-9)


def test_the_shift_of_a_skew_matrix_takes_the_promises_away():
    flow = rnn("ms2", damped=True).cells[0]
    tight(flow.K[0] + flow.K[0].mT, -0.6 * torch.eye(H, dtype=F64))
    assert not flow.interconnection.skew
    assert not flow.structure.skew
    layered = hdnn.Flow(
        H, 40, step=0.5, structure=hdnn.Skew(shift=-0.9), interconnection=hdnn.Inverse(skew=False),
        integrator=hdnn.ForwardEuler(), init_std=0.1, dtype=F64,
    )  # fmt: skip
    assert not layered.preserves_volume
    assert not layered.preserves_structure
    with pytest.raises(ValueError, match="nothing is promised"):
        hdnn.analysis.lower_bound(layered)
    norms = hdnn.analysis.norms(hdnn.analysis.sensitivities(layered, 0.1 * random(2, H)))
    assert norms[0].max() < 1  # what the bound of a skew K would forbid
    with pytest.raises(ValueError, match=r"skew only if K is.*Inverse\(skew=False\)"):
        hdnn.Flow(4, 2, step=0.1, structure=hdnn.Skew(shift=-1), interconnection=hdnn.Inverse(),
                  integrator=hdnn.ForwardEuler())  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "h3"}, "Did you mean"),
        ({"model": "h1", "damping": 0.1}, "no damping"),
        ({"model": "unicornn", "damping": 0.1}, "undamped"),
        ({"model": "h2", "stiffness": 0.1}, "unicornn and cornn"),
        ({"model": "ms2", "damping": -0.1}, "0 or more"),
        ({"hidden_size": 5}, "even"),
        ({"num_layers": 0}, "at least 1"),
        ({"dropout": 2.0}, "probability"),
        (
            {"model": "cornn", "activation": "relu"},
            "`activation` is for models .* flows, and cornn is none; got 'relu'",
        ),
        ({"model": "unicornn", "init_std": 1.0}, "`init_std` is for models that are flows"),
        ({"model": "cornn", "backend": "native"}, "`backend` is for models that are flows"),
    ],
)
def test_choices_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        hdnn.HamiltonianRNN(**{"input_size": 2, "hidden_size": 6, **options})


@pytest.mark.parametrize(
    ("u", "hx", "message"),
    [
        (random(2, 3, 4), None, r"Expected sequences of shape \(T, B, 3\)"),
        (random(3), None, "Expected sequences"),
        (random(0, 2, 3), None, "at least one step"),
        (random(2, 2, 3), random(1, 3, H), r"Expected `hx` of shape \(1, 2, 6\)"),
        (random(2, 3), random(1, 2, H), r"Expected `hx` of shape \(1, 6\)"),
    ],
)
def test_sequences_that_do_not_fit(u, hx, message):
    with pytest.raises(ValueError, match=message):
        rnn()(u, hx)
    with pytest.raises(TypeError, match="packed"):
        rnn()([1.0])


def test_values_of_other_kinds():
    for name in ("dropout", "input_std"):
        with pytest.raises(TypeError, match=f"`{name}` must be a number; got '1', a str"):
            hdnn.HamiltonianRNN(2, 6, **{name: "1"})
    with pytest.raises(
        TypeError, match=r"`hx` is one tensor of shape \(1, 2, 6\), for there is no cell state; got a tup"
    ):
        rnn()(random(2, 2, 3), (random(1, 2, H), random(1, 2, H)))


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_other_numbers_than_those_of_the_weights_are_refused(model, dtype):
    u, hx = random(4, 2, D), random(1, 2, H)
    with pytest.raises(TypeError, match=r"`input` must be of torch.float64, as the weights are; got torch"):
        rnn(model)(u.to(dtype))
    with pytest.raises(TypeError, match=r"`input` must be of"):
        rnn(model)(pack_sequence([u[:, 0].to(dtype)]))
    with pytest.raises(TypeError, match=r"`hx` must be of torch.float64.*Convert it with hx.to\(torch.float64\)"):
        rnn(model)(u, hx.to(dtype))


@each_model
def test_autocast_takes_halved_inputs(model):
    u = random(4, 2, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rnn(model).float()(u.bfloat16())[0]
    torch.testing.assert_close(found.double(), rnn(model)(u)[0], atol=0.02, rtol=0.02)
