"""σ̃′ = σ, σ′ by autograd, and σ̃ against an independent high-precision truth."""

import math

import mpmath
import pytest
import torch

from families import ACTIVATIONS, F64, SMOOTH, random
from hdnn.activations import Activation, LeakyReLU

POINTS = (0.0, 1e-9, 1e-4, 0.3, 0.9999999, 1.0, 1.0000001, 2.5, 19.9, 20.1, 30.0, 39.9, 40.1, 700.0)
U = torch.tensor([sign * point for point in POINTS for sign in (1, -1)], dtype=F64)


def truth(activation: Activation, name: str, u: float) -> mpmath.mpf:
    """The potential in 60 digits."""
    with mpmath.workdps(60):
        x = mpmath.mpf(u)
        if name == "tanh":
            return mpmath.log(mpmath.cosh(x))
        if name == "sigmoid":
            return mpmath.log1p(mpmath.exp(x))
        if name == "softplus":
            # mpmath's series of Li₂ cannot reach e^700; its inversion formula, exact, can.
            if x > 0:
                return mpmath.pi**2 / 6 + x**2 / 2 + mpmath.re(mpmath.polylog(2, -mpmath.exp(-x)))
            return -mpmath.re(mpmath.polylog(2, -mpmath.exp(x)))
        if name == "identity":
            return x**2 / 2
        slope = {"relu": 0.0, "leaky_relu": 0.01, "leaky_relu_0.3": 0.3}[name]
        return x**2 / 2 * (1 if x > 0 else mpmath.mpf(slope))


each = pytest.mark.parametrize("name", ACTIVATIONS)


@each
def test_potential_differentiates_to_value_and_value_to_slope(name: str) -> None:
    activation = ACTIVATIONS[name]
    u = torch.cat([U, 3 * random(200)]).requires_grad_()
    (value,) = torch.autograd.grad(activation.potential(u).sum(), u, create_graph=True)
    torch.testing.assert_close(value, activation.value(u), rtol=1e-12, atol=1e-15)
    (slope,) = torch.autograd.grad(activation.value(u).sum(), u)
    # PyTorch takes the slope of leaky ReLU at 0 as that of the left, like ours; nothing else has a kink.
    torch.testing.assert_close(slope, activation.slope(u.detach()), rtol=1e-12, atol=1e-15)
    (second,) = torch.autograd.grad(value.sum(), u)
    keep = U.numel()
    smooth = slice(None) if name in SMOOTH else slice(keep, None)
    torch.testing.assert_close(second[smooth], slope[smooth], rtol=1e-9, atol=1e-12)


@each
def test_potential_is_the_high_precision_truth(name: str) -> None:
    activation = ACTIVATIONS[name]
    for u, potential in zip(U.tolist(), activation.potential(U).tolist(), strict=True):
        expected = truth(activation, name, u)
        assert abs(potential - expected) <= 4e-15 * abs(expected) + 1e-307, (u, potential, expected)


@each
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_nothing_overflows_and_dtypes_stay(name: str, dtype: torch.dtype) -> None:
    activation = ACTIVATIONS[name]
    u = torch.tensor([0.0, 1e3, -1e3, 1e8, -1e8], dtype=dtype, requires_grad=True)
    for function in (activation.value, activation.potential, activation.slope):
        out = function(u)
        assert out.dtype is dtype
        assert torch.isfinite(out).all()
        if out.requires_grad:
            (gradient,) = torch.autograd.grad(out.sum(), u)
            assert torch.isfinite(gradient).all()


@each
def test_float32_agrees_with_float64(name: str) -> None:
    activation = ACTIVATIONS[name]
    u = torch.linspace(-5, 5, 41, dtype=torch.float32)
    for function in (activation.value, activation.potential, activation.slope):
        torch.testing.assert_close(function(u).double(), function(u.double()), rtol=2e-6, atol=2e-7)


@each
def test_gradcheck(name: str) -> None:
    activation = ACTIVATIONS[name]
    u = (random(12) + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(activation.potential, u)
    assert torch.autograd.gradgradcheck(activation.potential, u)
    assert torch.autograd.gradcheck(activation.value, u)


@each
def test_slopes_are_not_negative(name: str) -> None:
    assert (ACTIVATIONS[name].slope(U) >= 0).all()


@pytest.mark.parametrize("slope", [-0.1, math.nan, math.inf])
def test_leaky_relu_refuses_what_is_not_monotone(slope: float) -> None:
    with pytest.raises(ValueError, match="`negative_slope` must be a finite number >= 0"):
        LeakyReLU(slope)


def test_slope_of_leaky_relu_is_not_rounded_to_float32() -> None:
    assert LeakyReLU(0.01).slope(torch.tensor(-1.0, dtype=F64)).item() == 0.01


def test_names() -> None:
    assert {name: repr(a) for name, a in ACTIVATIONS.items() if not isinstance(a, LeakyReLU)} == {
        name: name for name, a in ACTIVATIONS.items() if not isinstance(a, LeakyReLU)
    }
    assert repr(LeakyReLU(0.3)) == "LeakyReLU(negative_slope=0.3)"
