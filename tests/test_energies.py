"""Energies of one's own, weights of units, ports and J(y): what holds with them, and what falls."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, INTEGRATORS, explicit_first, fill, gram, jacobian, random, skew, tight
from hdnn import Dissipation, Energy, Quadratic, Separable, StateDependent
from hdnn.analysis import (
    check_symplecticity,
    continuous_sensitivities,
    energy_drift,
    gradient_lower_bound,
    linearize,
    log_layer_bounds,
    lower_bound,
    norms,
    reversibility_error,
    sensitivities,
)
from hdnn.flow import Flow
from hdnn.integrators import Integrator

NAMED = pytest.mark.parametrize("name", INTEGRATORS)


class Well(Energy):
    """A double well of every coordinate, coupled, with a learned stiffness, that moves with time."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(0.7))

    def value(self, y: Tensor, t: float) -> Tensor:
        coupled = (y * y.roll(1, -1)).sum(-1)
        return self.stiffness * ((y.square() - 1).square().sum(-1) / 4 + coupled / 3) + math.cos(t) * y[..., 0]


def pendulum() -> Separable:
    return Separable(lambda p: p.square().sum(-1) / 2, lambda q: -q.cos().sum(-1), curvature=(-1, 1))


def alone(energy: Energy, name: str, layers: int = 4, features: int = 4, **options: object) -> Flow:
    """A flow without hidden units."""
    choice = {"step": 0.1, "interconnection": "canonical", "dtype": F64, "integrator": INTEGRATORS[name], **options}
    return Flow(features, layers, energy=energy, **choice)  # type: ignore[arg-type]


def beside(name: str, layers: int = 3, **options: object) -> Flow:
    """Units, and what the options put beside them."""
    separable = INTEGRATORS[name].separable_only
    made = hdnn.h2 if separable else hdnn.h1
    choice = {"step": 0.1, "dtype": F64, "integrator": INTEGRATORS[name], **options}
    return fill(made(4, layers, **choice), 0.5)  # type: ignore[operator]


BESIDE = {
    "Quadratic": lambda: {"energy": Quadratic(torch.tensor([0.5, 1.0, 0.0, 2.0]))},
    "learned": lambda: {"energy": Quadratic(torch.tensor([0.5, 1.0, 0.1, 2.0]), learned=True)},
    "pendulum": lambda: {"energy": pendulum()},
    "weights": lambda: {"unit_weights": torch.tensor([0.5, 2.0, 1.0, 3.0])},
    "learned weights": lambda: {"unit_weights": 0.5, "learn_unit_weights": True},
    "all": lambda: {"energy": Quadratic(torch.ones(4), learned=True), "unit_weights": 2.0, "learn_unit_weights": True},
}
WITH = pytest.mark.parametrize("kind", BESIDE)


@NAMED
@WITH
def test_the_field_is_J_times_the_gradient(name: str, kind: str) -> None:
    flow, y = beside(name, **BESIDE[kind]()), random(5, 4).requires_grad_()
    for j, field in enumerate(flow.fields()):
        (gradient,) = torch.autograd.grad(flow.energy(y, j).sum(), y)
        tight(field(y), gradient @ flow.J.mT)
        tight(flow.hamiltonian.gradient(*_numbers(flow, y, j)), gradient)
        if not flow.integrator.separable_only:
            tight(field.jacobian(y), torch.stack([jacobian(field, x) for x in y.detach()]))


def _numbers(flow: Flow, y: Tensor, j: int) -> tuple[object, ...]:
    from hdnn.flow.inputs import of_layer

    return of_layer(flow, y, j, None, {})


