"""The equation of the implicit midpoint rule: it has one solution, and that is found at any step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import hdnn
from families import ACTIVATIONS, F64, Factors, fill, random, skew, state
from hdnn import continuation
from hdnn.flow import Flow
from hdnn.integrators import ImplicitMidpoint
from hdnn.interconnections import Fixed, Inverse, canonical, upper_ones
from hdnn.structures import Dense, Skew


def midpoint(features: int, step: float, activation: str = "tanh", dtype: torch.dtype = F64, **choice: object) -> Flow:
    """One layer with N(0, 1) weights, the papers' choice."""
    flow = Flow(
        features,
        1,
        step=step,
        activation=ACTIVATIONS[activation],
        dtype=F64,
        **{  # type: ignore[arg-type]
            "structure": Dense(),
            "interconnection": Fixed(canonical(features)),
            "integrator": ImplicitMidpoint(),
            **choice,
        },
    )
    return fill(flow, std=1.0).to(dtype)


def missed(flow: Flow, y: Tensor, after: Tensor) -> Tensor:
    """The residual in float64, in units of the rounding of what it is summed from."""
    exact = flow.double()
    y, m = y.double(), (y.double() + after.double()) / 2
    field, h = exact.fields()[0], exact.step
    size = m.abs() + y.abs() + (h / 2) * field.magnitude(m)
    return ((m - y - (h / 2) * field(m)).abs() / size / torch.finfo(after.dtype).eps).max()


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_the_solution_is_found(activation: str, dtype: torch.dtype) -> None:
    """At h = 1 on 64 features x = h ‖J‖ ‖K‖² is about 240: far beyond where Newton's method alone gets stuck."""
    for features, step in ((64, 1.0), (16, 30.0)):
        flow = midpoint(features, step, activation, dtype)
        y = random(4, features).to(dtype)
        assert missed(flow, y, flow(y)) < 16


