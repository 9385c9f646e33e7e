"""The activations of the kernels, in units in the last place (ulp) of the exact value.

Measured through one layer that writes σ and σ′ out unrounded: with K = (1, 0), b = 0, h = 1 and canonical J it is
p⁺ = p, q⁺ = q − σ(p), and its gradient with respect to p is σ′(p) for a cotangent of −1 on q⁺.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from test_native import SETS, instruction_set
from torch import Tensor

from families import ACTIVATIONS, F64, PRESETS
from hdnn.flow import Flow
from hdnn.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

CURVED = ("tanh", "sigmoid", "softplus")
# Bounds in ulp of the exact value, for float32 and float64, on every instruction set. Measured (x86-64, 2 to the 32
# float32 values; millions of float64): see `test_all_float32_values` and `test_float64`.
VALUE = {"tanh": 3.0, "sigmoid": 3.0, "softplus": 3.0}
# σ′ near saturation is a difference: it is exact to a few ulp of 1, or where it has a formula of its own, of itself.
SLOPE = 2.0
# Below these arguments e^u is not a normal number: values are flushed to 0.
FLUSH = {torch.float32: -87.0, F64: -708.0}

needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 60, reason="long double is no more precise than double here"
)


def layer(activation: str, dtype: torch.dtype) -> Flow:
    flow = PRESETS["h1"](2, 1, width=1, step=1.0, activation=ACTIVATIONS[activation], dtype=dtype, backend="native")
    with torch.no_grad():
        flow.weight.copy_(torch.tensor([[[1.0, 0.0]]]))
        flow.bias.zero_()
    return flow


def value(activation: str, u: Tensor) -> Tensor:
    """σ(u) of the kernels."""
    with torch.no_grad():
        return -layer(activation, u.dtype)(torch.stack([u, torch.zeros_like(u)], 1))[:, 1]


def slope(activation: str, u: Tensor) -> Tensor:
    """σ′(u) of the kernels."""
    y = torch.stack([u, torch.zeros_like(u)], 1).requires_grad_()
    g = torch.tensor([0.0, -1.0], dtype=u.dtype).expand(y.shape)
    return torch.autograd.grad(layer(activation, u.dtype)(y), y, g)[0][:, 0]


def exact(activation: str, u: np.ndarray) -> np.ndarray:
    """σ(u) in the precision of u, by formulas without cancellation."""
    e = np.exp(-np.abs(u))
    if activation == "tanh":
        return np.tanh(u)
    if activation == "sigmoid":
        return np.where(u < 0, e, 1) / (1 + e)
    return np.maximum(u, 0) + np.log1p(e)


def exact_slope(activation: str, u: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(u))
    if activation == "tanh":
        return 4 * e**2 / (1 + e**2) ** 2
    if activation == "sigmoid":
        return e / (1 + e) ** 2
    return np.where(u < 0, e, 1) / (1 + e)


def ulps(mine: Tensor, truth: np.ndarray) -> np.ndarray:
    """|mine − truth| in units in the last place of the truth, counted by normal numbers."""
    single = mine.dtype is torch.float32
    kind = np.finfo(np.float32 if single else np.float64)
    exponent = np.frexp(np.maximum(np.abs(truth), truth.dtype.type(kind.tiny)))[1] - 1
    return np.abs(mine.numpy().astype(truth.dtype) - truth) / np.ldexp(truth.dtype.type(1), exponent - kind.nmant)


def wide(dtype: torch.dtype) -> type[np.floating]:
    """A type with digits to spare."""
    return np.float64 if dtype is torch.float32 else np.longdouble


def worst(activation: str, u: Tensor) -> tuple[float, float]:
    """The largest error of σ in ulp, and of σ′ in ulp of 1."""
    x = u.numpy().astype(wide(u.dtype))
    kept = x > FLUSH[u.dtype] if activation != "tanh" else np.full(x.shape, True)
    of_value = ulps(value(activation, u), exact(activation, x))[kept].max(initial=0.0)
    off = np.abs(slope(activation, u).numpy().astype(x.dtype) - exact_slope(activation, x)).max()
    return float(of_value), float(off / torch.finfo(u.dtype).eps)


def floats(bits: np.ndarray) -> Tensor:
    """Finite float32 numbers with these bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        u = torch.from_numpy(bits.astype(np.uint32).view(np.float32))
    return u[u.isfinite()]