@NAMED
@WITH
def test_promises_and_bounds_beside_units(name: str, kind: str) -> None:
    flow, y = beside(name, **BESIDE[kind]()), random(5, 4)
    plain = beside(name)
    assert flow.plan is None
    assert (flow.preserves_structure, flow.preserves_volume) == (plain.preserves_structure, plain.preserves_volume)
    M = sensitivities(flow, y)
    tight(M[0], torch.stack([jacobian(flow, x) for x in y]))
    if flow.preserves_structure:
        assert check_symplecticity(flow, y).relative.max() < 1e-14
    assert (norms(M)[0].log() <= log_layer_bounds(flow).sum() + 1e-12).all()
    smallest = torch.linalg.svdvals(M)[..., -1]
    assert (smallest >= gradient_lower_bound(flow).value[:, None] * (1 - 1e-12)).all()
    if flow.integrator.reversible:
        assert reversibility_error(flow, y).max() < 1e-12
    tight(flow[2:](flow[:2](y)), flow(y))
    assert flow.refine(2)(y).shape == y.shape
    for again in (copy.deepcopy(flow), *([] if kind == "pendulum" else [pickle.loads(pickle.dumps(flow))])):
        tight(again(y), flow(y))
    for what in (linearize, continuous_sensitivities):
        with pytest.raises(ValueError, match="and this flow has more: an energy of its own"):
            what(flow, y)


