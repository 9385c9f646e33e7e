"""Contraction: rates against trajectories and against every slope, and all that does not contract."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from families import F64, fill, gram, preset, random
from hdnn.activations import LeakyReLU
from hdnn.analysis.contractivity import contraction
from hdnn.analysis.transient import numerical_abscissa
from hdnn.dissipation import Dissipation
from hdnn.energies import Separable
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, Integrator, RungeKutta4
from hdnn.interconnections import canonical
from hdnn.structures import Dense


def damped(
    rate: float, *, integrator: Integrator | None = None, step: float = 0.02, layers: int = 3, width: int = 4
) -> Flow:
    """J − r I with slopes in [0.3, 1] and K near the identity: contractive where r is large."""
    flow = Flow(
        4,
        layers,
        step=step,
        structure=Dense(width),
        interconnection=Dissipation(canonical(4), torch.full((4,), rate)),
        activation=LeakyReLU(0.3),
        integrator=integrator or ForwardEuler(),
        dtype=F64,
    )
    fill(flow, std=0.1)
    with torch.no_grad():
        flow.weight += torch.eye(width, 4, dtype=F64)
    return flow


METRICS = [None, torch.diag(torch.tensor([1.0, 1.2, 1.0, 1.2], dtype=F64))]


@pytest.mark.parametrize("P", METRICS)
def test_the_rate_is_the_supremum_over_all_slopes(P: Tensor | None) -> None:
    """No slopes beat the corners, and some reach them; a bound, for many units, lies above."""
    flow = damped(2.0)
    found = contraction(flow, metric=P)
    assert found.exact
    assert found.contractive
    K, J = flow.K.detach(), flow.J
    slopes = 0.3 + 0.7 * torch.rand(3000, 1, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    slopes[::2] = 0.3 + 0.7 * (slopes[::2] > 0.65).double()
    μ = numerical_abscissa(J @ K.mT @ (slopes.unsqueeze(-1) * K), P)
    torch.testing.assert_close(-μ.amax(0), found.rate, rtol=1e-9, atol=0)
    wide = contraction(damped(4.0, width=13), metric=P)
    assert not wide.exact
    exact = contraction(damped(4.0, width=12), metric=P).rate
    assert (exact > 0).all()


@pytest.mark.parametrize("units", [4, 8])
def test_the_bound_for_many_units_is_no_tighter_than_the_truth(units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = damped(3.0, width=units)
    exact = contraction(flow).rate
    monkeypatch.setattr("hdnn.analysis.contractivity._CORNERS", 0)
    bound = contraction(flow)
    assert not bound.exact
    assert (bound.rate <= exact + 1e-12).all()
    assert (bound.rate > exact - 3).all()


@pytest.mark.parametrize("P", METRICS)
@pytest.mark.parametrize("integrator", [ForwardEuler(), ImplicitMidpoint(), RungeKutta4()], ids=repr)
def test_trajectories_come_together(integrator: Integrator, P: Tensor | None) -> None:
    """Euler below its largest step, midpoint at any step that it solves, and fine Runge-Kutta steps at the rate."""
    found = contraction(damped(2.0), metric=P)
    euler = 0.9 * float(found.largest_step.min())
    step = {"ForwardEuler": euler, "ImplicitMidpoint": 0.5, "RungeKutta4": 0.002}[type(integrator).__name__]
    flow = damped(2.0, integrator=integrator, step=step)
    y, z = flow.trajectory(3 * random(500, 4)), flow.trajectory(3 * random(500, 4, seed=1))
    distance = (y - z if P is None else (y - z) * P.diagonal().sqrt()).norm(dim=-1)
    assert (distance[1:] < distance[:-1]).all()
    if isinstance(integrator, RungeKutta4):
        per_step = (distance[1:] / distance[:-1]).log().amax(1) / step
        assert (per_step <= -found.rate + 1e-6).all()


def test_a_step_too_long_lets_states_part() -> None:
    """The condition on the step of Euler is one: well beyond it the field contracts and the step does not."""
    flow = damped(2.0, step=5.0, layers=1)
    assert contraction(flow).contractive
    y, z = random(200, 4), random(200, 4, seed=1)
    assert ((flow(y) - flow(z)).norm(dim=-1) > (y - z).norm(dim=-1)).any()


def test_at_given_states() -> None:
    flow, y = damped(0.5), random(7, 4)
    found = contraction(flow, y)
    assert found.rate.shape == (3, 7)
    for j, field in enumerate(flow.fields()):
        A = torch.stack([torch.func.jacrev(field)(state) for state in y]).detach()
        torch.testing.assert_close(found.rate[j], -numerical_abscissa(A))
    assert (found.rate >= contraction(flow).rate[:, None] - 1e-12).all()


@pytest.mark.parametrize("name", ["ms1", "ms2", "ms3", "h1", "h2"])
@pytest.mark.parametrize("P", [None, gram(4) + torch.eye(4)])
def test_no_network_of_the_literature_contracts(name: str, P: Tensor | None) -> None:
    """tr A = 0 for J = −Jᵀ, so that μ ≥ 0 in every metric."""
    found = contraction(preset(name, std=1.0), metric=P)
    assert not found.contractive
    assert (found.rate <= 1e-12).all()
    assert (found.largest_step == 0).all()
    assert "keeps the volume" in found.reason


def test_dissipation_alone_does_not_contract() -> None:
    """r > 0 and an energy with κ²/2 |y|²: the matrix measure is positive in nearly all random draws."""
    r, J, positive = 0.1, canonical(4, dtype=F64), 0
    for seed in range(200):
        K, d = random(4, 4, seed=seed), torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=F64)
        S = K.mT @ (d[:, None] * K) + 0.25 * torch.eye(4)
        positive += bool(numerical_abscissa((J - r * torch.eye(4)) @ S) > 0)
    assert positive >= 190
    flow = fill(preset("h1", interconnection=Dissipation(canonical(4), torch.full((4,), r))), std=1.0)
    found = contraction(flow)
    assert not found.contractive
    assert "lets states part at the rate" in found.reason
    y, z = random(500, 4), random(500, 4, seed=1)
    assert ((flow(y) - flow(z)).norm(dim=-1) > (y - z).norm(dim=-1)).any()


def test_where_the_activation_saturates_nothing_contracts() -> None:
    """tanh has slopes down to 0, where A = 0: the supremum of μ is at least 0 however large R is."""
    flow = damped(50.0)
    flow.activation = "tanh"
    assert not contraction(flow).contractive
    assert contraction(flow, slopes=(0.3, 1.0)).contractive


def test_unit_weights_count_and_energies_that_are_not_known_are_asked_for_states() -> None:
    """With a = 2 all of A doubles; of an energy of one's own nothing is known but where it is looked at."""
    plain = damped(2.0)
    twice = Flow(
        4,
        3,
        step=0.02,
        structure=plain.structure,
        interconnection=plain.interconnection,
        activation=plain.activation,
        integrator=plain.integrator,
        unit_weights=2.0,
        dtype=F64,
    )
    twice.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(contraction(twice).rate, 2 * contraction(plain).rate)
    well = Separable(lambda p: p.square().sum(-1) / 2, lambda q: q.square().square().sum(-1))
    own = preset("h1", energy=well)
    with pytest.raises(ValueError, match="Give the states to look at"):
        contraction(own)
    y = random(5, 4)
    A = torch.stack([torch.func.jacrev(own.fields()[0])(state) for state in y]).detach()
    torch.testing.assert_close(contraction(own, y).rate[0], -numerical_abscissa(A))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"γ = 0\.5, is of its steps alone"):
        contraction(preset("h2", damping=0.5))
    with pytest.raises(ValueError, match="`contraction` is for flows on vectors"):
        contraction(preset("h2", kernel_size=3))
    with pytest.raises(ValueError, match=r"Leave `y` out"):
        contraction(preset("h1", inputs=2), random(4))
    with pytest.raises(ValueError, match="shape"):
        contraction(preset("h1"), random(3))
    flow = preset("h1")
    with torch.no_grad():
        flow.bias[0] = math.nan
    with pytest.raises(ValueError, match="bias"):
        contraction(flow)