def every_exponent(each: int, seed: int) -> Tensor:
    """Random mantissas, their ends among them, in every exponent and sign."""
    mantissas = np.random.default_rng(seed).integers(0, 1 << 23, (512, each))
    mantissas[:, 0], mantissas[:, 1] = 0, (1 << 23) - 1
    return floats((np.arange(512)[:, None] << 23 | mantissas).ravel())


def doubles(count: int, seed: int) -> Tensor:
    """Random magnitudes from subnormal to huge, most of them where σ bends."""
    generator = torch.Generator().manual_seed(seed)
    bend = torch.randn(count, generator=generator, dtype=F64) * 8
    small = torch.randn(count, generator=generator, dtype=F64).sign() * torch.logspace(-320, 2.9, count, dtype=F64)
    return torch.cat([bend, small, bend / 8])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("activation", CURVED)
def test_every_float32_exponent(activation: str, name: str) -> None:
    with instruction_set(name):
        of_value, of_slope = worst(activation, every_exponent(64, seed=1))
    assert of_value <= VALUE[activation]
    assert of_slope <= SLOPE


@needs_long_double
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("activation", CURVED)
def test_float64(activation: str, name: str) -> None:
    with instruction_set(name):
        of_value, of_slope = worst(activation, doubles(20_000, seed=2))
    assert of_value <= VALUE[activation]
    assert of_slope <= SLOPE


def all_floats(step: int) -> Iterator[Tensor]:
    """Every `step`-th of all float32 numbers, in pieces."""
    piece = 1 << 22
    for start in range(0, 1 << 32, piece * step):
        u = floats(np.arange(start, min(start + piece * step, 1 << 32), step, dtype=np.int64))
        if len(u):
            yield u


@pytest.mark.slow
@pytest.mark.parametrize("activation", CURVED)
def test_all_float32_values(activation: str) -> None:
    """Every 251st of all float32 numbers: 17 million."""
    for u in all_floats(251):
        of_value, of_slope = worst(activation, u)
        assert of_value <= VALUE[activation]
        assert of_slope <= SLOPE


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_edges(dtype: torch.dtype, name: str) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    u = torch.tensor([0.0, -0.0, tiny, -tiny, tiny / 8, 1e-20, -1e-20], dtype=dtype)
    inf = torch.tensor([float("inf"), -float("inf"), float("nan")], dtype=dtype)
    with instruction_set(name):
        assert torch.equal(value("tanh", u), u)
        assert torch.equal(slope("tanh", u), torch.ones_like(u))
        assert value("tanh", inf)[:2].tolist() == [1, -1]
        assert value("sigmoid", inf)[:2].tolist() == [1, 0]
        assert value("softplus", inf)[:2].tolist() == [float("inf"), 0]
        assert value("relu", inf)[:2].tolist() == [float("inf"), 0]
        assert value("leaky_relu", inf)[:2].tolist() == [float("inf"), -float("inf")]
        assert torch.equal(value("sigmoid", u), torch.full_like(u, 0.5))
        for activation in ACTIVATIONS:
            assert value(activation, inf)[2].isnan()
            assert value(activation, -inf)[2].isnan()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_tanh_is_odd_bounded_and_saturates(dtype: torch.dtype, name: str) -> None:
    u = every_exponent(16, seed=3).to(dtype)
    far = torch.tensor([20.0, 25.0, 1e3, torch.finfo(dtype).max], dtype=dtype)
    with instruction_set(name):
        assert torch.equal(value("tanh", -u), -value("tanh", u))
        assert (value("tanh", u).abs() <= 1).all()
        for sign in (1, -1):
            assert torch.equal(value("tanh", sign * far), torch.full_like(far, sign))
            assert torch.equal(slope("tanh", sign * far), torch.zeros_like(far))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu_0.3", "identity"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_straight_ones_are_exact(activation: str, dtype: torch.dtype, name: str) -> None:
    u = every_exponent(16, seed=4).to(dtype)
    chosen = ACTIVATIONS[activation]
    with instruction_set(name):
        assert torch.equal(value(activation, u), chosen.value(u))
        assert torch.equal(slope(activation, u), chosen.slope(u))