@WITH
@pytest.mark.parametrize("name", explicit_first(["SymplecticEuler_p", "DiscreteGradient"]))
def test_gradients_beside_units(kind: str, name: str) -> None:
    flow, y = beside(name, 2, **BESIDE[kind]()), random(2, 4).requires_grad_()
    parameters = dict(flow.named_parameters())

    def run(y: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(flow, dict(zip(parameters, values, strict=True)), y)

    assert torch.autograd.gradcheck(run, (y, *(p.detach().requires_grad_() for p in parameters.values())))


@NAMED
def test_an_energy_alone(name: str) -> None:
    """A separable one runs with every step, J = block(X) or the canonical one."""
    flow, y = alone(pendulum(), name), random(5, 4)
    assert flow.weight.numel() == flow.bias.numel() == 0
    p, q = y.chunk(2, -1)
    expected = torch.cat((q.sin(), -p), -1) @ torch.diag(torch.tensor([1.0, 1, 1, 1], dtype=F64))
    tight(flow.fields()[0](y), expected)
    tight(flow.energy(y), p.square().sum(-1) / 2 - q.cos().sum(-1))
    M = sensitivities(flow, y)
    tight(M[0], torch.stack([jacobian(flow, x) for x in y]))
    if flow.preserves_structure:
        assert check_symplecticity(flow, y).relative.max() < 1e-14
        assert lower_bound(flow) == 1.0
    assert (norms(M)[0].log() <= log_layer_bounds(flow).sum() + 1e-12).all()


@pytest.mark.parametrize("name", explicit_first(n for n, i in INTEGRATORS.items() if not i.separable_only))
def test_an_energy_that_is_not_separable(name: str) -> None:
    flow, y = alone(Well(), name, interconnection=skew(4)), random(5, 4)
    M = sensitivities(flow, y)
    tight(M[0], torch.stack([jacobian(flow, x) for x in y]))
    if flow.preserves_structure:
        assert check_symplecticity(flow, y).relative.max() < 1e-13
    tight(flow[2:](flow[:2](y)), flow(y))  # the time goes on where a part begins
    assert not torch.allclose(flow[2:](y), flow[:2](y))
    flow(y).square().sum().backward()
    assert flow.get_submodule("own_energy").stiffness.grad.abs() > 0
    with pytest.raises(ValueError, match="does not state its `curvature`"):
        log_layer_bounds(flow)
    assert gradient_lower_bound(flow).value[0] == 0


@pytest.mark.parametrize("name", explicit_first(n for n in INTEGRATORS if n != "RungeKutta4"))
def test_order_with_an_energy(name: str) -> None:
    def at_one(steps: int) -> Tensor:
        with torch.no_grad():
            return alone(pendulum(), name, steps, step=None, horizon=1.0)(random(10, 4))

    truth, order = at_one(128), INTEGRATORS[name].order
    coarse, fine = ((at_one(steps) - truth).norm() for steps in (8, 16))
    assert abs(float((coarse / fine).log2()) - order) < 0.35


@pytest.mark.long
def test_discrete_gradients_keep_an_energy_of_ones_own() -> None:
    class Frozen(Well):
        def value(self, y: Tensor, t: float) -> Tensor:
            return super().value(y, 0.0)

    flow = alone(Frozen(), "DiscreteGradient", 40, shared=True, step=0.3, interconnection=skew(4))
    with torch.no_grad():
        assert energy_drift(flow, random(10, 4)).abs().max() < 1e-11
        other = alone(Frozen(), "ImplicitMidpoint", 40, shared=True, step=0.3, interconnection=skew(4))
        assert energy_drift(other, random(10, 4)).abs().max() > 1e-4


def test_discrete_gradients_keep_the_balance_with_everything() -> None:
    """H(y⁺) − H(y) = h ∇̄Hᵀ S ∇̄H + h (Gᵀ ∇̄H)ᵀ u, at any step."""
    S, G, h = Dissipation(hdnn.canonical(4), gram(4)), random(4, 2), 2.0
    flow = hdnn.h1(
        4, 1, step=h, dtype=F64, interconnection=S, integrator="discrete_gradient", ports=G,
        energy=Quadratic(torch.tensor([0.5, 1.0, 0.0, 2.0])), unit_weights=torch.tensor([0.5, 2.0, 1.0, 3.0]),
    )  # fmt: skip
    y, u = random(20, 4), random(1, 20, 2, seed=3)
    with torch.no_grad():
        after = fill(flow, 1.0)(y, ports=u)
        mean = torch.linalg.solve(flow.J, ((after - y) / h - u[0] @ G.mT).mT).mT
        fed = ((mean @ G) * u[0]).sum(-1)
        lost = torch.einsum("si,ij,sj->s", mean, gram(4), mean)
        torch.testing.assert_close(flow.energy(after) - flow.energy(y), h * (fed - lost), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("learned", [False, True])
@NAMED
def test_ports(name: str, learned: bool) -> None:
    """d/dt H = −∂Hᵀ R ∂H + (Gᵀ ∂H)ᵀ u of the field; M J Mᵀ = J where it held, for G u does not depend on y."""
    flow, y, u = beside(name, ports=2 if learned else random(4, 2)), random(5, 4), random(3, 5, 2, seed=3)
    assert ("port_weight" in dict(flow.named_parameters())) is learned
    plain = beside(name)
    for j, (field, undriven) in enumerate(zip(flow.fields(y, ports=u), plain.fields(), strict=True)):
        tight(field(y), undriven(y) + u[j] @ flow.port_weight.mT)
        x = y.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(flow.energy(x, j).sum(), x)
        tight(flow.port(y, j), gradient @ flow.port_weight)
        tight((gradient * field(y)).sum(-1), (flow.port(y, j) * u[j]).sum(-1))  # R = 0
    M = sensitivities(flow, y, ports=u)[0]
    if flow.preserves_structure:
        residual = torch.linalg.matrix_norm(M @ flow.J @ M.mT - flow.J)
        assert (residual / torch.linalg.matrix_norm(M, 2) ** 2).max() < 1e-13
    if flow.integrator.reversible:
        torch.testing.assert_close(flow.inverse(flow(y, ports=u), ports=u), y, rtol=1e-10, atol=1e-10)
    tight(flow[1:](flow[:1](y, ports=u[:1]), ports=u[1:]), flow(y, ports=u))
    tight(flow(y, ports=torch.zeros_like(u)), plain(y))


def test_ports_of_images_and_in_every_memory() -> None:
    flow = fill(hdnn.h2(4, 3, step=0.1, kernel_size=3, ports=2, dtype=F64))
    y, u = random(2, 4, 3, 3), random(3, 2, 2)
    first = flow.fields(y, ports=u)[0](y) - flow.fields(y, ports=0 * u)[0](y)
    tight(first, (u[0] @ flow.port_weight.mT)[:, :, None, None].expand_as(y))
    found = []
    for memory in ("store", "recompute", "reverse"):
        flow.memory = memory
        flow.zero_grad()
        flow(y, ports=u).square().sum().backward()
        found.append(flow.port_weight.grad.clone())
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0], rtol=1e-8, atol=1e-8)


# J of the state.


class Scaled(nn.Module):
    """J = (1 + y₁²) J₀ on the plane."""

    def forward(self, y: Tensor) -> Tensor:
        return 1 + y[..., :1].square()


def state_dependent(integrator: Integrator | str, **options: object) -> Flow:
    J = StateDependent(Scaled(), 2)
    choice = {"step": 0.2, "dtype": F64, "shared": True, "integrator": integrator, "interconnection": J, **options}
    return fill(hdnn.h1(2, 20, **choice), 1.0)  # type: ignore[arg-type]


