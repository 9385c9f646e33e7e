"""Weights that PyTorch computes from others: parametrized and pruned flows, whatever reads their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import hdnn
from families import Factors, preset, random, state, tight
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
    hooked(flow)
    with pytest.raises(RuntimeError, match=r"`weight` is no parameter any more"):
        flow.reset_parameters()


def hooked(flow: Flow) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(flow, "weight")


def of_spectrum(flow: Flow) -> None:
    torch.nn.utils.spectral_norm(flow, "weight")


READINGS: dict[str, Callable[[Flow, torch.Tensor], torch.Tensor]] = {
    "trajectory": Flow.trajectory,
    "inverse": Flow.inverse,
    "energy": Flow.energy,
    "K": lambda flow, y: flow.K,
    "smoothness": lambda flow, y: torch.stack(flow.smoothness()),
    "sensitivities": lambda flow, y: hdnn.analysis.sensitivities(flow, y),
    "upper_bound": lambda flow, y: hdnn.analysis.upper_bound(flow),
}


@pytest.mark.parametrize("change", [pruned, hooked, of_spectrum])
@pytest.mark.parametrize("reading", READINGS)
def test_what_hooks_compute_is_read_as_it_is_now(reading: str, change: Callable[[Flow], None]) -> None:
    """Hooks compute weights before a forward pass; other readings come without one."""
    flow = preset("h2", layers=4).eval()
    change(flow)
    y = state(flow, 2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(1.5)  # as an optimizer or a loaded state changes it
    found = READINGS[reading](flow, y).detach()
    flow(y)
    plain = preset("h2", layers=4)
    with torch.no_grad():
        plain.weight.copy_(flow.weight)
        plain.bias.copy_(flow.bias)
    tight(found, READINGS[reading](plain, y))


class Last(nn.Module):
    """The last state of a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = hdnn.HamiltonianRNN(4, 4, step=0.2, dtype=torch.float64)
        self.flow = self.rnn.cells[0]

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.rnn(u.flatten(2).movedim(-1, 0))[0]
        return found


WITHIN: dict[str, Callable[[], nn.Module]] = {
    "rnn": Last,
    "stage": lambda: hdnn.Stage(hdnn.h2(4, 2, step=0.2, kernel_size=3, dtype=torch.float64)),
}


@pytest.mark.parametrize("change", [pruned, hooked])
@pytest.mark.parametrize("make", WITHIN)
def test_flows_whose_weights_hooks_compute_train_within_others(make: str, change: Callable[[Flow], None]) -> None:
    """Modules that take weights from a flow and never call it."""
    torch.manual_seed(0)
    module, other = WITHIN[make](), WITHIN[make]()
    y = random(2, 4, 3, 3)
    for each in (module, other):
        change(each.flow)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    answers = []
    for _ in range(3):
        optimizer.zero_grad()
        answers.append(module(y))
        answers[-1].square().mean().backward()
        optimizer.step()
    assert not torch.allclose(answers[1], answers[2])
    other.load_state_dict(module.state_dict())
    tight(other.eval()(y), module.eval()(y))
