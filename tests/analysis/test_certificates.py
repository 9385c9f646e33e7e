"""What is certain of every gradient, against measured smallest singular values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from families import ACTIVATIONS, F64, PRESETS, SWEEP, Factors, fill, preset, random, skew, state
from hdnn.activations import Tanh, identity
from hdnn.analysis.backpropagation import gradients
from hdnn.analysis.bounds import log_upper_bound, lower_bound
from hdnn.analysis.certificates import gradient_lower_bound
from hdnn.analysis.jacobians import layer_jacobians
from hdnn.analysis.magnitudes import norms, singular_values
from hdnn.analysis.sensitivity import sensitivities
from hdnn.flow import Flow
from hdnn.hamiltonian import Field
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, Integrator, RungeKutta4, SymplecticEuler
from hdnn.interconnections import Fixed, Interconnection, block, canonical
from hdnn.structures import BlockDiagonal, Dense


class Damped(Interconnection):
    """J − r I, which says that it is not skew."""

    skew = False
    constant_over_layers = True

    def __init__(self, r: float) -> None:
        self.r = r

    def free_shape(self, features: int) -> tuple[int, ...]:
        return ()

    def constant(self, features: int, layers: int) -> Tensor | None:
        return canonical(features, dtype=F64) - self.r * torch.eye(features, dtype=F64)

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        return constant

    def pattern(self, features: int) -> Tensor | None:
        return self.constant(features, 0) != 0

    def layers(self, start: int, stop: int) -> Interconnection:
        return self


def check(flow: Flow, y0: Tensor) -> None:
    """No smallest singular value lies below what is certain, from the weights and from the measured norms."""
    M = sensitivities(flow, y0)
    s = singular_values(M)
    # What rounding does to the smallest of them, and to the product of the layers.
    lost = 10 * (flow.layers + 1) * torch.finfo(y0.dtype).eps * s[..., 0]
    for given_norms in (None, norms(M)):
        value = gradient_lower_bound(flow, given_norms).value.detach()
        value = value.reshape(len(value), -1).expand(-1, s[0, ..., 0].numel()).reshape(s.shape[:-1])
        assert (s[..., -1] >= value - lost).all()
        assert (value[-1] == 1).all()


@pytest.mark.parametrize("factors", SWEEP, ids=lambda c: "-".join(c))
def test_no_singular_value_is_smaller(factors: Factors) -> None:
    for name, step in (("tanh", 1.0), ("relu", 0.3), ("softplus", 0.05)):
        if factors.integrator == "GaussLegendre2":
            step = min(step, 0.3)  # where its stages exist
        check(factors.flow(4, 3, std=1.0, step=step, activation=ACTIVATIONS[name]), 2 * random(10, 4))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PRESETS)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 10**6),
    step=st.floats(0.01, 2.0),
    std=st.floats(0.05, 2.0),
    layers=st.integers(0, 6),
    single=st.booleans(),
    per_layer=st.booleans(),
)
def test_no_preset_is_smaller(
    name: str, activation: str, seed: int, step: float, std: float, layers: int, single: bool, per_layer: bool
) -> None:
    options: dict[str, object] = {"step": step, "activation": ACTIVATIONS[activation]}
    if per_layer and name in ("h1", "h2") and layers:
        J = torch.stack([skew(4, seed + j) for j in range(layers)])
        options["interconnection"] = Fixed(J if name == "h1" else block(random(layers, 2, 2, seed=seed)))
    flow = preset(name, layers=layers, std=std, seed=seed, **options)
    y0 = random(6, 4, seed=seed + 1)
    if single:
        flow, y0 = flow.float(), y0.float()
    check(flow, y0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_images(name: str, kernel_size: int) -> None:
    flow = preset(name, kernel_size=kernel_size)
    y0 = state(flow, 2, size=(3, 4))
    check(flow, y0)
    s = singular_values(sensitivities(flow, y0))[..., -1]
    of_this_size = gradient_lower_bound(flow, image_size=(3, 4)).value
    assert (s >= of_this_size[:, None] - 1e-13).all()
    assert (of_this_size >= gradient_lower_bound(flow).value).all()


def test_gradients_of_a_loss_stay_above_it() -> None:
    for name in PRESETS:
        flow, y0 = preset(name, layers=12), random(20, 4)
        found = gradients(flow, y0, lambda y: (y - 1).square().sum())
        bound = gradient_lower_bound(flow).value[:, None] * found.state_norms[-1]
        assert (found.state_norms >= bound * (1 - 1e-12)).all()


# Where nothing is lost.


def test_a_shear_reaches_it() -> None:
    for integrator in ("SymplecticEuler_p", "StormerVerlet_q"):
        flow = Factors("BlockDiagonal", "canonical", integrator).flow(6, 1, std=1.0, activation=identity)
        with torch.no_grad():
            flow.weight[:, 0] = 0
        s = torch.linalg.svdvals(layer_jacobians(flow, random(6))[0])
        torch.testing.assert_close(gradient_lower_bound(flow).value[0], s[-1])
        torch.testing.assert_close(gradient_lower_bound(flow).log[0], -log_upper_bound(flow))


def test_a_canonical_flow_reaches_what_its_norm_says() -> None:
    """s_1 s_n = 1, at any depth, also with a J of condition number 1 that is not canonical."""
    rotation = torch.linalg.qr(random(2, 2)).Q
    for J in (canonical(4, dtype=F64), 3 * block(rotation)):
        flow, y0 = preset("h2", layers=20, interconnection=Fixed(J)), random(5, 4)
        s = singular_values(sensitivities(flow, y0))
        found = gradient_lower_bound(flow, s[..., 0])
        torch.testing.assert_close(found.value, s[..., -1], rtol=1e-9, atol=0)
        assert "cond J = 1" in found.reason
    J = block(torch.diag(torch.tensor([1.0, 0.5], dtype=F64)))
    flow = preset("h2", layers=20, std=1.0, step=0.5, interconnection=Fixed(J))
    assert "cond J = 2" in gradient_lower_bound(flow, norms(sensitivities(flow, random(4)))).reason


def test_euler_comes_as_near_as_one_percent() -> None:
    """A nilpotent A = J Kᵀ K, K of one row: at x = 100 the shear I + hA has s_n = 1 / 100.01, the bound is 1 / 101."""
    flow = Flow(
        2,
        1,
        step=1.0,
        structure=Dense(1),
        interconnection=Fixed(canonical(2)),
        activation=identity,
        integrator=ForwardEuler(),
        dtype=F64,
    )
    with torch.no_grad():
        flow.weight.copy_(torch.tensor([[[10.0, 0.0]]]))
    s = torch.linalg.svdvals(layer_jacobians(flow, random(2))[0])[-1]
    assert gradient_lower_bound(flow).value[0].item() == pytest.approx(1 / 101)
    assert 0.99 < (gradient_lower_bound(flow).value[0] / s).item() <= 1


def test_without_a_skew_J_euler_reaches_one_minus_x() -> None:
    """J = −r I, K = I, σ = identity: F = (1 − h r) I."""

    class Friction(Damped):
        skew = False

        def constant(self, features: int, layers: int) -> Tensor | None:
            return -self.r * torch.eye(features, dtype=F64)

    for r, expected in ((0.5, 0.5), (1.0, 0.0)):
        options = {"structure": Dense(), "interconnection": Friction(r), "activation": identity}
        flow = Flow(2, 3, step=1.0, integrator=ForwardEuler(), dtype=F64, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            flow.weight.copy_(torch.eye(2).expand(3, 2, 2))
        s = singular_values(sensitivities(flow, random(2)))[..., -1]
        found = gradient_lower_bound(flow)
        torch.testing.assert_close(found.value.detach(), s)
        assert found.value[0].item() == pytest.approx(expected**3)
    assert "may send a direction to zero: x = h s ‖W‖ ‖K‖ is 1 in layer 2" in found.reason
    assert "not stated to be skew" in found.reason


# Where less, or nothing, is certain.


@pytest.mark.parametrize(
    "integrator", [ForwardEuler(), ImplicitMidpoint(), RungeKutta4(), SymplecticEuler()], ids=lambda i: type(i).__name__
)
@pytest.mark.parametrize("r", [0.0, 0.5, 2.0])
def test_damped_flows(integrator: Integrator, r: float) -> None:
    """J − R is promised nothing that J is promised; what is certain of it comes from its norms alone."""
    options = {"structure": Dense(), "step": 0.1, "dtype": F64, "interconnection": Damped(r)}
    if type(integrator) is SymplecticEuler:
        if r:
            with pytest.raises(ValueError, match="neither half may drive itself"):
                Flow(4, 3, integrator=integrator, **{**options, "structure": BlockDiagonal()})  # type: ignore[arg-type]
            return
        options["structure"] = BlockDiagonal()
    flow = fill(Flow(4, 3, integrator=integrator, **options), 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"does not state that J = -Jᵀ .*nothing is promised"):
        lower_bound(flow)
    assert not flow.preserves_structure
    assert not flow.preserves_volume
    for seed in range(3):
        flow = fill(flow, 0.5, seed)
        if type(integrator) is ImplicitMidpoint and r == 2.0:
            continue  # beyond x = 2 the equation need not have one solution
        check(flow, random(10, 4, seed=seed))


def test_damping_takes_norms_below_one() -> None:
    """What a bound of 1 that is read off the integrator alone would deny."""
    flow = Flow(
        4, 40, step=0.1, structure=Dense(), interconnection=Damped(1.0), integrator=ImplicitMidpoint(), dtype=F64
    )
    smallest = norms(sensitivities(fill(flow, 1.0), random(20, 4)))[0].min()
    assert smallest < 0.5
    with pytest.raises(ValueError, match="norms can fall to 0"):
        lower_bound(flow)


def test_what_is_not_known_is_zero_with_the_reason() -> None:
    class Own(ForwardEuler):
        def step(self, field: Field, y: Tensor, h: float) -> Tensor:
            return super().step(field, y, h)

    class Unknown(Tanh):
        def slope(self, u: Tensor) -> Tensor:
            return super().slope(u)

    flow = preset("h1")
    flow.integrator = Own()
    assert (gradient_lower_bound(flow).value == torch.tensor([0.0, 0.0, 0.0, 1.0])).all()
    assert "Nothing is known of the inverse of a step of `Own`" in gradient_lower_bound(flow).reason
    found = gradient_lower_bound(preset("h1", activation=Unknown()))
    assert found.value[0].item() == 0
    assert "slopes σ′ of `unknown` are not known" in found.reason
    assert gradient_lower_bound(preset("h1", activation=Unknown()), slopes=(0.0, 1.0)).value[0].item() > 0
    rough = fill(Factors("Dense", "canonical", "RungeKutta4").flow(4, 3), 2.0)
    found = gradient_lower_bound(rough, norms(sensitivities(rough, random(4))))
    assert found.value[0].item() == 0
    assert "keep neither a regular J nor volume" in found.reason
    for wrong in (torch.ones(2), torch.zeros(4)):
        with pytest.raises(ValueError, match="one for each of the 4 depths"):
            gradient_lower_bound(preset("h1"), wrong)
    with pytest.raises(ValueError, match="two finite values"):
        gradient_lower_bound(preset("h1"), slopes=(1.0, 0.0))


def test_volume_alone_says_something() -> None:
    """ms1 with weights of its own in every layer keeps no J: s_n ≥ ‖M‖^(1 − n), an equality for n = 2."""
    flow, y0 = preset("ms1", features=2, layers=40, std=1.0, step=0.3), random(10, 2)
    s = singular_values(sensitivities(flow, y0))
    found = gradient_lower_bound(flow, s[..., 0])
    assert "No layer shrinks volume" in found.reason
    torch.testing.assert_close(found.value, s[..., -1], rtol=1e-9, atol=0)


def test_an_odd_or_singular_J_has_no_condition_number() -> None:
    flow = Flow(
        3, 2, step=0.2, structure=Dense(), interconnection=Fixed(skew(3)), integrator=ImplicitMidpoint(), dtype=F64
    )
    measured = norms(sensitivities(fill(flow, 1.0), random(3)))
    assert "1 / (cond J" not in gradient_lower_bound(flow, measured).reason
    assert flow.preserves_structure
    check(flow, random(5, 3))


def test_as_a_regulariser() -> None:
    for name in PRESETS:
        flow = preset(name, layers=4)
        gradient_lower_bound(flow).log[0].backward()
        assert flow.weight.grad.isfinite().all()
        assert flow.weight.grad.abs().sum() > 0
    rough = fill(Factors("Dense", "canonical", "RungeKutta4").flow(4, 3), 2.0)
    gradient_lower_bound(rough).value.sum().backward()
    assert rough.weight.grad.isfinite().all()
    assert math.isinf(gradient_lower_bound(rough).log[0].item())
