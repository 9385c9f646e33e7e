"""Order, inverses, and what each integrator keeps."""

from __future__ import annotations

import shutil
import warnings
from functools import cache

import pytest
import torch

from families import (
    ACTIVATIONS,
    COMBINATIONS,
    F64,
    INTEGRATORS,
    REPRESENTATIVE,
    SMOOTH,
    Factors,
    fill,
    jacobian,
    preset,
    random,
    skew,
    state,
)
from hdnn.activations import tanh
from hdnn.flow import Flow
from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import INTEGRATORS as NAMED
from hdnn.integrators import (
    ForwardEuler,
    ImplicitMidpoint,
    RungeKutta4,
    StormerVerlet,
    Suzuki4,
    SymplecticEuler,
    Yoshida4,
    integrator_of,
)
from hdnn.interconnections import Fixed, Inverse, block, canonical, upper_ones
from hdnn.structures import BlockDiagonal, Dense, Skew


@torch.no_grad()
def after(factors: Factors, steps: int) -> torch.Tensor:
    """The state at T = 1/2, reached in so many steps with the same shared weights."""
    return factors.flow(4, steps, std=0.6, shared=True, step=None, horizon=0.5)(random(4, 4, seed=3))


@cache
def exact(structure: str, J: str) -> torch.Tensor:
    """The same state by 300 steps of fourth order, far below the errors that are measured."""
    return after(Factors(structure, J, "RungeKutta4"), 300)


@pytest.mark.parametrize("factors", [c for c in REPRESENTATIVE if c.interconnection != "per_layer"], ids=str)
def test_measured_order(factors: Factors) -> None:
    integrator = INTEGRATORS[factors.integrator]
    truth = exact(factors.structure, factors.interconnection)
    steps = torch.tensor([8, 12, 16, 24])
    errors = torch.stack([(after(factors, int(n)) - truth).norm() for n in steps]).log()
    sizes = -steps.double().log()
    sizes, errors = sizes - sizes.mean(), errors - errors.mean()
    assert abs((sizes * errors).sum() / sizes.square().sum() - integrator.order) < 0.1


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@torch.no_grad()
def test_order_at_kinks(activation: str) -> None:
    """The table of docs/choosing.md: 1, 1, 2, 2 are reached with kinks too, and RungeKutta4 falls to 2."""

    def at_one(integrator: str, steps: int) -> torch.Tensor:
        factors = Factors("BlockDiagonal", "canonical", integrator)
        made = factors.flow(
            4, steps, std=1.0, shared=True, step=None, horizon=1.0, activation=ACTIVATIONS[activation], seed=3
        )
        return made(2 * random(200, 4, seed=1))

    truth = at_one("StormerVerlet_p", 2048)
    for name, order in {"ForwardEuler": 1, "SymplecticEuler_p": 1, "StormerVerlet_p": 2, "RungeKutta4": 2}.items():
        # The mean over many trajectories: each crosses its kinks at other places within a step.
        errors = [(at_one(name, steps) - truth).norm(dim=-1).mean().log2() for steps in (32, 128)]
        assert abs((errors[0] - errors[1]) / 2 - order) < 0.3, name


