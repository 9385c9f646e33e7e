"""Sensitivities against `torch.func.jacrev`, for every flow and for other networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from families import (
    ACTIVATIONS,
    F64,
    IMPLICIT,
    PRESETS,
    REPRESENTATIVE,
    SWEEP,
    Factors,
    preset,
    random,
    state,
)
from hdnn.analysis import layer_jacobians, log_norms, norms, sensitivities
from hdnn.analysis.pullback import functions
from hdnn.flow import Flow
from hdnn.hamiltonian import Field
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, Integrator
from hdnn.interconnections import Fixed, Inverse, upper_ones
from hdnn.structures import Dense, Skew

OPEN = {"structure": Dense(), "interconnection": Fixed(upper_ones(4))}


def jacrev(function: object, y: Tensor, leading: int = 1) -> Tensor:
    """The Jacobian of every sample by `torch.func.jacrev` of the batch: (*samples, D', D)."""
    samples = math.prod(y.shape[:leading])
    whole = torch.func.jacrev(function)(y).detach()
    blocks = whole.reshape(samples, -1, samples, y[(0,) * leading].numel())
    return torch.stack([blocks[s, :, s] for s in range(samples)]).reshape(*y.shape[:leading], *blocks.shape[1::2])


def run(layers: list) -> object:
    """The composition of functions."""

    def through(y: Tensor) -> Tensor:
        for layer in layers:
            y = layer(y.clone())
        return y

    return through


def truth(layers: object, y0: Tensor, leading: int = 1) -> list[Tensor]:
    """dy_N/dy_j for j = 0 … N, one call of `jacrev` each."""
    steps = functions(layers)
    states = [run(steps[:j])(y0) for j in range(len(steps) + 1)]
    return [jacrev(run(steps[j:]), states[j].detach(), leading) for j in range(len(steps) + 1)]


def check(flow: Flow, y0: Tensor, leading: int = 1) -> None:
    """All depths to 1e-12, relative, in the Frobenius norm of every sample."""
    found, expected = sensitivities(flow, y0), torch.stack(truth(flow, y0, leading))
    assert found.shape == expected.shape
    error = torch.linalg.matrix_norm(found - expected) / torch.linalg.matrix_norm(expected)
    assert error.max() < 1e-12


@pytest.mark.parametrize("factors", SWEEP, ids=str)
def test_every_combination_is_jacrev(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0, step=0.2)
    check(flow, state(flow, 2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_activation_is_jacrev(name: str, activation: str) -> None:
    for shared in (False, True):
        flow = preset(name, std=1.0, step=0.2, activation=ACTIVATIONS[activation], shared=shared)
        check(flow, state(flow, 2))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=str)
def test_every_activation_with_every_integrator_is_jacrev(factors: Factors, activation: str) -> None:
    flow = factors.flow(4, 3, std=1.0, step=0.2, activation=ACTIVATIONS[activation])
    check(flow, state(flow, 2))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_images_are_jacrev(name: str, k: int) -> None:
    flow = preset(name, layers=2, std=1.0, step=0.2, kernel_size=k)
    check(flow, state(flow, 2, size=(2, 3)))
    check(flow, state(flow, size=(2, 3)), leading=0)


WITH_IMAGES = [c for c in REPRESENTATIVE if c.interconnection in ("canonical", "per_layer")]


@pytest.mark.parametrize("factors", WITH_IMAGES, ids=str)
def test_images_of_every_integrator_are_jacrev(factors: Factors) -> None:
    for k in (1, 3):
        if k == 1 or factors.integrator not in IMPLICIT:
            flow = factors.flow(4, 2, std=1.0, step=0.2, kernel_size=k)
            check(flow, state(flow, 2, size=(2, 2)))


@pytest.mark.parametrize("name", PRESETS)
def test_the_output_of_a_deep_flow_is_jacrev(name: str) -> None:
    flow = preset(name, layers=64, std=1.0, step=0.05)
    y0 = state(flow, 3)
    M, ys = sensitivities(flow, y0), flow.trajectory(y0).detach()
    for j in (0, 17, 63):
        expected = jacrev(flow[j:], ys[j])
        assert (torch.linalg.matrix_norm(M[j] - expected) / torch.linalg.matrix_norm(expected)).max() < 1e-12


@pytest.mark.parametrize("features", [1, 3, 5])
def test_odd_features(features: int) -> None:
    for integrator in (ForwardEuler(), ImplicitMidpoint()):
        flow = Flow(
            features, 3, step=0.3, structure=Skew(), interconnection=Inverse(), integrator=integrator, dtype=F64
        )
        check(flow, state(flow, 2))


@dataclass(frozen=True)
class Damped(Integrator):
    """An integrator that is no Runge-Kutta method, as a user may write one."""

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        return torch.sin(y) + h * field(y).square()

    def inverse(self, field: Field, y: Tensor, h: float) -> Tensor:
        raise NotImplementedError


class Halved(ForwardEuler):
    """A built-in integrator whose step a user has changed."""

    def step(self, field: Field, y: Tensor, h: float) -> Tensor:
        return y / 2 + h * field(y)


@pytest.mark.parametrize("integrator", [Damped(), Halved()])
def test_integrators_of_users_are_jacrev(integrator: Integrator) -> None:
    for k in (None, 1):
        flow = Flow(4, 3, step=0.3, integrator=integrator, kernel_size=k, dtype=F64, **OPEN)
        y0 = state(flow, 2, size=(2, 2))
        check(flow, y0)
        L, M = layer_jacobians(flow, y0), sensitivities(flow, y0)
        torch.testing.assert_close(M[0], L[2] @ L[1] @ L[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0,)])
def test_samples_keep_their_axes(leading: tuple[int, ...]) -> None:
    flow = preset("h2", std=1.0)
    y0 = state(flow, *leading)
    M = sensitivities(flow, y0)
    assert M.shape == (4, *leading, 4, 4)
    flat = sensitivities(flow, y0.reshape(-1, 4) if leading != (0,) else y0)
    torch.testing.assert_close(M.reshape(flat.shape), flat)
    assert norms(M).shape == (4, *leading)


@pytest.mark.parametrize(("name", "k"), [("h1", None), ("h2", None), ("ms2", None), ("h2", 1), ("h2", 3)])
def test_products_of_layers(name: str, k: int | None) -> None:
    flow = preset(name, layers=5, std=1.0, step=0.2, kernel_size=k)
    y0 = state(flow, 3, size=(2, 2))
    M, L = sensitivities(flow, y0), layer_jacobians(flow, y0)
    torch.testing.assert_close(M[:-1], M[1:] @ L, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(M[-1], torch.eye(M.shape[-1], dtype=F64).expand_as(M[-1]))


def test_many_large_layers_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = preset("h2", layers=7, std=1.0)
    y0 = state(flow, 3)
    expected = sensitivities(flow, y0)
    monkeypatch.setattr("hdnn.analysis.jacobians._WORKSPACE", 3 * expected[0].nbytes)
    torch.testing.assert_close(sensitivities(flow, y0), expected)


def test_pixels_of_a_pointwise_flow() -> None:
    flow = preset("h2", std=1.0, kernel_size=1)
    y0 = state(flow, 2, size=(2, 3))
    blocks, whole = sensitivities(flow, y0, per_pixel=True), sensitivities(flow, y0)
    assert blocks.shape == (4, 2, 2, 3, 4, 4)
    images = whole.reshape(4, 2, 4, 2, 3, 4, 2, 3)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(images[:, :, :, row, column, :, row, column], blocks[:, :, row, column])
            images[:, :, :, row, column, :, row, column] = 0
    assert not images.any()
    jacobians = layer_jacobians(flow, y0, per_pixel=True)
    torch.testing.assert_close(blocks[:-1], blocks[1:] @ jacobians)


def test_no_layers() -> None:
    for flow in (preset("h2", layers=0), preset("h2", layers=0, kernel_size=3)):
        M = sensitivities(flow, state(flow, 2, size=(1, 2)))
        torch.testing.assert_close(M, torch.eye(M.shape[-1], dtype=F64).expand_as(M))
        assert layer_jacobians(flow, state(flow, 2, size=(1, 2))).shape == (0, *M.shape[1:])
    assert sensitivities([], random(2, 3)).shape == (1, 2, 3, 3)


def test_single_precision() -> None:
    flow = preset("h2", layers=16, std=1.0)
    y0 = state(flow, 5)
    single = sensitivities(flow.float(), y0.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), sensitivities(flow.double(), y0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [None, 1, 3])
def test_the_flow_is_left_as_it_was(k: int | None) -> None:
    flow = preset("h2", kernel_size=k).train()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    y0 = state(flow, 2, size=(2, 2)).requires_grad_()
    found = [sensitivities(flow, y0), layer_jacobians(flow, y0), log_norms(flow, y0)]
    assert not any(result.requires_grad for result in found)
    assert flow.training
    assert y0.grad is None
    assert all(p.grad is None and p.requires_grad for p in flow.parameters())
    for name, value in flow.state_dict().items():
        assert torch.equal(value, before[name])


def test_norms_are_taken_per_sample() -> None:
    """The mean of symplectic matrices may fall below 1 where no sample does."""
    flow = preset("h2", layers=64, std=1.0, step=0.3)
    M = sensitivities(flow, state(flow, 200))[0]
    assert norms(M).min() > 1
    assert norms(M.mean(0)) < norms(M).mean() / 2


# Other networks -------------------------------------------------------------------------------------------------


def mlp(sizes: list[int], activation: nn.Module, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(n, m, dtype=F64), activation) for n, m in itertools.pairwise(sizes)]


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, dtype=F64),
            nn.BatchNorm2d(channels, dtype=F64),
            nn.ReLU(inplace=True),
        )

    def forward(self, y: Tensor) -> Tensor:
        return y + self.inner(y)


