"""Products and largest singular values without matrices, against the matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from families import F64, REPRESENTATIVE, Factors, preset, random, state
from hdnn.analysis import (
    largest_singular_values,
    sensitivities,
    sensitivity_vector_product,
    singular_values,
    vector_sensitivity_product,
)
from hdnn.flow import Flow


def close(found: Tensor, expected: Tensor, rtol: float = 1e-11) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12)


def flows() -> dict[str, Flow]:
    return {
        "vectors": preset("h2", layers=5, std=1.0),
        "pixels": preset("h1", kernel_size=1, std=1.0),
        "images": preset("ms1", kernel_size=3, std=1.0),
    }


def check_products(flow: Flow, y0: Tensor, leading: int) -> None:
    M, state_axes = sensitivities(flow, y0), y0.shape[leading:]
    samples = y0.shape[:leading]
    v = random(*y0.shape, seed=9)
    flat = v.reshape(*samples, state_axes.numel(), 1)
    for start in range(flow.layers + 1):
        close(sensitivity_vector_product(flow, y0, v, start=start).reshape(flat.shape), M[start] @ flat)
    products = vector_sensitivity_product(flow, y0, v)
    assert products.shape == (flow.layers + 1, *y0.shape)
    close(products.reshape(flow.layers + 1, *flat.shape), M.mT @ flat)


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=str)
def test_products_of_every_combination(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0)
    check_products(flow, state(flow, 2), 1)


@pytest.mark.parametrize("name", flows())
def test_products(name: str) -> None:
    flow = flows()[name]
    check_products(flow, state(flow, 2, size=(2, 3)), 1)
    check_products(flow, state(flow, size=(2, 3)), 0)


@pytest.mark.parametrize("name", flows())
def test_largest_singular_values(name: str) -> None:
    flow = flows()[name]
    y0 = state(flow, 3, size=(2, 3))
    expected = singular_values(sensitivities(flow, y0))
    for start in (0, 2):
        close(largest_singular_values(flow, y0, 3, start=start), expected[start, :, :3], rtol=1e-9)
    close(largest_singular_values(flow, y0[0])[0], expected[0, 0, 0], rtol=1e-9)


def test_samples_keep_their_axes() -> None:
    flow = flows()["vectors"]
    y0 = state(flow, 2, 3)
    close(largest_singular_values(flow, y0, 2), singular_values(sensitivities(flow, y0))[0, ..., :2], rtol=1e-9)
    assert largest_singular_values(flow, state(flow, 0), 2).shape == (0, 2)


def test_the_same_call_gives_the_same_numbers() -> None:
    flow = flows()["images"]
    y0 = state(flow, 2)
    assert torch.equal(largest_singular_values(flow, y0, 2), largest_singular_values(flow, y0, 2))


def test_single_precision() -> None:
    flow = flows()["images"].float()
    y0 = state(flow, 2).float()
    found = largest_singular_values(flow, y0, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, singular_values(sensitivities(flow, y0))[0, :, :2], rtol=1e-4, atol=1e-4)


def test_networks_of_changing_sizes() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 2, 3, padding=1, dtype=F64),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(18, 4, dtype=F64),
    ]
    y0, v, u = random(2, 1, 3, 3), random(2, 1, 3, 3, seed=1), random(2, 4, seed=2)
    M = sensitivities(layers, y0)
    pushed = sensitivity_vector_product(layers, y0, v)
    close(pushed, (M[0] @ v.reshape(2, 9, 1)).squeeze(-1))
    pulled = vector_sensitivity_product(layers, y0, u)
    assert isinstance(pulled, list)
    for product, matrix, size in zip(pulled, M, [(1, 3, 3), (2, 3, 3), (2, 3, 3), (18,), (4,)], strict=True):
        assert product.shape == (2, *size)
        close(product.reshape(2, -1), (matrix.mT @ u.unsqueeze(-1)).squeeze(-1))
    for start in (0, 3):
        expected = torch.stack([torch.linalg.svdvals(matrix)[:2] for matrix in M[start]])
        close(largest_singular_values(iter(layers), y0, 2, start=start), expected, rtol=1e-9)


def test_a_flow_among_layers_needs_second_derivatives() -> None:
    flow = flows()["vectors"]
    layers, y0, v = [flow, torch.sin], random(2, 4), random(2, 4, seed=1)
    close(sensitivity_vector_product(layers, y0, v), (sensitivities(layers, y0)[0] @ v.unsqueeze(-1)).squeeze(-1))


def test_the_flow_is_left_as_it_was() -> None:
    flow = flows()["images"]
    y0 = state(flow, 1).requires_grad_()
    found = [
        sensitivity_vector_product(flow, y0, y0),
        vector_sensitivity_product(flow, y0, y0),
        largest_singular_values(flow, y0),
    ]
    assert not any(result.requires_grad for result in found)
    assert y0.grad is None
    assert all(p.grad is None and p.requires_grad for p in flow.parameters())


def test_errors() -> None:
    flow = flows()["vectors"]
    y0 = state(flow, 2)
    with pytest.raises(ValueError, match=r"`v` must be like .* \(2, 4\) in torch.float64; got \(4,\) in torch.float64"):
        sensitivity_vector_product(flow, y0, y0[0])
    with pytest.raises(ValueError, match=r"`u` must be like .*; got \(2, 4\) in torch.float32"):
        vector_sensitivity_product(flow, y0, y0.float())
    for start in (-1, 6):
        with pytest.raises(ValueError, match=f"from 0 to N = 5; got {start}"):
            sensitivity_vector_product(flow, y0, y0, start=start)
    for count in (0, 4):
        with pytest.raises(ValueError, match=rf"between 1 and 3.*; got {count}\. `singular_values\(sensitivities"):
            largest_singular_values(flow, y0, count)
    with pytest.raises(ValueError, match=r"Expected a state of shape \(..., 4\)"):
        largest_singular_values(flow, random(2, 3))
    growing = [lambda y: torch.sin(1e200 * y)] * 2
    with pytest.raises(ValueError, match="dy_N/dy_0 exceeds the range"):
        vector_sensitivity_product(growing, torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
