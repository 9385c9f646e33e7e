"""One link of the chain rule, and what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import F64, preset, random, state
from hdnn.analysis import gradients, sensitivities
from hdnn.analysis.pullback import functions, trace


def test_pull_and_push_are_adjoint() -> None:
    flow = preset("ms1", kernel_size=3, std=1.0)
    y0 = state(flow, 2)
    links, y_N = trace(flow, y0)
    assert len(links) == flow.layers
    torch.testing.assert_close(y_N, flow(y0).detach())
    for number, link in enumerate(links):
        u, v = random(*link.after.shape, seed=number), random(*link.before.shape, seed=number + 9)
        torch.testing.assert_close((u * link.push(v)).sum(), (link.pull(u) * v).sum())


def test_layers_before_the_start_only_run() -> None:
    flow = preset("h1", layers=5)
    y0 = state(flow, 2)
    links, y_N = trace(flow, y0, 3)
    assert len(links) == 2
    torch.testing.assert_close(links[0].before, flow.trajectory(y0)[3].detach())
    torch.testing.assert_close(y_N, flow(y0).detach())
    assert trace(flow, y0, 5)[0] == []


def test_a_flow_runs_eagerly_whatever_its_backend() -> None:
    flow = preset("h2", layers=5, backend="eager")
    y0, y = state(flow, 2), state(flow, 2)
    for step in functions(flow):
        y = step(y)
    torch.testing.assert_close(y, flow(y0))


class Network(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y


def no_grad(y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.sin(y)


def refused(layers: object, error: type[Exception], message: str, y0: Tensor | None = None) -> None:
    with pytest.raises(error, match=message):
        sensitivities(layers, random(3, 4) if y0 is None else y0)


def test_what_is_no_sequence_of_layers() -> None:
    refused(Network(), TypeError, r"got Network\. Of an hdnn network pass the flow .* `network\.lift\(x\)`")
    network = hdnn.vector_classifier(2, 2, preset("h2"))
    refused(network, TypeError, "got Network")
    refused(["tanh"], TypeError, "Layer 0 must be a function from states to states; got a str")
    refused([torch.sin, nn.LSTM(4, 4, dtype=F64)], TypeError, "Layer 1 must return one tensor; got a tuple")
    refused([torch.sin], ValueError, r"shape \(B, ...\).*got \(4,\)", random(4))
    refused([lambda y: y.sum(0)], ValueError, r"Layer 0 must keep one sample a row; it mapped \(3, 4\) to \(4,\)")


def test_normalisation_over_the_batch_is_refused() -> None:
    bare = nn.BatchNorm1d(4, track_running_stats=False, dtype=F64)
    refused([torch.sin, bare], ValueError, r"Layer 1 normalises over the batch and keeps no running statistics")


@pytest.mark.parametrize("read", [sensitivities, lambda layers, y0: gradients(layers, y0, torch.sum).states[0]])
def test_modules_are_read_in_evaluation_mode_and_left_as_they_were(read) -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double()
    block[1].eval()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    found = read((layer for layer in (torch.sin, block)), random(3, 4))
    assert [part.training for part in block.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert torch.equal(found, read([torch.sin, block.eval()], random(3, 4)))


LINEAR = nn.Linear(4, 4, dtype=F64)


@pytest.mark.parametrize("layer", [lambda y: y.detach(), no_grad, lambda y: LINEAR(y.detach())])
def test_a_layer_that_cuts_the_graph_is_refused(layer: object) -> None:
    refused([torch.sin, layer], ValueError, "output of layer 1 is cut off from its input")


def test_states_that_overflow_are_refused_with_their_layer() -> None:
    refused([torch.sin, lambda y: y / 0.0], ValueError, "state after layer 1 is not finite")
    with np.errstate(all="ignore"):
        flow = preset("h1", activation=hdnn.relu, layers=600, std=100.0, step=100.0)
        refused(flow, ValueError, r"state after layer \d+ is not finite.*smaller step")
