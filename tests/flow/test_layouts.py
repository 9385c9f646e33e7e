"""Flows of images keep the layout of the images that they are given."""

import pytest
import torch

import hdnn

F64 = torch.float64
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
@pytest.mark.parametrize("model", [hdnn.ms1, hdnn.ms2, hdnn.ms3, hdnn.h1, hdnn.h2])
def test_a_convolution_keeps_the_layout_and_its_values(model, memory):
    if memory == "reverse" and model in (hdnn.ms2, hdnn.h1):
        pytest.skip("forward Euler has no inverse")
    torch.manual_seed(0)
    flow = model(4, 5, horizon=1.0, kernel_size=3, memory=memory, dtype=F64)
    images, found = torch.randn(2, 4, 6, 7, dtype=F64), []
    for layout in LAYOUTS:
        y = images.clone(memory_format=layout).requires_grad_()
        out = flow(y)
        assert out.is_contiguous(memory_format=layout)
        slopes = torch.autograd.grad(out.square().sum(), [y, flow.weight, flow.bias])
        assert slopes[0].is_contiguous(memory_format=layout)
        found.append([out, *slopes])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
