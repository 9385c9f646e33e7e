"""Every preset on every space among PyTorch's tools: transforms, compile, export, copies, autocast, training."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, NODES, SPACES, call, position, random, state_on, tight
from hdnn import export
from hdnn.networks import Network
from space_cases import CASES, FEATURES, Case, few, jacobian, one_of_each_kind, values_and_gradients, weights

# Tracing takes seconds: whole drives on a grid, halves on a graph that the call brings.
traced = few(CASES, lambda case: str(case) in ("Signals_5-h1", "Graph_call-directed-h2"))


# Transforms ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@one_of_each_kind
def test_forward_mode(case: Case) -> None:
    flow, y = case.flow(), case.state()
    v = random(*y.shape, seed=8)
    out, pushed = torch.func.jvp(lambda y: flow(y, **case.call), (y,), (v,))
    tight(out, flow(y, **case.call))
    tight(pushed.flatten(), jacobian(case, flow, y) @ v.flatten())


@one_of_each_kind
def test_many_flows_at_once(case: Case) -> None:
    flows = [case.flow(seed=seed) for seed in range(3)]
    y, brought, base = case.state(2), case.call, copy.deepcopy(flows[0]).to("meta")
    parameters, buffers = torch.func.stack_module_state(flows)  # type: ignore[arg-type]

    def run(parameters: Any, buffers: Any) -> Tensor:
        out: Tensor = torch.func.functional_call(base, (parameters, buffers), (y,), brought)
        return out

    def loss(parameters: Any, buffers: Any) -> Tensor:
        return run(parameters, buffers).square().sum()

    together = torch.vmap(run)(parameters, buffers)
    found = torch.vmap(torch.func.grad(loss))(parameters, buffers)
    for i, flow in enumerate(flows):
        tight(together[i], flow(y, **case.call))
        alone = torch.autograd.grad(flow(y, **case.call).square().sum(), [flow.weight, flow.bias])
        tight(found["weight"][i], alone[0])
        tight(found["bias"][i], alone[1])


@pytest.mark.parametrize("memory", ["store", "recompute"])
@one_of_each_kind
def test_second_derivatives(case: Case, memory: str) -> None:
    """Also by the weights of edges: the gradient of a gradient's norm, against central differences."""
    flow, y = case.flow(2, backend="eager", memory=memory), case.state().requires_grad_()
    brought = weights(case, requires_grad=True)
    inputs = [y, flow.weight, *(x for x in brought.values() if x.requires_grad)]

    def steepness() -> Tensor:
        first = torch.autograd.grad(flow(y, **brought).sin().sum(), inputs, create_graph=True)
        return torch.stack([g.square().sum() for g in first]).sum()

    second = torch.autograd.grad(steepness(), inputs)
    for x, g in zip(inputs, second, strict=True):
        v, e = random(*x.shape, seed=4), 1e-5
        if case.name == "ms2" and x.dim() == 1:  # A = Aᵀ stays: edges of a line stand beside their reverse
            v = v[::2].repeat_interleave(2)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                x.add_(v, alpha=sign * e)
            ends.append(steepness().detach())
            with torch.no_grad():
                x.sub_(v, alpha=sign * e)
        torch.testing.assert_close((g * v).sum(), (ends[0] - ends[1]) / (2 * e), rtol=1e-5, atol=1e-6)


# Compilers ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@traced
def test_compiles_as_one_graph(case: Case) -> None:
    torch._dynamo.reset()
    flow, y = case.flow(), case.state(2)
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mine = values_and_gradients(case, compiled, y)  # type: ignore[arg-type]
    for a, b in zip(mine, values_and_gradients(case, flow, y), strict=True):
        tight(a, b)


