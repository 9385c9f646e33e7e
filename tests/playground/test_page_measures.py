"""What the page shows of a network is what Python finds: sensitivities, gradients, eigenvalues, energies."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import hdnn
from hdnn.activations import ACTIVATIONS
from hdnn.presets import h1, h2, ms1, ms2, ms3

FLOWS = {"h1": h1, "h2": h2, "ms1": ms1, "ms2": ms2, "ms3": ms3}
POINTS, LAYERS, STEP = 5, 6, 0.2


@pytest.mark.parametrize(
    ("kind", "activation", "shared", "damping"),
    [
        *((kind, "tanh", shared, 0) for kind in FLOWS for shared in (False, True)),
        *(("h2", name, True, 0) for name in ACTIVATIONS),
        *((kind, "tanh", False, 0.7) for kind in ("h2", "ms1", "ms3")),
    ],
)
def test_measures_are_those_of_python(laboratory, kind, activation, shared, damping):
    torch.manual_seed(2)
    n = 4
    damped = {"damping": damping} if damping else {}  # which not all take
    flow = FLOWS[kind](n, LAYERS, step=STEP, activation=activation, shared=shared, dtype=torch.float64, **damped)
    with torch.no_grad():  # numbers that float32 holds
        for p in flow.parameters():
            p.copy_(p.float().double())
    network = hdnn.vector_classifier(2, 2, flow)
    torch.nn.init.normal_(network.head.weight)
    with torch.no_grad():
        network.head.weight.copy_(network.head.weight.float().double())
    x, y = torch.randn(POINTS, 2).double(), torch.tensor([0, 1, 1, 0, 1])
    state = [flow.weight, flow.bias, network.head.weight, network.head.bias]
    found = laboratory(
        "measures",
        network={
            **{"kind": kind, "features": n, "layers": LAYERS, "step": STEP, "activation": activation},
            **{"shared": shared, "J": "J1", "ownJ": [], "damping": damping},
        },
        parameters=torch.cat([each.detach().flatten() for each in state]).numpy(),
        **{"x": x.flatten().numpy(), "y": y.numpy(), "layer": 2},
    )
    y0 = network.lift(x)
    with torch.no_grad():
        states = flow.trajectory(y0)
    assert np.array(found["states"]) == pytest.approx(states.flatten().numpy(), abs=1e-5)
    M = hdnn.analysis.sensitivities(flow, y0).detach()
    norms = torch.linalg.matrix_norm(M, 2).mean(1).log10()
    assert np.array(found["jacobian"]) == pytest.approx(norms.numpy(), abs=1e-6)
    assert np.array(found["singular"]) == pytest.approx(torch.linalg.svdvals(M[0]).flatten().numpy(), rel=1e-6)

    def loss(last):
        return functional.binary_cross_entropy_with_logits(network.head(last).squeeze(-1), y.double())

    through = hdnn.analysis.gradients(flow, y0, loss).state_norms.mean(1)
    assert np.array(found["gradient"]) == pytest.approx((through / through[-1]).log10().numpy(), abs=1e-6)
    eigenvalues = np.array(found["spectrum"]).reshape(POINTS, n, 2)
    for point, values in zip(states[2], eigenvalues[..., 0] + 1j * eigenvalues[..., 1], strict=True):
        F = field_jacobian(flow, 2, point)
        for power in (1, 2, 3):  # traces of powers: eigenvalues have no order
            expected = np.trace(np.linalg.matrix_power(F, power))
            assert (values**power).sum() == pytest.approx(expected, abs=1e-4)
    if shared:
        K, b = flow.K[0].detach(), flow.bias[0].detach()
        energy = flow.activation.potential(states @ K.T + b).sum(-1)
        differences = np.array(found["energy"]).reshape(LAYERS + 1, POINTS)
        assert differences - differences[0] == pytest.approx((energy - energy[0]).numpy(), abs=1e-4)


def field_jacobian(flow, layer, y):
    """Of J Kᵀ σ(K y + b) − (γ p, 0), or with σ(K y + b) where J Kᵀ = I."""
    stored = 0 if len(flow.weight) == 1 else layer
    K, b = flow.K[stored].detach(), flow.bias[stored].detach()
    drive = torch.eye(len(K)).double() if flow.hamiltonian.interconnection.is_inverse else flow.J @ K.T
    damped = torch.diag(flow.damping * (torch.arange(len(K)) < len(K) // 2).double())
    return (drive @ torch.diag(flow.activation.slope(K @ y + b)) @ K - damped).numpy()
