"""Weights that PyTorch computes from others: slices, finer steps and fresh starts of parametrized and pruned flows."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from families import Factors, preset, state, tight
from hdnn.flow import Flow


class Doubled(nn.Module):
    """Twice the stored numbers; nobody says how to go back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def weight_norm(flow: Flow) -> None:
    parametrizations.weight_norm(flow, "weight")


def spectral_norm(flow: Flow) -> None:
    parametrizations.spectral_norm(flow, "weight")


def pruned(flow: Flow) -> None:
    prune.l1_unstructured(flow, "weight", 0.5)  # type: ignore[no-untyped-call]
    prune.random_unstructured(flow, "bias", 0.5)  # type: ignore[no-untyped-call]


def own(flow: Flow) -> None:
    parametrize.register_parametrization(flow, "weight", Doubled())


CHANGES = [weight_norm, spectral_norm, pruned, own]
FLOWS: dict[str, Callable[[], Flow]] = {
    "h2": lambda: preset("h2", layers=4),
    "shared": lambda: preset("h2", layers=4, shared=True),
    "learned": lambda: Factors("Dense", "Learned", "ForwardEuler").flow(4, 4),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", FLOWS)
def test_slices_and_finer_steps(make: str, change: Callable[[Flow], None]) -> None:
    flow = FLOWS[make]().eval()
    change(flow)
    optimizer = torch.optim.SGD(flow.parameters(), lr=0.1)
    flow(state(flow, 2)).square().sum().backward()
    optimizer.step()
    parts = flow[1:], flow[:1]  # before a forward pass, when a pruned weight still shows what it was
    y = state(flow, 3)
    tight(parts[0](parts[1](y)), flow(y))
    assert flow.refine(2).layers == 8
    assert all(p.requires_grad for p in flow[1:].parameters())
    flow.requires_grad_(False)
    assert not any(p.requires_grad for p in flow[1:].parameters())


@pytest.mark.parametrize("change", [weight_norm, spectral_norm, pruned])
def test_a_fresh_start_draws_anew(change: Callable[[Flow], None]) -> None:
    flow = preset("h2", layers=4)
    change(flow)
    before = flow.weight.detach().clone()
    flow.reset_parameters()
    assert (flow.weight != before).any()
    y = state(flow, 2)
    after = flow.weight.detach().clone()
    assert not torch.equal(flow(y), preset("h2", layers=4)(y))
    if change is not spectral_norm:  # which iterates once more in every forward pass
        assert torch.equal(flow.weight, after)


def test_a_fresh_start_that_is_not_to_be_had_is_refused() -> None:
    flow = preset("h2")
    own(flow)
    with pytest.raises(RuntimeError, match=r"`weight` is computed by a parametrization that cannot be given a value"):
        flow.reset_parameters()
    flow = preset("h2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(flow, "weight")
    with pytest.raises(RuntimeError, match=r"`weight` is no parameter any more"):
        flow.reset_parameters()