@pytest.mark.parametrize(
    "factors", [c for c in REPRESENTATIVE if c.integrator not in ("ForwardEuler", "RungeKutta4")], ids=str
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_inverse_undoes_the_step(factors: Factors, activation: str) -> None:
    flow = factors.flow(4, 2, activation=ACTIVATIONS[activation])
    y = state(flow, 5)
    torch.testing.assert_close(flow.inverse(flow(y)), y, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(flow(flow.inverse(y)), y, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", ["ms1", "ms3", "h2"])
def test_inverse_on_images(name: str, k: int) -> None:
    flow = preset(name, kernel_size=k)
    y = state(flow, 2)
    torch.testing.assert_close(flow.inverse(flow(y)), y, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("integrator", [ForwardEuler(), RungeKutta4()])
def test_no_explicit_inverse(integrator: ForwardEuler) -> None:
    flow = Flow(4, 2, step=0.1, structure=Dense(), interconnection=Fixed(canonical(4)), integrator=integrator)
    with pytest.raises(ValueError, match=f"`{type(integrator).__name__}` has no explicit inverse"):
        flow.inverse(torch.zeros(4))


# M J Mᵀ = J -------------------------------------------------------------------------------------------------------


def residual(M: torch.Tensor, J: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(M @ J @ M.mT - J, 2)


def check(flow: Flow) -> None:
    """The claims of the flow against its Jacobian at a random input."""
    M = jacobian(flow, random(flow.features, seed=4))
    size = torch.linalg.matrix_norm(M, 2) ** 2
    if flow.preserves_structure:
        J = flow.J.detach().reshape(-1, flow.features, flow.features)[0]
        assert residual(M, J) <= 1e-13 * size * max(1, torch.linalg.matrix_norm(J, 2))
    if flow.preserves_volume:
        assert abs(torch.linalg.det(M) - 1) < 1e-12 * size


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shared", [False, True])
def test_claims_hold_for_every_combination(activation: str, shared: bool) -> None:
    for factors in REPRESENTATIVE:
        check(factors.flow(4, 3, std=1.0, shared=shared, activation=ACTIVATIONS[activation]))


@pytest.mark.slow
@pytest.mark.parametrize("factors", COMBINATIONS, ids=str)
def test_claims_hold_beyond_the_literature(factors: Factors) -> None:
    for shared in (False, True):
        check(factors.flow(4, 3, std=1.0, shared=shared))


def test_what_is_claimed() -> None:
    for factors in REPRESENTATIVE:
        for shared in (False, True):
            flow = factors.flow(4, 3, shared=shared)
            symplectic = factors.integrator not in ("ForwardEuler", "RungeKutta4", "DiscreteGradient")
            one_J = factors.interconnection not in ("Inverse", "per_layer", "per_layer_skew")
            one_J |= shared and factors.interconnection == "Inverse"
            assert flow.preserves_structure is (symplectic and one_J)
            assert flow.preserves_volume is symplectic
    assert preset("h1", layers=0).preserves_structure
    assert preset("h1", layers=0).preserves_volume
    odd = Flow(3, 2, step=0.1, structure=Skew(), interconnection=Inverse(), integrator=ImplicitMidpoint(), shared=True)
    assert not odd.preserves_structure
    assert odd.preserves_volume


@pytest.mark.parametrize("layers", [1, 16, 256])
@pytest.mark.parametrize("case", ["h2 canonical", "h2 block", "ms3", "midpoint"])
def test_deep_flows_keep_J(case: str, layers: int) -> None:
    if case == "midpoint":
        J = upper_ones(4, dtype=F64)
        flow = Flow(
            4,
            layers,
            step=0.05,
            structure=Dense(),
            interconnection=Fixed(J),
            integrator=ImplicitMidpoint(),
            dtype=F64,
        )
    else:
        J = block(random(2, 2, seed=6)) if case == "h2 block" else canonical(4, dtype=F64)
        choice = {"interconnection": Fixed(J)} if case == "h2 block" else {}
        flow = preset(case.split()[0], layers=layers, step=0.05, **choice)
    # This seed keeps ‖M‖ below 50, so that the absolute bar says something.
    fill(flow, std=1.0, seed=1)
    M = jacobian(flow, random(4, seed=4))
    assert flow.preserves_structure
    error = residual(M, J)
    assert error <= 1e-13 * torch.linalg.matrix_norm(M, 2) ** 2 * torch.linalg.matrix_norm(J, 2)
    assert error <= 1e-10
    assert torch.linalg.matrix_norm(M, 2) >= 1


def test_a_random_X_needs_the_right_invariant() -> None:
    J = block(random(2, 2, seed=6))
    flow = fill(preset("h2", layers=16, interconnection=Fixed(J)), std=1.0)
    M = jacobian(flow, random(4, seed=4))
    assert residual(M, J) < 1e-10
    assert residual(M.mT, J) > 1e-3


@pytest.mark.parametrize(
    ("structure", "J", "integrator"),
    [
        ("Dense", "canonical", "ForwardEuler"),
        ("BlockDiagonal", "canonical", "ForwardEuler"),
        ("BlockDiagonal", "canonical", "RungeKutta4"),
        ("BlockDiagonal", "per_layer", "SymplecticEuler_p"),
        ("Dense", "per_layer_skew", "ImplicitMidpoint"),
    ],
)
def test_what_does_not_keep_J(structure: str, J: str, integrator: str) -> None:
    flow = Factors(structure, J, integrator).flow(4, 8, std=1.5, step=0.5)
    assert not flow.preserves_structure
    M = jacobian(flow, random(4, seed=4))
    for kept in flow.J if flow.J.dim() == 3 else [flow.J]:
        assert residual(M, kept) > 1e-3


def test_layerwise_ms1_keeps_no_J_of_its_layers_but_volume() -> None:
    flow = preset("ms1", layers=6, std=1.5, step=0.2)
    M = jacobian(flow, random(4, seed=4))
    assert min(residual(M, J) for J in flow.J.detach()) > 1e-3
    assert abs(torch.linalg.det(M) - 1) < 1e-12


@pytest.mark.parametrize("k", [1, 3])
def test_image_flows_keep_J(k: int) -> None:
    for name in ("h2", "ms3"):
        flow = fill(preset(name, kernel_size=k, layers=4), std=1.0)
        y = state(flow, 1, size=(2, 2))
        M = jacobian(flow, y).reshape(16, 16)
        J = torch.kron(flow.J, torch.eye(4, dtype=F64))
        assert residual(M, J) <= 1e-13 * torch.linalg.matrix_norm(M, 2) ** 2


def test_midpoint_keeps_linear_energy() -> None:
    flow = Factors("Dense", "skew", "ImplicitMidpoint").flow(
        4, 50, shared=True, activation=ACTIVATIONS["identity"], step=0.3
    )
    ys = flow.trajectory(random(4))
    energies = torch.stack([flow.energy(y) for y in ys])
    torch.testing.assert_close(energies, energies[:1].expand_as(energies), rtol=1e-11, atol=1e-11)


# Implicit midpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", SMOOTH)
def test_midpoint_gradients_to_second_order(activation: str) -> None:
    K, b, J = 0.6 * random(3, 3), random(3, seed=1), skew(3, seed=2)
    integrator = ImplicitMidpoint()
    h = Hamiltonian(3, Dense(), Fixed(J), ACTIVATIONS[activation])

    def step(K: torch.Tensor, b: torch.Tensor, J: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        (field,) = h.fields(K[None], b[None], J, 1, halves=False)
        return integrator.step(field, y, 0.3)

    inputs = tuple(x.requires_grad_() for x in (K, b, J, random(2, 3, seed=3)))
    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


def test_midpoint_third_derivative() -> None:
    flow = Factors("Dense", "skew", "ImplicitMidpoint").flow(3, 1, step=0.4)

    def third(y: torch.Tensor) -> torch.Tensor:
        (first,) = torch.autograd.grad(flow(y)[0], y, create_graph=True)
        (second,) = torch.autograd.grad(first[1], y, create_graph=True)
        return second

    assert torch.autograd.gradcheck(third, random(3).requires_grad_())


def test_midpoint_solves_its_equation() -> None:
    flow = Factors("Dense", "skew", "ImplicitMidpoint").flow(4, 1, std=1.0, step=0.5)
    y = 3 * random(20, 4)
    after = flow(y)
    torch.testing.assert_close(after, y + 0.5 * flow.fields()[0]((y + after) / 2), rtol=1e-13, atol=1e-13)


def test_midpoint_takes_large_steps_with_weights_of_the_papers() -> None:
    made = Flow(
        16,
        1,
        step=1.0,
        structure=Dense(),
        interconnection=Fixed(canonical(16)),
        integrator=ImplicitMidpoint(),
        dtype=F64,
    )
    flow = fill(made, std=1.0)
    y = random(50, 16)
    torch.testing.assert_close(flow.inverse(flow(y)), y, rtol=1e-8, atol=1e-8)


def test_midpoint_names_the_step_that_fails() -> None:
    flow = Factors("Dense", "skew", "ImplicitMidpoint").flow(4, 1, step=0.125)
    with pytest.raises(RuntimeError, match=r"did not converge in 50 Newton steps at step size 0.125"):
        flow(torch.full((4,), float("nan"), dtype=F64))
    hasty = Flow(
        4,
        1,
        step=0.25,
        structure=Dense(),
        interconnection=Fixed(canonical(4)),
        integrator=ImplicitMidpoint(iterations=1),
        dtype=F64,
    )
    with pytest.raises(RuntimeError, match=r"in 1 Newton steps at step size 0.25.*Use a smaller step"):
        fill(hasty, std=20.0)(random(4))


def test_midpoint_on_images() -> None:
    options = {"structure": Dense(), "interconnection": Fixed(upper_ones(4)), "integrator": ImplicitMidpoint()}
    pointwise = fill(Flow(4, 3, step=0.1, kernel_size=1, dtype=F64, **options))  # type: ignore[arg-type]
    vectors = fill(Flow(4, 3, step=0.1, dtype=F64, **options))  # type: ignore[arg-type]
    y = random(2, 4, 3, 5)
    torch.testing.assert_close(pointwise(y).movedim(1, -1), vectors(y.movedim(1, -1)), rtol=1e-12, atol=1e-12)
    wide = Flow(4, 3, step=0.1, kernel_size=3, dtype=F64, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Use an explicit integrator, or .* kernel_size=1"):
        wide(y)


def test_arguments() -> None:
    for make in (SymplecticEuler, StormerVerlet, Yoshida4, Suzuki4):
        with pytest.raises(ValueError, match='`first` must be "p" or "q"'):
            make("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`tolerance` must be positive"):
        ImplicitMidpoint(tolerance=0.0)
    with pytest.raises(ValueError, match="`iterations` must be at least 1"):
        ImplicitMidpoint(iterations=0)
    assert SymplecticEuler() == SymplecticEuler("p")
    assert tanh.kernel == "tanh"
    assert Hamiltonian(4, BlockDiagonal(), Fixed(canonical(4)), tanh).separable


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default compiler of torch.compile needs a C++ compiler")
def test_the_default_compiler_keeps_the_step_size() -> None:
    """Inductor of PyTorch 2.13 makes `addmm` of `torch.add(y, a @ b, alpha=h)` and forgets h."""
    flow = preset("h1", 4, 2, backend="eager")
    y = state(flow, 5)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.compile(flow, fullgraph=True)(y), flow(y), rtol=1e-12, atol=1e-12)


# Compositions -----------------------------------------------------------------------------------------------------


def test_messages_name_every_integrator() -> None:
    with pytest.raises(TypeError) as found:
        integrator_of(3)  # type: ignore[arg-type]
    assert all(f"`{type(integrator).__name__}()`" in str(found.value) for integrator in NAMED.values())


def test_names() -> None:
    for name, integrator in NAMED.items():
        assert integrator_of(name) == integrator_of(type(integrator)) == integrator_of(integrator) == integrator
    assert {type(integrator) for integrator in NAMED.values()} == {type(member) for member in INTEGRATORS.values()}
    flow = Flow(4, 2, step=0.1, structure=BlockDiagonal(), interconnection="canonical", integrator="yoshida4")
    assert flow.integrator == Yoshida4()
    with pytest.raises(ValueError, match=r"There is no integrator 'yoshida'. Did you mean 'yoshida4'"):
        integrator_of("yoshida")
