"""CH-NODE contracts by its condition, and says where that fails."""

from __future__ import annotations

import pytest
import torch

from families import F64, fill, random
from hdnn.analysis import contraction, numerical_abscissa, sensitivities
from hdnn.contractive import ch_node
from hdnn.energies import Quadratic
from hdnn.flow import Flow
from hdnn.interconnections import canonical


def made(**options: object) -> Flow:
    """Weights far larger than the bound that holds them."""
    flow = ch_node(4, 3, **{"step": 0.1, "dtype": F64, **options})  # type: ignore[arg-type]
    parametrized = flow.parametrizations.weight  # type: ignore[union-attr]
    with torch.no_grad():
        parametrized.original.copy_(5 * random(*parametrized.original.shape))
    return flow


@pytest.mark.parametrize(("r", "kappa2"), [(1.0, 1.0), (0.2, 3.0), (4.0, 0.1)])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_the_rate_is_what_the_condition_promises(r: float, kappa2: float, activation: str) -> None:
    flow = made(dissipation=r, stiffness=kappa2, activation=activation)
    s = flow.activation.slopes[1]  # type: ignore[index]
    norms = torch.linalg.matrix_norm(flow.K.detach(), 2)
    assert float(norms.max()) == pytest.approx(0.9 * (2 * r * kappa2 / s) ** 0.5)
    found = contraction(flow)
    promised = r * kappa2 - s * norms.square() / 2
    assert found.exact
    assert (found.rate >= promised - 1e-12).all()
    assert (promised > 0).all()


@pytest.mark.parametrize("step", [0.1, 2.0])
def test_states_come_together_at_every_step(step: float) -> None:
    flow = made(step=step)
    y, z = flow.trajectory(3 * random(100, 4)), flow.trajectory(3 * random(100, 4, seed=1))
    distance = (y - z).norm(dim=-1)
    assert (distance[1:] < distance[:-1]).all()
    assert torch.linalg.matrix_norm(sensitivities(flow, random(20, 4))[:-1], 2).max() < 1  # no lower bound of 1 here


def test_it_holds_while_training_moves_the_weights() -> None:
    flow = made()
    optimizer = torch.optim.SGD(flow.parameters(), lr=10.0)
    before = flow.K.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        (-flow(random(20, 4)).square().sum()).backward()  # drive states apart
        optimizer.step()
    assert (flow.K.detach() - before).abs().max() > 0.1
    assert contraction(flow).contractive


def test_without_the_bound_of_K_it_does_not_contract() -> None:
    """r > 0 and κ > 0 alone do not do it: of 200 draws with the weights of `h1` most have μ > 0."""
    J, positive = canonical(4, dtype=F64), 0
    for seed in range(200):
        K, d = random(4, 4, seed=seed), torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=F64)
        S = K.mT @ (d[:, None] * K) + 0.25 * torch.eye(4)
        positive += bool(numerical_abscissa((J - 0.1 * torch.eye(4)) @ S) > 0)
    assert positive >= 190
    flow = made(dissipation=0.1, stiffness=0.25)
    free = Flow(
        4,
        3,
        step=0.1,
        structure=flow.structure,
        interconnection=flow.interconnection,
        energy=Quadratic(torch.full((4,), 0.25)),
        integrator=flow.integrator,
        dtype=F64,
    )
    fill(free)
    assert contraction(flow).contractive
    found = contraction(free)
    assert not found.contractive
    assert "Not contractive" in found.reason


def test_short_steps_of_forward_euler() -> None:
    flow = made(integrator="forward_euler", step=0.005)
    y, z = flow.trajectory(random(100, 4)), flow.trajectory(random(100, 4, seed=1))
    distance = (y - z).norm(dim=-1)
    assert (distance[1:] < distance[:-1]).all()
    assert float(contraction(flow).largest_step.min()) > 0.005
    with pytest.raises(ValueError, match=r"contracts where h < 2 ρ / L² = .*, and this one is 0\.5"):
        made(integrator="forward_euler", step=0.5)


def test_an_energy_counts_in_the_contraction_of_given_states() -> None:
    flow, y = made(), random(7, 4)
    found = contraction(flow, y)
    field = flow.fields()[1]
    A = torch.stack([torch.func.jacrev(field)(state) for state in y]).detach()
    torch.testing.assert_close(found.rate[1], -numerical_abscissa(A))
    assert (found.rate >= contraction(flow).rate[:, None] - 1e-12).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dissipation": 0.0}, "`dissipation` must be positive.*keeps its volume"),
        ({"stiffness": -1.0}, "`stiffness` must be positive.*saturates"),
        (
            {"norm": 1.5},
            r"Not contractive: with `norm=1\.5` .* may be 2\.25, and must stay below 2 r κ² = 2\. .*below 1\.41",
        ),
        ({"interconnection": torch.eye(4)}, "must be skew"),
    ],
)
def test_what_violates_the_condition_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ch_node(4, 3, step=0.1, **options)  # type: ignore[arg-type]