def networks() -> dict[str, tuple[object, Tensor]]:
    flow = preset("h2", std=1.0, backend="auto")
    torch.manual_seed(0)
    return {
        "mlp": (mlp([4] * 6, nn.Tanh()), random(3, 4)),
        "sequential": (nn.Sequential(*mlp([4, 4, 4], nn.ReLU())), random(3, 4)),
        "in place": ([nn.Linear(4, 4, dtype=F64), nn.ReLU(inplace=True), nn.Softmax(-1)], random(3, 4)),
        "functions": ([torch.sin, lambda y: y * y.sum(-1, keepdim=True)], random(3, 4)),
        "residual": ([Residual(2).eval(), Residual(2).eval()], random(2, 2, 3, 3)),
        "flow among layers": ([nn.Linear(4, 4, dtype=F64), flow, flow], random(3, 4)),
    }


@pytest.mark.parametrize("name", networks())
def test_other_networks_are_jacrev(name: str) -> None:
    layers, y0 = networks()[name]
    M = sensitivities(layers, y0)
    assert isinstance(M, Tensor)
    torch.testing.assert_close(M, torch.stack(truth(layers, y0)), rtol=1e-12, atol=1e-13)


def test_changing_sizes_give_a_list() -> None:
    layers = [*mlp([2, 6, 5, 3], nn.Tanh()), nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 2, 1, dtype=F64), nn.Flatten()]
    y0 = random(4, 2)
    M = sensitivities(layers, y0)
    assert isinstance(M, list)
    assert [matrix.shape for matrix in M] == [(4, 2, n) for n in (2, 6, 5, 3, 3, 2, 2)]
    for found, expected in zip(M, truth(layers, y0), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert norms(M).shape == (7, 4)


def test_a_generator_of_layers() -> None:
    layers = mlp([4, 4, 4], nn.Tanh())
    torch.testing.assert_close(
        sensitivities((layer for layer in layers), random(3, 4)), sensitivities(layers, random(3, 4))
    )


def test_gradients_vanish_in_a_deep_mlp_and_not_in_h2() -> None:
    y0 = random(10, 4)
    assert norms(sensitivities(mlp([4] * 33, nn.Tanh()), y0))[0].max() < 1e-4
    assert norms(sensitivities(preset("h2", layers=32), y0)).min() > 1 - 1e-9


# Logarithms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, math.inf, "fro"])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_log_norms_are_the_logarithms_of_norms(order: float | str, k: int | None) -> None:
    flow = preset("h1", layers=6, std=1.0, step=0.3, kernel_size=k)
    y0 = state(flow, 2, size=(2, 2))
    torch.testing.assert_close(log_norms(flow, y0, order), norms(sensitivities(flow, y0), order).log())
    layers = mlp([4, 3, 4, 2], nn.Tanh())
    torch.testing.assert_close(
        log_norms(layers, random(3, 4), order), norms(sensitivities(layers, random(3, 4)), order).log()
    )


def test_log_norms_where_the_norm_overflows() -> None:
    y0 = torch.zeros(3, 2, dtype=F64)
    growing = [lambda y: torch.sin(1e10 * y)] * 60
    with pytest.raises(ValueError, match=r"dy_N/dy_29 exceeds the range of torch\.float64\. Use `log_norms`"):
        sensitivities(growing, y0)
    expected = 10 * math.log(10) * torch.arange(60, -1, -1, dtype=F64)
    torch.testing.assert_close(log_norms(growing, y0), expected[:, None].expand(61, 3))
    shrinking = [lambda y: 1e-10 * y] * 60
    torch.testing.assert_close(log_norms(shrinking, y0), -expected[:, None].expand(61, 3))
    dead = [torch.sin, lambda y: 0 * y, torch.sin]
    assert log_norms(dead, y0)[:2].isneginf().all()
    assert log_norms(dead, y0)[2:].isfinite().all()
