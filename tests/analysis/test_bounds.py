"""Bounds from the factors alone, against the norms of Jacobians, exact cases and dense convolutions."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from families import ACTIVATIONS, F64, IMPLICIT, PRESETS, REPRESENTATIVE, SWEEP, Factors, fill, preset, random, state
from hdnn.activations import LeakyReLU, Tanh, identity, sigmoid
from hdnn.analysis.bounds import log_layer_bounds, log_upper_bound, lower_bound, upper_bound
from hdnn.analysis.jacobians import has_closed_form, layer_jacobians
from hdnn.analysis.sensitivity import log_norms
from hdnn.flow import Flow
from hdnn.hamiltonian import Field
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, RungeKutta4
from hdnn.interconnections import Fixed, canonical
from hdnn.steps import Gains
from hdnn.structures import Dense

SLOPE = {name: 0.25 if name == "sigmoid" else 1.0 for name in ACTIVATIONS}


def norm(X: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(X, 2)


class Falling(Tanh):
    """−tanh: slopes from −1 to 0."""

    kernel = None

    def value(self, u: Tensor) -> Tensor:
        return -torch.tanh(u)

    def slope(self, u: Tensor) -> Tensor:
        return torch.tanh(u).square() - 1


# The upper bound.


@pytest.mark.parametrize("factors", SWEEP, ids=lambda c: "-".join(c))
def test_no_jacobian_exceeds_its_bound(factors: Factors) -> None:
    for name, activation in ACTIVATIONS.items():
        for step in (0.05, 1.0):
            flow = factors.flow(4, 3, std=1.0, step=step, activation=activation)
            try:
                bounds = log_layer_bounds(flow)
            except ValueError:  # two stages have a bound for x < 2 √3 only
                assert (factors.integrator, step) == ("GaussLegendre2", 1.0)
                continue
            assert bounds.shape == (3,)
            y0 = 2 * state(flow, 20)
            assert (norm(layer_jacobians(flow, y0)).log() <= bounds[:, None] + 1e-12).all(), name
            below = bounds.flip(0).cumsum(0).flip(0)[:, None]
            assert (log_norms(flow, y0)[:-1] <= below + 1e-12).all(), name


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=lambda c: "-".join(c))
def test_the_formulas(factors: Factors) -> None:
    """The bounds in the norms of J and K, written out: what is computed from K Jᵀ is never above."""
    flow = factors.flow(4, 3, std=1.0, activation=sigmoid)
    h, s, K = flow.step, 0.25, flow.K
    if factors.interconnection == "Inverse":
        x = h * s * norm(K)
        p = q = h * s * norm(K[:, :2, 2:])
    else:
        x = h * s * norm(flow.J) * norm(K) ** 2
        X = flow.J[..., 2:, :2]  # p is driven through Xᵀ by the units that see q, q through X by those that see p
        sees = K[..., 2:], K[..., :2]
        p, q = (h * s * norm(X) * norm(part) ** 2 for part in sees)
    name, _, first = factors.integrator.partition("_")
    a, c = 1 / (2 - 2 ** (1 / 3)), 1 / (4 - 4 ** (1 / 3))  # of each step of Störmer-Verlet but the middle one
    b, d = 2 * a - 1, 4 * c - 1  # the middle one, which goes back
    twice, once = (p, q) if first == "p" else (q, p)
    expected = {
        "ForwardEuler": 1 + x,
        "ImplicitMidpoint": 1 + x,
        "GaussLegendre2": 1 + x / (1 - math.sqrt(3) / 6 * x),
        "DiscreteGradient": (1 + x / 2) ** 2,
        "RungeKutta4": x.exp(),
        "SymplecticEuler": (1 + p) * (1 + q),
        "StormerVerlet": (1 + twice / 2) ** 2 * (1 + once),
        "Yoshida4": (1 + a / 2 * twice) ** 2 * (1 + (b - a) / 2 * twice) ** 2 * (1 + a * once) ** 2 * (1 + b * once),
        "Suzuki4": (1 + c / 2 * twice) ** 2
        * (1 + c * twice) ** 2
        * (1 + (d - c) / 2 * twice) ** 2
        * (1 + c * once) ** 4
        * (1 + d * once),
    }[name]
    found = log_layer_bounds(flow)
    assert (found <= expected.log() + 1e-12).all()
    if factors.interconnection in ("Inverse", "canonical"):  # J Kᵀ is as large as K: nothing is lost but what is proved
        if name in ("ForwardEuler", *IMPLICIT):
            torch.testing.assert_close(found, expected.log())
        assert (found >= 0.45 * expected.log()).all()


def test_a_shear_reaches_its_bound() -> None:
    """With K_p = 0 and σ = identity, h2 is the shear [I B; 0 I]; its norm is (b + √(b² + 4)) / 2 with b = ‖B‖."""
    for integrator in ("SymplecticEuler_p", "SymplecticEuler_q", "StormerVerlet_q"):
        flow = Factors("BlockDiagonal", "canonical", integrator).flow(6, 1, std=1.0, activation=identity)
        with torch.no_grad():
            flow.weight[:, 0] = 0
        b = 0.1 * norm(flow.K[0, 3:, 3:]) ** 2
        found = upper_bound(flow)
        torch.testing.assert_close(found, (b + (b**2 + 4).sqrt()) / 2)
        torch.testing.assert_close(found, norm(layer_jacobians(flow, random(6))[0]))


def test_implicit_midpoint_is_bounded_at_any_step() -> None:
    """Where x = h s ‖J‖ ‖K‖² > 2, the Neumann series says nothing and Woodbury's identity still 1 + x."""
    for seed in range(50):
        flow = preset("h1", layers=1, std=2.0, seed=seed, step=1.0)
        flow.integrator = ImplicitMidpoint()
        K = flow.K[0].detach()
        x = norm(K) ** 2
        assert x > 2
        A, eye = canonical(4, dtype=F64) @ K.T @ K, torch.eye(4, dtype=F64)
        assert norm(torch.linalg.solve(eye - A / 2, eye + A / 2)) <= 1 + x + 1e-9
        torch.testing.assert_close(upper_bound(flow), 1 + x)