def test_the_field_of_J_of_the_state_keeps_the_energy_and_not_the_volume() -> None:
    flow, y = state_dependent("forward_euler"), random(50, 2).requires_grad_()
    field = flow.fields()[0]
    (gradient,) = torch.autograd.grad(flow.energy(y).sum(), y)
    J = flow.interconnection.of_state(y)
    tight(J, -J.mT)
    tight(field(y), (J @ gradient.unsqueeze(-1)).squeeze(-1))
    tight((field(y) * gradient).sum(-1), torch.zeros(50, dtype=F64))
    divergence = torch.stack([jacobian(field, x).trace() for x in y.detach()])
    tight(divergence, 2 * y[:, 0] * gradient[:, 1])  # of (1 + y₁²) (∂₂H, −∂₁H)
    assert divergence.abs().max() > 0.1


@pytest.mark.parametrize("name", explicit_first(n for n, i in INTEGRATORS.items() if not i.separable_only))
def test_what_a_J_of_the_state_promises(name: str) -> None:
    flow, y = state_dependent(INTEGRATORS[name]), random(5, 2)
    assert (flow.preserves_structure, flow.preserves_volume, flow.scales_structure) == (False, False, False)
    for asked in (lower_bound, log_layer_bounds):
        with pytest.raises(ValueError, match=r"skew = True|No bound is known of a J\(y\)"):
            asked(flow)
    with pytest.raises(ValueError, match="keeps no J"):
        check_symplecticity(flow, y)
    with pytest.raises(ValueError, match="depends on the state"):
        _ = flow.J
    M = sensitivities(flow, y)
    tight(M[0], torch.stack([jacobian(flow, x) for x in y]))
    J0 = hdnn.canonical(2, dtype=F64)
    assert torch.linalg.matrix_norm(M[0] @ J0 @ M[0].mT - J0).max() > 1e-2
    drift = energy_drift(flow, y).abs().max()
    assert (drift < 1e-12) if name == "DiscreteGradient" else (drift > 1e-9)
    tight(flow[8:](flow[:8](y)), flow(y))