@pytest.mark.parametrize("choice", [{}, {"structure": Skew(), "interconnection": Inverse()}], ids=["Dense", "Inverse"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@torch.no_grad()
def test_there_is_one_solution(activation: str, choice: dict[str, object]) -> None:
    """A step back from where the step arrived solves another equation, whose solution must be the start."""
    flow = midpoint(16, 10.0, activation, **choice)
    y = random(8, 16)
    torch.testing.assert_close(flow.inverse(flow(y)), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [1e-6, 1.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@torch.no_grad()
def test_linear_flows_at_any_step(step: float, dtype: torch.dtype) -> None:
    for J in (canonical(8), upper_ones(8)):
        flow = midpoint(8, step, "identity", dtype, interconnection=Fixed(J))
        y = random(5, 8).to(dtype)
        after = flow(y)
        field = flow.double().fields()[0]
        A, c = field.jacobian(y[0].double()), field(torch.zeros(8, dtype=F64))
        system = torch.eye(8, dtype=F64) - (step / 2) * A
        m = torch.linalg.solve(system, (y.double() + (step / 2) * c).mT).mT
        allowed = 10 * torch.finfo(dtype).eps * torch.linalg.cond(system)
        assert (after - (2 * m - y)).norm() <= allowed * (2 * m - y).norm()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_where_continuation_is_needed(activation: str) -> None:
    """By the implicit function theorem: L = (I − hA/2)⁻¹ (I + hA/2), and finite differences for the weights."""
    flow = midpoint(12, 20.0, activation)
    y = random(12, seed=3)
    with pytest.raises(RuntimeError, match="did not converge in 1 Newton"):
        midpoint(12, 20.0, activation, integrator=ImplicitMidpoint(iterations=1))(y)
    m = (y + flow(y).detach()) / 2
    A = flow.fields()[0].jacobian(m).detach()
    eye = torch.eye(12, dtype=F64)
    expected = torch.linalg.solve(eye - 10 * A, eye + 10 * A)
    torch.testing.assert_close(torch.func.jacrev(flow)(y), expected, rtol=1e-8, atol=1e-8)

    parameters = [flow.weight, flow.bias]
    directions = [random(*parameter.shape, seed=7) for parameter in parameters]
    cotangent = random(12, seed=8)
    found = torch.autograd.grad(cotangent @ flow(y), parameters)
    along = sum((g * v).sum() for g, v in zip(found, directions, strict=True))
    values = []
    for sign in (-1.0, 1.0):
        moved = midpoint(12, 20.0, activation)
        with torch.no_grad():
            for parameter, v in zip((moved.weight, moved.bias), directions, strict=True):
                parameter += sign * 1e-6 * v
            values.append(cotangent @ moved(y))
    torch.testing.assert_close(along, (values[1] - values[0]) / 2e-6, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_pixels_are_samples() -> None:
    pointwise, vectors = (midpoint(12, 20.0, kernel_size=k) for k in (1, None))
    y = random(2, 12, 2, 3)
    torch.testing.assert_close(pointwise(y).movedim(1, -1), vectors(y.movedim(1, -1)), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(pointwise(y[0]), pointwise(y)[0], rtol=1e-7, atol=1e-7)
    assert vectors(torch.zeros(0, 12, dtype=F64)).shape == (0, 12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("J", ["skew", "Inverse"])
@torch.no_grad()
def test_magnitude_bounds_rounding(activation: str, J: str) -> None:
    """f in float32 against float64: within a few units of the magnitude, which itself is no more than K and J allow."""
    flow = Factors("Skew", J, "ForwardEuler").flow(32, 1, std=1.0, activation=ACTIVATIONS[activation])
    y = state(flow, 50).float().double()
    single = Factors("Skew", J, "ForwardEuler").flow(32, 1, std=1.0, activation=ACTIVATIONS[activation]).float()
    flow = single.double()  # the same rounded weights
    exact, size = flow.fields()[0](y), flow.fields()[0].magnitude(y)
    error = (flow.float().fields()[0](y.float()) - exact).abs()
    assert (error <= 8 * torch.finfo(torch.float32).eps * size).all()
    assert (exact.abs() <= size * (1 + 1e-12)).all()


def test_what_is_not_solved_is_said() -> None:
    flow = midpoint(4, 0.5)
    broken = torch.stack((random(4), torch.full((4,), float("nan"), dtype=F64)))
    with pytest.raises(RuntimeError, match=r"step size 0\.5.*1 of 2 samples.*NaN or infinity"):
        flow(broken)
    strict = midpoint(4, 0.5, integrator=ImplicitMidpoint(tolerance=1e-30))
    with pytest.raises(RuntimeError, match=r"miss the tolerance 1e-30.*Use a smaller step"):
        strict(random(4))


def test_uniqueness_by_secant_slopes() -> None:
    """The proof: for any slopes D between 0 and 1, kinks included, I − (h/2) J Kᵀ D K is regular, whatever h."""
    for seed in range(200):
        K, J, D = random(5, 4, seed=seed), skew(4, seed=seed), random(5, seed=seed).abs().clamp(max=1)
        D[random(5, seed=seed + 1) > 0.5] = 0
        assert torch.linalg.det(torch.eye(4, dtype=F64) - 50 * J @ K.mT @ (D[:, None] * K)) >= 1 - 1e-6


@pytest.mark.parametrize("kind", ["discrete_gradient", "inputs", "ports"])
@torch.no_grad()
def test_samples_with_numbers_of_their_own_arrive_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The equation of a sample holds its own state, or input: what is left of them on the way must keep its own."""
    sizes = set()

    def corrected(equations: continuation.Equations, *rest: Any) -> tuple[Tensor, Tensor]:
        sizes.add(len(equations.y))
        return arrive(equations, *rest)

    arrive = continuation._corrected
    monkeypatch.setattr(continuation, "_corrected", corrected)
    driven = kind != "discrete_gradient"
    choice = {kind: 3, "integrator": "implicit_midpoint"} if driven else {"integrator": kind}
    flow = hdnn.h1(6, 1, step=100.0 if driven else 20.0, activation="relu" if driven else "tanh", dtype=F64, **choice)  # type: ignore[arg-type]
    fill(flow, 2.0)
    y, u = 3 * random(32, 6), random(1, 32, 3, seed=2)
    after = flow(y, **({kind: u} if driven else {}))
    assert len(sizes) > 1  # some were left on the way
    for i in range(0, 32, 8):
        alone = flow(y[i : i + 1], **({kind: u[:, i : i + 1]} if driven else {}))
        torch.testing.assert_close(after[i : i + 1], alone, rtol=1e-7, atol=1e-7)