def test_layers_multiply_and_no_layers_are_the_identity() -> None:
    flow = preset("h2", layers=5)
    torch.testing.assert_close(log_upper_bound(flow), log_layer_bounds(flow).sum())
    torch.testing.assert_close(upper_bound(flow[:2]) * upper_bound(flow[2:]), upper_bound(flow))
    assert upper_bound(preset("h2", layers=0)) == 1
    shared = preset("h2", layers=5, shared=True)
    torch.testing.assert_close(log_upper_bound(shared), 5 * log_layer_bounds(shared)[0])
    deep = preset("h1", layers=2000, std=3.0)
    assert upper_bound(deep) == math.inf
    assert log_upper_bound(deep).isfinite()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_images(name: str, kernel_size: int) -> None:
    flow = preset(name, kernel_size=kernel_size)
    jacobians = layer_jacobians(flow, state(flow, 2, size=(4, 5)))
    assert (norm(jacobians).log() <= log_layer_bounds(flow)[:, None] + 1e-12).all()
    of_this_size = log_layer_bounds(flow, image_size=(4, 5))
    assert (norm(jacobians).log() <= of_this_size[:, None] + 1e-12).all()
    assert (of_this_size <= log_layer_bounds(flow)).all()
    assert (of_this_size.sum() < 0.97 * log_upper_bound(flow)) == (kernel_size == 3)  # less than half as large, often
    torch.testing.assert_close(upper_bound(flow, image_size=(4, 5)).log(), of_this_size.sum())


