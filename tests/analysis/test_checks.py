"""What the analysis refuses before it computes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from families import F64, PRESETS, Factors, preset, random, skew, state
from hdnn.analysis import (
    gradients,
    largest_singular_values,
    layer_jacobians,
    log_norms,
    sensitivities,
    sensitivity_vector_product,
    vector_sensitivity_product,
)
from hdnn.analysis.checks import check_vectors, check_weights, skew_matrix
from hdnn.flow import Flow

CALLS: dict[str, Callable[[Flow, Tensor], object]] = {
    "sensitivities": sensitivities,
    "layer_jacobians": layer_jacobians,
    "log_norms": log_norms,
    "sensitivity_vector_product": lambda flow, y: sensitivity_vector_product(flow, y, y),
    "vector_sensitivity_product": lambda flow, y: vector_sensitivity_product(flow, y, y),
    "largest_singular_values": largest_singular_values,
    "gradients": lambda flow, y: gradients(flow, y, torch.sum),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.mark.filterwarnings("ignore:The weights are bfloat16")
@every_call
def test_states_that_do_not_fit(call: Callable[[Flow, Tensor], object]) -> None:
    flow, images = preset("h2"), preset("h2", kernel_size=3)
    with pytest.raises(ValueError, match=r"Expected a state of shape \(..., 4\); got \(2, 3\)"):
        call(flow, random(2, 3))
    with pytest.raises(ValueError, match=r"Expected images of shape \(B, 4, H, W\); got \(2, 3, 5, 5\)"):
        call(images, random(2, 3, 5, 5))
    with pytest.raises(ValueError, match=r"state is torch.float32, the weights are torch.float64.*`flow.double\(\)`"):
        call(flow, random(2, 4).float())
    with pytest.raises(ValueError, match=r"float32 or float64; got a torch\.bfloat16 state"):
        call(preset("h2", dtype=torch.bfloat16), random(2, 4).bfloat16())
    with pytest.raises(ValueError, match="initial state y0 holds NaN"):
        call(flow, random(2, 4).fill_(math.nan))


@every_call
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_weights_that_are_not_finite(call: Callable[[Flow, Tensor], object], parameter: str) -> None:
    for value in (math.nan, math.inf):
        flow = preset("h2", layers=5)
        with torch.no_grad():
            getattr(flow, parameter)[3].fill_(value)
        with pytest.raises(ValueError, match=rf"{parameter}.*layer 3"):
            call(flow, state(flow, 2))


@pytest.mark.parametrize("call", [sensitivities, layer_jacobians, log_norms])
def test_results_too_large_for_memory(call: Callable[..., Tensor]) -> None:
    flow = preset("h2", layers=64, features=4)
    y0 = state(flow, 100)
    needed = (64 + (call is sensitivities)) * 100 * 4 * 4 * 8
    call(flow, y0, limit=needed)
    with pytest.raises(ValueError, match=r"would take 0\.0007\d+ GiB.*`limit` is 0\.0007\d+ GiB.*`largest_singular_va"):
        call(flow, y0, limit=needed - 1)


def test_the_default_limit_stops_before_it_allocates() -> None:
    images, pointwise = preset("h2", layers=64, kernel_size=3), preset("h2", layers=64, kernel_size=1)
    y0 = state(images, 100, size=(28, 28))
    with pytest.raises(ValueError, match=r"\(65 x 100 x 3,136 x 3,136 numbers\) would take 476 GiB, .* is 4 GiB"):
        sensitivities(images, y0)
    with pytest.raises(ValueError, match=r"couple no pixels: per_pixel=True gives one small matrix per pixel\."):
        sensitivities(pointwise, y0)
    with pytest.raises(ValueError, match=r"would take 0\.598 GiB"):
        layer_jacobians(pointwise, y0, per_pixel=True, limit=2**29)


def test_the_limit_holds_for_other_networks() -> None:
    layers = [torch.sin] * 9
    sensitivities(layers, random(3, 4), limit=10 * 3 * 4 * 4 * 8)
    with pytest.raises(ValueError, match="`vector_sensitivity_product` need none"):
        sensitivities(layers, random(3, 4), limit=10 * 3 * 4 * 4 * 8 - 1)
    with pytest.raises(ValueError, match="The products"):
        log_norms(layers, random(3, 4), limit=3 * 4 * 4 * 8 - 1)
    with pytest.raises(ValueError, match="`per_pixel` is for flows"):
        sensitivities(layers, random(3, 4), per_pixel=True)


# Weights and J.


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_every_parameter_is_looked_at(name: str, value: float) -> None:
    check_weights(preset(name))
    for parameter in ("weight", "bias"):
        flow = preset(name)
        with torch.no_grad():
            getattr(flow, parameter)[1].flatten()[-1] = value
        with pytest.raises(ValueError, match=rf"`flow.{parameter}` has NaN or infinite entries from layer 1 on"):
            check_weights(flow)


def test_what_all_layers_share_names_no_layer() -> None:
    flow = preset("h1", shared=True)
    with torch.no_grad():
        flow.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="infinite entries, so nothing"):
        check_weights(flow)
    flow = Factors("Dense", "Learned", "ForwardEuler").flow(4, 3)
    with torch.no_grad():
        flow.interconnection_weight[0] = math.inf
    with pytest.raises(ValueError, match=r"`flow\.interconnection_weight` has NaN or infinite entries, so nothing"):
        check_weights(flow)


def test_images() -> None:
    check_vectors(preset("h1"), "This")
    with pytest.raises(ValueError, match=r"This is for flows on vectors; .*Images\(kernel_size=1\)`\. A pointwise"):
        check_vectors(preset("h1", kernel_size=1), "This")


def test_skew_matrices() -> None:
    J = skew(4)
    assert torch.equal(skew_matrix(J.float(), 4), J.float())
    skew_matrix(J.float().double() + 1e-9 * random(4, 4), 4)  # rounding of a file in lower precision
    with pytest.raises(ValueError, match=r"\|J \+ Jᵀ\| reaches 2"):
        skew_matrix(torch.eye(4, dtype=F64), 4)