class OnGraphs(nn.Module):
    """A flow that a model gives the edges of the call."""

    def __init__(self, flow: hdnn.Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        y: Tensor = self.flow(x, edge_index=edge_index, edge_weight=edge_weight)
        return y


@pytest.mark.long
@traced
def test_exports_with_a_free_batch(case: Case) -> None:
    """Edges that come with the call are inputs of the program, as many as there are."""
    flow, brought, batch = case.flow(), case.call, torch.export.Dim("batch")
    y, count = case.state(7, seed=6), torch.export.Dim("edges", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not case.at_the_call:
            program = torch.export.export(flow, (case.state(4),), dynamic_shapes=({0: batch},)).module()
            tight(program(y), flow(y))
            return
        fixed = torch.export.export(flow, (y,), brought).module()
        tight(fixed(y, **brought), flow(y, **brought))
        shapes = ({0: batch}, {1: count}, {0: count})
        program = torch.export.export(
            OnGraphs(flow), (case.state(4), *brought.values()), dynamic_shapes=shapes
        ).module()
    tight(program(y, *brought.values()), flow(y, **brought))
    fewer = {"edge_index": brought["edge_index"][:, :4], "edge_weight": brought["edge_weight"][:4]}
    tight(program(y, *fewer.values()), flow(y, **fewer))


def network(case: Case, flow: hdnn.Flow) -> Network:
    """lift → flow → head, for any space."""
    size = torch.Size(position(case.space)).numel()
    return Network(nn.Identity(), flow, nn.Linear(FEATURES * size, 2, dtype=F64), "regression")


@few(CASES, lambda case: str(case) in ("Signals_5-h1", "Graph_given-h2"))
@pytest.mark.long
def test_programs_of_networks(case: Case) -> None:
    """One loop over the layers for any space; not where every call brings a graph."""
    flow = case.flow()
    net, inputs = network(case, flow), tuple(case.state().shape)
    if case.at_the_call:
        with pytest.raises(
            ValueError, match=r"brings `edge_index`, for which.*or make the flow with `space=Graph\(edge_index\)`"
        ):
            export.to_program(net, inputs)
        return
    program = export.to_program(net, inputs)
    y = case.state(3)
    tight(program.module()(y)["outputs"], net(y))
    stream = io.BytesIO(export.program_bytes(program, {}))
    assert export.program_difference(stream.getvalue(), net, inputs) < 1e-12


@pytest.mark.long
def test_programs_of_weighted_graphs() -> None:
    """The weights of edges, kept in float64, are those of the flow there."""
    edges, w = call("Graph_call", directed=True).values()
    flow = hdnn.h2(FEATURES, 2, step=0.1, space=hdnn.Graph(edges, w, nodes=NODES, normalization="mean"))
    net = Network(nn.Identity(), flow, nn.Linear(FEATURES * NODES, 2), "regression")
    program, y = export.to_program(net, (NODES, FEATURES)).module(), state_on("Graph_given", FEATURES, 3).float()
    torch.testing.assert_close(program(y)["outputs"], net(y))


def test_programs_of_driven_flows_are_refused() -> None:
    flow = hdnn.h2(4, 3, step=0.1, inputs=2, dtype=F64)
    net = Network(nn.Identity(), flow, nn.Linear(4, 2, dtype=F64), "regression")
    with pytest.raises(ValueError, match=r"brings `inputs`, for which the program .* by `torch.export.export`\."):
        export.to_program(net, (4,))


# Copies and files ---------------------------------------------------------------------------------------------------


@one_of_each_kind
def test_copies_and_files(case: Case) -> None:
    flow, y = case.flow(), case.state(2)
    out = flow(y, **case.call)
    for twin in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert torch.equal(twin(y, **case.call), out)
        assert repr(twin) == repr(flow)
    fresh = case.flow(seed=9)
    fresh.load_state_dict(flow.state_dict())
    assert torch.equal(fresh(y, **case.call), out)
    assert set(flow.state_dict()) <= {"weight", "bias", "interconnection_matrix"}  # a graph is no state
    before = flow.weight.clone()
    flow.reset_parameters()
    assert not torch.equal(before, flow.weight)
    assert repr(flow.space) in repr(flow) or case.space == "Vectors"


@one_of_each_kind
def test_half_precision(case: Case) -> None:
    """Autocast runs the flow in the numbers of its weights, whatever the call brings; bfloat16 weights run as such."""
    flow, y = case.flow().float(), case.state(2).float()
    brought = {k: v.float() if v.is_floating_point() else v for k, v in case.call.items()}
    expected = flow(y, **brought)
    halved = {k: v.bfloat16() if v.is_floating_point() else v for k, v in brought.items()}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(flow(y, **brought), expected)
        out = flow(y.bfloat16(), **halved)
        assert flow.trajectory(y.bfloat16(), **halved).dtype is torch.float32
    assert out.dtype is torch.float32
    torch.testing.assert_close(out, expected, rtol=0.05, atol=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        half = flow.bfloat16()
    out = half(y.bfloat16(), **halved)
    assert out.dtype is torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)


# Training -----------------------------------------------------------------------------------------------------------


@one_of_each_kind
def test_gradients_reach_what_stands_before_the_flow(case: Case) -> None:
    """Learned weights of edges, too."""
    flow, x = case.flow(), case.state(2)
    scale = nn.Parameter(torch.ones((), dtype=F64))
    factor = nn.Parameter(torch.ones((), dtype=F64))
    brought = {k: v * factor if v.is_floating_point() else v for k, v in case.call.items()}
    flow(scale * x, **brought).square().mean().backward()
    moved = [scale, flow.weight, flow.bias] + ([factor] if case.at_the_call and case.space != "Graph_mean" else [])
    if case.space == "Graph_symmetric":
        moved.remove(factor)  # dividing by sums undoes a common factor
    for parameter in moved:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-9


@pytest.mark.parametrize("space", ["Signals_5", "Graph_given"])
def test_trains_inside_of_a_model(space: str) -> None:
    """The mean over all positions of the first feature's square, which no linear map knows."""
    torch.manual_seed(0)
    flow = hdnn.h2(4, 4, step=0.5, space=SPACES[space]())
    channels_first = flow.space.axis != -1
    lift, head = nn.Linear(1, 4), nn.Linear(4, 1)
    optimizer = torch.optim.Adam([*lift.parameters(), *flow.parameters(), *head.parameters()], 0.02)
    x = torch.randn(64, *position(space), 1)
    target = x.square().mean(1)
    losses = []
    for _ in range(100):
        y = lift(x)
        y = flow(y.mT).mT if channels_first else flow(y)
        loss = (head(y).mean(1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