# As a regulariser.


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kernel_size", [None, 3])
def test_the_gradient_of_the_bound(name: str, kernel_size: int | None) -> None:
    flow = preset(name, kernel_size=kernel_size)
    log_upper_bound(flow).backward()
    found = flow.weight.grad
    direction = random(*flow.weight.shape, seed=3)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            flow.weight.add_(sign * 1e-6 * direction)
            values.append(log_upper_bound(flow))
            flow.weight.add_(-sign * 1e-6 * direction)
    difference = float(values[0] - values[1]) / 2e-6
    assert float((found * direction).sum()) == pytest.approx(difference, rel=1e-5)


def test_the_gradient_of_a_learned_J() -> None:
    flow = Factors("Dense", "Learned", "ForwardEuler").flow(4, 3)
    log_upper_bound(flow).backward()
    assert flow.interconnection_weight.grad.abs().sum() > 0


def test_descending_the_bound_calms_the_gradients() -> None:
    flow, y0 = preset("h1", layers=32, std=1.0), random(20, 4)
    before = log_norms(flow, y0)[0].mean()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    for _ in range(50):
        optimizer.zero_grad()
        log_upper_bound(flow).backward()
        optimizer.step()
    assert log_norms(flow, y0)[0].mean() < before / 2


def test_weights_of_zero_have_a_gradient() -> None:
    flow = fill(preset("h2"), std=0.0)
    log_upper_bound(flow).backward()
    assert flow.weight.grad.isfinite().all()


# The lower bound.


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_all_presets_have_it(name: str, activation: object) -> None:
    assert lower_bound(preset(name, activation=activation)) == 1.0


@pytest.mark.parametrize("factors", SWEEP, ids=lambda c: "-".join(c))
def test_it_holds_for_every_norm_where_it_is_given(factors: Factors) -> None:
    two_stages = factors.integrator == "GaussLegendre2"  # which need not exist at larger steps
    flow = factors.flow(4, 3, std=1.5, step=0.1 if two_stages else 0.5)
    if factors.integrator in ("RungeKutta4", "DiscreteGradient"):
        with pytest.raises(ValueError, match=rf"`{factors.integrator}` does not guarantee.*`ForwardEuler`"):
            lower_bound(flow)
        return
    for order in (1, 2, math.inf, "fro"):
        assert log_norms(flow, state(flow, 20), order).min() >= math.log(lower_bound(flow)) - 1e-12


def test_what_it_does_not_say() -> None:
    """The largest singular value of h2 grows, the smallest shrinks with it: s_i s_{n+1−i} = 1."""
    s = torch.linalg.svdvals(layer_jacobians(preset("h2", layers=1, std=2.0, step=0.5), random(4))[0])
    assert s[-1] < 0.9
    torch.testing.assert_close(s * s.flip(-1), torch.ones(4, dtype=F64))


def test_runge_kutta_falls_below() -> None:
    flow = Flow(
        2,
        512,
        step=1.0,
        structure=Dense(),
        interconnection=Fixed(canonical(2)),
        activation=identity,
        integrator=RungeKutta4(),
        shared=True,
        dtype=F64,
    )
    torch.nn.init.eye_(flow.weight[0].data)
    growth = abs(sum((1j) ** k / math.factorial(k) for k in range(5)))  # the method's stability function at i
    assert growth == pytest.approx(0.9939, abs=1e-4)
    assert math.exp(log_norms(flow, torch.zeros(2, dtype=F64))[0]) == pytest.approx(growth**512)
    assert lower_bound(flow[:0]) == 1.0


def test_a_falling_activation_needs_a_symplectic_step() -> None:
    falling = preset("h1", activation=Falling())
    with pytest.raises(ValueError, match=r"only where σ′ ≥ 0; the slopes of `falling` reach -1.*symplectic"):
        lower_bound(falling, slopes=(-1.0, 0.0))
    assert lower_bound(preset("h2", activation=Falling())) == 1.0
    assert lower_bound(falling, slopes=(0.0, 1.0)) == 1.0


# What is refused.