def test_a_learned_J_of_the_state() -> None:
    flow = hdnn.h1(3, 4, step=0.1, interconnection=StateDependent(nn.Linear(3, 3), 3), dtype=F64)
    flow(random(5, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters())
    assert flow.state_dict().keys() >= {"state_dependent_interconnection.module.weight"}


# What is refused, in words.


def test_refusals() -> None:
    Q = Quadratic(torch.ones(4))
    with pytest.raises(ValueError, match="`Inverse` has J = K⁻ᵀ, which the layer never computes"):
        hdnn.ms1(4, 2, step=0.1, energy=Q)
    with pytest.raises(ValueError, match=r"`Well` does not say that it is T\(p\) \+ V\(q\). Use `Separable"):
        hdnn.h2(4, 2, step=0.1, energy=Well())
    with pytest.raises(ValueError, match=r"neither half may drive itself"):
        alone(pendulum(), "SymplecticEuler_p", interconnection=skew(4))
    with pytest.raises(ValueError, match="act on vectors"):
        hdnn.h2(4, 2, step=0.1, kernel_size=3, energy=Q)
    with pytest.raises(ValueError, match='Use memory="store"'):
        hdnn.h2(4, 2, step=0.1, memory="reverse", energy=Q)
    with pytest.raises(ValueError, match="native"):
        hdnn.h2(4, 2, step=0.1, backend="native", energy=Q)
    with pytest.raises(ValueError, match="needs an `energy`"):
        Flow(4, 2, step=0.1, structure=hdnn.Dense(0), interconnection="canonical", integrator="forward_euler")
    with pytest.raises(TypeError, match=r"a module with `value\(y, t\)`"):
        hdnn.h2(4, 2, step=0.1, energy=lambda y: y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"guarantees .* only where H is convex"):
        lower_bound(alone(Well(), "ForwardEuler"))
    assert lower_bound(beside("ForwardEuler", energy=Q)) == 1.0
    for wrong in (torch.ones(2, 2), -torch.ones(4)):
        with pytest.raises(ValueError, match="`Q`"):
            Quadratic(wrong)
    with pytest.raises(ValueError, match="learned Q"):
        Quadratic(torch.zeros(4), learned=True)
    for wrong in (torch.ones(3), 0.0, -1.0):
        with pytest.raises(ValueError, match="`unit_weights` must be positive"):
            hdnn.h2(4, 2, step=0.1, unit_weights=wrong)
    for odd in (0, torch.ones(3, 2)):
        with pytest.raises(ValueError, match="`ports`"):
            hdnn.h2(4, 2, step=0.1, ports=odd)
    driven, y = hdnn.h2(4, 2, step=0.1, ports=2), torch.ones(4)
    with pytest.raises(ValueError, match=r"give `ports=` \(N, ..., 2\)"):
        driven(y)
    with pytest.raises(ValueError, match=r"Expected ports of shape \(2, ..., 2\)"):
        driven(y, ports=torch.ones(3, 2))
    with pytest.raises(TypeError, match="has no `ports`"):
        hdnn.h2(4, 2, step=0.1)(y, ports=torch.ones(2, 2))
    with pytest.raises(ValueError, match="has no ports"):
        hdnn.h2(4, 2, step=0.1).port(y)
    with pytest.raises(TypeError, match=r"must be an nn.Module"):
        StateDependent(lambda y: y, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Both must agree"):
        hdnn.h1(4, 2, step=0.1, interconnection=StateDependent(Scaled(), 2))
    with pytest.raises(ValueError, match="the 3 entries above the diagonal"):
        hdnn.h1(3, 2, step=0.1, interconnection=StateDependent(Scaled(), 3))(torch.ones(3))
    with pytest.raises(ValueError, match="neither half may drive itself"):
        hdnn.h2(2, 2, step=0.1, interconnection=StateDependent(Scaled(), 2))


def test_stages_refuse_what_they_do_not_know() -> None:
    for choice, words in (({"ports": 2}, "with a state alone"), ({"unit_weights": 2.0}, "gains of its own")):
        with pytest.raises(ValueError, match=words):
            hdnn.Stage(hdnn.h2(4, 2, step=0.1, kernel_size=3, **choice))  # type: ignore[arg-type]


def test_export_refuses_what_its_loop_does_not_know() -> None:
    from hdnn.export import to_program

    network = hdnn.vector_classifier(2, 2, hdnn.h2(4, 2, step=0.1, energy=Quadratic(torch.ones(4))))
    with pytest.raises(ValueError, match="energy of their own"):
        to_program(network, (2,))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["alone", "separable"])
def test_exports_with_gradients_of_autograd(kind: str) -> None:
    flow = alone(Well(), "ForwardEuler") if kind == "alone" else beside("StormerVerlet_p", energy=pendulum())
    batch = torch.export.Dim("batch")
    program = torch.export.export(flow, (random(3, 4),), dynamic_shapes=({0: batch},), strict=False).module()
    y = random(7, 4, seed=3).requires_grad_()
    with torch.no_grad():
        without = torch.export.export(flow, (y.detach(),), strict=False).module()
    for made in (program, without):
        tight(made(y), flow(y))
        learned = [flow.get_parameter(name) for name, _ in made.named_parameters()]
        found, expected = (
            torch.autograd.grad(of(y).square().sum(), [y, *weights], materialize_grads=True)
            for of, weights in ((made, made.parameters()), (flow, learned))
        )
        for ours, others in zip(found, expected, strict=True):
            tight(ours, others)


def test_curvature_may_have_no_bound() -> None:
    class Steep(Energy):
        curvature = (0.0, math.inf)

        def value(self, y: Tensor, t: float) -> Tensor:
            return (y**4).sum(-1)

    flow = alone(Steep(), "ForwardEuler")
    assert lower_bound(flow) == 1.0
    with pytest.raises(ValueError, match=r"No upper bound is known .* whose `curvature` is infinite"):
        log_layer_bounds(flow)
    for wrong in ((math.nan, 1.0), (0.0, math.nan), (1.0, 0.0), (math.inf, 0.0)):
        with pytest.raises(ValueError, match="two bounds of the eigenvalues of the Hessian, the lower first"):
            alone(Separable(torch.sum, torch.sum, curvature=wrong), "ForwardEuler")
