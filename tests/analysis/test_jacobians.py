"""Jacobians of single layers against `torch.func.jacrev` of their steps."""

from __future__ import annotations

import pytest
import torch

from families import F64, LITERATURE, PRESETS, REPRESENTATIVE, Factors, preset, random, state
from hdnn.analysis import layer_jacobians
from hdnn.flow import Flow


def expected(flow: Flow, y0: torch.Tensor) -> torch.Tensor:
    """Layer by layer, sample by sample."""
    ys = flow.trajectory(y0).detach()
    return torch.stack(
        [
            torch.stack([torch.func.jacrev(flow[j])(y.unsqueeze(0)).reshape(y.numel(), -1) for y in ys[j]])
            for j in range(flow.layers)
        ]
    ).detach()


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=str)
def test_every_layer_is_jacrev(factors: Factors) -> None:
    flow = factors.flow(4, 2, std=1.0, step=0.3)
    y0 = state(flow, 2)
    torch.testing.assert_close(layer_jacobians(flow, y0), expected(flow, y0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_layer_of_images_is_jacrev(name: str, k: int) -> None:
    flow = preset(name, layers=2, std=1.0, kernel_size=k)
    y0 = state(flow, 2, size=(2, 3))
    torch.testing.assert_close(layer_jacobians(flow, y0), expected(flow, y0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("structure", "J"), LITERATURE)
def test_forward_euler_is_the_field(structure: str, J: str) -> None:
    """L = I + h A, with A from the field itself."""
    flow = Factors(structure, J, "ForwardEuler").flow(6, 3, step=0.3)
    y0 = state(flow, 5)
    ys = flow.trajectory(y0)
    A = torch.stack([field.jacobian(y) for field, y in zip(flow.fields(), ys, strict=False)]).detach()
    torch.testing.assert_close(layer_jacobians(flow, y0), torch.eye(6, dtype=F64) + 0.3 * A, rtol=1e-12, atol=1e-13)


def test_pixels_of_a_pointwise_flow_are_samples() -> None:
    flow, vectors = preset("h1", kernel_size=1), preset("h1")
    y0 = state(flow, 2)
    per_pixel = layer_jacobians(flow, y0, per_pixel=True)
    torch.testing.assert_close(per_pixel, layer_jacobians(vectors, y0.movedim(1, -1)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("k", "integrator"), [(None, "ForwardEuler"), (3, "ForwardEuler")])
def test_no_pixels(k: int | None, integrator: str) -> None:
    flow = Factors("Dense", "canonical", integrator).flow(4, 2, kernel_size=k)
    with pytest.raises(ValueError, match=r"`per_pixel` is for images with kernel_size=1.*got `(Vectors|Images)"):
        layer_jacobians(flow, state(flow, 2), per_pixel=True)


def test_a_nan_in_the_middle_is_found() -> None:
    flow = preset("h2", layers=5)
    with torch.no_grad():
        flow.bias[3, 0] = float("nan")
    with pytest.raises(ValueError, match=r"bias.*layer 3"):
        layer_jacobians(flow, random(2, 4))