def test_slopes_that_are_not_known() -> None:
    flow, y0 = preset("h1", activation=Falling(), std=1.0), random(10, 4)
    for ask in (lower_bound, upper_bound, log_upper_bound, log_layer_bounds):
        with pytest.raises(ValueError, match=r"slopes σ′ of `falling` are not known.*slopes=\(smallest, largest\)"):
            ask(flow)
    for slopes in ((0.0, math.inf), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="two finite values"):
            log_layer_bounds(flow, slopes=slopes)
    assert (log_norms(flow, y0)[0] <= log_upper_bound(flow, slopes=(-1.0, 0.0))).all()


def test_slopes_of_the_built_in_activations() -> None:
    """From the slopes themselves, over all u: none lies outside, and both ends are approached."""
    u = torch.cat((torch.linspace(-50, 50, 10001, dtype=F64), torch.zeros(1, dtype=F64)))
    for activation in (*ACTIVATIONS.values(), LeakyReLU(3.0)):
        slope = activation.slope(u)
        flow = preset("ms2", layers=1, activation=activation, step=1.0)
        largest = (torch.expm1(log_upper_bound(flow)) / norm(flow.K[0])).detach()
        assert float(largest) == pytest.approx(float(slope.max()))
        assert lower_bound(flow) == 1.0
        assert slope.min() >= 0


class Same(ForwardEuler):
    """A subclass that changes no step keeps what is known of its steps."""


class Other(ForwardEuler):
    """It may step otherwise, so that nothing is claimed of it."""

    def step(self, field: Field, y: torch.Tensor, h: float) -> torch.Tensor:
        return 0.5 * super().step(field, y, h)


class Halved(Other):
    """It says what it does, and is believed."""

    explicit: ClassVar[bool] = True

    def log_growth(self, x: Gains, *, monotone: bool) -> torch.Tensor:
        return torch.log1p(x[0]) - math.log(2)


def test_integrators_of_ones_own() -> None:
    y0 = random(10, 4)
    assert torch.equal(log_layer_bounds(_with(Same())), log_layer_bounds(_with(ForwardEuler())))
    assert lower_bound(_with(Same())) == 1.0
    assert not has_closed_form(_with(Other()))
    with pytest.raises(ValueError, match=r"No upper bound is known for `.*Other.*log_norms"):
        log_layer_bounds(_with(Other()))
    with pytest.raises(ValueError, match="`Other` does not guarantee"):
        lower_bound(_with(Other()))
    assert has_closed_form(_with(Halved()))
    torch.testing.assert_close(layer_jacobians(_with(Halved()), y0), layer_jacobians(_with(Other()), y0))
    assert (norm(layer_jacobians(_with(Halved()), y0)).log() <= log_layer_bounds(_with(Halved()))[:, None]).all()


def test_implicit_midpoint_with_falling_slopes() -> None:
    """(1 + x/2) / (1 − x/2) while x < 2; beyond it the equation of a step need not have one solution."""
    flow = preset("h1", activation=Falling(), std=1.0, step=0.1)
    flow.integrator = ImplicitMidpoint()
    bounds = log_layer_bounds(flow, slopes=(-1.0, 0.0))
    assert (norm(layer_jacobians(flow, random(50, 4))).log() <= bounds[:, None]).all()
    far = _with(ImplicitMidpoint(), step=10.0)
    with pytest.raises(ValueError, match=r"No upper bound is known for `ImplicitMidpoint.*slopes from -1 to 1"):
        log_layer_bounds(far, slopes=(-1.0, 1.0))


def _with(integrator: object, step: float = 0.1) -> Flow:
    flow = preset("h1", step=step)
    flow.integrator = integrator
    return flow


@pytest.mark.parametrize("ask", [upper_bound, log_upper_bound, log_layer_bounds])
def test_weights_that_are_not_finite(ask: object) -> None:
    flow = preset("h2", layers=4)
    with torch.no_grad():
        flow.weight[2, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"`flow.weight` has NaN.*from layer 2 on"):
        ask(flow)
