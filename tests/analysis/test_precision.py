"""Under autocast the analysis says what it says outside, or one sentence: never a number of half precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from families import preset, random
from hdnn import analysis
from hdnn.flow import Flow

Ask = Callable[[Flow, Tensor], object]

OF_STATES: dict[str, Ask] = {
    "sensitivities": analysis.sensitivities,
    "log_norms": analysis.log_norms,
    "layer_jacobians": analysis.layer_jacobians,
    "gradients": lambda flow, y: analysis.gradients(flow, y, lambda y_N: y_N.square().sum()).state_norms,
    "largest_singular_values": analysis.largest_singular_values,
    "sensitivity_vector_product": lambda f, y: analysis.sensitivity_vector_product(f, y, torch.ones_like(y)),
    "vector_sensitivity_product": lambda f, y: analysis.vector_sensitivity_product(f, y, torch.ones_like(y)),
    "lyapunov_exponents": analysis.lyapunov_exponents,
    "check_symplecticity": lambda flow, y: analysis.check_symplecticity(flow, y).M,
    "log_volume": analysis.log_volume,
    "energy_drift": lambda flow, y: analysis.energy_drift(flow[0], y),
    "reversibility_error": analysis.reversibility_error,
    "linearize": lambda flow, y: analysis.linearize(flow, y).A,
    "continuous_sensitivities": lambda flow, y: analysis.continuous_sensitivities(flow, y).backward,
}
OF_WEIGHTS: dict[str, Ask] = {
    "upper_bound": lambda flow, y: analysis.upper_bound(flow),
    "gradient_lower_bound": lambda flow, y: analysis.gradient_lower_bound(flow).log,
    "operator_norms": lambda flow, y: analysis.operator_norms(flow.K),
    "lower_bound": lambda flow, y: torch.tensor(analysis.lower_bound(flow)),
}


def single() -> Flow:
    return preset("h2", layers=4).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [*OF_STATES, *OF_WEIGHTS])
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    ask = {**OF_STATES, **OF_WEIGHTS}[name]
    y = random(3, 4).to(dtype)
    expected = ask(single(), y.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ask(single(), y)
        assert torch.is_autocast_enabled("cpu")
    assert isinstance(found, Tensor)
    assert found.dtype is expected.dtype
    assert torch.equal(found, expected)


def test_images_of_one_size_too() -> None:
    flow = preset("h2", kernel_size=3).float()
    expected = analysis.log_upper_bound(flow, image_size=(5, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert analysis.log_upper_bound(flow, image_size=(5, 5)) == expected


@pytest.mark.filterwarnings("ignore:The weights are bfloat16")
@pytest.mark.parametrize("name", [name for name in OF_STATES if name not in ("linearize", "continuous_sensitivities")])
def test_half_precision_is_refused_in_words(name: str) -> None:
    y = random(3, 4).bfloat16()
    with pytest.raises(ValueError, match=r"state is torch.bfloat16, the weights are torch.float32|float32 or float64"):
        OF_STATES[name](single(), y)
    with pytest.raises(ValueError, match=r"float32 or float64; got a torch\.bfloat16 state"):
        OF_STATES[name](single().bfloat16(), y)


@pytest.mark.filterwarnings("ignore:The weights are bfloat16")
@pytest.mark.parametrize("name", ["upper_bound", "gradient_lower_bound"])
def test_half_weights_have_no_bounds(name: str) -> None:
    with pytest.raises(ValueError, match=r"weights in float32 or float64; got torch.bfloat16.*float\(\)"):
        OF_WEIGHTS[name](single().bfloat16(), random(3, 4))


def test_other_networks_are_measured_in_their_own_numbers() -> None:
    layers = [nn.Linear(4, 4) for _ in range(3)]
    y = random(3, 4).float()
    expected = analysis.sensitivities(layers, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(analysis.sensitivities(layers, y), expected)
        with pytest.raises(ValueError, match=r"float32 or float64; got a torch\.bfloat16 state"):
            analysis.sensitivities(layers, y.bfloat16())
