"""S = J − R: what the field keeps, what falls, and which steps keep the balance of energy."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

import hdnn
from families import ACTIVATIONS, DISSIPATIONS, F64, fill, gram, random, tight
from hdnn import DiscreteGradient, Dissipation, ForwardEuler, GaussLegendre, ImplicitMidpoint, RungeKutta4
from hdnn.analysis import (
    check_symplecticity,
    continuous_sensitivities,
    gradient_lower_bound,
    linearize,
    lower_bound,
    norms,
    sensitivities,
    upper_bound,
)
from hdnn.integrators import Integrator
from hdnn.kernels import native

WHOLE: list[Integrator] = [ForwardEuler(), RungeKutta4(), ImplicitMidpoint(), GaussLegendre(2), DiscreteGradient()]
NAMED = pytest.mark.parametrize("name", DISSIPATIONS)
STEPS = pytest.mark.parametrize("integrator", WHOLE, ids=repr)


def dissipating(name: str, integrator: Integrator, layers: int = 3, std: float = 0.5, **options: object) -> hdnn.Flow:
    settings = {"step": 0.1, "dtype": F64, **options}
    J = DISSIPATIONS[name](4, layers)
    return fill(hdnn.h1(4, layers, interconnection=J, integrator=integrator, **settings), std)


def dissipation(flow: hdnn.Flow) -> Tensor:
    """R, of the last layer where J varies."""
    S = flow.J.detach().reshape(-1, 4, 4)[-1]
    return -(S + S.mT) / 2


@NAMED
def test_S_is_J_minus_R(name: str) -> None:
    given, flow = DISSIPATIONS[name](4, 3), dissipating(name, ForwardEuler())
    R = torch.diag(given.R) if given.R.dim() == 1 else given.R
    tight(dissipation(flow), R)
    S = flow.J.detach()
    J = given.inner.build(given.inner.initial_free(), given.inner.constant(4, 3))
    assert J is not None
    tight((S - S.mT) / 2, J)
    assert ("interconnection_weight" in dict(flow.named_parameters())) == ("learned" in name)


@NAMED
def test_the_field_loses_what_R_says(name: str) -> None:
    """dH/dt = −∂Hᵀ R ∂H at frozen weights, at every state."""
    flow, y = dissipating(name, ForwardEuler()), random(50, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(flow.energy(y, 2).sum(), y)
    rate = (gradient * flow.fields(y)[2](y)).sum(-1)
    tight(rate, -torch.einsum("si,ij,sj->s", gradient, dissipation(flow), gradient))
    assert (rate <= 0).all()


@NAMED
def test_R_stays_positive_whatever_training_does(name: str) -> None:
    flow = dissipating(name, ForwardEuler())
    for seed in range(5):
        with torch.no_grad():
            if flow.interconnection_weight is not None:
                flow.interconnection_weight.copy_(3 * random(*flow.interconnection_weight.shape, seed=seed))
        assert torch.linalg.eigvalsh(dissipation(flow)).min() > -1e-12


@NAMED
@STEPS
def test_promises_fall(name: str, integrator: Integrator) -> None:
    flow, y = dissipating(name, integrator), random(5, 4)
    assert not flow.preserves_structure
    assert not flow.scales_structure
    assert not flow.preserves_volume
    for refused in (lower_bound, lambda flow: check_symplecticity(flow, y)):
        with pytest.raises(ValueError, match="does not state that J = -Jᵀ"):
            refused(flow)
    for refused in (lambda flow: continuous_sensitivities(flow, y), lambda flow: linearize(flow, y)):
        with pytest.raises(ValueError, match="rests on J = -Jᵀ"):
            refused(flow)


@NAMED
@STEPS
def test_what_holds_is_still_said(name: str, integrator: Integrator) -> None:
    flow, y = dissipating(name, integrator), random(7, 4)
    M = sensitivities(flow, y)
    one_by_one = torch.stack([torch.autograd.functional.jacobian(flow, x) for x in y])
    torch.testing.assert_close(M[0], one_by_one, rtol=1e-9, atol=1e-11)
    assert norms(M).max() <= upper_bound(flow)
    smallest = torch.linalg.svdvals(M)[..., -1]
    assert (smallest >= gradient_lower_bound(flow).value[:, None] * (1 - 1e-12)).all()
    tight(flow[2:](flow[:2](y)), flow(y))
    assert flow.refine(2)(y).shape == y.shape
    tight(copy.deepcopy(flow)(y), flow(y))
    tight(pickle.loads(pickle.dumps(flow))(y), flow(y))
    other = dissipating(name, integrator, std=1.0)
    other.load_state_dict(flow.state_dict())
    tight(other(y), flow(y))


def test_norms_fall_to_nothing() -> None:
    flow = dissipating("diagonal", ForwardEuler(), 400, shared=True, activation="identity")
    with torch.no_grad():
        flow.weight.copy_(torch.eye(4))
    assert norms(sensitivities(flow, random(3, 4)))[0].max() < 0.1


@NAMED
@STEPS
def test_gradients(name: str, integrator: Integrator) -> None:
    flow, y = dissipating(name, integrator, 2, backend="eager"), random(2, 4).requires_grad_()
    parameters = dict(flow.named_parameters())
    if name == "per_layer":
        flow = dissipating(name, integrator, 2, backend="eager")

    def run(y: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(flow, dict(zip(parameters, values, strict=True)), (y,))

    assert torch.autograd.gradcheck(run, (y, *(p.detach().requires_grad_() for p in parameters.values())))


@pytest.mark.long
@pytest.mark.parametrize("integrator", [i for i in WHOLE if not isinstance(i, DiscreteGradient)], ids=repr)
def test_no_other_step_keeps_the_balance(integrator: Integrator) -> None:
    """H may grow along a step of every method but `DiscreteGradient`, though the field only loses energy."""
    S = Dissipation(hdnn.canonical(4), torch.full((4,), 0.3))
    flow, grew = hdnn.h1(4, 1, step=3.0, dtype=F64, interconnection=S, integrator=integrator), 0
    for number, x in enumerate(random(100, 1, 4)):
        fill(flow, 2.0, seed=number % 5)
        try:
            with torch.no_grad():
                grew += int(flow.energy(flow(x)) > flow.energy(x) + 1e-9)
        except RuntimeError:  # two stages have no solution there
            assert isinstance(integrator, GaussLegendre)
    assert grew > 0


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("h", [0.1, 10.0])
def test_the_midpoint_rule_has_a_solution_at_every_step(h: float, activation: str) -> None:
    flow = dissipating("full", ImplicitMidpoint(), 1, std=1.0, step=h, activation=ACTIVATIONS[activation])
    y = random(50, 4)
    with torch.no_grad():
        assert flow(y).isfinite().all()


@pytest.mark.parametrize("integrator", ["symplectic_euler", "stormer_verlet", "yoshida4", "suzuki4"])
def test_steps_that_move_halves_are_refused_in_words(integrator: str) -> None:
    S = Dissipation(hdnn.canonical(4), torch.full((4,), 0.1))
    with pytest.raises(ValueError, match=r"R acts on each half\. Use `ForwardEuler"):
        hdnn.h2(4, 2, step=0.1, interconnection=S, integrator=integrator)


def test_the_two_dampings_are_never_mixed() -> None:
    S = Dissipation(hdnn.canonical(4), torch.zeros(4))
    with pytest.raises(ValueError, match="never mixed"):
        hdnn.h2(4, 2, step=0.1, interconnection=S, damping=0.1)


def test_what_is_no_dissipation_is_refused() -> None:
    J = hdnn.canonical(4)
    with pytest.raises(ValueError, match="J = K⁻ᵀ"):
        Dissipation(hdnn.Inverse(), torch.ones(4))
    with pytest.raises(TypeError, match=r"Use torch\.full"):
        Dissipation(J, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"R >= 0, or it feeds energy in; its smallest eigenvalue is -1"):
        Dissipation(J, torch.tensor([1.0, -1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="smallest eigenvalue is -"):
        Dissipation(J, gram(4) - 5 * torch.eye(4, dtype=F64))
    with pytest.raises(ValueError, match="a skew part belongs to J"):
        Dissipation(J, torch.ones(4, 4).triu())
    with pytest.raises(ValueError, match=r"\(n,\), or \(n, n\); got \(4, 3\)"):
        Dissipation(J, torch.ones(4, 3))
    with pytest.raises(ValueError, match="finite"):
        Dissipation(J, torch.full((4,), torch.nan))
    with pytest.raises(ValueError, match=r"starts from R > 0"):
        Dissipation(J, torch.zeros(4), learned=True)
    with pytest.raises(ValueError, match="`R` is of 6 features, but the flow has 4"):
        hdnn.h1(4, 2, step=0.1, interconnection=Dissipation(J, torch.ones(6)))
    rank_one = torch.ones(4, 1) @ torch.ones(1, 4)
    assert repr(Dissipation(J, rank_one)) == "Dissipation(Fixed(canonical), full)"


@pytest.mark.parametrize("integrator", [ForwardEuler(), RungeKutta4()], ids=str)
@pytest.mark.parametrize("name", ["diagonal", "full", "per_layer"])
def test_native_serves_forward_euler_and_stages(name: str, integrator: Integrator) -> None:
    if not native.available():
        pytest.skip("needs the compiled extension")
    flow = dissipating(name, integrator, 5, backend="native")
    eager = copy.deepcopy(flow)
    eager.backend = "eager"
    y = random(9, 4)
    tight(flow(y), eager(y))
    for each in (flow, eager):
        each(y).square().sum().backward()
    tight(flow.weight.grad, eager.weight.grad)
