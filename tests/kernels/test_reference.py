"""The oracle and the flow are the same map, in values and in gradients."""

import pytest
import torch

from families import ACTIVATIONS, COMBINATIONS, F64, INTEGRATORS, Factors, preset, random
from hdnn.flow import Flow
from hdnn.kernels import reference

FUSED = [c for c in COMBINATIONS if INTEGRATORS[c.integrator].kernel]


def oracle(flow: Flow, y: torch.Tensor) -> torch.Tensor:
    """The run of the flow by `kernels.reference`, from K, b and J in full."""
    m, n, layers = flow.hamiltonian.hidden, flow.features, flow.layers
    K = flow.K.expand(layers, m, n)
    b = flow.bias.expand(layers, m)
    J = flow._J()
    G = torch.eye(n, dtype=F64).expand(layers, n, n) if J is None else (J @ K.mT)
    if moves := flow.integrator.fractions:
        return reference.partitioned(y, K, b, G, flow.step, flow.activation.value, flow.integrator.first, moves)
    step = reference.runge_kutta if flow.integrator.kernel == "runge_kutta" else reference.euler
    return step(y, K, b, G, flow.step, flow.activation.value)


def compare(flow: Flow) -> None:
    y = random(3, flow.features, seed=1).requires_grad_()
    cotangent = random(3, flow.features, seed=2)
    of = [y, *flow.parameters()]
    mine, truth = flow(y), oracle(flow, y)
    torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-12)
    for a, b in zip(torch.autograd.grad(mine, of, cotangent), torch.autograd.grad(truth, of, cotangent), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["ms1", "ms2", "ms3", "h1", "h2"])
def test_presets(name: str, activation: str, shared: bool) -> None:
    compare(preset(name, 6, 4, 1.0, activation=ACTIVATIONS[activation], shared=shared))


@pytest.mark.parametrize("factors", FUSED, ids=str)
def test_combinations(factors: Factors) -> None:
    compare(factors.flow(6, 3, std=1.0))


def test_no_layers() -> None:
    y = random(2, 4)
    assert torch.equal(oracle(preset("h2", layers=0), y), y)
