"""The kernels of the page are those of Python: against the oracle, and through an epoch of training."""

import numpy as np
import pytest
import torch

import hdnn
from hdnn.activations import ACTIVATIONS
from hdnn.kernels import reference
from hdnn.presets import h1, h2, ms1, ms2, ms3

FLOWS = {"h1": h1, "h2": h2, "ms1": ms1, "ms2": ms2, "ms3": ms3}
HALVED = ("h2", "ms1", "ms3")  # that can be damped
J_OWN = [0.5, 1.0, -0.3, 0.2, 1.5, 0.7]  # above the diagonal, row by row


def network_of(kind, n, layers, step, activation="tanh", shared=False, J="J1", damping=0):
    """A network in the words of the page."""
    return {
        **{"kind": kind, "features": n, "layers": layers, "step": step, "activation": activation, "shared": shared},
        **{"J": J, "ownJ": J_OWN, "damping": damping},
    }


def flow_of(kind, n, layers, step, activation="tanh", shared=False, J="J1", damping=0):
    upper = torch.zeros(4, 4, dtype=torch.float64)
    upper[*torch.triu_indices(4, 4, 1)] = torch.tensor(J_OWN, dtype=torch.float64)
    driven = {
        "J1": {},
        "J2": {"interconnection": "upper_ones"},
        "own": {"interconnection": hdnn.Fixed(upper - upper.T)},
    }
    if damping:
        driven["J1"]["damping"] = damping
    options = {"step": step, "activation": activation, "shared": shared, "dtype": torch.float64}
    return FLOWS[kind](n, layers, **options, **driven[J])


def oracle(flow, y):
    """The reference run of a flow, with autograd."""
    N, J = flow.layers, flow.J if flow.hamiltonian.interconnection.is_inverse is False else None
    K, b = flow.K.expand(N, -1, -1), flow.bias.expand(N, -1)
    G = torch.eye(flow.features, dtype=K.dtype).expand(N, -1, -1) if J is None else J @ K.mT
    sigma = flow.activation.value
    if flow.integrator.kernel == "euler":
        return reference.euler(y, K, b, G, flow.step, sigma)
    return reference.partitioned(y, K, b, G, flow.step, sigma, flow.integrator.first, damping=flow.damping)


CASES = [
    *((kind, n, "tanh", False, "J1", 0) for kind in FLOWS for n in (2, 4, 6, 16)),
    *((kind, 4, activation, False, "J1", 0) for kind in FLOWS for activation in ACTIVATIONS if activation != "tanh"),
    *((kind, 4, "tanh", True, "J1", 0) for kind in FLOWS),
    *(("h1", 4, "tanh", shared, J, 0) for J in ("J2", "own") for shared in (False, True)),
    *((kind, n, "tanh", shared, "J1", 0.7) for kind in HALVED for n, shared in ((4, False), (6, True))),
]


@pytest.mark.parametrize(("kind", "n", "activation", "shared", "J", "damping"), CASES)
def test_flows_agree_with_the_oracle(laboratory, kind, n, activation, shared, J, damping):
    torch.manual_seed(n)
    layers, rows, choices = 7, 37, {"activation": activation, "shared": shared, "J": J, "damping": damping}
    flow = flow_of(kind, n, layers, 0.2, **choices)
    y, g = torch.randn(rows, n, dtype=torch.float64, requires_grad=True), torch.randn(rows, n, dtype=torch.float64)
    expected = oracle(flow, y)
    by_y, by_b = torch.autograd.grad(expected, [y, flow.bias], g)
    head = torch.zeros(n + 1, dtype=torch.float64)
    numbers = torch.cat([flow.weight.detach().flatten(), flow.bias.detach().flatten(), head])
    found = laboratory(
        "gradients",
        network=network_of(kind, n, layers, 0.2, **choices),
        parameters=numbers.numpy(),
        y=y.detach().flatten().numpy(),
        g=g.flatten().numpy(),
        rows=rows,
    )
    close(found["out"], expected)
    close(found["y"], by_y)
    close(found["bias"][: by_b.numel()], by_b)


PLAIN = [
    *((4, activation, False) for activation in ACTIVATIONS),
    (4, "tanh", True),
    (2, "tanh", False),
    (16, "tanh", False),
]


