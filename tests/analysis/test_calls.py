"""The analysis of flows whose calls bring more than a state: inputs at every step, and the edges of a graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hdnn
from families import DIRECTED, F64, LINE, PRESETS, SPACES, fill, preset, random, tight
from hdnn.analysis import (
    check_symplecticity,
    energy_drift,
    gradient_lower_bound,
    largest_singular_values,
    log_layer_bounds,
    lower_bound,
    norms,
    sensitivities,
    singular_values,
    symplecticity_residual,
    upper_bound,
)
from hdnn.flow import Flow
from space_cases import FEATURES, Case

D, N = 3, 6
each_preset = pytest.mark.parametrize("name", PRESETS)


def driven(name: str, space: str = "Vectors", layers: int | None = None) -> Flow:
    flow = PRESETS[name](FEATURES, layers, step=0.2, inputs=D, shared=layers is None, dtype=F64, space=SPACES[space]())
    fill(flow, 0.5)
    return flow


@each_preset
def test_the_energy_of_a_driven_flow_is_that_which_drives_it(name: str) -> None:
    """J ∂H/∂y is the field of the step, so H must hold V u."""
    for flow in (driven(name), driven(name, layers=N)):
        y, u = random(2, FEATURES, seed=2), random(N, 2, D, seed=4)
        for j in (0, 3, -1):
            (slope,) = torch.autograd.grad(flow.energy(y.requires_grad_(), j, inputs=u).sum(), y)
            J = flow.J if flow.J.dim() == 2 else flow.J[j]
            whole = flow.hamiltonian.fields(flow.K, *_biases(flow, u), flow._J(), N, False)[j]
            tight(slope @ J.mT, whole(y))
        with pytest.raises(ValueError, match=r"is driven: give `inputs=` \(N, ..., 3\)"):
            flow.energy(y)
        with pytest.raises(IndexError, match="layers 0 to 5; got 6"):
            flow.energy(y, 6, inputs=u)


def _biases(flow: Flow, u: Tensor) -> tuple[Tensor]:
    assert flow.input_weight is not None
    V, b = flow.input_weight, flow.bias
    return (torch.stack([u[j] @ V[min(j, len(V) - 1)].mT + b[min(j, len(b) - 1)] for j in range(len(u))]),)


def test_the_energy_of_a_driven_flow_stays_where_its_inputs_do() -> None:
    flow, y, u = driven("h2"), random(9, FEATURES), random(1, 9, D, seed=4)
    drift = energy_drift(flow, y, inputs=u.expand(200, -1, -1))
    assert drift.shape == (201, 9)
    tight(drift[7], flow.energy(flow.trajectory(y, inputs=u.expand(7, -1, -1))[-1], inputs=u)
          - flow.energy(y, inputs=u))  # fmt: skip
    assert drift.abs().max() < 0.2
    with pytest.raises(ValueError, match=r"Inputs that change from step to step change H.*flow.energy\(y, j, inputs=u"):
        energy_drift(flow, y, inputs=random(N, 9, D))


@pytest.mark.parametrize("space", ["Vectors", "Signals_5", "Graph_call"])
@pytest.mark.parametrize("kind", ["none", "shared", "each", "nodes", "one"])
def test_largest_singular_values_where_every_sample_has_inputs_of_its_own(space: str, kind: str) -> None:
    flow, case = driven("h2", space), Case(space, "h2")
    y = case.state(2, seed=7)
    inside = y.shape[1 : flow.space.axis]
    leading = {
        "none": (), "shared": (1, *[1] * len(inside)), "each": (2, *[1] * len(inside)), "nodes": (2, *inside),
        "one": inside,
    }[kind]  # fmt: skip
    u = random(N, *leading, D, seed=4)
    found = largest_singular_values(flow, y, 2, inputs=u, **case.call)
    expected = singular_values(sensitivities(flow, y, inputs=u, **case.call)[0])[..., :2]
    torch.testing.assert_close(found, expected)
    one = largest_singular_values(
        flow, y[0], 2, inputs=u[:, 0] if kind in ("shared", "each", "nodes") else u, **case.call
    )
    assert one.shape == (2,)
    with pytest.raises(ValueError, match="axes between that fit"):
        largest_singular_values(flow, y, inputs=random(N, 3, *[1] * len(inside), D), **case.call)


@pytest.mark.parametrize("edges", [LINE, DIRECTED])
def test_measured_norms_bound_gradients_on_graphs_of_the_call(edges: Tensor) -> None:
    flow, y = preset("h2", FEATURES, N, space=hdnn.Graph()), Case("Graph_call", "h2").state(3)
    M = sensitivities(flow, y, edge_index=edges)
    found = gradient_lower_bound(flow, norms(M))
    assert "M J Mᵀ = J with cond J = 1" in found.reason
    torch.testing.assert_close(found.value, singular_values(M)[..., -1], rtol=1e-8, atol=0)
    with pytest.raises(ValueError, match="come with the call"):
        gradient_lower_bound(flow)


@pytest.mark.parametrize("name", ["ms3", "h2"])
def test_driven_flows_keep_their_J(name: str) -> None:
    y, u = random(9, FEATURES), random(N, 9, D, seed=4)
    for flow in (driven(name), driven(name, layers=N)):
        assert (check_symplecticity(flow, y, inputs=u).relative < 1e-14).all()
        assert (check_symplecticity(flow, y, 2 * flow.J, inputs=u).relative < 1e-14).all()


@pytest.mark.parametrize("space", ["Signals_5", "Images_3", "Graph_call", "Graph_given"])
def test_J_acts_at_every_position_as_the_refusal_says(space: str) -> None:
    case = Case(space, "h2")
    flow, y = case.flow(), case.state(2)
    positions = y[0].numel() // FEATURES
    last = flow.space.axis == -1
    with pytest.raises(ValueError, match=r"torch.kron\(torch.eye" if last else r"torch.kron\(flow.J, torch.eye"):
        check_symplecticity(flow, y)
    eye = torch.eye(positions, dtype=F64)
    J = torch.kron(eye, flow.J) if last else torch.kron(flow.J, eye)
    M = sensitivities(flow, y, **case.call)[0]
    assert (symplecticity_residual(M, J, relative=True) < 1e-14).all()


@each_preset
def test_bounds_of_a_flow_of_any_number_of_steps(name: str) -> None:
    flow, y, u = driven(name), random(9, FEATURES), 3 * random(N, 9, D, seed=4)
    assert lower_bound(flow) == 1.0
    M = norms(sensitivities(flow, y, inputs=u))
    of_a_step = log_layer_bounds(flow)
    assert of_a_step.shape == (1,)
    assert (M[0].log() <= N * of_a_step).all()
    with pytest.raises(ValueError, match=r"That of N steps is `N \* log_layer_bounds\(flow\)`"):
        upper_bound(flow)
    with pytest.raises(ValueError, match="Give the `norms` of a call"):
        gradient_lower_bound(flow)
    found = gradient_lower_bound(flow, M)
    s = singular_values(sensitivities(flow, y, inputs=u))[..., -1]
    assert (found.value <= s * (1 + 1e-9)).all()
    assert (found.value > 0).all()
    assert found.log.shape == (N + 1, 9)
