"""Volume, energy and reversibility, against what each integrator is known to keep."""

from __future__ import annotations

import math

import pytest
import torch

from families import ACTIVATIONS, F64, INTEGRATORS, PRESETS, REPRESENTATIVE, Factors, jacobian, preset, random, state
from hdnn.analysis.invariants import energy_drift, log_volume, reversibility_error
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, ImplicitMidpoint
from hdnn.interconnections import Fixed, canonical
from hdnn.structures import BlockDiagonal

NO_INVERSE = ("ForwardEuler", "RungeKutta4")


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=lambda c: "-".join(c))
def test_volume(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0)
    y0 = state(flow, 5)
    found = log_volume(flow, y0)
    expected = torch.stack([torch.linalg.slogdet(jacobian(flow, y)).logabsdet for y in y0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    if flow.preserves_volume:
        assert found.abs().max() < 1e-13
    elif factors.integrator == "ForwardEuler":
        assert found.min() > 1e-4


def test_volume_of_a_deep_network_and_of_images() -> None:
    assert log_volume(preset("ms1", layers=500, std=1.0), random(4)).abs() < 1e-11
    flow = preset("ms1", kernel_size=3)
    assert log_volume(flow, state(flow, 2)).shape == (2,)


def oscillator(name: str, layers: int = 200) -> Flow:
    flow = Flow(
        4,
        layers,
        step=0.1,
        structure=BlockDiagonal(),
        interconnection=Fixed(canonical(4)),
        integrator=INTEGRATORS[name],
        shared=True,
        dtype=F64,
    )
    torch.nn.init.eye_(flow.weight[0, 0].data)
    torch.nn.init.eye_(flow.weight[0, 1].data)
    torch.nn.init.zeros_(flow.bias)
    return flow


@pytest.mark.parametrize("name", INTEGRATORS)
def test_energy_drift_is_the_difference_of_energies(name: str) -> None:
    flow, y0 = oscillator(name), random(5, 4)
    drift = energy_drift(flow, y0)
    assert drift.shape == (201, 5)
    assert (drift[0] == 0).all()
    energy = torch.log(torch.cosh(flow(y0))).sum(-1) - torch.log(torch.cosh(y0)).sum(-1)
    torch.testing.assert_close(drift[-1], energy.detach(), rtol=1e-9, atol=1e-12)
    if name == "ForwardEuler":
        assert (drift.diff(dim=0) > 0).all()
        assert drift[-1].min() > 0.2
    else:  # bounded, over three periods
        assert drift.abs().max() < 0.15


def test_energy_of_images_and_of_few_layers() -> None:
    flow = preset("h2", kernel_size=3, shared=True)
    assert energy_drift(flow, state(flow, 2)).shape == (4, 2)
    assert energy_drift(preset("h1", layers=1), random(5, 4)).shape == (2, 5)
    assert energy_drift(preset("h1", layers=0), random(5, 4)).tolist() == [[0.0] * 5]


def test_no_energy_without_shared_weights() -> None:
    with pytest.raises(ValueError, match=r"Each of the 3 layers has weights of its own.*shared=True"):
        energy_drift(preset("h2"), random(4))


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=lambda c: "-".join(c))
def test_the_way_back(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0)
    y0 = state(flow, 5)
    if factors.integrator in NO_INVERSE:
        with pytest.raises(ValueError, match="no explicit inverse"):
            reversibility_error(flow, y0)
        return
    error = reversibility_error(flow, y0)
    assert error.shape == (5,)
    assert error.max() < 1e-12
    torch.testing.assert_close(reversibility_error(flow, y0, relative=True), error / y0.norm(dim=-1))


def test_the_way_back_is_measured() -> None:
    """In single precision there is something to see, and for a wrong inverse even more."""
    flow = preset("h2", layers=50, std=1.0)
    y0 = random(5, 4)
    assert 1e-8 < reversibility_error(flow.float(), y0.float()).max() < 1e-2
    flow.double().integrator = WrongInverse()
    assert reversibility_error(flow, y0).min() > 1e-3
    image = preset("h2", kernel_size=3)
    assert reversibility_error(image, state(image, 2)).shape == (2,)


class WrongInverse(ImplicitMidpoint):
    """Undoes the midpoint rule by forward Euler with −h."""

    def step(self, field, y, h):
        return ForwardEuler().step(field, y, h)

    def inverse(self, field, y, h):
        return ForwardEuler().step(field, y, -h)


@pytest.mark.parametrize("measure", [log_volume, energy_drift, reversibility_error])
@pytest.mark.parametrize("name", PRESETS)
def test_weights_that_are_not_finite(measure: object, name: str) -> None:
    flow = preset(name, shared=True)
    with torch.no_grad():
        flow.weight[0, 0] = math.inf
    with pytest.raises(ValueError, match="weight"):
        measure(flow, random(4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_energy_stays_near_where_the_activation_is_smooth(name: str) -> None:
    """A bounded motion, H(y) = Σ σ̃(±a·y − c): at the kinks of ReLU errors add up, those of tanh do not."""
    A = random(2, 2, 2, seed=0)
    flow = preset("h2", layers=20_000, width=8, step=0.2, shared=True, activation=ACTIVATIONS[name])
    with torch.no_grad():
        flow.weight.copy_(torch.cat((A, -A), 1)[None])
        flow.bias.fill_(-0.25)
    drift = energy_drift(flow, 2 * random(50, 4, seed=1)).abs()
    grown = drift.amax(0).median() / drift[:100].amax(0).median()
    assert (grown > 1.3) == (name == "relu")
    assert grown < 1.1 or name == "relu"