@pytest.mark.parametrize("kind", ["perceptron", "resnet"])
@pytest.mark.parametrize(("n", "activation", "shared"), PLAIN)
def test_plain_networks_agree_with_theirs(laboratory, kind, n, activation, shared):
    torch.manual_seed(1)
    layers, rows, h = 6, 33, 0.3
    stored = 1 if shared else layers
    K, b = (torch.randn(stored, *shape, dtype=torch.float64) / n**0.5 for shape in ((n, n), (n,)))
    K.requires_grad_(), b.requires_grad_()
    y = torch.randn(rows, n, dtype=torch.float64, requires_grad=True)
    state, sigma = y, ACTIVATIONS[activation].value
    for K_j, b_j in zip(K.expand(layers, n, n), b.expand(layers, n), strict=True):
        z = sigma(state @ K_j.T + b_j)
        state = z if kind == "perceptron" else state + h * z
    g = torch.randn(rows, n, dtype=torch.float64)
    by_y, by_K, by_b = torch.autograd.grad(state, [y, K, b], g)
    numbers = torch.cat([K.detach().flatten(), b.detach().flatten(), torch.zeros(n + 1)])
    found = laboratory(
        "gradients",
        network=network_of(kind, n, layers, h, activation, shared),
        parameters=numbers.numpy(),
        y=y.detach().flatten().numpy(),
        g=g.flatten().numpy(),
        rows=rows,
    )
    for name, value in (("out", state), ("y", by_y), ("weight", by_K), ("bias", by_b)):
        close(found[name][: value.numel()], value)


def test_networks_begin_as_their_names_say(laboratory):
    def begun(kind, **options):
        found = laboratory("beginning", network=network_of(kind, 4, 500, 0.1), seed=1, options=options)["parameters"]
        numbers = np.array(found)
        assert not numbers[-5:].any(), "the head is zero"
        return numbers[:8000].reshape(500, 4, 4), numbers[8000:-5]

    K, b = begun("h1")
    assert (K.std(), b.std()) == (pytest.approx(0.5, rel=0.05), pytest.approx(0.5, rel=0.05))
    K, _ = begun("h1", std=2)
    assert K.std() == pytest.approx(2, rel=0.05)
    for kind in ("perceptron", "resnet"):
        K, b = begun(kind, start="default")  # as torch.nn.Linear
        for each in (K, b):
            assert np.abs(each).max() <= 0.5
            assert each.std() == pytest.approx(1 / np.sqrt(12), rel=0.05)
        K, b = begun(kind, start="orthogonal")
        assert pytest.approx(np.broadcast_to(np.eye(4), K.shape), abs=1e-6) == K @ K.transpose(0, 2, 1)
        assert not b.any()


def close(found, expected):
    """To the rounding of float32, as a share of the largest number."""
    expected = expected.detach().flatten().numpy()
    assert np.abs(np.array(found) - expected).max() <= 2e-5 * max(1.0, np.abs(expected).max())


EPOCHS = [
    *((kind, {}) for kind in FLOWS),
    *((kind, {"shared": True}) for kind in FLOWS),
    ("h1", {"J": "J2"}),
    *((kind, {"damping": 0.5}) for kind in HALVED),
    *(("h2", {"activation": activation}) for activation in ACTIVATIONS if activation != "tanh"),
]


@pytest.mark.parametrize(("kind", "options"), EPOCHS)
def test_an_epoch_is_that_of_python(laboratory, kind, options):
    """Weights from Python, the same order of batches: every loss to 1e-5, and the weights after it."""
    torch.manual_seed(3)
    n, layers, h, rate, batch = 4, 16, 0.1, 0.01, 50
    x, y = (torch.from_numpy(each) for each in hdnn.data.swiss_roll(1000, seed=1))
    x = x.float()
    network = hdnn.vector_classifier(2, 2, flow_of(kind, n, layers, h, **options).float())
    torch.nn.init.normal_(network.head.weight)
    before = [network.flow.weight, network.flow.bias, network.head.weight, network.head.bias]
    numbers = torch.cat([each.detach().flatten() for each in before])
    order = torch.randperm(1000)
    found = laboratory(
        "epoch",
        network=network_of(kind, n, layers, h, **options),
        parameters=numbers.numpy(),
        **{"x": x.flatten().numpy(), "y": y.numpy(), "order": order.numpy(), "batch": batch},
        **{"rate": rate, "smoothness": 1e-3, "headDecay": 1e-3},
    )
    objective = hdnn.training.Objective(network, smoothness=1e-3, head_decay=1e-3)
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=rate), []
    for rows in order.split(batch):
        loss, _ = objective(x[rows], y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.abs(np.array(found["losses"]) - losses).max() <= 1e-5
    after = torch.cat([each.detach().flatten() for each in before]).numpy()
    assert np.abs(np.array(found["parameters"]) - after).max() <= 1e-3
