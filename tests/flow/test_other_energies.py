"""An energy of one's own that is set on a flow takes the place of the one before, or is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import hdnn
from families import F64, random, tight
from hdnn import Quadratic, Separable
from hdnn.flow import Flow


def flow_of(energy: hdnn.Energy | None, **options: object) -> Flow:
    torch.manual_seed(0)
    return hdnn.h2(4, 3, step=0.2, energy=energy, dtype=F64, **options)  # type: ignore[arg-type]


class Coupled(hdnn.Energy):
    """Not separable."""

    def value(self, y: torch.Tensor, t: float) -> torch.Tensor:
        return y.prod(-1)


def test_an_energy_that_is_set_is_the_one_that_moves_the_state() -> None:
    flow, stiff = flow_of(Quadratic(torch.ones(4))), Quadratic(torch.full((4,), 9.0), learned=True)
    y = random(3, 4)
    before = flow(y)
    flow.own_energy = stiff
    wanted = flow_of(Quadratic(torch.full((4,), 9.0), learned=True))
    assert not torch.allclose(flow(y), before)
    for other in (flow, copy.deepcopy(flow)):
        tight(other(y), wanted(y))
        tight(other.energy(y), wanted.energy(y))
        tight(other[1:](y), wanted[1:](y))
        assert hdnn.analysis.upper_bound(other) == hdnn.analysis.upper_bound(wanted)
    assert stiff.Q.dtype is F64  # as one that is given when the flow is made
    flow(y).sum().backward()
    assert dict(flow.named_parameters())["own_energy.root"].grad is not None


def test_what_cannot_take_its_place_is_refused() -> None:
    flow, y = flow_of(Quadratic(torch.ones(4))), random(3, 4)
    before = flow(y)
    with pytest.raises(ValueError, match="`Coupled` does not say that it is"):
        flow.own_energy = Coupled()
    with pytest.raises(TypeError, match="`energy` must be an `Energy`"):
        flow.own_energy = nn.Linear(4, 1)
    with pytest.raises(AttributeError, match="has an energy of its own or none for life"):
        flow.own_energy = None
    assert torch.equal(flow(y), before)


@pytest.mark.parametrize("name", ["own_energy", "energy"])
def test_a_flow_that_has_none_takes_none_later(name: str) -> None:
    flow = flow_of(None)
    with pytest.raises(AttributeError, match="Make another flow with `energy=`"):
        setattr(flow, name, Separable(torch.sum, torch.sum))
    assert "own_energy" not in dict(flow.named_children())


def test_another_interconnection_of_states_is_refused() -> None:
    J = hdnn.StateDependent(nn.Linear(3, 3), features=3)
    flow = hdnn.h1(3, 2, step=0.2, interconnection=J, dtype=F64)
    with pytest.raises(AttributeError, match=r"`flow.state_dependent_interconnection.module = net`"):
        flow.state_dependent_interconnection = nn.Linear(3, 3)
    y, other = random(2, 3), nn.Linear(3, 3, dtype=F64)
    before = flow(y)
    flow.state_dependent_interconnection.module = other
    assert not torch.allclose(flow(y), before)
