"""The objective against the paper's formula, written out once more with NumPy."""

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

import hdnn
from hdnn.training import Objective, evaluate, outputs
from hdnn.training.scores import mean_score, score_sum

F64 = torch.float64
CASES = ["two classes", "many classes", "regression"]


def network_of(case, seed=0, model=hdnn.h1, features=4, layers=5):
    torch.manual_seed(seed)
    flow = model(features, layers, step=0.3, dtype=F64)
    if case == "regression":
        network = hdnn.vector_regressor(3, 2, flow)
    else:
        network = hdnn.vector_classifier(3, 2 if case == "two classes" else 4, flow)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.head.bias)
    return network


def batch_of(case, rows=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator, dtype=F64)
    if case == "regression":
        return x, torch.randn(rows, 2, generator=generator, dtype=F64)
    return x, torch.arange(rows) % (2 if case == "two classes" else 4)


def data_loss(case, output, y, smoothing):
    """(1/s) sum L by hand; smoothing mixes the true class with the uniform distribution."""
    if case == "regression":
        return np.mean((output - y) ** 2)
    logits = np.concatenate((np.zeros_like(output), output), axis=1) if output.shape[1] == 1 else output
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    wanted = np.eye(classes)[y] * (1 - smoothing) + smoothing / classes
    return -np.mean((wanted * log_p).sum(axis=1))


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_formula_of_the_paper(case, smoothing):
    network, (x, y) = network_of(case), batch_of(case)
    alpha, alpha_c = 0.37, 0.11
    loss, output = Objective(network, smoothness=alpha, head_decay=alpha_c, label_smoothing=smoothing)(x, y)
    K, b = network.flow.K.detach().numpy(), network.flow.bias.detach().numpy()
    W, mu = network.head.weight.detach().numpy(), network.head.bias.detach().numpy()
    R_K = 0.3 / 2 * sum(np.linalg.norm(K[j] - K[j - 1]) ** 2 for j in range(1, len(K)))
    R_b = 0.3 / 2 * sum(np.linalg.norm(b[j] - b[j - 1]) ** 2 for j in range(1, len(b)))
    R_N = np.sum(W**2) + np.sum(mu**2)
    out = network(x).detach().numpy()
    expected = data_loss(case, out, y.numpy(), smoothing) + alpha_c * R_N + alpha * (R_K + R_b)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(output.detach().numpy(), out)


@pytest.mark.parametrize("model", [hdnn.ms1, hdnn.ms2, hdnn.ms3, hdnn.h1, hdnn.h2])
def test_alpha_counts_the_full_K_once_for_every_structure(model):
    network, (x, y) = network_of("two classes", model=model), batch_of("two classes")
    plain, smooth = Objective(network)(x, y)[0], Objective(network, smoothness=2.0)(x, y)[0]
    K, b = network.flow.K.detach(), network.flow.bias.detach()
    expected = 2.0 * 0.3 / 2 * float(K.diff(dim=0).square().sum() + b.diff(dim=0).square().sum())
    assert float((smooth - plain).detach()) == pytest.approx(expected, rel=1e-11)


def test_alpha_c_moves_the_output_layer_alone():
    network, (x, y) = network_of("many classes"), batch_of("many classes")

    def gradients(alpha_c):
        network.zero_grad()
        Objective(network, head_decay=alpha_c)(x, y)[0].backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}

    without, given = gradients(0.0), gradients(0.5)
    for name, p in network.named_parameters():
        expected = 2 * 0.5 * p.detach() if name.startswith("head.") else torch.zeros_like(p)
        torch.testing.assert_close(given[name] - without[name], expected, atol=1e-12, rtol=1e-10)


def test_shared_weights_have_no_smoothness_to_pay():
    torch.manual_seed(0)
    network = hdnn.vector_classifier(3, 2, hdnn.h1(4, 5, step=0.3, shared=True, dtype=F64))
    x, y = batch_of("two classes")
    assert torch.equal(Objective(network, smoothness=10.0)(x, y)[0], Objective(network)(x, y)[0])


@pytest.mark.parametrize("case", CASES)
def test_it_is_a_pure_function_of_the_parameters(case):
    objective, other = Objective(network_of(case, seed=0), smoothness=0.1, head_decay=0.2), network_of(case, seed=5)
    x, y = batch_of(case)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    given = {f"network.{name}": p.detach() for name, p in other.named_parameters()}
    loss, output = functional_call(objective, given, (x, y))
    expected, expected_output = Objective(other, smoothness=0.1, head_decay=0.2)(x, y)
    assert torch.equal(loss, expected)
    assert torch.equal(output, expected_output)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


@pytest.mark.parametrize("model", [hdnn.h1, hdnn.h2, hdnn.ms1])
def test_many_seeds_run_stacked_as_they_run_one_by_one(model):
    objectives = [
        Objective(network_of("many classes", seed, model), smoothness=0.1, head_decay=0.2) for seed in range(3)
    ]
    x, y = batch_of("many classes")
    parameters, buffers = stack_module_state(objectives)

    def loss(parameters, buffers):
        return functional_call(objectives[0], (parameters, buffers), (x, y))[0]

    stacked = vmap(grad(loss))(parameters, buffers)
    for i, objective in enumerate(objectives):
        objective.zero_grad()
        objective(x, y)[0].backward()
        for name, p in objective.named_parameters():
            torch.testing.assert_close(stacked[name][i], p.grad, atol=1e-12, rtol=1e-10)


def test_regression_targets_of_another_shape_are_refused_not_spread():
    objective = Objective(network_of("regression"))
    with pytest.raises(ValueError, match=r"\(7, 2\); got \(7,\)"):
        objective(batch_of("regression")[0], torch.zeros(7, dtype=F64))


@pytest.mark.parametrize("terms", [2, 3, 8])
def test_losses_of_others_than_samples_are_refused(terms):
    """Of four samples, whether their number goes into that of the losses or not."""
    x, net = torch.randn(4, 3), torch.nn.Linear(3, 3)
    losses = Objective(net, lambda output, y: (output - y).square().mean(1).repeat(2)[:terms])
    with pytest.raises(ValueError, match=rf"each of 4 samples; got shape \({terms},\).* take its mean"):
        losses(x, x)
    means = Objective(net, lambda output, y: (output - y).square().mean(1)[:terms].mean())
    assert means(x, x)[0].dim() == 0


@pytest.mark.parametrize("case", CASES)
def test_evaluation_in_parts_is_evaluation_in_one(case, monkeypatch):
    network, (x, y) = network_of(case), batch_of(case, rows=50)
    whole, found = outputs(network, x), evaluate(network, x, y)
    monkeypatch.setattr("hdnn.training.objective.EVALUATION_BATCH", 7)
    torch.testing.assert_close(outputs(network, x), whole, atol=1e-13, rtol=0)
    assert evaluate(network, x, y) == pytest.approx(found)
    assert not outputs(network, x).requires_grad
    score = "error" if case == "regression" else "accuracy"
    out = whole.numpy()
    if case == "regression":
        expected = np.sqrt(np.mean((out - y.numpy()) ** 2))
    else:
        said = (out[:, 0] > 0) if out.shape[1] == 1 else out.argmax(1)
        expected = np.mean(said == y.numpy())
    assert found == {"loss": pytest.approx(data_loss(case, out, y.numpy(), 0.0)), score: pytest.approx(expected)}
    assert mean_score(network, float(score_sum(network, whole, y)), y) == pytest.approx(expected)
