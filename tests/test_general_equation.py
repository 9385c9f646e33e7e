"""What is said of y' = (J − R) ∂H/∂y + G u as a whole, true and false, beyond the tests of each factor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, fill, gram, random, tight
from hdnn import Dissipation, Quadratic, StateDependent
from hdnn.analysis import sensitivities
from hdnn.recurrent.oscillators import CoRNN, UnICORNN

# Where the energy of a driven network comes from.


def test_inputs_and_layers_change_the_energy_by_what_they_change_it_at_a_state() -> None:
    """dH/dt = −∂Hᵀ R ∂H + ∂Hᵀ G u + ∂H/∂u · u', and the jumps of K and b; in steps the last two are one jump."""
    S, h = Dissipation(hdnn.canonical(4), gram(4)), 0.7
    flow = fill(
        hdnn.h1(4, 6, step=h, dtype=F64, interconnection=S, integrator="discrete_gradient", inputs=2, ports=2), 0.8
    )
    y, u, v = random(5, 4), random(6, 5, 2, seed=1), random(6, 5, 2, seed=2)
    with torch.no_grad():
        states, J = flow.trajectory(y, inputs=u, ports=v), flow.J
        H = [[flow.energy(y, j, inputs=u) for y in states[j : j + 2]] for j in range(6)]
        lost, fed, jumps = torch.zeros(5, dtype=F64), torch.zeros(5, dtype=F64), torch.zeros(5, dtype=F64)
        for j in range(6):
            pushed = v[j] @ flow.port_weight.reshape(-1, 4, 2)[-1].mT
            mean = torch.linalg.solve(J, ((states[j + 1] - states[j]) / h - pushed).mT).mT
            lost += h * torch.einsum("si,ij,sj->s", mean, gram(4), mean)
            fed += h * (mean * pushed).sum(-1)
            jumps += H[j][0] - H[j - 1][1] if j else 0
        tight(H[-1][1] - H[0][0], fed - lost + jumps)
        assert (lost > 0).all()
        assert jumps.abs().min() > 1e-3  # without them the balance would not close


def test_the_energy_follows_an_input_at_the_rate_that_it_is_said_to() -> None:
    """Without R and ports, at one K: ∂Hᵀ f = 0, so dH/dt = ∂H/∂u · u' = Σ σ(K y + b + V u) (V u')."""
    flow, y = fill(hdnn.h1(4, step=0.1, inputs=2, shared=True, dtype=F64), 0.8), random(5, 4)
    u, rate = random(1, 5, 2, seed=1).requires_grad_(), random(1, 5, 2, seed=2)
    field = flow.fields(y, inputs=u)[0](y)
    y.requires_grad_()
    of_y, of_u = torch.autograd.grad(flow.energy(y, 0, inputs=u).sum(), (y, u))
    tight((of_y * field).sum(-1), torch.zeros(5, dtype=F64))
    moved = (of_u[0] * rate[0]).sum(-1)
    units = torch.tanh(y @ flow.K[0].mT + flow.bias[0] + u[0] @ flow.input_weight[0].mT)
    tight(moved, (units * (rate[0] @ flow.input_weight[0].mT)).sum(-1))
    assert moved.abs().max() > 0.1


# J of the state.


class Turning(nn.Module):
    """J(y) x = v(y) × x in space: the entries above the diagonal are (−v₃, v₂, −v₁)."""

    def __init__(self, poisson: bool) -> None:
        super().__init__()
        self.poisson = poisson

    def forward(self, y: Tensor) -> Tensor:
        a, b, c = y.unbind(-1)
        v = (a, b, c) if self.poisson else (-b, a, torch.ones_like(c))  # v · curl v is 0, or 2
        return torch.stack((-v[2], v[1], -v[0]), -1)


