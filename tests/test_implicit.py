"""Steps that solve an equation: their orders, what they keep, and where they have a solution."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import hdnn
from families import ACTIVATIONS, DISSIPATIONS, F64, SMOOTH, Factors, fill, gram, jacobian, random, skew, tight
from hdnn import DiscreteGradient, Dissipation, GaussLegendre, ImplicitMidpoint
from hdnn.analysis import check_symplecticity, log_layer_bounds, lower_bound, norms, sensitivities
from hdnn.export import to_program
from hdnn.flow import Flow
from hdnn.implicit import Implicit, _coupling
from hdnn.interconnections import Fixed

KINDS: list[Implicit] = [ImplicitMidpoint(), GaussLegendre(2), DiscreteGradient()]
STEPS = pytest.mark.parametrize("integrator", KINDS, ids=lambda i: type(i).__name__)


def of(integrator: Implicit, layers: int = 3, std: float = 0.7, **options: object) -> Flow:
    """A flow of full K and a random J."""
    choice = {"step": 0.3, "dtype": F64, "interconnection": Fixed(skew(4)), **options}
    return fill(hdnn.h1(4, layers, integrator=integrator, **choice), std)  # type: ignore[arg-type]


# Gauss-Legendre.


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("activation", SMOOTH)
@torch.no_grad()
def test_order_of_gauss_legendre(stages: int, activation: str) -> None:
    assert GaussLegendre(stages).order == 2 * stages

    def at_one(steps: int) -> Tensor:
        flow = of(GaussLegendre(stages), steps, 0.5, step=None, horizon=1.0, shared=True, activation=activation)
        return flow(random(10, 4))

    truth = at_one(64)
    coarse, fine = ((at_one(steps) - truth).norm() for steps in (8, 16))
    assert fine < 1e-11 or abs(float((coarse / fine).log2()) - 2 * stages) < 0.5


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_gauss_legendre_keeps_every_constant_J(stages: int) -> None:
    flow, y = of(GaussLegendre(stages), 5), random(5, 4)
    assert check_symplecticity(flow, y).relative.max() < 1e-14
    tight(flow.inverse(flow(y)), y)
    assert lower_bound(flow) == 1.0


def test_one_stage_is_the_midpoint_rule() -> None:
    flow, y = of(GaussLegendre(1)), random(5, 4)
    middle = of(ImplicitMidpoint())
    tight(flow(y), middle(y))
    tight(log_layer_bounds(flow), log_layer_bounds(middle))


def test_the_coupling_of_the_stages() -> None:
    assert _coupling(2) == pytest.approx(math.sqrt(3) / 6)
    for stages in (2, 3, 4):  # of the recurrence of Legendre polynomials: 1 / (2 √(4 k² − 1)) beside the diagonal
        beside = [1 / (2 * math.sqrt(4 * k * k - 1)) for k in range(1, stages)]
        assert _coupling(stages) == pytest.approx(np.linalg.norm(np.diag(beside, 1) - np.diag(beside, -1), 2))


@pytest.mark.long
def test_two_stages_raise_where_they_do_not_converge() -> None:
    """From two stages on a step need not have a solution: 49 of 20,000 planar cases at h = 5 have det <= 0."""
    flow = fill(hdnn.h1(4, 1, step=5.0, dtype=F64, integrator=GaussLegendre(2)), 2.0)
    with pytest.raises(
        RuntimeError, match=r"GaussLegendre did not converge.*at step size 5.*implicit midpoint rule has"
    ):
        flow(random(500, 4))
    flow.integrator = ImplicitMidpoint()
    assert flow(random(500, 4)).isfinite().all()


def test_two_stages_may_turn_back() -> None:
    """The matrix of the stages, I − h a ⊗ (J S), is singular at some h of some planar fields: no path leads past it."""
    generator = torch.Generator().manual_seed(0)
    a = torch.tensor([[0.25, 0.25 - math.sqrt(3) / 6], [0.25 + math.sqrt(3) / 6, 0.25]], dtype=F64)
    K = torch.randn(20_000, 2, 2, generator=generator, dtype=F64)
    slopes = torch.rand(20_000, 2, 2, generator=generator, dtype=F64)  # of both stages
    JS = hdnn.canonical(2, dtype=F64) @ (K.mT.unsqueeze(1) @ (slopes.unsqueeze(-1) * K.unsqueeze(1)))
    stages = torch.einsum("ij,sjnm->sinjm", a, JS).reshape(-1, 4, 4)
    signs = torch.linalg.det(torch.eye(4, dtype=F64) - 5 * stages)
    assert 0 < (signs <= 0).sum() < 1000


# The discrete gradient.


def mean_gradient(flow: Flow, y: Tensor, after: Tensor) -> Tensor:
    """∇̄H of a step, from y⁺ − y = h S ∇̄H."""
    S = flow.J.reshape(-1, 4, 4)[-1]
    return torch.linalg.solve(S, ((after - y) / flow.step).mT).mT


@pytest.mark.parametrize("name", DISSIPATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_discrete_gradients_keep_the_balance_at_any_step(name: str, activation: str) -> None:
    flow = of(
        DiscreteGradient(), 1, 2.0, step=3.0, activation=ACTIVATIONS[activation],
        interconnection=DISSIPATIONS[name](4, 1),
    )  # fmt: skip
    y = random(100, 4)
    after = flow(y)
    before, now, S = flow.energy(y), flow.energy(after), flow.J.reshape(-1, 4, 4)[-1]
    mean = mean_gradient(flow, y, after)
    lost = 3.0 * torch.einsum("si,ij,sj->s", mean, (S + S.mT) / 2, mean)
    size = float(before.abs().max())
    torch.testing.assert_close(now - before, lost, rtol=1e-11, atol=1e-12 * size)
    assert (now <= before + 1e-12 * size).all()


@pytest.mark.parametrize("J", ["skew", *(pytest.param(J, marks=pytest.mark.long) for J in ("canonical", "upper_ones"))])
def test_discrete_gradients_keep_the_energy_where_nothing_dissipates(J: str) -> None:
    chosen = Fixed(skew(4)) if J == "skew" else J
    flow = of(DiscreteGradient(), 50, 1.0, step=0.5, shared=True, interconnection=chosen)
    with torch.no_grad():
        energies = torch.stack([flow.energy(y) for y in flow.trajectory(random(20, 4))])
    assert (energies - energies[0]).abs().max() < 1e-12
    assert not flow.preserves_structure
    assert not flow.preserves_volume
    M = sensitivities(flow, random(3, 4))[0]
    assert torch.linalg.matrix_norm(M @ flow.J @ M.mT - flow.J).max() > 1e-3
    with pytest.raises(ValueError, match=r"`DiscreteGradient` does not guarantee ‖∂y_N/∂y_j‖ ≥ 1"):
        lower_bound(flow)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-3, 0.19, 0.21, 3.0])
def test_the_mean_of_an_activation(activation: str, distance: float) -> None:
    """δ (v − u) = σ̃(v) − σ̃(u), ∂δ/∂v its derivative, and ∂δ/∂u + ∂δ/∂v the mean of σ′."""
    sigma = ACTIVATIONS[activation]
    u = (2 * random(200)).requires_grad_()
    v = (u.detach() + distance * random(200, seed=1).sign()).requires_grad_()
    delta, slope = sigma.mean(u, v)
    rounding = 1e-15 * (1 + sigma.potential(u).abs() + sigma.potential(v).abs())
    assert ((delta * (v - u) - (sigma.potential(v) - sigma.potential(u))).abs() <= 4 * rounding).all()
    of_u, of_v = torch.autograd.grad(delta.sum(), (u, v))
    kinks = (u * v <= 0) & (distance < 1e-3)
    torch.testing.assert_close(of_v[~kinks], slope[~kinks], rtol=1e-10, atol=1e-12)
    if activation in SMOOTH:
        torch.testing.assert_close((of_u + of_v) * (v - u), sigma.value(v) - sigma.value(u), rtol=1e-9, atol=1e-12)
    back, _ = sigma.mean(v, u)
    torch.testing.assert_close(back, delta, rtol=1e-13, atol=1e-14)


def test_an_activation_of_ones_own_does_not_inherit_the_mean() -> None:
    class Cubic(type(hdnn.identity)):  # type: ignore[misc]
        def value(self, u: Tensor) -> Tensor:
            return u**3

        def potential(self, u: Tensor) -> Tensor:
            return u**4 / 4

    u, v = random(50), random(50, seed=1)
    delta, _ = Cubic().mean(u, v)
    torch.testing.assert_close(delta * (v - u), (v**4 - u**4) / 4)


# Of all of them.


@STEPS
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("h", [0.1, 10.0])
@torch.no_grad()
def test_one_solution_at_every_step(integrator: Implicit, h: float, activation: str) -> None:
    if isinstance(integrator, GaussLegendre) and h > 1:
        return  # not promised
    S = Dissipation(Fixed(skew(4)), gram(4))
    flow, y = of(integrator, 1, 1.0, step=h, activation=activation, interconnection=S), random(50, 4)
    assert flow(y).isfinite().all()
    together = flow(y)
    tight(torch.stack([flow(x) for x in y]), together)


@STEPS
@pytest.mark.parametrize("leading", [(5,), (2, 3), ()])
@pytest.mark.parametrize("h", [0.1, 8.0])
def test_inputs_of_every_sample(integrator: Implicit, leading: tuple[int, ...], h: float) -> None:
    """Samples that the solver goes on with alone keep their own biases."""
    if isinstance(integrator, GaussLegendre) and h > 1:
        h = 0.5
    flow = fill(hdnn.h1(4, 3, step=h, inputs=2, dtype=F64, integrator=integrator, activation="relu"), 1.5)
    y, u = 3 * random(*leading, 4), random(3, *leading, 2)
    found = flow(y, inputs=u)
    rows, of_rows = y.reshape(-1, 4), u.reshape(3, -1, 2)
    one_by_one = [flow(x, inputs=of_rows[:, i]) for i, x in enumerate(rows)]
    torch.testing.assert_close(found.reshape(-1, 4), torch.stack(one_by_one), rtol=1e-9, atol=1e-9)


@STEPS
def test_inputs_of_images(integrator: Implicit) -> None:
    choice = {"step": 0.2, "inputs": 2, "dtype": F64, "integrator": integrator}
    flow = fill(hdnn.h1(4, 3, kernel_size=1, **choice))  # type: ignore[arg-type]
    vectors = fill(hdnn.h1(4, 3, **choice))  # type: ignore[arg-type]
    vectors.input_weight.data.copy_(flow.input_weight.data)
    y, u = random(2, 4, 3, 2), random(3, 2, 2)
    expected = vectors(y.movedim(1, -1), inputs=u[:, :, None, None].expand(3, 2, 3, 2, 2))
    tight(flow(y, inputs=u).movedim(1, -1), expected)


@pytest.mark.long
@STEPS
def test_gradients_to_second_order(integrator: Implicit) -> None:
    flow = of(integrator, 2, activation="softplus")
    y = random(3, 4).requires_grad_()
    values = [p.detach().requires_grad_() for p in flow.parameters()]

    def run(y: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(dict(flow.named_parameters()), values, strict=True))
        return torch.func.functional_call(flow, named, y)

    assert torch.autograd.gradcheck(run, (y, *values))
    assert torch.autograd.gradgradcheck(run, (y, *values))


@STEPS
@pytest.mark.parametrize("activation", SMOOTH)
def test_bounds_hold_where_they_are_given(integrator: Implicit, activation: str) -> None:
    known = 0
    for step in (0.02, 0.05, 0.3, 1.0, 3.0):
        flow = of(integrator, 1, 1.0, step=step, activation=activation)
        try:
            bound = log_layer_bounds(flow)
        except ValueError:
            assert isinstance(integrator, GaussLegendre)
            continue
        known += 1
        M = sensitivities(flow, 2 * random(50, 4))[0]
        assert (norms(M).log() <= bound + 1e-12).all()
        assert (torch.linalg.svdvals(M)[..., -1].log() >= -bound - 1e-12).all()
    assert known >= 2


@STEPS
def test_jacobians_are_exact(integrator: Implicit) -> None:
    flow, y = of(integrator), random(4, 4)
    expected = torch.stack([jacobian(flow, x) for x in y])
    torch.testing.assert_close(sensitivities(flow, y)[0], expected, rtol=1e-12, atol=1e-12)


@STEPS
def test_single_precision(integrator: Implicit) -> None:
    flow, y = of(integrator), random(20, 4)
    expected = flow(y)
    found = copy.deepcopy(flow).float()(y.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@STEPS
def test_kernels_that_couple_positions_are_refused(integrator: Implicit) -> None:
    wide = hdnn.h1(4, 3, step=0.1, kernel_size=3, dtype=F64, integrator=integrator)
    with pytest.raises(ValueError, match=r"Use an explicit integrator, or .* kernel_size=1"):
        wide(random(2, 4, 3, 3))
    graph = hdnn.h1(4, 3, step=0.1, space=hdnn.Graph(torch.tensor([[0, 1], [1, 0]])), dtype=F64, integrator=integrator)
    with pytest.raises(ValueError, match="Use an explicit integrator"):
        graph(random(2, 4))


@STEPS
def test_export_is_refused(integrator: Implicit) -> None:
    with pytest.raises(ValueError, match="Only explicit integrators"):
        to_program(hdnn.vector_classifier(2, 2, of(integrator, dtype=torch.float32)), (2,))


def test_arguments() -> None:
    with pytest.raises(ValueError, match="from 1 to 4; got 5"):
        GaussLegendre(5)
    with pytest.raises(TypeError, match="`stages`"):
        GaussLegendre(2.5)  # type: ignore[arg-type]
    for make in (ImplicitMidpoint, GaussLegendre, DiscreteGradient):
        with pytest.raises(ValueError, match="`tolerance` must be positive"):
            make(tolerance=0.0)
        with pytest.raises(ValueError, match="`iterations` must be at least 1"):
            make(iterations=0)
    assert GaussLegendre() == GaussLegendre(2) != GaussLegendre(3)
    assert eval(repr(GaussLegendre(3))) == GaussLegendre(3)
    assert Factors("Dense", "skew", "GaussLegendre2").flow(4, 1).integrator == GaussLegendre(2)
