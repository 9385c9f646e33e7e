"""The analysis of flows with more than K, b and J: weights of units, ports, one's own modules; and with no layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, PRESETS, SPACES, call, preset, random, state, state_on
from hdnn.analysis import (
    HamiltonianODE,
    check_symplecticity,
    contraction,
    gradient_lower_bound,
    gradients,
    largest_singular_values,
    linearize,
    log_layer_bounds,
    lyapunov_exponents,
    lyapunov_statistics,
    phase_portrait,
    sensitivities,
    singular_values,
)
from hdnn.analysis.jacobians import layer_jacobians
from hdnn.flow import Flow


@pytest.mark.parametrize("space", ["Vectors", "Images1", pytest.param("Signals3", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("learned", [False, True])
def test_bounds_count_the_weights_of_units_in_full(name: str, space: str, learned: bool) -> None:
    spaces = {"Vectors": hdnn.Vectors(), "Images1": hdnn.Images(1), "Signals3": hdnn.Signals(3)}
    # Of the identity no slope is below 1, so that little is between the bounds and what they bound.
    options = {"activation": "identity", "space": spaces[space], "learn_unit_weights": learned, "dtype": F64}
    flow = PRESETS[name](4, 3, step=0.3, init_std=1.0, unit_weights=random(4, seed=2).square() + 4, **options)
    y0 = random(2, 4, *{"Vectors": (), "Images1": (2, 3), "Signals3": (5,)}[space])
    L = singular_values(layer_jacobians(flow, y0))
    assert (L[..., 0].log() <= log_layer_bounds(flow)[:, None] + 1e-12).all()
    M = singular_values(sensitivities(flow, y0))
    assert (M[..., -1].log() >= gradient_lower_bound(flow).log[:, None] - 1e-9).all()


@pytest.mark.parametrize("driver", ["inputs", "ports"])
@pytest.mark.parametrize(
    ("what", "look"),
    [
        ("continuous system", HamiltonianODE.of),
        ("linearization", lambda flow: linearize(flow, random(2))),
        ("portrait", lambda flow: phase_portrait(flow, ((-1, 1), (-1, 1)))),
    ],
)
def test_what_drives_a_flow_is_not_left_out(driver: str, what: str, look: Callable[[Flow], object]) -> None:
    flow = hdnn.h2(2, 3, step=0.1, dtype=F64, **{driver: 2})
    with pytest.raises(ValueError, match=rf"{driver} of a call, so it has no one {what}. .*{driver}=u"):
        look(flow)


def square(y: Tensor) -> Tensor:
    return y.square().sum()


class Bowl(hdnn.Energy):
    """E = Σ log cosh (A y + c), A of twice as many rows as layers are there."""

    curvature = (0.0, 99.0)

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Linear(4, 6, dtype=F64)

    def value(self, y: Tensor, t: float) -> Tensor:
        return torch.log(torch.cosh(self.units(y))).sum(-1)


def test_parameters_that_all_layers_share_have_one_gradient() -> None:
    J = hdnn.canonical(4, dtype=F64)
    flow = hdnn.h1(4, 3, step=0.1, dtype=F64, ports=2, energy=Bowl(), interconnection=hdnn.Learned(J))
    y0, u = state(flow, 5), random(3, 2)
    found = gradients(flow, y0, square, ports=u).parameter_norms
    square(flow(y0, ports=u)).backward()
    assert {name: len(of) for name, of in found.items() if len(of) > 1} == {"weight": 3, "bias": 3}
    for name, p in flow.named_parameters():
        of_layers = p.grad.flatten(1) if name in ("weight", "bias") else p.grad.reshape(1, -1)
        torch.testing.assert_close(found[name], torch.linalg.vector_norm(of_layers, dim=-1))


def test_layers_of_parameters_that_others_are_computed_from() -> None:
    flow = preset("h2", layers=3)
    nn.utils.parametrizations.weight_norm(flow, "weight", dim=0)
    found = gradients(flow, state(flow, 5), square).parameter_norms
    assert {name: len(of) for name, of in found.items()} == {
        "bias": 3, "parametrizations.weight.original0": 3, "parametrizations.weight.original1": 3,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_layers_of_a_weight_norm_of_the_old_kind() -> None:
    flow = preset("h2", layers=3)
    nn.utils.weight_norm(flow, "weight", dim=0)
    found = gradients(flow, state(flow, 5), square).parameter_norms
    assert {name: len(of) for name, of in found.items()} == {"bias": 3, "weight_g": 3, "weight_v": 3}


@pytest.mark.parametrize("space", SPACES)
def test_the_analysis_of_no_layers(space: str) -> None:
    flow = PRESETS["h2"](4, 0, step=0.1, dtype=F64, space=SPACES[space]())
    y0 = state_on(space, 4, 2)
    found = gradients(flow, y0, square, **call(space))
    torch.testing.assert_close(found.states[0], 2 * y0)
    assert {name: len(of) for name, of in found.parameter_norms.items()} == {"weight": 0, "bias": 0}


def test_what_flows_of_no_or_one_layer_keep() -> None:
    J = torch.stack([s * hdnn.canonical(4, dtype=F64) for s in (1.0, 2.0, 3.0)])
    flow = hdnn.h2(4, 3, step=0.1, dtype=F64, interconnection=hdnn.Fixed(J))
    y0 = state(flow, 5)
    kept = check_symplecticity(flow[1:2], y0)
    torch.testing.assert_close(kept.J, J[1])
    assert (kept.relative < 1e-14).all()
    assert (check_symplecticity(flow[:0], y0, J[0]).absolute == 0).all()
    with pytest.raises(ValueError, match="identity, which keeps every J, and has none"):
        check_symplecticity(flow[:0], y0)
    with pytest.raises(ValueError, match="never come closer; got layers=0"):
        contraction(flow[:0])


def test_every_sample_has_its_own_ports() -> None:
    flow = hdnn.h2(4, 3, step=0.3, dtype=F64, ports=2, inputs=3, init_std=1.0)
    y0, given = state(flow, 5), {"ports": random(3, 5, 2, seed=1), "inputs": random(3, 3, seed=2)}
    found = largest_singular_values(flow, y0, **given)
    torch.testing.assert_close(found[:, 0], singular_values(sensitivities(flow, y0, **given)[0])[:, 0])
    with pytest.raises(ValueError, match=r"Expected ports of shape \(3, ..., 2\)"):
        largest_singular_values(flow, y0, ports=random(3, 4, 2), inputs=given["inputs"])


def test_the_nodes_of_a_graph_are_one_state_of_statistics() -> None:
    flow = hdnn.h2(4, 3, step=0.1, dtype=F64, space=hdnn.Graph())
    y0, edges = state_on("Graph_call", 4), call("Graph_call")
    found = lyapunov_statistics(flow, y0, batch=1, **edges)
    torch.testing.assert_close(found.mean, lyapunov_exponents(flow, y0, **edges))


def test_gradients_are_there_in_inference_mode() -> None:
    flow = preset("h2")
    with torch.inference_mode():
        found = gradients(flow, state(flow, 5), square)
    expected = gradients(flow, state(flow, 5), square)
    torch.testing.assert_close(found.state_norms, expected.state_norms, rtol=0, atol=0)


def test_a_call_may_be_made_in_inference_mode() -> None:
    flow = hdnn.h2(4, 3, step=0.1, dtype=F64, inputs=2, ports=2)
    y0, u, ports = state(flow, 5), random(3, 2, seed=1), random(3, 2, seed=2)
    with torch.inference_mode():
        found = gradients(flow, y0, square, inputs=u.clone(), ports=ports.clone())
    expected = gradients(flow, y0, square, inputs=u, ports=ports)
    torch.testing.assert_close(found.state_norms, expected.state_norms, rtol=0, atol=0)


def test_what_was_made_in_inference_mode_has_no_gradient() -> None:
    flow = preset("h2")
    with torch.inference_mode():
        target, layer = state(flow, 5), nn.Linear(4, 4, dtype=F64)
        with pytest.raises(ValueError, match=r"made under `torch.inference_mode\(\)`.* Make it outside"):
            gradients(flow, state(flow, 5), lambda y: square(y * target))
    with pytest.raises(ValueError, match=r"a layer, or what `loss` compares with"):
        gradients([layer], state(flow, 5), square)