@pytest.mark.parametrize("poisson", [True, False])
def test_a_poisson_J_goes_with_the_exact_flow_and_no_other_does(poisson: bool) -> None:
    """M J(y_0) Mᵀ = J(y_N) where J satisfies Jacobi's identity, as that of the rigid body does."""

    def defect(steps: int) -> float:
        J = StateDependent(Turning(poisson), 3)
        flow = hdnn.Flow(
            3, steps, horizon=1.0, energy=Quadratic(torch.tensor([0.5, 1.0, 2.0])), interconnection=J, shared=True,
            integrator="runge_kutta4", dtype=F64,
        )  # fmt: skip
        with torch.no_grad():
            M, end = sensitivities(flow, y)[0], flow(y)
            of_state = flow.interconnection.of_state
            assert not flow.preserves_structure
            return float((M @ of_state(y) @ M.mT - of_state(end)).abs().max())

    y = random(5, 3)
    coarse, fine = defect(4), defect(16)
    if poisson:  # what is left is the error of the method, of order 4
        assert fine < coarse / 100 < 1e-2
    else:
        assert min(coarse, fine) > 0.1


class Falling(nn.Module):
    """J(y) = exp(−c · y) J₀ on the plane."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, y: Tensor) -> Tensor:
        return torch.exp(-(y @ self.slope)).unsqueeze(-1)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_J_of_the_state_lets_norms_fall_below_one(fixed: bool) -> None:
    """Where J falls along the way of a state, both directions shrink; of a constant J none could without the other."""
    Q, y = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([[-2.0, 1.0]], dtype=F64)
    way = torch.tensor([2.0, 2.0], dtype=F64)  # J₀ Q y, the direction that J₀ Q stretches most
    J = "canonical" if fixed else StateDependent(Falling(way), 2)
    flow = hdnn.Flow(
        2, 10, step=1e-3 * float(torch.exp(y[0] @ way)) if not fixed else 1e-3, energy=Quadratic(Q), interconnection=J,
        shared=True, integrator="runge_kutta4", dtype=F64,
    )  # fmt: skip
    norm = float(torch.linalg.matrix_norm(sensitivities(flow, y)[0], 2))
    assert norm >= 1 if fixed else norm < 0.999


# Graphs.

RING = torch.stack((torch.arange(6), (torch.arange(6) + 1) % 6))
LOPSIDED = torch.cat((RING, RING.flip(0), torch.tensor([[0, 3], [3, 0]])), 1)  # nodes of two and of three neighbours


@pytest.mark.parametrize(
    ("edges", "normalization", "skew"),
    [
        (RING, "sum", False),
        (LOPSIDED, "mean", False),
        (LOPSIDED, "symmetric", True),
        (LOPSIDED, "sum", True),
    ],
)
def test_a_skew_matrix_is_a_skew_operator_where_the_graph_is_symmetric(edges, normalization, skew) -> None:
    structure, space = hdnn.Skew(), hdnn.Graph(edges, normalization=normalization)
    K = structure.build(random(*structure.free_shape(3, space)), structure.index(3, space))
    whole = torch.func.jacrev(lambda y: space.map(K, y))(torch.zeros(6, 3, dtype=F64)).reshape(18, 18)
    defect = float((whole + whole.mT).norm())
    assert defect < 1e-13 if skew else defect > 1
    if not skew:
        with pytest.raises(ValueError, match=r"needs K = -Kᵀ.*`h1`, `h2`, `ms1` or `ms3`, which take any graph"):
            hdnn.ms2(3, 2, step=0.1, space=space, dtype=F64)(random(6, 3))


# Recurrent cells.


def test_unicornn_is_a_hamiltonian_step_and_cornn_has_no_energy() -> None:
    """H = Σ log cosh(w x + V u + b) / w + α x²/2 + z²/2; of coRNN the derivative of the force is not symmetric."""
    torch.manual_seed(0)
    cell = UnICORNN(6, 2, 0.3, stiffness=0.5, dtype=F64)
    x, z, d = random(3), random(3, seed=1), random(3, seed=2)
    energy = lambda x: ((cell.weight * x + d).cosh().log() / cell.weight + cell.stiffness * x**2 / 2).sum()  # noqa: E731
    tight(cell.force(z, x, d), -torch.func.grad(energy)(x))
    u = random(4, 1, 2, seed=3)
    M = torch.func.jacrev(lambda y: cell.trajectory(y, inputs=u)[-1].flatten())(random(1, 6))[:, 0].detach()
    J = hdnn.canonical(6, dtype=F64)
    tight(M @ J @ M.mT, J)  # at given inputs, also with a step for every unit
    coupled = CoRNN(6, 2, 0.3, dtype=F64)
    bent = torch.func.jacrev(lambda x: coupled.force(z, x, d))(x)
    assert (bent - bent.mT).norm() > 0.01
