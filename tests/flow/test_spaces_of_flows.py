"""Every preset on every space through one body a property: its layers, what it keeps, and what the analysis says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import F64, random, tight
from hdnn.analysis import (
    gradient_lower_bound,
    gradients,
    largest_singular_values,
    layer_jacobians,
    log_layer_bounds,
    log_norms,
    lower_bound,
    norms,
    sensitivities,
    sensitivity_vector_product,
    upper_bound,
    vector_sensitivity_product,
)
from hdnn.interconnections import canonical
from space_cases import (
    FEATURES,
    REFUSED,
    Case,
    dense_layers,
    every,
    everywhere,
    halves,
    jacobian,
    one_of_each_kind,
    operator,
    reversible,
    values_and_gradients,
)

# The layers themselves ----------------------------------------------------------------------------------------------


@every
def test_layers_are_those_of_whole_matrices(case: Case) -> None:
    flow, y = case.flow(), case.state()
    out = flow(y, **case.call)
    tight(out.flatten(), dense_layers(case, flow, y.flatten()))
    tight(flow.trajectory(y, **case.call)[-1], out)
    many = case.state(3, seed=6)
    tight(flow(many, **case.call), torch.stack([flow(y, **case.call) for y in many]))


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_ms2_refuses_edges_that_go_one_way(case: Case) -> None:
    flow, y = case.flow(), case.state()
    for ask in (flow, flow.trajectory, lambda y, **call: sensitivities(flow, y, **call)):
        with pytest.raises(ValueError, match=r"needs K = -Kᵀ.*`h1`, `h2`, `ms1` or `ms3`, which take any graph"):
            ask(y, **case.call)


@one_of_each_kind
def test_slices_follow_one_another(case: Case) -> None:
    flow, y = case.flow(5), case.state(2)
    tight(flow[2:](flow[:2](y, **case.call), **case.call), flow(y, **case.call))
    assert flow[:2].space is flow.space


@one_of_each_kind
def test_finer_steps_follow_the_same_equation(case: Case) -> None:
    flow, y = case.flow(4, std=0.3, shared=True), case.state()
    ends = [flow.refine(factor)(y, **case.call) for factor in (1, 8, 16, 32)]
    assert torch.equal(ends[0], flow(y, **case.call))
    first, second = (ends[2] - ends[1]).norm(), (ends[3] - ends[2]).norm()
    assert 1.7 < first / second < 2.3  # both integrators are of order 1


@one_of_each_kind
def test_what_can_be_undone_is(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    out = flow(y, **case.call)
    if reversible(case):
        torch.testing.assert_close(flow.inverse(out, **case.call), y, rtol=1e-10, atol=1e-10)
    else:
        with pytest.raises(ValueError, match="no explicit inverse"):
            flow.inverse(out, **case.call)


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
@one_of_each_kind
def test_memory_changes_no_number(case: Case, memory: str) -> None:
    """Nor the gradients of the weights of edges."""
    if memory == "reverse" and not reversible(case):
        with pytest.raises(ValueError, match="does not state that its `inverse` undoes a step"):
            case.flow(memory=memory)
        return
    y = case.state(2)
    mine, stored = (values_and_gradients(case, case.flow(7, memory=m, backend="eager"), y) for m in (memory, "store"))
    assert torch.equal(mine[0], stored[0])
    for a, b in zip(mine, stored, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@one_of_each_kind
def test_energy_is_that_of_the_whole_matrix(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    b = flow.bias[1]
    for sample, energy in zip(y, flow.energy(y, 1, **case.call), strict=True):
        u = (operator(case, flow.K[1]) @ sample.flatten()).reshape(sample.shape).movedim(flow.space.axis, -1) + b
        tight(energy, u.cosh().log().sum())
    field = flow.fields(y, **case.call)[1]
    H = lambda y: flow.energy(y, 1, **case.call).sum()  # noqa: E731
    gradient = torch.func.grad(H)(y).flatten(1)
    if case.name in ("h1", "h2", "ms3"):
        tight(field(y).flatten(1), gradient @ everywhere(case, canonical(FEATURES).to(F64)).mT)


# What is kept -------------------------------------------------------------------------------------------------------


@every
def test_structure_is_kept_where_it_is_promised(case: Case) -> None:
    flow = case.flow(4, std=1.0, step=0.3)
    M, J = jacobian(case, flow, case.state()), everywhere(case, canonical(FEATURES).to(F64))
    defect = (M @ J @ M.mT - J).norm()
    assert flow.preserves_structure is (case.name in ("h2", "ms3"))
    assert defect < 1e-13 * M.norm() ** 2 if flow.preserves_structure else defect > 0.1


@one_of_each_kind
def test_shared_ms1_keeps_the_inverse_of_its_own_operator(case: Case) -> None:
    """J = K⁻ᵀ acts on the whole state; nothing is promised where Kᵀ walks other edges than K, or nobody knows."""
    if case.name != "ms1":
        assert not case.flow(shared=True).preserves_structure or case.name in ("ms3", "h2", "ms2")
        return
    flow = case.flow(4, std=0.7, step=0.3, shared=True)
    M, K = jacobian(case, flow, case.state()), operator(case, flow.K[0])
    defect = (M @ K.inverse().mT @ M.mT - K.inverse().mT).norm() / K.inverse().norm()
    if flow.preserves_structure:
        assert defect < 1e-11
    else:
        assert case.at_the_call
    if case.directed:
        assert defect > 1e-3


@every
def test_volume_and_norms(case: Case) -> None:
    flow = case.flow(4, std=1.0, step=0.3)
    M = jacobian(case, flow, case.state())
    log_volume = torch.linalg.slogdet(M).logabsdet
    assert flow.preserves_volume is reversible(case)
    if flow.preserves_volume:
        assert abs(log_volume) < 1e-11
    else:
        assert log_volume > 1e-3  # forward Euler expands
    assert lower_bound(flow) == 1.0 <= torch.linalg.matrix_norm(M, 2)


@one_of_each_kind
def test_halves_are_those_of_the_features(case: Case) -> None:
    flow = case.flow()
    y = case.state()
    if reversible(case):
        (first, *_) = flow.fields(y, **case.call)
        p, _ = halves(case)
        assert torch.equal(first.split(y)[0].flatten(), y.flatten()[p])


# What the analysis says of it ---------------------------------------------------------------------------------------


def flattened(M: Tensor, y: Tensor) -> Tensor:
    return M.reshape(*M.shape[:1], len(y), y[0].numel(), -1)


@one_of_each_kind
def test_sensitivities_are_jacobians(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    M = sensitivities(flow, y, **case.call)
    L = layer_jacobians(flow, y, **case.call)
    for sample in range(2):
        states = flow.trajectory(y, **case.call)[:, sample]
        for j in range(flow.layers + 1):
            tight(M[j, sample], jacobian(case, flow[j:], states[j]))
            if j < flow.layers:
                tight(L[j, sample], jacobian(case, flow[j], states[j]))
    tight(log_norms(flow, y, **case.call), norms(M).log())
    one = sensitivities(flow, y[0], **case.call)
    tight(one, M[:, 0])


@one_of_each_kind
def test_products_with_sensitivities(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    M, g = sensitivities(flow, y, **case.call), random(*y.shape, seed=9)
    of_v = sensitivity_vector_product(flow, y, g, **case.call)
    tight(of_v.flatten(1), (M[0] @ g.flatten(1).unsqueeze(-1)).squeeze(-1))
    of_u = vector_sensitivity_product(flow, y, g, **case.call)
    tight(of_u.flatten(2), (g.flatten(1).unsqueeze(-2) @ M).squeeze(-2))
    values = largest_singular_values(flow, y, 2, **case.call)
    torch.testing.assert_close(values, torch.linalg.svdvals(M[0])[:, :2], rtol=1e-8, atol=1e-8)


@one_of_each_kind
def test_gradients_by_depth(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    found = gradients(flow, y, lambda y: y.square().sum(), **case.call)
    u = 2 * flow(y, **case.call).detach()
    tight(torch.stack(found.states), vector_sensitivity_product(flow, y, u, **case.call))
    flow.zero_grad()
    flow(y, **case.call).square().sum().backward()
    assert flow.weight.grad is not None
    tight(found.parameter_norms["weight"], flow.weight.grad.flatten(1).norm(dim=1))


@one_of_each_kind
def test_bounds_hold(case: Case) -> None:
    flow, y = case.flow(4, std=0.4, step=0.2), case.state(3)
    if case.at_the_call:
        for ask in (upper_bound, log_layer_bounds, gradient_lower_bound):
            with pytest.raises(ValueError, match=r"the edges, which come with the call.*largest_singular_values"):
                ask(flow)
        return
    s = torch.linalg.svdvals(sensitivities(flow, y, **case.call))
    layers = log_layer_bounds(flow)
    above = torch.cat((layers.flip(0).cumsum(0).flip(0), layers.new_zeros(1))).exp()
    assert (s[..., 0] <= above[:, None] * (1 + 1e-12)).all()
    assert (s[..., -1] >= gradient_lower_bound(flow).value[:, None] * (1 - 1e-12)).all()
    tighter = gradient_lower_bound(flow, s[..., 0])
    assert (s[..., -1] >= tighter.value * (1 - 1e-9)).all()
    upper_bound(flow).log().backward()
    assert flow.weight.grad is not None
    assert flow.weight.grad.isfinite().all()
    if (size := y.shape[2:]) and flow.space.axis != -1:
        with torch.no_grad():
            of_size = log_layer_bounds(flow, image_size=tuple(size))
        assert (of_size <= layers + 1e-12).all()
        assert (s[0, :, 0] <= of_size.sum().exp() * (1 + 1e-12)).all()
